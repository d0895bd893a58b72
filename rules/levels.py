"""The one alarm of a rule with levels: raised with the first level that stands, changed when the worst one that stands
is another, cleared with the last.

What one element (or one instant of the clock) does to several levels at once is one edge up, one edge down at most: a
leap over two limits raises the alarm at the worse of them and says nothing of the milder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from rules.outcome import NEVER, Edge, Transition
from rules.parts import Part
from rules.rule import Rule

Turn = tuple[Part, Transition]


class Standing(msgspec.Struct, frozen=True, array_like=True):
    """The alarm of one (rule, device): `levels` that stand, the instant it was last judged, and the occurrence.

    `metric` is that of the level that raised it, as are `since` and `first`; `peak` is the worst value of that metric
    while a level that reads it first stood or was about to, `told` the worst that anyone was told of.
    """

    levels: frozenset[int] = frozenset()
    instant: int = NEVER
    since: int = 0
    raised_at: int = 0
    metric: str | None = None
    maximum: bool = True
    first: float | None = None
    peak: float | None = None
    told: float | None = None

    def worse(self, a: float | None, b: float | None) -> float | None:
        if a is None or b is None:
            return b if a is None else a
        return max(a, b) if self.maximum else min(a, b)

    def hears(self, metric: str | None, value: float | None) -> Standing:
        """What a level that stands has seen; of another metric than the occurrence's it says nothing."""
        return msgspec.structs.replace(self, peak=self.worse(self.peak, value)) if metric == self.metric else self

    @property
    def worst(self) -> int | None:
        return max(self.levels, default=None)

    @property
    def is_news(self) -> bool:
        """It stands and is worse than anyone knows."""
        return bool(self.levels) and self.peak != self.told

    def only(self, levels: frozenset[int]) -> Standing:
        return msgspec.structs.replace(self, levels=self.levels & levels)


NOTHING_STANDS = Standing()


def climb(before: Standing, turns: Sequence[Turn]) -> tuple[Standing, list[Transition]]:
    """The alarm after these turns of levels of one rule on one device, all of one cause, and what it says of them."""
    said: list[Transition] = []
    for run in _runs(turns):
        for edge in (Edge.RAISED, Edge.CLEARED):
            turned = sorted((turn for turn in run if turn[1].edge is edge), key=lambda turn: -turn[0].level)
            after = before
            for part, turn in turned:
                after = _step(after, part, turn)
            if after.worst != before.worst:
                if before.worst is None:
                    after = msgspec.structs.replace(after, raised_at=after.instant)
                said.append(_said(before, after, turned))
                after = msgspec.structs.replace(after, told=after.peak)
            before = after
    return before, said


def _runs(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    """Cut where a level that has fallen rises again. Within a run all rise before any falls, and each is one edge."""
    run: list[Turn] = []
    for part, turn in turns:
        if turn.edge is Edge.RAISED and any(p.level == part.level and t.edge is Edge.CLEARED for p, t in run):
            yield run
            run = []
        run.append((part, turn))
    yield run


def _step(before: Standing, part: Part, turn: Transition) -> Standing:
    instant = max(before.instant, turn.at)
    if turn.edge is Edge.CLEARED:
        if part.level not in before.levels:
            return before
        levels = before.levels - {part.level}
    elif before.levels:
        levels = before.levels | {part.level}
    else:
        return Standing(frozenset({part.level}), instant, turn.since, 0, turn.metric, part.rule.peak_is_maximum,
                        turn.first_value, turn.peak_value)  # fmt: skip
    after = before.hears(turn.metric, turn.peak_value)
    return msgspec.structs.replace(after, levels=levels, instant=instant)


def _said(before: Standing, after: Standing, turned: Sequence[Turn]) -> Transition:
    """The edge is made by the first of them, the worst that rose or fell."""
    part, turn = turned[0]
    edge = Edge.RAISED if before.worst is None else Edge.CLEARED if after.worst is None else Edge.CHANGED
    level = part.level if after.worst is None else after.worst
    return replace(
        turn,
        rule=part.owner.id,
        metric=after.metric,
        edge=edge,
        at=after.instant,
        since=after.since,
        first_value=after.first,
        peak_value=after.peak,
        reason={**turn.reason, "level": _named(part.owner, level)},
        priority=part.owner.levels[level].priority,
    )


def _named(owner: Rule, level: int) -> Mapping[str, str]:
    found = owner.levels[level]
    names = {"zh": found.name_zh, "en": found.name_en}
    return {"priority": str(found.priority), **{language: name for language, name in names.items() if name}}


def end(owner: Rule, device: str, standing: Standing, now: int, why: str) -> Transition:
    """The alarm of a rule that is no longer in the book, or not as it was; `why` as in Transition.reason."""
    level = max(standing.levels)
    return Transition(
        rule=owner.id,
        device=device,
        metric=standing.metric,
        edge=Edge.CLEARED,
        at=max(now, standing.instant),
        since=standing.since,
        first_value=standing.first,
        peak_value=standing.peak,
        reason={"when": owner.levels[level].when_text, "cleared_by": why, "level": _named(owner, level)},
        element=-1,
        priority=owner.levels[level].priority,
    )

"""The one alarm of a rule with levels: raised with the first level that stands, changed when the worst one that stands
is another, cleared with the last.

What one element (or one instant of the clock) does to several levels at once is one edge: a leap over two limits raises
the alarm at the worse of them and says nothing of the milder.
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

    `metric` is that of the level that raised it, as are `since` and `first`. Of that metric, `peak` is the worst value
    that transitions of levels have brought (the same however the readings were cut into batches), `heard` the worst of
    all that is known, `told` the worst that anyone was told of.
    """

    levels: frozenset[int] = frozenset()
    instant: int = NEVER
    since: int = 0
    raised_at: int = 0
    metric: str | None = None
    maximum: bool = True
    first: float | None = None
    peak: float | None = None
    heard: float | None = None
    told: float | None = None

    def worse(self, a: float | None, b: float | None) -> float | None:
        if a is None or b is None:
            return b if a is None else a
        return max(a, b) if self.maximum else min(a, b)

    def heard_of(self, metric: str | None, value: float | None) -> Standing:
        """The peak of a level that stands; of another metric than the occurrence's it says nothing."""
        return msgspec.structs.replace(self, heard=self.worse(self.heard, value)) if metric == self.metric else self

    @property
    def is_news(self) -> bool:
        """It stands and is worse than anyone knows."""
        return bool(self.levels) and self.heard != self.told

    def only(self, levels: frozenset[int]) -> Standing:
        return msgspec.structs.replace(self, levels=self.levels & levels)


NOTHING_STANDS = Standing()


def climb(before: Standing, turns: Sequence[Turn]) -> tuple[Standing, list[Transition]]:
    """The alarm after these turns of levels of one rule on one device, all of one cause, and what it says of them."""
    said: list[Transition] = []
    for part, turn in _in_order(turns):
        after = _step(before, part, turn)
        transition = _said(before, after, part.owner, turn)
        if transition is not None:
            said.append(transition)
            after = msgspec.structs.replace(after, told=after.worse(after.told, transition.peak_value))
        before = after
    return before, said


def _in_order(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Those that rise before those that fall, and the worst first up and last down, so that nothing between is told;
    a level that falls and rises again does so in that order."""
    run: list[Turn] = []
    for part, turn in turns:
        if turn.edge is Edge.RAISED and any(p.level == part.level and t.edge is Edge.CLEARED for p, t in run):
            yield from sorted(run, key=_rank)
            run = []
        run.append((part, turn))
    yield from sorted(run, key=_rank)


def _rank(turn: Turn) -> tuple[int, int]:
    part, transition = turn
    return (0, -part.level) if transition.edge is Edge.RAISED else (1, part.level)


def _step(before: Standing, part: Part, turn: Transition) -> Standing:
    instant = max(before.instant, turn.at)
    if turn.edge is Edge.CLEARED:
        if part.level not in before.levels:
            return before
        levels = before.levels - {part.level}
    elif before.levels:
        levels = before.levels | {part.level}
    else:
        return Standing(frozenset({part.level}), instant, turn.since, instant, turn.metric, part.rule.peak_is_maximum,
                        turn.first_value, turn.peak_value, turn.peak_value)  # fmt: skip
    value = turn.peak_value if turn.metric == before.metric else None
    peak, heard = before.worse(before.peak, value), before.worse(before.heard, value)
    return msgspec.structs.replace(before, levels=levels, instant=instant, peak=peak, heard=heard)


def _said(before: Standing, after: Standing, owner: Rule, turn: Transition) -> Transition | None:
    was, now = max(before.levels, default=None), max(after.levels, default=None)
    if was == now:
        return None
    edge = Edge.RAISED if was is None else Edge.CLEARED if now is None else Edge.CHANGED
    level = now if now is not None else was
    assert level is not None
    return replace(
        turn,
        rule=owner.id,
        metric=after.metric,
        edge=edge,
        at=after.instant,
        since=after.since,
        first_value=after.first,
        peak_value=after.peak,
        reason={**turn.reason, "level": _named(owner, level)},
        priority=owner.levels[level].priority,
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

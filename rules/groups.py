"""The alarm of several devices at once: how many members of a grid or a tag, or what share, meet the condition.

The group is judged when a member turns, at that instant, and by the clock where its `for` or `keep_for` runs out.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from devices.instants import format_duration
from devices.registry import Registry
from rules.expression import Group, Order
from rules.outcome import FAR, NEVER, Edge, Transition
from rules.rule import Rule
from rules.state import FIRING, NORMAL, PENDING

_ORDERS: Mapping[Order, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """One group's occurrence; where the phase is normal only `instant`, that of the last judging, means anything.

    `peak` is the most members (or the greatest share; for < and <= the least) since the occurrence began, `told` what
    anyone was told of it.
    """

    phase: int = NORMAL
    instant: int = NEVER
    since: int = 0
    raised_at: int = 0
    first: float = 0.0
    peak: float = 0.0
    told: float = 0.0

    @property
    def is_news(self) -> bool:
        """It stands and is worse than anyone knows."""
        return self.phase == FIRING and self.peak != self.told


UNJUDGED = Tally()


@dataclass(frozen=True, slots=True)
class Roll:
    """How many members count now, of how many."""

    count: int
    of: int

    def value(self, group: Group) -> float:
        return self.count / self.of if group.share else float(self.count)


def members_of(
    rule: Rule, numbers: Iterable[int], registry: Registry, grid_tree: Mapping[str, frozenset[str]]
) -> dict[str, tuple[int, ...]]:
    """Who belongs to each group of the rule, by its subject; `numbers` are the devices its member part applies to.

    The group of a tag is one; of grids it is each that the rule names with all below it, else each device's own.
    """
    group = rule.group
    if group is None:
        return {}
    able = sorted(map(int, numbers))
    if group.tag is not None:
        return {f"group:{group.tag}": tuple(able)} if able else {}
    found: dict[str, list[int]] = defaultdict(list)
    named = rule.applies_to.grids
    above: dict[str, list[str]] = defaultdict(list)
    for name in sorted(named or ()):
        for below in grid_tree.get(name, frozenset()) | {name}:
            above[below].append(name)
    for number in able:
        grid = registry.devices[number].grid
        if grid is not None:
            for holder in above[grid] if named is not None else [grid]:
                found[f"grid:{holder}"].append(number)
    return {subject: tuple(inside) for subject, inside in found.items()}


def meets(group: Group, roll: Roll) -> bool:
    return _ORDERS[group.op](roll.value(group), group.limit)


def _clears(rule: Rule, group: Group, roll: Roll) -> bool:
    return meets(rule.clear, roll) if isinstance(rule.clear, Group) else not meets(group, roll)


def due(rule: Rule, tally: Tally) -> int:
    """The instant at which the clock must judge the group, FAR where only a turn can change anything."""
    if tally.phase == PENDING:
        return tally.since + rule.hold_us
    if tally.phase == FIRING and tally.instant < tally.raised_at + rule.keep_us:
        return tally.raised_at + rule.keep_us
    return FAR


def judge(rule: Rule, tally: Tally, roll: Roll, at: int) -> tuple[Tally, Edge | None]:
    """One evaluation of the group; at an instant before its last it is judged at that."""
    group = rule.group
    assert group is not None
    value, instant = roll.value(group), max(tally.instant, at)
    tally = msgspec.structs.replace(tally, instant=instant)
    if tally.phase == FIRING:
        if _clears(rule, group, roll) and instant >= tally.raised_at + rule.keep_us:
            return msgspec.structs.replace(tally, phase=NORMAL), Edge.CLEARED
        return msgspec.structs.replace(tally, peak=_worse(group, tally.peak, value)), None
    if not meets(group, roll):
        return msgspec.structs.replace(tally, phase=NORMAL), None
    if tally.phase == NORMAL:
        tally = Tally(PENDING, instant, instant, 0, value, value)
    peak = _worse(group, tally.peak, value)
    if instant < tally.since + rule.hold_us:
        return msgspec.structs.replace(tally, peak=peak), None
    return Tally(FIRING, instant, tally.since, instant, tally.first, peak, peak), Edge.RAISED


def _worse(group: Group, a: float, b: float) -> float:
    return min(a, b) if group.op in ("<", "<=") else max(a, b)


def say(
    rule: Rule, subject: str, edge: Edge, tally: Tally, *, counting: Sequence[str], of: int, element: int
) -> Transition:
    """`counting` are the ids of the members for which it is true, `of` how many there are."""
    reason: dict[str, object] = {"when": rule.when_text}
    if edge is Edge.CLEARED:
        reason["clear"] = rule.clear_text or f"not ({rule.when_text})"
    share = rule.group is not None and rule.group.share
    value = len(counting) / of if share else len(counting)
    reason |= {"members": list(counting), "of": of, "value": value, "for": format_duration(rule.hold_us)}
    return _transition(rule, subject, edge, tally, at=tally.instant, reason=reason, element=element)


def end(rule: Rule, subject: str, tally: Tally, now: int, why: str) -> Transition:
    """The alarm of a group whose rule or whose members are all gone."""
    reason = {"when": rule.when_text, "cleared_by": why}
    return _transition(rule, subject, Edge.CLEARED, tally, at=max(now, tally.instant), reason=reason, element=-1)


def _transition(
    rule: Rule, subject: str, edge: Edge, tally: Tally, *, at: int, reason: Mapping[str, object], element: int
) -> Transition:
    return Transition(
        rule=rule.id,
        device=subject,
        metric=None,
        edge=edge,
        at=at,
        since=tally.since,
        first_value=tally.first,
        peak_value=tally.peak,
        reason=reason,
        element=element,
    )

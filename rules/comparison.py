"""Two runs over one history: which alarms a change of the rules gains, loses and moves."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from devices.instants import HOUR
from rules.backtest import Finding
from rules.outcome import FAR
from rules.review import as_json, by_alarm

# An occurrence that overlaps none of the other run is still the same one, moved, if one is this near.
NEAR = HOUR


@dataclass(frozen=True, slots=True)
class Moved:
    """One occurrence in both runs that is not the same: `what` names the fields that differ."""

    before: Finding
    after: Finding
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs over one history, by raised_at; `same` is how many occurrences are in both as they are."""

    same: int
    gained: tuple[Finding, ...]
    lost: tuple[Finding, ...]
    moved: tuple[Moved, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "same": self.same,
            "gained": [as_json(finding) for finding in self.gained],
            "lost": [as_json(finding) for finding in self.lost],
            "moved": [
                {"before": as_json(m.before), "after": as_json(m.after), "what": list(m.what)} for m in self.moved
            ],
        }


def compare(before: Iterable[Finding], after: Iterable[Finding]) -> Comparison:
    """Each occurrence of one run has at most one of the other: the one raised at the same instant, else the one that
    overlaps it, the nearest first, else the nearest within NEAR of it."""
    old, new = by_alarm(before), by_alarm(after)
    same, gained, lost, moved = 0, list[Finding](), list[Finding](), list[Moved]()
    for pair in {**old, **new}:
        one, other = old.get(pair, []), new.get(pair, [])
        partner = _partners(one, other)
        lost += [finding for place, finding in enumerate(one) if place not in partner]
        taken = set(partner.values())
        gained += [finding for place, finding in enumerate(other) if place not in taken]
        for place, at in partner.items():
            if what := _differences(one[place], other[at]):
                moved.append(Moved(one[place], other[at], what))
            else:
                same += 1
    return Comparison(
        same,
        tuple(sorted(gained, key=_order)),
        tuple(sorted(lost, key=_order)),
        tuple(sorted(moved, key=lambda m: _order(m.before))),
    )


def _differences(before: Finding, after: Finding) -> tuple[str, ...]:
    names = [name for name in ("since", "raised_at", "cleared_at") if getattr(before, name) != getattr(after, name)]
    if _severities(before) != _severities(after):
        names.append("severities")
    return tuple(names)


def _severities(finding: Finding) -> tuple[object, ...]:
    """The first begins when the alarm does, which is compared by itself."""
    return (*(priority for _, priority in finding.priority[:1]), *finding.priority[1:])


def _order(finding: Finding) -> tuple[int, str, str]:
    return finding.raised_at, finding.rule, finding.device


def _partners(one: Sequence[Finding], other: Sequence[Finding]) -> dict[int, int]:
    """Place in `other` of each in `one` that has a partner; both of one alarm, in order."""
    found: dict[int, int] = {}
    for wishes in (_overlapping, _neighbours):
        left = [place for place in range(len(one)) if place not in found]
        taken = set(found.values())
        free = [at for at in range(len(other)) if at not in taken]
        for *_, place, at in sorted(wishes(one, other, left, free)):
            if place not in found and at not in taken:
                found[place] = at
                taken.add(at)
    return found


def _overlapping(
    one: Sequence[Finding], other: Sequence[Finding], left: Sequence[int], free: Sequence[int]
) -> Iterator[tuple[int, int, int]]:
    """Distance and places of all that overlap; both sides are apart among themselves, so they are few."""
    starts, ends = [other[at].raised_at for at in free], [_end(other[at]) for at in free]
    for place in left:
        first, last = bisect_left(ends, one[place].raised_at), bisect_right(starts, _end(one[place]))
        for k in range(first, last):
            yield abs(starts[k] - one[place].raised_at), place, free[k]


def _neighbours(
    one: Sequence[Finding], other: Sequence[Finding], left: Sequence[int], free: Sequence[int]
) -> Iterator[tuple[int, int, int]]:
    """Distance and places of those that follow one another, at most NEAR apart."""
    row = sorted([(one[p].raised_at, _end(one[p]), 0, p) for p in left]
                 + [(other[p].raised_at, _end(other[p]), 1, p) for p in free])  # fmt: skip
    for before, after in pairwise(row):
        if before[2] != after[2] and after[0] - before[1] <= NEAR:
            mine, theirs = (before, after) if before[2] == 0 else (after, before)
            yield after[0] - before[0], mine[3], theirs[3]


def _end(finding: Finding) -> int:
    return FAR if finding.cleared_at is None else finding.cleared_at

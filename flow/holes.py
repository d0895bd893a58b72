"""Holes: stretches in which nothing of a series was judged, kept so that late readings may still tell what happened.

A series that reported steadily and then was silent for more than MISSED of its intervals leaves a hole when it speaks
again. Readings that come late and lie inside are stored for the chart and mark it; flow.filling looks at it when they
have stopped coming. A series that never reports steadily (a state sent when it changes) leaves none: to it every pause
is ordinary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from devices.batch import I32, I64, Bool
from devices.instants import DAY, SECOND
from devices.registry import Registry
from flow.classify import Steps
from store.records.tables import holes

MISSED = 3
# What came later than this after its hole is for the chart alone.
KEPT = 31 * DAY
# Of one series; a link that fails every hour of a month leaves the latest.
MOST_OF_A_SERIES = 16


@dataclass(frozen=True, slots=True)
class Hole:
    """Nothing of the series was judged between `start` and `end`; of both instants something was."""

    series: int
    device: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class HoleChange:
    """What a batch does to the holes. Each of `series` reports in time again, or no longer, as `steady` says."""

    series: I32
    steady: Bool
    opened: tuple[Hole, ...] = ()
    dropped: tuple[Hole, ...] = ()
    filled: tuple[Hole, ...] = ()


class Holes:
    """Arrays over series numbers, and the holes of those that have some, oldest first."""

    def __init__(self) -> None:
        self._steady: Bool = np.empty(0, np.bool_)
        self._limit: I64 = np.empty(0, np.int64)
        self._device: I32 = np.empty(0, np.int32)
        self._of: dict[int, list[Hole]] = {}

    def grow(self, registry: Registry) -> None:
        """Room for every series the registry has numbered."""
        known, now = len(self._limit), len(registry.series_device)
        device = np.asarray(registry.series_device[known:now], np.int32)
        limit = [_limit(registry, d) for d in device.tolist()]
        self._steady = np.concatenate([self._steady, np.zeros(now - known, np.bool_)])
        self._limit = np.concatenate([self._limit, np.asarray(limit, np.int64)])
        self._device = np.concatenate([self._device, device])

    def measure(self, registry: Registry, series: Iterable[int]) -> None:
        """These series anew: their devices report at another interval now."""
        for number in series:
            self._limit[number] = _limit(registry, registry.series_device[number])

    def load(self, tx: Connection, measured_at: I64) -> None:
        """At start: whoever spoke before is taken to be steady, so that a silence over a restart leaves its hole."""
        self._steady = measured_at[: len(self._steady)] > 0
        query = select(holes.c.series, holes.c.device, holes.c.from_at, holes.c.to_at)
        for row in tx.execute(query.order_by(holes.c.series, holes.c.from_at)):
            self._of.setdefault(row.series, []).append(Hole(*row))

    def look(self, judged: Steps, series: I32, at: I64, *, late: Bool | None, now: int) -> HoleChange:
        """`judged`: the rows of a batch that were judged, which rise in every series. `series` and `at` are columns of
        the whole batch, of which `late` rows are stored and not judged (None: there are none)."""
        opened, told, steady = self._walk(judged)
        if not opened and late is None:
            return HoleChange(told, steady)
        known = self._known(opened, now)
        dropped = [old for s in {h.series for h in opened} for old in self._surplus(s, known[s])]
        filled = _filled(known, series[late], at[late]) if late is not None else ()
        return HoleChange(told, steady, tuple(opened), tuple(dropped), filled)

    def adopt(self, change: HoleChange) -> None:
        self._steady[change.series] = change.steady
        for hole in change.opened:
            self._of.setdefault(hole.series, []).append(hole)
        for hole in change.dropped:
            self._of[hole.series].remove(hole)

    def _walk(self, rows: Steps) -> tuple[list[Hole], I32, Bool]:
        """The holes that these rows leave, and the series whose last step was a usual one or not, unlike before."""
        order = rows.order
        long = rows.at - rows.before > self._limit[order.owner]
        begun = self._steady[order.owners]
        if not long.any():
            again = order.owners[~begun]
            return [], again.astype(np.int32), np.ones(len(again), np.bool_)
        steady = np.empty(len(long), np.bool_)
        steady[1:] = ~long[:-1]
        steady[order.start] = begun
        found = np.flatnonzero(long & steady & (rows.before > 0))
        series = order.owner[found]
        columns = (series, self._device[series], rows.before[found], rows.at[found])
        opened = [Hole(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        return opened, order.owners.astype(np.int32), ~long[order.last()]

    def _known(self, opened: Sequence[Hole], now: int) -> dict[int, list[Hole]]:
        """Every hole that late readings may still fill."""
        known = {s: [h for h in found if h.end >= now - KEPT] for s, found in self._of.items()}
        for hole in opened:
            known.setdefault(hole.series, []).append(hole)
        return known

    def _surplus(self, series: int, known: Sequence[Hole]) -> list[Hole]:
        """Those that are too old, and the oldest where there are too many."""
        keep = known[-MOST_OF_A_SERIES:]
        return [hole for hole in self._of.get(series, ()) if hole not in keep]


def save_holes(tx: Connection, change: HoleChange, now: int) -> None:
    """In the commit of the batch. `filled_at` is the rule clock's."""
    one = holes.c.series == bindparam("of"), holes.c.from_at == bindparam("since")
    if change.opened:
        rows = [{"series": h.series, "from_at": h.start, "to_at": h.end, "device": h.device} for h in change.opened]
        tx.execute(upsert(holes).on_conflict_do_nothing(), rows)
        tx.execute(delete(holes).where(holes.c.to_at < now - KEPT))
    if change.dropped:
        tx.execute(delete(holes).where(*one), [{"of": h.series, "since": h.start} for h in change.dropped])
    if change.filled:
        tx.execute(
            update(holes).where(*one).values(filled_at=now), [{"of": h.series, "since": h.start} for h in change.filled]
        )


def _filled(known: dict[int, list[Hole]], series: I32, at: I64) -> tuple[Hole, ...]:
    """The holes in which one of these readings lies."""
    found: list[Hole] = []
    for s in np.unique(series).tolist():
        mine = at[series == s] if s in known else None
        if mine is not None:
            found += [hole for hole in known[s] if bool(((mine > hole.start) & (mine < hole.end)).any())]
    return tuple(found)


def _limit(registry: Registry, device: int) -> int:
    return round(MISSED * registry.devices[device].interval_s * SECOND)

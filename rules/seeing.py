"""From rows and from the clock to what a kernel sees: for each evaluation the newest value of every series it reads.

"Newest" is by arrival: the last applied row up to this element, else what was remembered before the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from devices.batch import F64, I64, Bool
from rules.kernel import Groups, Kernel
from rules.logic import Sight
from rules.outcome import FAR, NEVER
from rules.state import Times

_NO_TIMES = np.empty(0, np.int64)


@dataclass(slots=True)
class Memory:
    """The newest value of every series and its instant; the last place stands for a series never seen.

    `times` keeps the instants of events that some rule counts, by series.
    """

    value: F64
    at: I64
    times: dict[int, Times] = field(default_factory=dict)

    def events(self, series: int) -> I64:
        found = self.times.get(series)
        return _NO_TIMES if found is None else found.view()


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one batch as the kernels use them."""

    series: I64
    at: I64
    value: F64
    element: I64


@dataclass(frozen=True, slots=True)
class View:
    """A kernel's evaluations of one batch, their grouping by pair, the element and the (last) row of each."""

    sight: Sight
    groups: Groups
    element: I64
    rows: I64


@dataclass(frozen=True, slots=True)
class Clock:
    now: int
    resumed_at: int


def see_batch(kernel: Kernel, memory: Memory, batch: Batch, entries: tuple[I64, I64], clock: Clock) -> View:
    """`entries` are (pair, row) by pair, then row: every row of the batch that a pair of the kernel reads."""
    pairs, rows = entries
    if kernel.shape.aged:
        return _Weaver(kernel, memory, batch, pairs, rows).view(clock)
    groups, new = _group(pairs)
    sight = Sight(pairs, batch.at[rows], kernel.params, clock.now, clock.resumed_at)
    _raise_instants(sight.instant, groups, new, kernel.state.instant[groups.pairs])
    if kernel.shape.values:
        sight.values[0] = batch.value[rows]
    if kernel.shape.events:
        sight.here[0] = np.ones(len(pairs), bool)
    return View(sight, groups, batch.element[rows], rows)


def see_clock(kernel: Kernel, memory: Memory, pairs: I64, instant: I64, clock: Clock) -> Sight:
    """One evaluation of each pair at its instant, brought by no element."""
    shape = kernel.shape
    sight = Sight(pairs, instant, kernel.params, clock.now, clock.resumed_at)
    for slot in range(shape.slots):
        series = kernel.series[slot, pairs]
        at = memory.at[series]
        if slot in shape.values:
            sight.values[slot] = _fresh_only(kernel, sight, memory.value[series], at)
        if slot in shape.instants:
            sight.measured[slot] = np.where(at == NEVER, kernel.first_seen[pairs], at)
        if slot in shape.events:
            sight.here[slot] = np.zeros(len(pairs), bool)
    nobody = np.arange(len(pairs))
    for slot, k in shape.windows:
        past = [memory.events(number) for number in kernel.series[slot, pairs].tolist()]
        groups = Groups(nobody, pairs, nobody, len(pairs))
        _count(sight, groups, (slot, k), past, np.zeros(len(pairs), np.int64))
    return sight


def _group(pairs: I64) -> tuple[Groups, Bool]:
    new = np.empty(len(pairs), bool)
    new[0] = True
    np.not_equal(pairs[1:], pairs[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    owners = pairs[starts]
    return Groups(starts, owners, owners, len(pairs)), new


def _raise_instants(instant: I64, groups: Groups, new: Bool, last: I64) -> None:
    """The rule's instant never goes back: running maximum in each group, from its last instant, in place."""
    first = instant[groups.starts]
    if (first < last).any():
        instant[groups.starts] = np.maximum(first, last)
    if len(groups.starts) == groups.count:
        return
    falls = np.flatnonzero((instant[1:] < instant[:-1]) & ~new[1:]) + 1
    if len(falls):
        ends = groups.ends()
        for group in np.unique(groups.of(falls)).tolist():
            part = instant[groups.starts[group] : ends[group] + 1]
            np.maximum.accumulate(part, out=part)


def _fresh_only(kernel: Kernel, sight: Sight, value: F64, at: I64) -> F64:
    """A value older than max_age is unknown."""
    return np.where(sight.instant - at > kernel.max_age[sight.pairs], np.nan, value)


class _Weaver:
    """Several series in one rule: carries each one's newest value along the entries of its pair, then keeps one
    evaluation for each (pair, element): the last, when all metrics of the element have been applied."""

    def __init__(self, kernel: Kernel, memory: Memory, batch: Batch, pairs: I64, rows: I64) -> None:
        self._kernel, self._memory, self._batch = kernel, memory, batch
        self._pairs, self._rows = pairs, rows
        self._series = batch.series[rows]
        element = batch.element[rows]
        keep = np.ones(len(pairs), bool)
        keep[:-1] = (pairs[1:] != pairs[:-1]) | (element[1:] != element[:-1])
        self._kept = np.flatnonzero(keep)
        self._element = element[self._kept]
        entry_groups, _ = _group(pairs)
        self._begin = entry_groups.spread(entry_groups.starts)[self._kept]

    def view(self, clock: Clock) -> View:
        kernel, batch, shape = self._kernel, self._batch, self._kernel.shape
        pairs = self._pairs[self._kept]
        groups, new = _group(pairs)
        sight = Sight(pairs, batch.at[self._rows[self._kept]], kernel.params, clock.now, clock.resumed_at)
        _raise_instants(sight.instant, groups, new, kernel.state.instant[groups.pairs])
        for slot in range(shape.slots):
            self._slot(sight, groups, slot)
        return View(sight, groups, self._element, self._rows[self._kept])

    def _slot(self, sight: Sight, groups: Groups, slot: int) -> None:
        kernel, memory, shape = self._kernel, self._memory, self._kernel.shape
        mine = kernel.series[slot][self._pairs] == self._series
        newest = np.maximum.accumulate(np.where(mine, np.arange(len(mine)), -1))[self._kept]
        seen = newest >= self._begin
        row = self._rows[newest]
        series = kernel.series[slot][sight.pairs]
        if slot in shape.values or slot in shape.instants:
            at = np.where(seen, self._batch.at[row], memory.at[series])
            if slot in shape.values:
                value = np.where(seen, self._batch.value[row], memory.value[series])
                sight.values[slot] = _fresh_only(kernel, sight, value, at)
            if slot in shape.instants:
                sight.measured[slot] = np.where(at == NEVER, kernel.first_seen[sight.pairs], at)
        if slot in shape.events:
            sight.here[slot] = seen & (self._batch.element[row] == self._element)
        for window in shape.windows:
            if window[0] == slot:
                self._window(sight, groups, window, mine)

    def _window(self, sight: Sight, groups: Groups, window: tuple[int, int], mine: Bool) -> None:
        """Events remembered and those of the batch, for each pair: its history as it will be when the batch ends."""
        arrived = np.cumsum(mine)
        new: I64 = arrived[self._kept] - (arrived - mine)[self._begin]
        stops = groups.ends()
        past: list[I64] = []
        for begin, last, series in zip(
            self._begin[groups.starts].tolist(),
            self._kept[stops].tolist(),
            self._kernel.series[window[0], groups.pairs].tolist(),
            strict=True,
        ):
            rows = self._rows[begin : last + 1][mine[begin : last + 1]]
            past.append(np.concatenate([self._memory.events(series), self._batch.at[rows]]))
        _count(sight, groups, window, past, new)


def _count(sight: Sight, groups: Groups, window: tuple[int, int], times: list[I64], new: I64) -> None:
    """`times` by group, `new` by evaluation: how many of the group's newest times have come up to it in this batch."""
    span = sight.param(window[1]).astype(np.int64)
    counts = np.zeros(groups.count)
    leaving = np.full(groups.count, FAR, np.int64)
    stops = np.append(groups.starts[1:], groups.count).tolist()
    for start, stop, all_times in zip(groups.starts.tolist(), stops, times, strict=True):
        if not len(all_times):
            continue
        known = len(all_times) - int(new[stop - 1]) + new[start:stop]
        gone = np.searchsorted(all_times, sight.instant[start:stop] - span[start:stop], "right")
        counts[start:stop] = np.maximum(known - gone, 0)
        oldest = all_times[np.minimum(gone, len(all_times) - 1)]
        leaving[start:stop] = np.where(gone < known, oldest + span[start:stop], FAR)
    sight.counts[window] = counts
    sight.leaving[window] = leaving

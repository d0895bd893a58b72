"""From rows and from the clock to what a kernel sees: for each evaluation the newest value of every series it reads.

"Newest" is by arrival: the last applied row up to this element, else what was remembered before the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from devices.batch import F64, I32, I64, Bool
from devices.ordering import Order
from rules.grouping import Groups
from rules.history import History, stretches
from rules.kernel import Kernel
from rules.logic import Clock, Sight
from rules.outcome import NEVER


@dataclass(slots=True)
class Memory:
    """The newest value of every series and its instant; the last place stands for a series never seen. `heard` is the
    newest instant of each device. `history` keeps the samples that some rule looks back on."""

    value: F64
    at: I64
    heard: I64
    history: History = field(default_factory=History)


@dataclass(frozen=True, slots=True)
class Bounds:
    """By owner of a batch's order: the smallest and the greatest value, and the last instant."""

    low: F64
    high: F64
    last: I64


@dataclass(frozen=True)
class Batch:
    """The rows of one batch as the kernels use them; `places` is where each was staged in the history, `order` theirs
    by series."""

    series: I64
    at: I64
    value: F64
    element: I32
    places: I64
    order: Order

    @cached_property
    def bounds(self) -> Bounds:
        order = self.order
        value = self.value[order.row]
        low, high = np.fmin.reduceat(value, order.start), np.fmax.reduceat(value, order.start)
        return Bounds(low, high, self.at[order.row[order.last()]])


@dataclass(frozen=True, slots=True)
class Read:
    """What a kernel reads of a batch: `pairs`, rising, a pair again for every series that it reads, and which owner of
    the batch's order that series is."""

    pairs: I64
    owner: I64


@dataclass(frozen=True, slots=True)
class View:
    """A kernel's evaluations of one batch, their grouping by pair, and the (last) row of each."""

    sight: Sight
    groups: Groups
    rows: I64


def see_batch(kernel: Kernel, memory: Memory, batch: Batch, read: Read, clock: Clock) -> View:
    order = batch.order
    start = order.start[read.owner]
    sizes = np.append(order.start[1:], len(order.row))[read.owner] - start
    rows = order.row[stretches(start, start + sizes)]
    if kernel.shape.aged:
        # Rows of several series: by pair, then in order of arrival.
        bits = len(batch.at).bit_length()
        key = (np.repeat(read.pairs, sizes) << bits) | rows
        key.sort()
        return _Weaver(kernel, memory, batch, key >> bits, key & ((1 << bits) - 1)).view(clock)
    groups = Groups(np.cumsum(sizes) - sizes, read.pairs, read.pairs, len(rows))
    pairs = groups.spread(read.pairs)
    sight = Sight(pairs, batch.at[rows], kernel, clock, memory.history)
    _raise_first(sight.instant, groups, kernel.state.instant[groups.pairs])
    if kernel.shape.values:
        sight.values[0] = batch.value[rows]
    if kernel.shape.events:
        sight.here[0] = np.ones(len(pairs), bool)
    if kernel.shape.looks:
        sight.begins[0] = memory.history.start[batch.series[rows]]
        sight.ends[0] = batch.places[rows] + 1
    return View(sight, groups, rows)


def see_clock(kernel: Kernel, memory: Memory, pairs: I64, instant: I64, clock: Clock) -> Sight:
    """One evaluation of each pair at its instant, brought by no element."""
    shape = kernel.shape
    sight = Sight(pairs, instant, kernel, clock, memory.history)
    for slot in range(shape.slots):
        series = kernel.series[slot, pairs]
        at = memory.heard[kernel.device[pairs]] if slot == shape.any_slot else memory.at[series]
        if slot in shape.values:
            sight.values[slot] = _fresh_only(kernel, sight, memory.value[series], at)
        if slot in shape.instants:
            sight.measured[slot] = _counted_from(kernel, sight, at)
        if slot in shape.events:
            sight.here[slot] = np.zeros(len(pairs), bool)
        if slot in shape.looks:
            sight.begins[slot], sight.ends[slot] = memory.history.start[series], memory.history.end[series]
    return sight


def _counted_from(kernel: Kernel, sight: Sight, at: I64) -> I64:
    """A series never seen counts from the first sight of its device, and after a pause all count anew."""
    measured = np.where(at == NEVER, kernel.first_seen[sight.pairs], at)
    return kernel.pauses.counted_from(sight.pairs, sight.instant, measured)


def _group(pairs: I64) -> tuple[Groups, Bool]:
    new = np.empty(len(pairs), bool)
    new[0] = True
    np.not_equal(pairs[1:], pairs[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    owners = pairs[starts]
    return Groups(starts, owners, owners, len(pairs)), new


def _raise_first(instant: I64, groups: Groups, last: I64) -> None:
    """`_raise_instants` where the instants of a group do not fall anyway."""
    early = np.flatnonzero(instant[groups.starts] < last)
    if len(early):
        ends = groups.ends()
        for group in early.tolist():
            part = instant[groups.starts[group] : ends[group] + 1]
            np.maximum(part, last[group], out=part)


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
        self._entries, self._new = _group(pairs)
        self._begin = self._entries.spread(self._entries.starts)[self._kept]

    def view(self, clock: Clock) -> View:
        kernel, batch, shape = self._kernel, self._batch, self._kernel.shape
        pairs = self._pairs[self._kept]
        groups, new = _group(pairs)
        sight = Sight(pairs, batch.at[self._rows[self._kept]], kernel, clock, self._memory.history)
        _raise_instants(sight.instant, groups, new, kernel.state.instant[groups.pairs])
        for slot in range(shape.slots):
            self._slot(sight, slot)
        return View(sight, groups, self._rows[self._kept])

    def _slot(self, sight: Sight, slot: int) -> None:
        kernel, memory, shape = self._kernel, self._memory, self._kernel.shape
        whole = slot == shape.any_slot
        mine = np.ones(len(self._pairs), bool) if whole else kernel.series[slot][self._pairs] == self._series
        newest = np.maximum.accumulate(np.where(mine, np.arange(len(mine)), -1))[self._kept]
        seen = newest >= self._begin
        row = self._rows[newest]
        series = kernel.series[slot][sight.pairs]
        if slot in shape.values or slot in shape.instants:
            at = self._heard() if whole else np.where(seen, self._batch.at[row], memory.at[series])
            if slot in shape.values:
                value = np.where(seen, self._batch.value[row], memory.value[series])
                sight.values[slot] = _fresh_only(kernel, sight, value, at)
            if slot in shape.instants:
                sight.measured[slot] = _counted_from(kernel, sight, at)
        if slot in shape.events:
            sight.here[slot] = seen & (self._batch.element[row] == self._element)
        if slot in shape.looks:
            sight.begins[slot] = memory.history.start[series]
            sight.ends[slot] = np.where(seen, self._batch.places[row] + 1, memory.history.end[series])

    def _heard(self) -> I64:
        """The newest instant of the device at each evaluation: rows of one series rise in time, those of several need
        not."""
        at = self._batch.at[self._rows]
        device = self._kernel.device[self._entries.pairs]
        _raise_instants(at, self._entries, self._new, self._memory.heard[device])
        return at[self._kept]

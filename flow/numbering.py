"""Gaps: what is missing of devices that number their messages, and what of that came after all.

Kept per device: the last number, and the newest ranges of numbers that are missing. What is then not known: which
numbers are missing beyond the newest MOST_RANGES ranges of a device (they stay counted as gaps, and one of them that
comes after all is not counted as found); what was missing before a restart of the counting, and how much around it; and
whatever a device loses while counting by a field so short that it wraps (Sparkplug: 256) inside one gap.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from devices.batch import I32, I64, NO_SEQ, Bool
from devices.ordering import order_of
from store.records.settled import SeqChange

# Ranges of missing numbers of one device; a link that loses every other message keeps as many numbers.
MOST_RANGES = 1_000
# A number so far below the last is no straggler: the counting has begun again. Below the smallest field that wraps.
WINDOW = 64
# A jump beyond this is another way of counting (a clock, a new firmware), not a loss: 11 days at one a second.
MOST_MISSING = 1_000_000


@dataclass(frozen=True, slots=True)
class Gaps:
    """What a batch changes: the last numbers, (device, missing, found) to be counted, the ranges that changed."""

    device: I32
    last: I64
    counted: list[tuple[int, int, int]] = field(default_factory=list)
    missing: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def packed(self) -> SeqChange:
        return SeqChange(self.device.tobytes(), self.last.tobytes(), self.counted, list(self.missing.items()))


def unpack(change: SeqChange) -> Gaps:
    missing = {device: [(a, b) for a, b in ranges] for device, ranges in change.missing}
    return Gaps(np.frombuffer(change.device, np.int32), np.frombuffer(change.last, np.int64), change.counted, missing)


class Numbering:
    """`last` over device numbers (NO_SEQ: it has not said one); `missing` half-open ranges by device, rising."""

    def __init__(self) -> None:
        self.last: I64 = np.empty(0, np.int64)
        self.missing: dict[int, list[tuple[int, int]]] = {}

    def grow(self, devices: int) -> None:
        more = devices - len(self.last)
        if more > 0:
            self.last = np.concatenate([self.last, np.full(more, NO_SEQ, np.int64)])

    def look(self, device: I32, seq: I64, newer: Bool) -> Gaps:
        """Elements in order of arrival; `newer`: it brings something newer than all before, so it may be the first of
        a new counting. What comes again is not."""
        said = np.flatnonzero(seq != NO_SEQ)
        if not len(said):
            return Gaps(np.empty(0, np.int32), np.empty(0, np.int64))
        order = order_of(device, said)
        number, starts, devices = seq[order.row], order.start, order.owners.astype(np.int32)
        before = np.empty_like(number)
        before[1:] = number[:-1]
        before[starts] = self.last[devices]
        # The values of a list share their message's number.
        odd = (number != before + 1) & (number != before)
        odd[starts] &= before[starts] != NO_SEQ
        last = number[order.last()]
        gaps = Gaps(devices, last)
        if odd.any():
            stops = order.last() + 1
            for group in np.unique(np.searchsorted(starts, np.flatnonzero(odd), "right") - 1).tolist():
                some = order.row[starts[group] : stops[group]]
                last[group] = self._walk(int(devices[group]), seq[some].tolist(), newer[some].tolist(), gaps)
        return gaps

    def adopt(self, gaps: Gaps) -> None:
        self.last[gaps.device] = gaps.last
        self.missing.update(gaps.missing)

    def _walk(self, device: int, numbers: list[int], newer: list[bool], gaps: Gaps) -> int:
        """One device whose numbers do not simply rise; its last number after them."""
        last, missing = int(self.last[device]), list(self.missing.get(device, ()))
        lost = found = 0
        for number, may_restart in zip(numbers, newer, strict=True):
            if last == NO_SEQ or number == last + 1:
                last = number
            elif number > last:
                if number - last <= MOST_MISSING:
                    lost += number - last - 1
                    missing.append((last + 1, number))
                    del missing[:-MOST_RANGES]
                last = number
            elif _take(missing, number):
                found += 1
            elif may_restart and number != last and (number <= 1 or last - number > WINDOW):
                last, missing = number, []
        if lost or found:
            gaps.counted.append((device, lost, found))
        if missing != self.missing.get(device, []):
            gaps.missing[device] = missing
        return last


def _take(missing: list[tuple[int, int]], number: int) -> bool:
    """Take the number out of the ranges, if it is in one."""
    place = bisect_right(missing, (number, np.iinfo(np.int64).max)) - 1
    if place < 0 or number >= missing[place][1]:
        return False
    start, stop = missing[place]
    missing[place : place + 1] = [r for r in ((start, number), (number + 1, stop)) if r[0] < r[1]]
    return True

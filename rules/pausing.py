"""Pairs that people have paused: nothing is judged of them for a while, and what counts time counts anew after it.

Pauses are few, so they are gone through one by one; pairs without one cost a look at a sorted list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from devices.batch import I64, Bool


@dataclass(frozen=True, slots=True)
class Pauses:
    """By pair of a kernel its pauses as (start, end), in order of start."""

    of: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def concerned(self, pairs: I64) -> list[int]:
        """Which of these have any."""
        if not self.of:
            return []
        found: list[int] = np.flatnonzero(np.isin(pairs, list(self.of))).tolist()
        return found

    def hold(self, pairs: I64, instant: I64) -> Bool | None:
        """Where a pause holds; None for nowhere."""
        some = self.concerned(pairs)
        if not some:
            return None
        found = np.zeros(len(pairs), np.bool_)
        for i in some:
            at = int(instant[i])
            found[i] = any(start <= at < end for start, end in self.of[int(pairs[i])])
        return found if found.any() else None

    def counted_from(self, pairs: I64, instant: I64, measured: I64) -> I64:
        """From where an absence or the time since an event counts: the end of a pause, if that came later."""
        some = self.concerned(pairs)
        if some:
            measured = measured.copy()
        for i in some:
            ends = [end for _, end in self.of[int(pairs[i])] if end <= instant[i]]
            measured[i] = max([int(measured[i]), *ends])
        return measured

    def will_count_from(self, pairs: I64, at: I64, measured: I64, span: I64) -> I64:
        """The same as seen ahead from `at`: a pause that begins before the span is full puts it off to its end."""
        some = self.concerned(pairs)
        if some:
            measured = measured.copy()
        for i in some:
            begin = int(measured[i])
            for start, end in self.of[int(pairs[i])]:
                if end > begin and start <= max(int(at[i]), begin + int(span[i])):
                    begin = end
            measured[i] = begin
        return measured

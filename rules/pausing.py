"""Pairs that people have paused: nothing is judged of them for a while, and what counts time counts anew after it.

Pauses are few, so they are gone through one by one; pairs without one cost a look at a sorted list.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from devices.batch import I64, Bool
from rules.outcome import FAR


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

    def crossed(self, pairs: I64, before: I64, instant: I64) -> Bool | None:
        """Where a pause lay between the last judging and this one, or holds now; None for nowhere."""
        some = self.concerned(pairs)
        if not some:
            return None
        found = np.zeros(len(pairs), np.bool_)
        for i in some:
            found[i] = any(start <= instant[i] and end > before[i] for start, end in self.of[int(pairs[i])])
        return found if found.any() else None

    def end_of(self, pairs: I64, at: I64, raised: I64, *, ticked: int) -> I64:
        """When the clock must end what stands of each pair, raised then, because a pause begins that had not begun when
        the clock last looked (`ticked`); not before `at`, where the pair was judged last. FAR for never."""
        found = np.full(len(pairs), FAR, np.int64)
        for i in self.concerned(pairs):
            starts = [start for start, end in self.of[int(pairs[i])] if start > ticked and raised[i] < end]
            found[i] = max(min(starts), int(at[i])) if starts else FAR
        return found

    def will_count_from(self, pairs: I64, at: I64, measured: I64, span: I64) -> I64:
        """From where that counts which is full next after `at`: an end of a pause begins the count anew."""
        some = self.concerned(pairs)
        if some:
            measured = measured.copy()
        for i in some:
            last, full = int(measured[i]), int(span[i])
            bases = sorted({last, *(end for _, end in self.of[int(pairs[i])] if end > last)})
            following = [*bases[1:], FAR]
            ahead = [base for base, next_ in zip(bases, following, strict=True) if at[i] < base + full < next_]
            measured[i] = ahead[0] if ahead else bases[-1]
        return measured

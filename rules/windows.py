"""Functions over the latest samples of a series, many windows at a time: what `avg(level, 10m)` is worth.

A window is the stretch of samples in (instant - span, instant]; the *anchor* is the newest sample before it. Every
result depends on these samples alone, never on how they came: batches, restarts and moves of the pool change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from devices.batch import F64, I64, Bool
from devices.instants import SECOND
from rules.history import MOST_SAMPLES, History, first_after, stretches
from rules.rule import decimal

# Samples gathered at once: more costs memory, fewer costs calls.
_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Windows:
    """n windows: samples `first` to `stop` of the pool; `lead` is 1 where one more before `first` is known, the anchor.
    `max_gap` is the longest silence that is none."""

    history: History
    first: I64
    stop: I64
    lead: I64
    max_gap: I64

    @property
    def sizes(self) -> I64:
        return self.stop - self.first

    def only(self, which: slice | I64) -> Windows:
        return Windows(self.history, self.first[which], self.stop[which], self.lead[which], self.max_gap[which])

    def with_anchor(self) -> Windows:
        """Beginning with the anchor, where there is one."""
        return Windows(self.history, self.first - self.lead, self.stop, self.lead, self.max_gap)


def open_windows(  # noqa: PLR0917 - columns
    history: History, start: I64, stop: I64, instant: I64, span: I64, max_gap: I64
) -> Windows:
    """The windows (instant - span, instant] over samples `start` to `stop` of the pool, of which the newest
    MOST_SAMPLES count: how many more are still there depends on how the stream was cut."""
    start = np.maximum(start, stop - MOST_SAMPLES)
    first = first_after(history.at, start, stop, instant - span)
    return Windows(history, first, stop, (first > start).astype(np.int64), max_gap)


def step(history: History, start: I64, stop: I64, max_gap: I64) -> F64:
    """How far the newest sample is from the one before it; NaN without one, or after a silence."""
    two = stop - start >= 2
    found = np.full(len(stop), np.nan)
    last = stop[two] - 1
    apart = np.abs(history.value[last] - history.value[last - 1])
    found[two] = np.where(history.at[last] - history.at[last - 1] > max_gap[two], np.nan, apart)
    return decimal(found)


def count(windows: Windows) -> F64:
    return windows.sizes.astype(np.float64)


def leaving(windows: Windows, span: I64, never: int) -> I64:
    """When the oldest sample of each window leaves it; `never` where it is empty."""
    some = np.flatnonzero(windows.sizes > 0)
    found = np.full(len(span), never, np.int64)
    found[some] = windows.history.at[windows.first[some]] + span[some]
    return found


def fold(function: str, windows: Windows) -> F64:
    """The function of every window; NaN where it is unknown."""
    least, make = _FOLDS[function]
    if function in _ANCHORED:
        windows = windows.with_anchor()
    result = np.full(len(windows.first), np.nan)
    enough = np.flatnonzero(windows.sizes >= least)
    if not len(enough):
        return result
    chosen = windows if len(enough) == len(result) else windows.only(enough)
    for piece in _pieces(chosen.sizes):
        result[enough[piece]] = make(chosen.only(piece))
    return decimal(result) if function in _ROUNDED else result


def _pieces(sizes: I64) -> Iterator[slice]:
    """Cuts that keep what is gathered at once bounded."""
    if int(sizes.sum()) <= _AT_ONCE:
        yield slice(0, len(sizes))
        return
    after = np.cumsum(sizes)
    begin = 0
    while begin < len(sizes):
        taken = int(after[begin - 1]) if begin else 0
        end = max(int(np.searchsorted(after, taken + _AT_ONCE, "right")), begin + 1)
        yield slice(begin, end)
        begin = end


def _offsets(windows: Windows) -> I64:
    sizes = windows.sizes
    return np.cumsum(sizes) - sizes


def _values(windows: Windows) -> F64:
    found: F64 = windows.history.value[stretches(windows.first, windows.stop)]
    return found


def _sum(windows: Windows) -> F64:
    found: F64 = np.add.reduceat(_values(windows), _offsets(windows))
    return found


def _avg(windows: Windows) -> F64:
    return _sum(windows) / windows.sizes


def _min(windows: Windows) -> F64:
    found: F64 = np.minimum.reduceat(_values(windows), _offsets(windows))
    return found


def _max(windows: Windows) -> F64:
    found: F64 = np.maximum.reduceat(_values(windows), _offsets(windows))
    return found


def _stddev(windows: Windows) -> F64:
    values, offsets, sizes = _values(windows), _offsets(windows), windows.sizes
    mean = np.add.reduceat(values, offsets) / sizes
    off = values - np.repeat(mean, sizes)
    found: F64 = np.sqrt(np.add.reduceat(off * off, offsets) / sizes)
    return found


def _median(windows: Windows) -> F64:
    """Windows of one size at a time: each a row, of which only the middle is put in its place."""
    values, offsets, sizes = _values(windows), _offsets(windows), windows.sizes
    found = np.empty(len(sizes))
    for size in np.unique(sizes).tolist():
        mine = np.flatnonzero(sizes == size)
        low, high = (size - 1) // 2, size // 2
        rows = np.partition(values[offsets[mine, None] + np.arange(size)], sorted({low, high}), axis=1)
        found[mine] = (rows[:, low] + rows[:, high]) / 2
    return found


def _delta(windows: Windows) -> F64:
    value = windows.history.value
    moved: F64 = value[windows.stop - 1] - value[windows.first]
    return moved


def _rate(windows: Windows) -> F64:
    where, offsets, sizes = stretches(windows.first, windows.stop), _offsets(windows), windows.sizes
    at, values = windows.history.at[where], windows.history.value[where]
    seconds = (at - np.repeat(windows.history.at[windows.stop - 1], sizes)) / SECOND
    seconds -= np.repeat(np.add.reduceat(seconds, offsets) / sizes, sizes)
    values = values - np.repeat(np.add.reduceat(values, offsets) / sizes, sizes)
    spread = np.add.reduceat(seconds * seconds, offsets)
    slope = np.add.reduceat(seconds * values, offsets)
    found: F64 = np.divide(slope, spread, out=np.full(len(slope), np.nan), where=spread > 0)
    return found


def _increase(windows: Windows) -> F64:
    """A counter that falls began anew at 0. A silence longer than max_gap before the window cuts the anchor off."""
    where, sizes = stretches(windows.first, windows.stop), windows.sizes
    at, values, offsets = windows.history.at[where], windows.history.value[where], _offsets(windows)
    step = np.zeros(len(values))
    step[1:] = np.where(values[1:] >= values[:-1], values[1:] - values[:-1], values[1:])
    step[offsets] = 0
    second = offsets + 1
    cut = (windows.lead == 1) & (at[second] - at[offsets] > windows.max_gap)
    step[second[cut]] = 0
    found: F64 = np.add.reduceat(step, offsets)
    found[cut & (sizes == 2)] = np.nan
    return found


def _spread(windows: Windows) -> F64:
    """Largest less smallest from the anchor on; unknown without an anchor or with a silence in between."""
    where, offsets = stretches(windows.first, windows.stop), _offsets(windows)
    at, values = windows.history.at[where], windows.history.value[where]
    silence = np.zeros(len(at), np.int64)
    silence[1:] = at[1:] - at[:-1]
    silence[offsets] = 0
    whole: Bool = np.maximum.reduceat(silence, offsets) <= windows.max_gap
    whole &= windows.lead == 1
    spread = np.maximum.reduceat(values, offsets) - np.minimum.reduceat(values, offsets)
    return np.where(whole, spread, np.nan)


_Fold = tuple[int, Callable[[Windows], F64]]
# The fewest samples (anchor included) each needs, and how it is made.
_FOLDS: dict[str, _Fold] = {
    "sum": (1, _sum), "avg": (1, _avg), "min": (1, _min), "max": (1, _max), "stddev": (1, _stddev),
    "median": (1, _median), "delta": (2, _delta), "rate": (2, _rate), "increase": (2, _increase),
    "spread": (2, _spread),
}  # fmt: skip
# Sums and means of decimal readings are decimal: five hundred times 0.1 mm is the 50 of the standard.
_ROUNDED = frozenset({"sum", "avg", "median", "delta", "increase", "spread"})
_ANCHORED = frozenset({"increase", "spread"})

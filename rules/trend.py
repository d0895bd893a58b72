"""Where a robust line through the latest samples leads: the early notice of `forecast`.

Theil-Sen: the median of the slopes of all pairs, so a third of the samples may be wrong without bending it. A line that
explains less than half of how the samples lie about their median is no trend, and the forecast is then that median.
"""

from __future__ import annotations

import numpy as np

from devices.batch import F64, I64
from devices.instants import SECOND
from rules.windows import Windows

# Fewer points or a shorter stretch than this part of the window say nothing of a trend.
LEAST_POINTS = 5
LEAST_PART = 0.5
LEAST_FIT = 0.5
# All pairs of more would cost too much; the samples are thinned evenly instead.
MOST_POINTS = 64


def forecast(windows: Windows, *, span: I64, target: I64) -> F64:
    """The value at the instant `target` of each window of `span` microseconds; NaN where nothing can be said."""
    found = np.full(len(span), np.nan)
    at, value = windows.history.at, windows.history.value
    for i in np.flatnonzero(windows.sizes >= LEAST_POINTS).tolist():
        part = slice(int(windows.first[i]), int(windows.stop[i]))
        if at[part][-1] - at[part][0] >= LEAST_PART * span[i]:
            found[i] = _lead(at[part], value[part], int(target[i]))
    return found


def _lead(at: I64, value: F64, target: int) -> float:
    if len(at) > MOST_POINTS:
        chosen = np.round(np.linspace(0, len(at) - 1, MOST_POINTS)).astype(np.int64)
        at, value = at[chosen], value[chosen]
    seconds = (at - at[-1]) / SECOND
    one, other = np.triu_indices(len(at), 1)
    slope = np.median((value[other] - value[one]) / (seconds[other] - seconds[one]))
    intercept = np.median(value - slope * seconds)
    middle = np.median(value)
    about = np.abs(value - middle).sum()
    missed = np.abs(value - (intercept + slope * seconds)).sum()
    fit = 1.0 if about == 0 else 1 - missed / about
    return float(intercept + slope * ((target - at[-1]) / SECOND) if fit >= LEAST_FIT else middle)

"""Numbers out of the samples of one metric, plain: lists in, a number or None (unknown) out.

A sample is (instant in µs, value); lists rise in time and end with the newest one at or before the instant `t`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

SECOND = 1_000_000
Sample = tuple[int, float]
Samples = Sequence[Sample]

# A forecast needs so many samples, looks at no more than so many, and believes a trend that explains half.
_FEWEST, _MOST, _FIT = 5, 64, 0.5
_NOT_ROUNDED = ("min", "max", "count", "stddev", "rate")


def inside(samples: Samples, t: int, span: int) -> list[Sample]:
    """Those in (t - span, t]."""
    return [(at, value) for at, value in samples if t - span < at <= t]


def anchor(samples: Samples, t: int, span: int) -> list[Sample]:
    """The newest at or before t - span, if there is one."""
    return [(at, value) for at, value in samples if at <= t - span][-1:]


def window(function: str, samples: Samples, t: int, span: int, *, max_gap: float) -> float | None:
    """One of the ten window functions; None where the window does not tell. What adds and takes away is rounded to nine
    decimals, so that ten times a tenth is one."""
    value = _window(function, samples, t, span, max_gap)
    return value if value is None or function in _NOT_ROUNDED else round(value, 9)


def _window(function: str, samples: Samples, t: int, span: int, max_gap: float) -> float | None:
    found = inside(samples, t, span)
    if function == "count":
        return len(found)
    if function == "increase":
        return increase(anchor(samples, t, span), found, max_gap)
    if not found:
        return None
    values = [value for _, value in found]
    if function == "delta":
        return values[-1] - values[0] if len(values) > 1 else None
    if function == "rate":
        return slope(found)
    return _OF_VALUES[function](values)


def average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def stddev(values: Sequence[float]) -> float:
    """Of the population."""
    mean = average(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def slope(samples: Samples) -> float | None:
    """Least squares, per second."""
    if len(samples) < 2:
        return None
    times = seconds(samples)
    mean_t, mean_v = average(times), average([value for _, value in samples])
    across = sum((t - mean_t) * (value - mean_v) for t, (_, value) in zip(times, samples, strict=True))
    return across / sum((t - mean_t) ** 2 for t in times)


def seconds(samples: Samples) -> list[float]:
    """Relative to the newest."""
    return [(at - samples[-1][0]) / SECOND for at, _ in samples]


_OF_VALUES: dict[str, Callable[[Sequence[float]], float]] = {
    "avg": average, "min": min, "max": max, "sum": sum, "stddev": stddev, "median": median,
}  # fmt: skip


def increase(before: Samples, found: Samples, max_gap: float) -> float | None:
    """Of a counter: what it has grown; where it falls it was set to 0 in between."""
    samples = list(found)
    if before and samples and samples[0][0] - before[0][0] <= max_gap:
        samples = [*before, *samples]
    if len(samples) < 2:
        return None
    return sum(b - a if b >= a else b for (_, a), (_, b) in pairwise(samples))


def flat(samples: Samples, t: int, span: int, tolerance: float, *, max_gap: float) -> bool | None:
    """Unknown unless it was watched all through the span: an anchor, a sample inside, no silence between them."""
    before, found = anchor(samples, t, span), inside(samples, t, span)
    if not before or not found:
        return None
    watched = [*before, *found]
    if any(b - a > max_gap for (a, _), (b, _) in pairwise(watched)):
        return None
    values = [value for _, value in watched]
    return round(max(values) - min(values), 9) <= tolerance


def spike(samples: Samples, size: float, *, max_gap: float) -> bool | None:
    if len(samples) < 2:
        return None
    (a, before), (b, newest) = samples[-2:]
    return None if b - a > max_gap else round(abs(newest - before), 9) > size


def forecast(samples: Samples, t: int, span: int, ahead: int) -> float | None:
    """Theil and Sen: the median of all slopes, or the median of all values where the slopes explain too little."""
    found = inside(samples, t, span)
    if len(found) < _FEWEST or 2 * (found[-1][0] - found[0][0]) < span:
        return None
    found = thinned(found)
    times, values = seconds(found), [value for _, value in found]
    points = list(zip(times, values, strict=True))
    steep = median([(v2 - v1) / (t2 - t1) for (t1, v1), (t2, v2) in combinations(points, 2)])
    start = median([v - steep * at for at, v in points])
    middle = median(values)
    spread = sum(abs(v - middle) for v in values)
    fit = 1.0 if spread == 0 else 1 - sum(abs(v - (start + steep * at)) for at, v in points) / spread
    return start + steep * ((t - found[-1][0] + ahead) / SECOND) if fit >= _FIT else middle


def thinned(samples: list[Sample]) -> list[Sample]:
    """At most 64, evenly by place, the first and the last among them."""
    count = len(samples)
    if count <= _MOST:
        return samples
    return [samples[round(k * ((count - 1) / (_MOST - 1)))] for k in range(_MOST)]

"""Two sources of one station side by side: the latest of both, and how far apart they were over a span of time.

The primary is the one devices.yaml names, not the last to arrive; nothing here chooses between the two or converts
anything. Differences are second minus primary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alerts.refusals import Invalid
from devices.batch import F64, I64, Quality
from devices.instants import DAY, SECOND
from devices.kinds import KINDS
from devices.registry import EVENT, Device, Registry
from flow.installation import Installation
from flow.second_sources import sources_of
from rules.datum import datum_of
from store.readings import Slice

# What is read for one look: a month of ten metrics by the minute, some tenths of a second.
LONGEST = 31 * DAY
MOST_READINGS = 1_000_000
_CIRCLE = 360.0


@dataclass(frozen=True, slots=True)
class Latest:
    at: int
    value: float
    quality: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of both. `difference` is that of the latest two, None where they lie further apart than one interval;
    `mean` and `largest` are of the absolute differences of all `pairs`, `largest_at` when the second measured that one.
    Of a metric that is yes or no they are 0 and 1, so `mean` is the share of pairs that disagree. `datums` (of the
    primary, of the second) where the two are levels above different ones: then nothing is subtracted."""

    metric: str
    unit: str
    primary: Latest | None
    second: Latest | None
    difference: float | None = None
    mean: float | None = None
    largest: float | None = None
    largest_at: int | None = None
    pairs: int = 0
    datums: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class SecondSource:
    """`within`: values of both that were measured so near each other are a pair, microseconds."""

    device: Device
    within: int
    metrics: tuple[Compared, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Of the station of `primary`, over [start, end) of measured time; no `seconds` where it has one source only."""

    primary: Device
    seconds: tuple[SecondSource, ...]
    start: int
    end: int


def compare(here: Installation, device: Device, start: int, end: int) -> Sources:
    """All sources of the device's station. Raises Invalid where it is too much to read, StoreUnavailable."""
    primary, seconds = sources_of(here.registry, device)
    if seconds and end - start > LONGEST:
        zh, en = f"时段最长 {LONGEST // DAY} 天", f"the span is at most {LONGEST // DAY} days"
        raise Invalid("history_too_long", zh, en)
    return Sources(primary, tuple(_beside(here, primary, second, start, end) for second in seconds), start, end)


def latest_only(here: Installation, device: Device, end: int) -> Sources:
    """The same without looking at the store."""
    primary, seconds = sources_of(here.registry, device)
    return Sources(primary, tuple(_beside(here, primary, second, end, end) for second in seconds), end, end)


def pair(first: I64, second: I64, within: int) -> tuple[I64, I64]:
    """Positions in both (rising instants) of what was measured at most `within` apart: for each of the fewer (of the
    first where they are as many) the nearest of the other, the earlier where two are as near."""
    if len(second) < len(first):
        there, here = pair(second, first, within)
        return here, there
    if not len(first):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    after = np.searchsorted(second, first)
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(second) - 1)
    nearest = np.where(np.abs(first - second[before]) <= np.abs(second[after] - first), before, after)
    close = np.flatnonzero(np.abs(second[nearest] - first) <= within)
    return close, nearest[close].astype(np.int64)


def _beside(here: Installation, primary: Device, second: Device, start: int, end: int) -> SecondSource:
    within = round(min(primary.interval_s, second.interval_s) * SECOND)
    ours, theirs = _numbers(here.registry, primary), _numbers(here.registry, second)
    now = {d.number: here.latest().of(d.number) for d in (primary, second)}
    found: list[Compared] = []
    rows = _read(here, [*ours.values(), *theirs.values()], start, end)
    for metric, known in KINDS[primary.kind].metrics.items():
        a, b = _latest(now[primary.number], metric), _latest(now[second.number], metric)
        if a is None and b is None:
            continue
        datums = datum_of(metric, primary.attributes), datum_of(metric, second.attributes)
        if datums[0] is not None and datums[1] is not None and datums[0] != datums[1]:
            found.append(Compared(metric, known.unit, a, b, datums=(datums[0], datums[1])))
            continue
        difference = _apart(metric, a, b, within)
        held = (_series(rows, ours.get(metric)), _series(rows, theirs.get(metric)))
        found.append(Compared(metric, known.unit, a, b, difference, *_over(metric, *held, within)))
    return SecondSource(second, within, tuple(found))


def _over(
    metric: str, ours: tuple[I64, F64], theirs: tuple[I64, F64], within: int
) -> tuple[float | None, float | None, int | None, int]:
    """mean, largest, largest_at, pairs."""
    mine, other = pair(ours[0], theirs[0], within)
    if not len(mine):
        return None, None, None, 0
    apart = np.abs(_difference(metric, ours[1][mine], theirs[1][other]))
    worst = int(apart.argmax())
    return float(apart.mean()), float(apart[worst]), int(theirs[0][other[worst]]), len(apart)


def _apart(metric: str, primary: Latest | None, second: Latest | None, within: int) -> float | None:
    if primary is None or second is None or abs(primary.at - second.at) > within:
        return None
    if Quality.BAD in {primary.quality, second.quality}:
        return None
    return float(_difference(metric, np.array([primary.value]), np.array([second.value]))[0])


def _difference(metric: str, primary: F64, second: F64) -> F64:
    """From 359° to 1° it is 2°. A millionth of a value is the binary number's, not the sensor's."""
    apart = np.round(second - primary, 9)
    return (apart + _CIRCLE / 2) % _CIRCLE - _CIRCLE / 2 if metric == "wind_direction" else apart


def _numbers(registry: Registry, device: Device) -> dict[str, int]:
    return {metric: number for metric, number in registry.series_of(device.number) if not metric.startswith(EVENT)}


def _latest(values: Mapping[str, tuple[int, float, int]], metric: str) -> Latest | None:
    row = values.get(metric)
    return None if row is None else Latest(*row)


def _read(here: Installation, series: list[int], start: int, end: int) -> Slice | None:
    if start >= end or not series:
        return None
    found = here.readings.slice(series, start, end, MOST_READINGS + 1)
    if len(found) > MOST_READINGS:
        zh = f"读数超过 {MOST_READINGS:,} 个，请缩短时段"
        raise Invalid("history_too_long", zh, f"more than {MOST_READINGS:,} readings: choose a shorter span")
    return found


def _series(rows: Slice | None, series: int | None) -> tuple[I64, F64]:
    """Instants and values of one series, bad ones left out."""
    if rows is None or series is None:
        return np.empty(0, np.int64), np.empty(0, np.float64)
    mine = (rows.series == series) & (rows.quality != Quality.BAD)
    return rows.measured_at[mine], rows.value[mine]

"""What each arriving row is to the store: new, duplicate, replacing or refused (docs/architecture.md §2).

The newest instant of every series is in memory, so only rows that are not newer are looked up. In ordinary traffic
there are none and nothing here is done per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from devices.batch import F64, I32, I64, U8, Bool
from devices.kinds import KINDS
from devices.registry import EVENT, Registry


class Verdict(IntEnum):
    NEW = 0
    DUPLICATE = 1  # same instant, same value
    REPLACED = 2  # same instant, other value: the later arrival wins
    REFUSED = 3
    UNSURE = 4  # the store could not be asked: counted as stored until the appender knows


# (series, measured_at) → the stored value of those that are stored, and whether the answer is complete.
Find = Callable[[I32, I64], tuple[dict[tuple[int, int], float], bool]]


@dataclass(frozen=True, slots=True)
class Change:
    """New newest values, one row a series."""

    series: I32
    measured_at: I64
    value: F64
    quality: U8


class Newest:
    """Arrays over series numbers: the newest reading of each (measured_at 0: none yet) and its metric's ranges."""

    def __init__(self) -> None:
        self.measured_at: I64 = np.empty(0, np.int64)
        self.value: F64 = np.empty(0, np.float64)
        self.quality: U8 = np.empty(0, np.uint8)
        self.device: I32 = np.empty(0, np.int32)
        self.physical: F64 = np.empty((0, 2), np.float64)
        self.plausible: F64 = np.empty((0, 2), np.float64)

    def grow(self, registry: Registry) -> None:
        """Make room for every series the registry has numbered."""
        known, now = len(self.measured_at), len(registry.series_device)
        if known == now:
            return
        more = now - known
        self.measured_at = np.concatenate([self.measured_at, np.zeros(more, np.int64)])
        self.value = np.concatenate([self.value, np.full(more, np.nan)])
        self.quality = np.concatenate([self.quality, np.zeros(more, np.uint8)])
        device = registry.series_device[known:now]
        self.device = np.concatenate([self.device, np.asarray(device, np.int32)])
        ranges = [_ranges(registry, d, m) for d, m in zip(device, registry.series_metric[known:now], strict=True)]
        table = np.asarray(ranges, np.float64).reshape(-1, 2, 2)
        self.physical = np.concatenate([self.physical, table[:, 0]])
        self.plausible = np.concatenate([self.plausible, table[:, 1]])

    def measure(self, registry: Registry, series: Iterable[int]) -> None:
        """The ranges of these series anew: their devices are of another kind now."""
        for number in series:
            ranges = _ranges(registry, registry.series_device[number], registry.series_metric[number])
            self.physical[number], self.plausible[number] = ranges

    def adopt(self, change: Change) -> None:
        self.measured_at[change.series] = change.measured_at
        self.value[change.series] = change.value
        self.quality[change.series] = change.quality


def _ranges(registry: Registry, device: int, metric: str) -> tuple[tuple[float, float], tuple[float, float]]:
    known = None if metric.startswith(EVENT) else KINDS[registry.devices[device].kind].metrics.get(metric)
    endless = (-np.inf, np.inf)
    return (known.physical, known.plausible) if known else (endless, endless)


@dataclass(frozen=True, slots=True)
class Classified:
    """`verdict` and `newer` (newer than the last of its series) are per row."""

    verdict: U8
    newer: Bool
    change: Change


def classify(
    newest: Newest, series: I32, measured_at: I64, value: F64, quality: U8, *, refused: Bool, find: Find
) -> Classified:
    """Rows in arrival order."""
    verdict = np.where(refused, Verdict.REFUSED, Verdict.NEW).astype(np.uint8)
    newer = ~refused
    rows = np.flatnonzero(newer)
    order = rows[np.argsort(series[rows], kind="stable")]
    s, at = series[order], measured_at[order]
    start = np.ones(len(order), np.bool_)
    start[1:] = s[1:] != s[:-1]
    before = np.empty_like(at)
    before[1:] = at[:-1]
    before[start] = newest.measured_at[s[start]]
    falling = at <= before
    if not falling.any():
        last = order[np.append(start[1:], True)] if len(order) else order
        return Classified(verdict, newer, Change(series[last], measured_at[last], value[last], quality[last]))
    group = np.cumsum(start) - 1
    disordered = order[np.isin(group, np.unique(group[falling]))]
    _settle_disorder(newest, disordered, series, measured_at, value, verdict=verdict, newer=newer, find=find)
    return Classified(verdict, newer, _change(newest, order, series, measured_at, value, quality, verdict, newer))


def _settle_disorder(
    newest: Newest, rows: I64, series: I32, measured_at: I64, value: F64, *, verdict: U8, newer: Bool, find: Find
) -> None:
    """Row by row, for the series of this batch whose rows do not simply rise."""
    top: dict[int, int] = {}
    doubtful: list[int] = []
    for i in rows.tolist():
        s, at = int(series[i]), int(measured_at[i])
        last = top.get(s)
        if last is None:
            last = top[s] = int(newest.measured_at[s])
        if at > last:
            top[s] = at
        else:
            newer[i] = False
            doubtful.append(i)
    ask = np.asarray([i for i in doubtful if measured_at[i] != newest.measured_at[series[i]]], np.int64)
    known, complete = find(series[ask], measured_at[ask]) if len(ask) else ({}, True)
    settled = dict(known)
    for i in rows.tolist():
        key = (int(series[i]), int(measured_at[i]))
        if key[1] == newest.measured_at[key[0]]:
            settled.setdefault(key, float(newest.value[key[0]]))
        if key in settled:
            verdict[i] = Verdict.DUPLICATE if settled[key] == value[i] else Verdict.REPLACED
        elif not newer[i] and not complete:
            verdict[i] = Verdict.UNSURE
        settled[key] = float(value[i])


def _change(  # noqa: PLR0917 - the columns are the arguments
    newest: Newest, order: I64, series: I32, measured_at: I64, value: F64, quality: U8, verdict: U8, newer: Bool
) -> Change:
    """The last row of each series that is newer than what was, or replaces the newest."""
    kept = order[newer[order] | (verdict[order] == Verdict.REPLACED)]
    if len(kept):
        peak = np.zeros(len(newest.measured_at), np.int64)
        np.maximum.at(peak, series[kept], measured_at[kept])
        kept = kept[
            (measured_at[kept] == peak[series[kept]]) & (peak[series[kept]] >= newest.measured_at[series[kept]])
        ]
        last = np.ones(len(kept), np.bool_)
        last[:-1] = series[kept][1:] != series[kept][:-1]
        kept = kept[last]
    return Change(series[kept], measured_at[kept], value[kept], quality[kept])

"""What each arriving row is to the store: new, duplicate, replacing or refused (docs/architecture.md §2).

The newest instant of every series is in memory, so only rows that are not newer are looked up. In ordinary traffic
there are none and nothing here is done per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from devices.batch import F64, I32, I64, U8, Bool
from devices.kinds import KINDS
from devices.ordering import Order, order_of
from devices.registry import EVENT, Registry
from store.records.settled import UNSURE


class Verdict(IntEnum):
    NEW = 0
    DUPLICATE = 1  # same instant, same value
    REPLACED = 2  # same instant, other value: the later arrival wins
    REFUSED = 3
    UNSURE = UNSURE  # the store could not be asked: counted as stored until the appender knows


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
    """Arrays over series numbers: the newest reading of each (measured_at 0: none yet) and its metric's ranges; what
    is plausible is possible."""

    def __init__(self) -> None:
        self.measured_at: I64 = np.empty(0, np.int64)
        self.value: F64 = np.empty(0, np.float64)
        self.quality: U8 = np.empty(0, np.uint8)
        self.device: I32 = np.empty(0, np.int32)
        self.possible_low: F64 = np.empty(0, np.float64)
        self.possible_high: F64 = np.empty(0, np.float64)
        self.plausible_low: F64 = np.empty(0, np.float64)
        self.plausible_high: F64 = np.empty(0, np.float64)

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
        numbers = range(known, now)
        for name in ("possible_low", "possible_high", "plausible_low", "plausible_high"):
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more)]))
        self.measure(registry, numbers)

    def measure(self, registry: Registry, series: Sequence[int]) -> None:
        """The ranges of these series: they are new, or their devices are of another kind now."""
        ranges = [_ranges(registry, registry.series_device[n], registry.series_metric[n]) for n in series]
        table = np.asarray(ranges, np.float64).reshape(-1, 2, 2)
        self.possible_low[series], self.possible_high[series] = table[:, 0].T
        self.plausible_low[series], self.plausible_high[series] = table[:, :, 0].max(axis=1), table[:, :, 1].min(axis=1)

    def adopt(self, change: Change) -> None:
        self.measured_at[change.series] = change.measured_at
        self.value[change.series] = change.value
        self.quality[change.series] = change.quality


def _ranges(registry: Registry, device: int, metric: str) -> tuple[tuple[float, float], tuple[float, float]]:
    known = None if metric.startswith(EVENT) else KINDS[registry.devices[device].kind].metrics.get(metric)
    endless = (-np.inf, np.inf)
    return (known.physical, known.plausible) if known else (endless, endless)


@dataclass(frozen=True, slots=True)
class Steps:
    """Rows by series: the instant of each and the one `before` it in its series (of the first: the newest that was
    known before the batch, 0 for none)."""

    order: Order
    at: I64
    before: I64


def steps_of(newest: I64, series: I32, measured_at: I64, rows: I64 | None = None) -> Steps:
    """Of these rows of the batch, None for all; `newest` is by series."""
    order = order_of(series, rows)
    at = measured_at[order.row]
    before = np.empty_like(at)
    before[1:] = at[:-1]
    before[order.start] = newest[order.owners]
    return Steps(order, at, before)


@dataclass(frozen=True, slots=True)
class Classified:
    """`verdict` and `newer` (newer than the last of its series) are per row. `rising` are the steps of the rows where
    every row of the batch is newer than the one before it and none is refused; else None."""

    verdict: U8
    newer: Bool
    change: Change
    rising: Steps | None


def classify(
    newest: Newest, series: I32, measured_at: I64, value: F64, quality: U8, *, refused: Bool | None, find: Find
) -> Classified:
    """Rows in arrival order; `refused` None for none."""
    steps = steps_of(newest.measured_at, series, measured_at, np.flatnonzero(~refused) if refused is not None else None)
    order, falling = steps.order, steps.at <= steps.before
    if not falling.any():
        last = order.row[order.last()]
        verdict, newer = np.zeros(len(series), np.uint8), np.ones(len(series), np.bool_)
        if refused is not None:
            verdict[refused], newer[refused] = Verdict.REFUSED, False
        change = Change(series[last], measured_at[last], value[last], quality[last])
        return Classified(verdict, newer, change, steps if refused is None else None)
    if refused is None:
        refused = np.zeros(len(series), np.bool_)
    verdict, newer = np.where(refused, Verdict.REFUSED, Verdict.NEW).astype(np.uint8), ~refused
    disordered = order.row[np.isin(order.owner, order.owner[falling])]
    _settle_disorder(newest, disordered, series, measured_at, value, verdict=verdict, newer=newer, find=find)
    change = _change(newest, order.row, series, measured_at, value, quality, verdict, newer)
    return Classified(verdict, newer, change, None)


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

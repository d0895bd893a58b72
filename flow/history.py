"""Stored readings and events of some devices as rows in order of time: what a rule is tried on and explained by.

The order is that of measuring, not of arrival, so a reading that came late stands in its place. What the journal has
and the readings store has not got yet (moments, longer while the store is away) is not in it; readings of quality bad
are left out as they are live. Every look is a short query on a connection of its own: nobody who settles waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Engine, select

from alerts.refusals import Invalid
from devices.batch import I32, I64, Quality
from devices.instants import DAY, HOUR, SECOND
from devices.registry import EVENT, Device, Registry
from flow.ledger import DERIVED
from rules.outcome import Rows
from store.readings import ReadingStore
from store.records.database import chunks
from store.records.tables import events

MAX_SPAN = 366 * DAY
# Readings to expect of devices × series × span at their intervals. Ten million are some half minute of one core.
MAX_READINGS = 20_000_000
# Rows read at once: a chunk of 100,000 takes some milliseconds to judge and 3 MB; fewer cost more queries.
CHUNK = 100_000
_FIRST_STRETCH, _LONGEST_STRETCH = 6 * HOUR, 32 * DAY


@dataclass(frozen=True)
class History:
    """Some devices under numbers of their own, so that rules are bound to them and to no others.

    `registry` holds them and the series wanted of each; `stored` is the store's number of each of its series, -1 for an
    event; `number` each device's number in the installation.
    """

    registry: Registry
    stored: I32
    number: I32


def choose(known: Registry, devices: Iterable[Device], names: Set[str] | None, start: int) -> History:
    """The devices with those of their series that are named (None: all). A device counts as first seen at `start`
    where it was seen before: what it said earlier is not looked at, and nothing is missed of it."""
    registry, stored, numbers = Registry(), [], []
    for device in devices:
        own = registry.add(replace(device, first_seen=max(device.first_seen, start)))
        numbers.append(device.number)
        for name, number in known.series_of(device.number):
            if names is None or name in names:
                registry.series(own.number, name)
                stored.append(-1 if name.startswith(EVENT) else number)
    return History(registry, np.array(stored, np.int32), np.array(numbers, np.int32))


def expected_readings(history: History, start: int, end: int) -> int:
    """How many readings of the span there are if every device reports at its interval."""
    registry = history.registry
    intervals = (registry.devices[device].interval_s for device in registry.series_device)
    return round(sum((end - start) / SECOND / max(interval, 1.0) for interval in intervals))


def check_size(history: History, start: int, end: int) -> None:
    """Raises Invalid where the span is empty, or it and the devices are more than is read for one person."""
    if start >= end:
        raise Invalid("empty_span", "from 必须早于 to", "`from` must be earlier than `to`")
    days, most = (end - start) / DAY, MAX_SPAN // DAY
    if end - start > MAX_SPAN:
        zh, en = f"时段长 {days:.0f} 天，最多 {most} 天", f"the span is {days:.0f} days, at most {most}"
        raise Invalid("history_too_long", zh, en)
    readings = expected_readings(history, start, end)
    if readings > MAX_READINGS:
        devices = len(history.registry.devices)
        raise Invalid(
            "history_too_long",
            f"{devices} 台设备 × {days:.1f} 天约 {readings:,} 个读数，最多 {MAX_READINGS:,}：请减少设备或缩短时段",
            f"{devices} devices × {days:.1f} days are about {readings:,} readings, at most {MAX_READINGS:,}: choose "
            "fewer devices or a shorter span",
        )


@dataclass(frozen=True, slots=True)
class Sources:
    """Where history is read."""

    records: Engine
    readings: ReadingStore

    def rows(
        self, history: History, start: int, end: int, told: Callable[[float], None] = lambda _: None
    ) -> Iterator[Rows]:
        """Rows measured in [start, end), chunk by chunk in order of time; no element is cut. `told` gets the part done
        before each chunk, and may raise to end it. Raises StoreUnavailable."""
        readings = np.flatnonzero(history.stored >= 0).astype(np.int32)
        order = np.argsort(history.stored[readings])
        own, stored = readings[order], history.stored[readings][order]
        at, stretch, element = start, _FIRST_STRETCH, 0
        while at < end:
            told((at - start) / (end - start))
            rows, until = self._stretch(history, (own, stored), at, min(at + stretch, end), CHUNK)
            if len(rows):
                yield replace(rows, element=rows.element + np.int32(element))
                element += int(rows.element[-1]) + 1
            # As long as fits a chunk: quiet months in one look, a flood night in many.
            full = until < min(at + stretch, end) or len(rows) > CHUNK // 2
            stretch = max(SECOND, stretch // 2) if full else min(2 * stretch, _LONGEST_STRETCH)
            at = until
        told(1.0)

    def _stretch(self, history: History, series: tuple[I32, I32], start: int, end: int, most: int) -> tuple[Rows, int]:
        """The rows of [start, until); `until` is `end`, or earlier where more than `most` lie before it."""
        own, stored = series
        found = self.readings.slice(stored.tolist(), start, end, most)
        while len(found) == most:
            end = int(found.measured_at[-1])
            if end > start:
                break
            # More at one instant than a chunk holds: it is read whole.
            most, end = 4 * most, start + 1
            found = self.readings.slice(stored.tolist(), start, end, most)
        happened = self._events(history, start, end)
        good = (found.measured_at < end) & (found.quality != Quality.BAD)
        number = own[np.searchsorted(stored, found.series[good])]
        return _merged(history, number, found.measured_at[good], found.value[good], happened), end

    def _events(self, history: History, start: int, end: int) -> list[tuple[int, int, bool]]:
        """(series, at, derived from a reading) of every event of [start, end), in order of time."""
        registry = history.registry
        wanted = np.flatnonzero(history.stored < 0).tolist()
        if not wanted:
            return []
        names = {registry.series_metric[number].removeprefix(EVENT) for number in wanted}
        numbers = sorted({int(history.number[registry.series_device[number]]) for number in wanted})
        own = {int(number): place for place, number in enumerate(history.number.tolist())}
        c, found = events.c, []
        query = select(c.device, c.name, c.at, c.key).where(c.name.in_(names), c.at >= start, c.at < end)
        for some in chunks(numbers):
            with self.records.connect() as tx:
                for device, name, at, key in tx.execute(query.where(c.device.in_(some)).order_by(c.at, c.id)):
                    series = registry.find_series(own[device], EVENT + name)
                    if series is not None:
                        found.append((series, at, key == DERIVED))
        return found


def _merged(
    history: History, series: I32, at: I64, value: np.ndarray[tuple[int], np.dtype[np.float64]],
    happened: Sequence[tuple[int, int, bool]],
) -> Rows:  # fmt: skip
    """Readings of one device and instant are one element, an event is one of its own after them; an event that was
    made from a reading belongs to that reading's element."""
    of_device = np.asarray(history.registry.series_device, np.int32)
    own = np.array([0 if derived else place + 1 for place, (_, _, derived) in enumerate(happened)], np.int64)
    series = np.concatenate([series, np.array([s for s, _, _ in happened], np.int32)])
    at = np.concatenate([at, np.array([instant for _, instant, _ in happened], np.int64)])
    value = np.concatenate([value, np.ones(len(happened))])
    alone = np.concatenate([np.zeros(len(series) - len(happened), np.int64), own])
    device = of_device[series] if len(of_device) else np.empty(0, np.int32)
    order = np.lexsort((series, alone, device, at))
    series, at, value, alone, device = series[order], at[order], value[order], alone[order], device[order]
    new = (at[1:] != at[:-1]) | (device[1:] != device[:-1]) | (alone[1:] != alone[:-1])
    element = np.concatenate([np.zeros(min(1, len(series)), np.int64), np.cumsum(new)]).astype(np.int32)
    return Rows(series, at, value, element, device)

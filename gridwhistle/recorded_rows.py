"""A recorded file as the rows a running service would judge, for `backtest`.

What the service does to readings before it judges them is done here too: values beyond what a sensor can measure are
left out, and the changes of a door's `open` are its events. Order, repeats and steps back in time stay as the file has
them; `rules.backtest` treats them as the service does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.batch import F64, I32, I64
from devices.kinds import KINDS
from devices.registry import EVENT, Device, Registry
from devices.town import Town
from gridwhistle.recorded_survey import Survey, interval_of
from rules.outcome import Rows
from simulator.recorded import Chunk, FileMapping, RecordedError, RecordedFile

OPEN = "open"
DOOR_EVENTS = (f"{EVENT}door_closed", f"{EVENT}door_opened")


@dataclass(slots=True)
class Counted:
    """Values read, and those of them no sensor can have measured."""

    readings: int = 0
    impossible: int = 0


def registry_of(mapping: FileMapping, found: Survey, town: Town | None) -> Registry:
    """The devices of the file with all their series; what the town says of them holds where the mapping is silent.

    A device is seen first with its first row: from there on the service would know it.

    Raises RecordedError where the town knows one of them as another kind or of another site: the service would refuse
    its readings.
    """
    registry = Registry()
    for number, device in enumerate(found.devices):
        known = town.devices.get(device.id) if town else None
        if known is not None and town is not None and town.site != device.site:
            raise RecordedError(f"{device.id}: of site {town.site} in the town, of {device.site} in the mapping")
        if known is not None and known.kind != device.kind:
            raise RecordedError(f"{device.id}: a {known.kind} in the town, a {device.kind} in the mapping")
        registry.put(
            Device(
                number=number,
                id=device.id,
                site=device.site,
                kind=device.kind,
                name=(known.name if known else "") or device.name,
                grid=known.grid if known else None,
                attributes={**(known.attributes if known else {}), **device.attributes},
                tags=known.tags if known else frozenset(),
                interval_s=interval_of(device, mapping, town, found).seconds,
                first_seen=found.first.get(device.id, 0),
                second_of=known.second_of if known else None,
            )
        )
        for source in mapping.metrics.values():
            registry.series(number, source.metric)
        for event in DOOR_EVENTS if _has_doors(mapping) else ():
            registry.series(number, event)
    return registry


def rows_of(
    recorded: RecordedFile, registry: Registry, counted: Counted, told: Callable[[float], None] = lambda _: None
) -> Iterator[Rows]:
    """Chunk by chunk in file order; one element a row of the file. `told` gets the part done."""
    low, high = _physical(registry)
    doors = _Doors(registry) if _has_doors(recorded.mapping) else None
    element = 0
    for chunk in recorded.chunks():
        series = _series(chunk, registry)
        row, column = np.nonzero(~np.isnan(chunk.values))
        value, number = chunk.values[row, column], series[chunk.device[row], column]
        possible = (value >= low[number]) & (value <= high[number])
        counted.readings += len(value)
        counted.impossible += int((~possible).sum())
        row, number, value = row[possible], number[possible], value[possible]
        rows = Rows(number, chunk.measured_at[row], value, (row + element).astype(np.int32), chunk.device[row])
        yield rows if doors is None else doors.with_events(rows)
        element += len(chunk)
        told(recorded.progress)


def _has_doors(mapping: FileMapping) -> bool:
    return mapping.kind == "door_sensor" and any(source.metric == OPEN for source in mapping.metrics.values())


def _physical(registry: Registry) -> tuple[F64, F64]:
    """Lowest and highest value the sensor of each series can measure, by series number."""
    known = [
        KINDS[registry.devices[device].kind].metrics.get(metric)
        for device, metric in zip(registry.series_device, registry.series_metric, strict=True)
    ]
    ranges = np.array([metric.physical if metric else (-np.inf, np.inf) for metric in known], np.float64).reshape(-1, 2)
    return ranges[:, 0], ranges[:, 1]


def _series(chunk: Chunk, registry: Registry) -> NDArray[np.int32]:
    """Series number by device of the chunk and metric."""
    numbers = [[registry.series(d, metric) for metric in chunk.metrics] for d in range(len(chunk.devices))]
    return np.asarray(numbers, np.int32).reshape(len(chunk.devices), len(chunk.metrics))


class _Doors:
    """door_opened and door_closed from changes of `open`; a first report says how a door stands, not that it moved."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._open = {registry.series(device.number, OPEN) for device in registry.devices}
        self._last: dict[int, tuple[int, float]] = {}

    def with_events(self, rows: Rows) -> Rows:
        at_row: list[int] = []
        series: list[int] = []
        for i in np.flatnonzero(np.isin(rows.series, list(self._open))).tolist():
            number, at, value = int(rows.series[i]), int(rows.at[i]), float(rows.value[i])
            before = self._last.get(number)
            if before is not None and at <= before[0]:
                continue
            self._last[number] = at, value
            if before is not None and before[1] != value:
                at_row.append(i)
                series.append(self._registry.series(int(rows.device[i]), DOOR_EVENTS[bool(value)]))
        return _inserted(rows, np.asarray(at_row, np.int64), np.asarray(series, np.int32))


def _inserted(rows: Rows, after: I64, series: I32) -> Rows:
    """The rows with an event of value 1 behind each of the rows named, in the same element."""
    order = np.argsort(np.concatenate([rows.element, rows.element[after]]), kind="stable")
    return Rows(
        np.concatenate([rows.series, series])[order],
        np.concatenate([rows.at, rows.at[after]])[order],
        np.concatenate([rows.value, np.ones(len(after))])[order],
        np.concatenate([rows.element, rows.element[after]])[order],
        np.concatenate([rows.device, rows.device[after]])[order],
    )

"""What has to be known of a recorded file before it is judged: its devices, when each begins, how often each reports.

An interval taken too short makes every gap between two rows a silence, and nothing that has to hold is ever raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from devices.batch import I64
from devices.instants import SECOND, format_duration
from devices.kinds import KINDS
from devices.town import Town
from simulator.mapping import FileMapping
from simulator.recorded import Chunk, RecordedDevice, RecordedFile

# Steps of a device of which the median is taken. Fewer follow a file that begins with a trial at another pace; more
# cost 8 bytes each for every device, and where the mapping names the only device, the time to read that far.
STEPS = 1000


class Origin(StrEnum):
    """Where an interval was taken from."""

    TOWN = "town"
    MAPPING = "mapping"
    FILE = "file"
    KIND = "kind"


@dataclass(frozen=True, slots=True)
class Interval:
    seconds: float
    origin: Origin


@dataclass(frozen=True, slots=True)
class Survey:
    """By device id: the instant of its first row, and the median step between its rows in seconds, where it has one."""

    devices: list[RecordedDevice]
    first: Mapping[str, int]
    step: Mapping[str, float]


def survey(mapping: FileMapping, path: Path) -> Survey:
    """Reads the whole file where the devices stand in a column, else its beginning. Raises RecordedError, OSError."""
    recorded = RecordedFile(mapping, path)
    paces: dict[int, _Pace] = {}
    for chunk in recorded.chunks():
        for number, at in _by_device(chunk):
            paces.setdefault(number, _Pace(int(at[0]))).take(at)
        if mapping.device.const is not None and any(pace.known >= STEPS for pace in paces.values()):
            break
    ids = recorded.devices
    return Survey(
        recorded.described(),
        {ids[number]: pace.first for number, pace in paces.items()},
        {ids[number]: step for number, pace in paces.items() if (step := pace.median()) is not None},
    )


def interval_of(device: RecordedDevice, mapping: FileMapping, town: Town | None, found: Survey) -> Interval:
    """The town's, else the mapping's, else the median step in the file.

    A kind with events reports what happens, when it happens: its rows say nothing of its interval.
    """
    known = town.devices.get(device.id) if town else None
    if known is not None and known.interval is not None:
        return Interval(known.interval, Origin.TOWN)
    if mapping.interval is not None:
        return Interval(mapping.interval, Origin.MAPPING)
    kind = KINDS[device.kind]
    if device.id in found.step and not kind.events:
        return Interval(found.step[device.id], Origin.FILE)
    return Interval(kind.interval_s, Origin.KIND)


def told(interval: Interval, kind: str, devices: int) -> str:
    """One line for the person: what was taken instead of the kind's."""
    source = {
        Origin.TOWN: "片区设置 of the town", Origin.MAPPING: "映射文件 of the mapping",
        Origin.FILE: "文件中两行的中位间隔 the median step of the file", Origin.KIND: "类型默认 of the kind",
    }[interval.origin]  # fmt: skip
    usual = f"{kind} 默认 usually {_span(KINDS[kind].interval_s)}"
    return f"上报间隔 interval {_span(interval.seconds)}（{source}；{usual}）：{devices} 台设备 devices"


def _span(seconds: float) -> str:
    return format_duration(round(seconds * SECOND))


class _Pace:
    """Steps of one device between rows that go on in time."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.known = 0
        self._last = first
        self._steps: list[I64] = []

    def take(self, at: I64) -> None:
        if self.known >= STEPS:
            return
        steps = np.diff(at, prepend=self._last)
        steps = steps[steps > 0][: STEPS - self.known]
        self._last = int(at[-1])
        self.known += len(steps)
        self._steps.append(steps)

    def median(self) -> float | None:
        return float(np.median(np.concatenate(self._steps))) / SECOND if self.known else None


def _by_device(chunk: Chunk) -> list[tuple[int, I64]]:
    """The instants of each device's rows in file order."""
    order = np.argsort(chunk.device, kind="stable")
    numbers, starts = np.unique(chunk.device[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(chunk.measured_at[order], starts[1:]), strict=True))

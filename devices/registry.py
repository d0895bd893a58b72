"""The devices this installation knows, and the numbers its columns use for them and for their series.

A device has a dense number (row index of every per-device array) and every (device, metric) a dense series number.
Numbers are given once and never reused; the store keeps them. An event of a device is a series too, named
"event:<name>", so that rules look at readings and events the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from devices.batch import F64, I32
from devices.kinds import KINDS

EVENT = "event:"


class DeviceStatus(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"  # unknown: readings kept, not judged, until someone approves or rejects it
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Device:
    """`first_seen` is microseconds since 1970 UTC; `interval_s` seconds between reports; `keeper` the person in charge
    of the device (shown); `person` the one whose home it is in (personal, masked by default)."""

    number: int
    id: str
    site: str
    kind: str
    name: str = ""
    grid: str | None = None
    status: DeviceStatus = DeviceStatus.ACTIVE
    attributes: Mapping[str, float | str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    interval_s: float = 60.0
    silent_after_s: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    keeper: str = ""
    keeper_phone: str = ""
    person: str = ""
    person_address: str = ""
    first_seen: int = 0


class Registry:
    """Devices and series by name and number. Only the settling thread renumbers; lookups are safe anywhere."""

    def __init__(self) -> None:
        self.devices: list[Device] = []
        self._by_id: dict[str, int] = {}
        self.series_device: list[int] = []
        self.series_metric: list[str] = []
        self._series: dict[tuple[int, str], int] = {}

    def get(self, device_id: str) -> Device | None:
        number = self._by_id.get(device_id)
        return None if number is None else self.devices[number]

    def put(self, device: Device) -> None:
        """Add the device, whose number must be the next one, or replace the device of that number."""
        if device.number == len(self.devices):
            self.devices.append(device)
            self._by_id[device.id] = device.number
        elif self.devices[device.number].id == device.id:
            self.devices[device.number] = device
        else:
            raise ValueError(f"device number {device.number} belongs to {self.devices[device.number].id!r}")

    def series(self, device: int, metric: str) -> int:
        """The number of this series, given now if it has none."""
        key = (device, metric)
        number = self._series.get(key)
        if number is None:
            number = self._series[key] = len(self.series_device)
            self.series_device.append(device)
            self.series_metric.append(metric)
        return number

    def find_series(self, device: int, metric: str) -> int | None:
        return self._series.get((device, metric))

    def series_devices(self) -> I32:
        """Device number of every series, shape (series,)."""
        return np.asarray(self.series_device, np.int32)

    def physical_ranges(self, first: int = 0) -> tuple[F64, F64]:
        """Lowest and highest value the sensor of each series from `first` on can measure, shape (series - first,)."""
        low, high = [], []
        for device, metric in zip(self.series_device[first:], self.series_metric[first:], strict=True):
            known = KINDS[self.devices[device].kind].metrics.get(metric)
            low.append(known.physical[0] if known else -np.inf)
            high.append(known.physical[1] if known else np.inf)
        return np.asarray(low, np.float64), np.asarray(high, np.float64)

"""The devices this installation knows, and the numbers its columns use for them and for their series.

A device has a dense number (row index of every per-device array) and every (device, metric) a dense series number.
Numbers are given once and never reused; the store keeps them. An event of a device is a series too, named
"event:<name>", so that rules look at readings and events the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from threading import Lock

import numpy as np

from devices.attributes import Attribute, Dated
from devices.batch import I32

__all__ = ["EVENT", "Dated", "Device", "DeviceStatus", "Registry"]

EVENT = "event:"


class DeviceStatus(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"  # unknown: readings kept, not judged, until someone approves or rejects it
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Device:
    """`first_seen` is microseconds since 1970 UTC; `interval_s` seconds between reports; `keeper` the person in charge
    of the device (shown); `person` the one whose home it is in (personal, masked by default); `second_of` the device
    for whose station it is another source, which is stored and compared and never judged."""

    number: int
    id: str
    site: str
    kind: str
    name: str = ""
    grid: str | None = None
    status: DeviceStatus = DeviceStatus.ACTIVE
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
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
    second_of: str | None = None

    @property
    def judged(self) -> bool:
        """Whether rules look at it: approved, and no second source of a station."""
        return self.status is DeviceStatus.ACTIVE and self.second_of is None


class Registry:
    """Devices and series by name and number. The decoder numbers newcomers while another thread settles, so numbering
    takes a lock; looking up does not."""

    def __init__(self) -> None:
        self.devices: list[Device] = []
        self._by_id: dict[str, int] = {}
        self.series_device: list[int] = []
        self.series_metric: list[str] = []
        self._series: dict[int, dict[str, int]] = {}
        self._numbering = Lock()

    def get(self, device_id: str) -> Device | None:
        number = self._by_id.get(device_id)
        return None if number is None else self.devices[number]

    def add(self, device: Device) -> Device:
        """The device with the next number (whatever number it carries), or the one already known by that id."""
        with self._numbering:
            known = self._by_id.get(device.id)
            if known is not None:
                return self.devices[known]
            numbered = replace(device, number=len(self.devices))
            self.devices.append(numbered)
            self._by_id[numbered.id] = numbered.number
            return numbered

    def put(self, device: Device) -> None:
        """Replace the device of that number, which keeps its id; the next free number adds it."""
        if device.number == len(self.devices):
            self.add(device)
        elif self.devices[device.number].id == device.id:
            self.devices[device.number] = device
        else:
            raise ValueError(f"device number {device.number} belongs to {self.devices[device.number].id!r}")

    def series(self, device: int, metric: str) -> int:
        """The number of this series, given now if it has none."""
        number = self.find_series(device, metric)
        if number is None:
            with self._numbering:
                number = self.find_series(device, metric)
                if number is None:
                    number = len(self.series_metric)
                    # The device column is the one others measure the length of: it grows last.
                    self.series_metric.append(metric)
                    self.series_device.append(device)
                    self._series.setdefault(device, {})[metric] = number
        return number

    def find_series(self, device: int, metric: str) -> int | None:
        known = self._series.get(device)
        return None if known is None else known.get(metric)

    def series_of(self, device: int) -> tuple[tuple[str, int], ...]:
        """(metric, series) of every series of the device, as numbered."""
        # Copied first: the decoder may number another one meanwhile.
        return tuple(self._series.get(device, {}).copy().items())

    def series_devices(self) -> I32:
        """Device number of every series, shape (series,)."""
        return np.asarray(self.series_device, np.int32)

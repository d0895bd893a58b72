"""When a device was last heard, and whether it has fallen silent (the service's own alarm `gw-silence`).

Silence is judged by the clock; it ends at the element that breaks it. A silence begins at the last measured instant
plus the device's limit, never at the tick that noticed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from devices.batch import I32, I64, Bool
from devices.instants import SECOND
from devices.kinds import KINDS
from devices.registry import Device, DeviceStatus

# A device is silent when three of its reports in a row are missing; one lost radio packet is not silence.
MISSED_REPORTS = 3
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Silence:
    """A device fell silent (`since`) or was heard again (`ended`). `last_seen` is what the limit counts from."""

    device: int
    last_seen: int
    since: int
    ended: int | None
    element: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What a batch or a tick changes: the devices it concerns, their last_seen and silent_since (0: not silent)."""

    device: I32
    last_seen: I64
    silent_since: I64
    silences: tuple[Silence, ...]


class Presence:
    """Arrays over device numbers; `hear` and `tick` change nothing, `adopt` takes what they found."""

    def __init__(self) -> None:
        self.last_seen: I64 = np.empty(0, np.int64)
        self.silent_since: I64 = np.empty(0, np.int64)
        self._limit: I64 = np.empty(0, np.int64)
        self._resumed_at = 0

    def devices_changed(self, devices: Sequence[Device]) -> None:
        """Devices were added or changed; one never heard counts from when it was first seen."""
        known = len(self.last_seen)
        unheard = np.flatnonzero(self.last_seen == 0)
        self.last_seen[unheard] = [devices[i].first_seen for i in unheard.tolist()]
        fresh = np.array([d.first_seen for d in devices[known:]], np.int64)
        self.last_seen = np.concatenate([self.last_seen, fresh])
        self.silent_since = np.concatenate([self.silent_since, np.zeros(len(fresh), np.int64)])
        self._limit = np.array([silent_after(d) for d in devices], np.int64)

    def link(self, resumed_at: int) -> None:
        """The link came back: nobody is silent before one full limit has passed from here."""
        self._resumed_at = resumed_at

    def hear(self, device: I32, measured_at: I64, element: I32) -> Heard:
        """Rows in arrival order. A silent device is heard again at the first row newer than its last."""
        if not len(device):
            return self._nothing()
        heard = np.flatnonzero(np.bincount(device, minlength=len(self.last_seen)))
        newest = self.last_seen.copy()
        np.maximum.at(newest, device, measured_at)
        last, before = newest[heard], self.last_seen[heard]
        silent = self.silent_since[heard]
        ended: list[Silence] = []
        for i in np.flatnonzero((silent > 0) & (last > before)):
            first = int(np.flatnonzero((device == heard[i]) & (measured_at > before[i]))[0])
            ended.append(
                Silence(int(heard[i]), int(before[i]), int(silent[i]), int(measured_at[first]), int(element[first]))
            )
            silent[i] = 0
        ended.sort(key=lambda s: s.element)
        return Heard(heard.astype(np.int32), last, silent, tuple(ended))

    def tick(self, now: int) -> Heard:
        """The devices whose limit has passed since they were last heard and since the link came back."""
        due: Bool = (
            (self.silent_since == 0)
            & (self._limit != NEVER)
            & (self.last_seen > 0)
            & (now - self.last_seen >= self._limit)
            & (now - self._resumed_at >= self._limit)
        )
        device = np.flatnonzero(due).astype(np.int32)
        since = self.last_seen[device] + self._limit[device]
        silences = tuple(
            Silence(int(d), int(self.last_seen[d]), int(at), None, -1) for d, at in zip(device, since, strict=True)
        )
        return Heard(device, self.last_seen[device], since, silences)

    def adopt(self, heard: Heard) -> None:
        self.last_seen[heard.device] = heard.last_seen
        self.silent_since[heard.device] = heard.silent_since

    def snapshot(self) -> dict[str, bytes | int]:
        return {
            "last_seen": self.last_seen.tobytes(),
            "silent_since": self.silent_since.tobytes(),
            "resumed_at": self._resumed_at,
        }

    def restore(self, saved: dict[str, bytes | int]) -> None:
        """Call after devices_changed: the saved arrays may be shorter than the registry, never longer."""
        for name in ("last_seen", "silent_since"):
            raw = saved[name]
            assert isinstance(raw, bytes)
            column = np.frombuffer(raw, np.int64)
            getattr(self, name)[: len(column)] = column
        resumed = saved["resumed_at"]
        assert isinstance(resumed, int)
        self._resumed_at = resumed

    def _nothing(self) -> Heard:
        none = np.empty(0, np.int64)
        return Heard(np.empty(0, np.int32), none, none, ())


def silent_after(device: Device) -> int:
    """Microseconds without a report after which the device counts as silent; NEVER for those not watched."""
    if device.status is not DeviceStatus.ACTIVE or not KINDS[device.kind].always_on:
        return NEVER
    seconds = device.silent_after_s or MISSED_REPORTS * device.interval_s
    return round(seconds * SECOND)

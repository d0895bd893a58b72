"""When a device was last heard, and whether it has fallen silent (the service's own alarm `gw-silence`).

Silence is judged by the clock; it ends at the element that breaks it. A silence begins at the last measured instant
plus the device's limit, never at the tick that noticed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        # By device [start, end) in which nobody misses it, as people have declared; not part of the snapshot.
        self.pauses: Mapping[int, Sequence[tuple[int, int]]] = {}

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
        """The devices whose limit has passed since they were last heard and since the link came back; and those that
        are silent and have been paused, whose silence is over."""
        counted, held = self._pauses_at(now)
        due: Bool = (
            (self.silent_since == 0)
            & (self._limit != NEVER)
            & (self.last_seen > 0)
            & (now - counted >= self._limit)
            & (now - self._resumed_at >= self._limit)
        )
        due[list(held)] = False
        silent = np.flatnonzero(due).astype(np.int32)
        since = counted[silent] + self._limit[silent]
        begun = [Silence(int(d), int(counted[d]), int(at), None, -1) for d, at in zip(silent, since, strict=True)]
        ended = [
            Silence(d, int(self.last_seen[d]), int(self.silent_since[d]), max(start, int(self.silent_since[d])), -1)
            for d, start in held.items()
            if self.silent_since[d]
        ]
        device = np.concatenate([silent, np.array([s.device for s in ended], np.int32)])
        after = np.concatenate([since, np.zeros(len(ended), np.int64)])
        return Heard(device, self.last_seen[device], after, (*ended, *begun))

    def _pauses_at(self, now: int) -> tuple[I64, dict[int, int]]:
        """From where each device's limit counts, and those that are paused with the start of it."""
        if not self.pauses:
            return self.last_seen, {}
        counted, held = self.last_seen.copy(), dict[int, int]()
        for device, spans in self.pauses.items():
            counted[device] = max([int(counted[device]), *(end for _, end in spans if end <= now)])
            starts = [start for start, end in spans if start <= now < end]
            if starts:
                held[device] = min(starts)
        return counted, held

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

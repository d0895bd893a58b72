"""The pretend township for one run: its town, its script, its hours and its chance.

A scenario writes the `Script`; everything else follows from seed and start, device by device, so that one device
more or less changes nothing for the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from devices.instants import DAY, HOUR, to_datetime
from devices.kinds import KINDS
from devices.town import Town, TownDevice
from simulator.physics.lake import Bloom
from simulator.physics.river import River
from simulator.physics.sky import Sky

Value = float | bool | str


@dataclass(frozen=True, slots=True)
class Sample:
    """One message of one device: `at` is what its clock says, `sent_at` when it goes out in the township's time.

    `body` holds metrics, or the event and its id; `garbled` is what goes out instead of it where it cannot be read.
    """

    sent_at: int
    at: int
    device: str
    channel: str
    body: dict[str, Value]
    garbled: bytes | None = None


Fault = Callable[[Iterator[Sample]], Iterator[Sample]]


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int

    def __contains__(self, at: int) -> bool:
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True)
class Excursion:
    """A metric is led to `value` from `ramp` before the span's start until `ramp` after its end."""

    metric: str
    span: Span
    value: float
    ramp: int

    def weight(self, at: int) -> float:
        """0 before and after, 1 within the span."""
        if at in self.span:
            return 1.0
        away = self.span.start - at if at < self.span.start else at - self.span.end
        return max(0.0, 1.0 - away / self.ramp) if self.ramp else 0.0


@dataclass(slots=True)
class Script:
    """What a scenario says will happen; instants in microseconds, devices by id.

    `persons`: when the camera sees somebody. `quiet_days`: days, counted from that of the start, on which a door
    stays shut. `still`: meanwhile nobody opens it. `visits`: openings besides. `door_loss`: the part of the
    doors' radio messages that never arrive.
    """

    sky: Sky = field(default_factory=Sky)
    river: River = field(default_factory=River)
    bloom: Bloom | None = None
    mains_lost: dict[str, list[Span]] = field(default_factory=dict)
    excursions: dict[str, list[Excursion]] = field(default_factory=dict)
    persons: dict[str, list[int]] = field(default_factory=dict)
    quiet_days: dict[str, frozenset[int]] = field(default_factory=dict)
    still: dict[str, Span] = field(default_factory=dict)
    visits: dict[str, list[int]] = field(default_factory=dict)
    door_loss: float = 0.01
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def disturb(self, device: str, fault: Fault) -> None:
        self.faults.setdefault(device, []).append(fault)


@dataclass(frozen=True)
class World:
    """`start` is the first instant published, `zero` hour 0 of the weather, both in microseconds."""

    scenario: str
    town: Town
    seed: int
    start: int
    zero: int
    script: Script = field(default_factory=Script)

    @cached_property
    def offset(self) -> int:
        """The site's time ahead of UTC at the start; a change of clocks during a run is not followed."""
        ahead = to_datetime(self.start).astimezone(ZoneInfo(self.town.zone)).utcoffset() or timedelta()
        return ahead // timedelta(microseconds=1)

    @cached_property
    def midnight(self) -> int:
        """00:00 site time of the day of the start."""
        return (self.start + self.offset) // DAY * DAY - self.offset

    def hour(self, at: int) -> float:
        """Hours since hour 0 of the weather."""
        return (at - self.zero) / HOUR

    def hour_of_day(self, at: int) -> float:
        return (at + self.offset) % DAY / HOUR

    def rng(self, purpose: str) -> np.random.Generator:
        """A stream of chance of its own for every purpose."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, zlib.crc32(purpose.encode())]))

    def of_kind(self, kind: str, tag: str | None = None) -> list[TownDevice]:
        """In the order of the town's file."""
        return [d for d in self.town.devices.values() if d.kind == kind and (tag is None or tag in d.tags)]


def interval_of(device: TownDevice) -> float:
    """Seconds between two reports."""
    return device.interval or KINDS[device.kind].interval_s

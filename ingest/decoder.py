"""From a PUBLISH to columns: whose topic it is, which format reads it, what happens to the unknown.

A topic is looked at once and remembered; after that a message costs its JSON and one look-up per value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum

import msgspec

from devices.batch import Redriven
from devices.faults import ClockLimits
from devices.instants import MAX_INSTANT, MILLISECOND, MIN_INSTANT, SECOND, from_iso
from devices.kinds import KINDS
from devices.names import is_name
from devices.registry import Device, DeviceStatus, Registry
from ingest.columns import Builder, digest
from ingest.flood import Flood
from ingest.formats.native import (
    FAR,
    Arrived,
    Route,
    read_events,
    read_readings,
    read_reply,
    read_status,
    read_usual,
)

log = logging.getLogger("gridwhistle.decoder")

FILTERS = ("gw/v1/#",)
# Topics remembered. A hostile publisher can invent topics without end; beyond this the memory starts again.
MAX_ROUTES = 200_000
MAX_UNKNOWN = 1_000
DUP, RETAIN = 0x08, 0x01


class UnknownDevices(StrEnum):
    QUARANTINE = "quarantine"
    ACCEPT = "accept"
    REFUSE = "refuse"


class _No(Exception):
    """This topic is not for us: reason and detail of the refusal."""

    def __init__(self, reason: str, detail: str, device: int = -1) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.device = reason, detail, device


# Takes the payload of a topic that carries no readings.
Listener = Callable[[bytes], None]


def _ignore(_payload: bytes) -> None:
    """For topics that are ours, or another site's clock."""


class Decoder:
    """`now` is the rule clock in microseconds, 0 while it has not spoken; `first_arrival(packet_id, digest)` is when a
    redelivered packet came; `clock` says from when on a device's clock is wrong."""

    def __init__(
        self,
        registry: Registry,
        *,
        unknown: UnknownDevices,
        now: Callable[[], int],
        first_arrival: Callable[[int, bytes], int | None],
        clock: ClockLimits | None = None,
        flood: Flood | None = None,
    ) -> None:
        """`flood` limits what one device may send, while `limiting` is true."""
        self.builder = Builder()
        self._registry = registry
        self._unknown = unknown
        self._now = now
        self._first_arrival = first_arrival
        self._routes: dict[bytes, Route | Listener] = {}
        # Who listens to a topic that carries no readings, such as the clock; the subscriber sets it.
        self.listeners: Callable[[bytes], Listener | None] = lambda _: None
        self.limiting = False
        self._flood = flood
        self._last = self._last_redriven = 0
        self._arrived = Arrived()
        if clock is not None:
            self._arrived.ahead = FAR if clock.max_ahead is None else clock.max_ahead
            self._arrived.behind = FAR if clock.max_behind is None else clock.max_behind
        self._quarantined = sum(d.status is DeviceStatus.QUARANTINED for d in registry.devices)

    def forget_routes(self) -> None:
        """A device's status changed: look at every topic afresh."""
        self._routes.clear()
        self._quarantined = sum(d.status is DeviceStatus.QUARANTINED for d in self._registry.devices)

    def feed(self, topic: bytes, payload: bytes, first: int, packet_id: int) -> None:
        """One PUBLISH; `first` is its first byte."""
        if packet_id:
            self.builder.packet_ids.append(packet_id)
        route = self._routes.get(topic) or self._find(topic, payload)
        if not isinstance(route, Route):
            route(payload)
            return
        if self.limiting and self._flood is not None and self._flood.refuses(route.device.number):
            self.builder.refuse_too_fast(route.topic, route.device.number)
            return
        # No two elements share an instant of arrival, so that values timed by it never replace one another. 0: the data
        # clock has not spoken yet, and what tells its own time is taken to arrive at that time.
        stamp = self._now()
        if stamp and 0 <= self._last - stamp < SECOND:  # further behind: the clock was set
            stamp = self._last + 1
        arrived = self._arrived
        arrived.received_at, arrived.retained, arrived.packet_id = stamp, bool(first & RETAIN), packet_id
        if first & DUP and packet_id:
            arrived.received_at = self._first_arrival(packet_id, digest(payload)) or stamp
        used = self._read(route, payload)
        if stamp:
            self._last = stamp + used

    def redrive(self, topic: bytes, payload: bytes, received_at: int, redriven: Redriven) -> None:
        """Read a kept packet again, with the instant `received_at` it came at; what is refused again is refused anew.
        No two that are driven again share an instant either."""
        self.builder.redriven.append(redriven)
        route = self._routes.get(topic) or self._find(topic, payload)
        if not isinstance(route, Route):
            return  # a clock or a marker: what it said then is long past
        if received_at and 0 <= self._last_redriven - received_at < SECOND:
            received_at = self._last_redriven + 1
        arrived = self._arrived
        arrived.received_at, arrived.packet_id = received_at, 0
        arrived.retained = redriven.reason == "retained_without_time"
        self._last_redriven = received_at + self._read(route, payload)

    def _find(self, topic: bytes, payload: bytes) -> Route | Listener:
        """Look at a topic for the first time; one that is refused gets no place in memory."""
        try:
            route = self.listeners(topic) or self._route(topic)
        except _No as no:
            shown = topic.decode(errors="backslashreplace")[:1000]
            self.builder.refuse(shown, payload, no.reason, no.detail, no.device)
            return _ignore
        if len(self._routes) >= MAX_ROUTES:
            self._routes.clear()
        self._routes[topic] = route
        return route

    def _read(self, route: Route, payload: bytes) -> int:
        """How many instants of arrival the packet took."""
        try:
            return self._read_as(route, payload)
        except Exception as error:  # whatever a payload does, it must not come back for ever
            log.exception("a payload on %s could not be read", route.topic)
            self.builder.repair()
            self.builder.refuse(route.topic, payload, "malformed", repr(error), route.device.number)
            return 0

    def _read_as(self, route: Route, payload: bytes) -> int:
        if route.channel == "readings":
            if read_usual(route, payload, self._arrived, self.builder):
                return 1
            return read_readings(route, payload, self._arrived, self.builder, self._registry)
        if route.channel == "events":
            return read_events(route, payload, self._arrived, self.builder, self._registry)
        if route.channel == "status":
            read_status(route, payload, self.builder)
        else:
            read_reply(route, payload, self._arrived, self.builder)
        return 0

    def _route(self, topic: bytes) -> Route | Listener:
        """Raises _No with the reason for a topic nobody here listens to."""
        try:
            text = topic.decode()
        except UnicodeDecodeError as error:
            raise _No("bad_topic", "not UTF-8") from error
        parts = text.split("/")
        if len(parts) == 4 and parts[3] == "clock":
            return _ignore  # site clocks: the subscriber takes the one it follows, the rest say nothing to us
        if len(parts) == 7 and parts[5:] == ["commands", "reply"]:
            return Route(text, "reply", self._registered(*parts[2:5]), KINDS[parts[3]])
        if len(parts) in (6, 7) and parts[5] == "commands":
            return _ignore  # sent by us
        if len(parts) != 6 or parts[5] not in ("readings", "events", "status"):
            raise _No("bad_topic", "expected gw/v1/{site}/{kind}/{device}/readings, events or status")
        _, _, site, kind, name, channel = parts
        if not (is_name(site) and is_name(name)):
            raise _No("bad_topic", "site and device: expected [a-z0-9][a-z0-9_-]{0,63}")
        if kind not in KINDS:
            raise _No("bad_topic", f"unknown kind {kind[:64]!r}; one of {', '.join(KINDS)}")
        return Route(text, channel, self._device(site, kind, name), KINDS[kind])

    def _device(self, site: str, kind: str, name: str) -> Device:
        if self._registry.get(name) is None:
            return self._newcomer(site, kind, name)
        return self._registered(site, kind, name)

    def _registered(self, site: str, kind: str, name: str) -> Device:
        device = self._registry.get(name)
        if device is None:
            raise _No("unknown_device", f"{name[:64]!r} is not registered")
        if device.status is DeviceStatus.REJECTED:
            raise _No("rejected_device", f"{name} was rejected", device.number)
        if (device.site, device.kind) != (site, kind):
            detail = f"{name} is a {device.kind} of {device.site}, not a {kind} of {site}"
            raise _No("wrong_topic", detail, device.number)
        return device

    def _newcomer(self, site: str, kind: str, name: str) -> Device:
        if self._unknown is UnknownDevices.REFUSE:
            raise _No("unknown_device", f"{name} is not registered")
        status = DeviceStatus.ACTIVE
        if self._unknown is UnknownDevices.QUARANTINE:
            status = DeviceStatus.QUARANTINED
            if self._quarantined >= MAX_UNKNOWN:
                raise _No("too_many_unknown", f"{MAX_UNKNOWN:,} unknown devices already wait for approval")
            self._quarantined += 1
        interval = KINDS[kind].interval_s
        return self._registry.add(
            Device(0, name, site, kind, status=status, interval_s=interval, first_seen=self._now())
        )


def read_clock(payload: bytes) -> int | None:
    """The instant of a clock message ({"at": …} or bare), microseconds; None if it says none."""
    try:
        said = msgspec.json.decode(payload)
        said = said.get("at") if isinstance(said, dict) else said
        if isinstance(said, str):
            return from_iso(said)
        if isinstance(said, (int, float)) and not isinstance(said, bool):
            at = round(said * MILLISECOND)
            return at if MIN_INSTANT <= at <= MAX_INSTANT else None
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        return None
    return None

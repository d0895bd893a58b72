"""From PUBLISH packets to columns: whose topic it is, which format reads it, what happens to the unknown.

A topic is looked at once and remembered. After that a single packet costs its JSON and one look-up per value; of a
large piece of the stream those of one form are read together, and the rest singly. Both ways give the same rows in the
same order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum

import msgspec
import numpy as np

from devices.batch import I64, Arrival, Bool, Redriven
from devices.faults import ClockLimits
from devices.instants import MAX_INSTANT, MILLISECOND, MIN_INSTANT, SECOND, from_iso
from devices.kinds import KINDS
from devices.registry import Device, DeviceStatus, Registry
from ingest.columns import Builder, Part, digest
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
    refuse_unreadable,
)
from ingest.formats.shapes import Failure
from ingest.pieces import DUP, PLAIN, RETAIN, Piece
from ingest.together import read_together
from ingest.topics import MAX_UNKNOWN, Listener, Refusal, Topics, ignore

log = logging.getLogger("gridwhistle.decoder")

FILTERS = ("gw/v1/#",)
# A piece of the stream of fewer bytes is read packet by packet: reading together has to be worth its set-up.
TOGETHER_BYTES = 4_096

_Target = Route | Listener | Refusal
# Of the packets of a piece whose topic has no number, or that are not plain: place → target, topic, first byte.
_Strange = Mapping[int, tuple[_Target, bytes, int]]


class UnknownDevices(StrEnum):
    QUARANTINE = "quarantine"
    ACCEPT = "accept"
    REFUSE = "refuse"


class Decoder:
    """`now` is the rule clock in microseconds, 0 while it has not spoken; `first_arrival(packet_id, digest)` is when a
    redelivered packet came; `clock` says from when on a device's clock is wrong; `flood` limits what one device may
    send, while `limiting` is true."""

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
        self.builder = Builder()
        self._registry = registry
        self._unknown = unknown
        self._now = now
        self._first_arrival = first_arrival
        # Who listens to a topic that carries no readings, such as the clock; the subscriber sets it.
        self.listeners: Callable[[bytes], Listener | None] = lambda _: None
        self.limiting = False
        # By packet id: what came over an earlier link and is not settled, so that `first_arrival` does not know it yet.
        self.unsettled: Mapping[int, Arrival] = {}
        self._flood = flood
        self._last = self._last_redriven = 0
        self._arrived = Arrived()
        if clock is not None:
            self._arrived.ahead = FAR if clock.max_ahead is None else clock.max_ahead
            self._arrived.behind = FAR if clock.max_behind is None else clock.max_behind
        self.forget_routes()

    def forget_routes(self) -> None:
        """A device's status changed: look at every topic afresh."""
        self._topics = Topics(self._registry, self._newcomer)
        self._quarantined = sum(d.status is DeviceStatus.QUARANTINED for d in self._registry.devices)

    @property
    def numbers(self) -> dict[bytes, int]:
        """Topics met, by which the link sorts packets; fetch it afresh for each piece."""
        return self._topics.numbers

    def feed(self, topic: bytes, payload: bytes, first: int, packet_id: int) -> None:
        """One PUBLISH; `first` is its first byte."""
        self._take_one(self._find(topic), topic, payload, first, packet_id)
        self._forget_many()

    def take(self, piece: Piece) -> None:
        """All packets of a piece of the stream, in order."""
        strange = {place: (self._find(topic), topic, first) for place, topic, first in piece.strange}
        start = 0
        for place, (target, topic, first) in strange.items():
            if not isinstance(target, (Route, Refusal)) and target is not ignore:
                # Listeners close the batch that grows: what came before them goes first.
                self._take_span(piece, strange, start, place)
                self._take_one(target, topic, piece.payloads[place], first, piece.packet_id(place))
                start = place + 1
        self._take_span(piece, strange, start, len(piece.payloads))
        self._forget_many()

    def redrive(self, topic: bytes, payload: bytes, received_at: int, redriven: Redriven) -> None:
        """Read a kept packet again, with the instant `received_at` it came at; what is refused again is refused anew.
        No two that are driven again share an instant either."""
        self.builder.redriven.append(redriven)
        target = self._find(topic)
        if isinstance(target, Refusal):
            self._refuse(target, topic, payload)
        elif isinstance(target, Route):  # not a clock or a marker: what it said then is long past
            if received_at and 0 <= self._last_redriven - received_at < SECOND:
                received_at = self._last_redriven + 1
            first = PLAIN | RETAIN if redriven.reason == "retained_without_time" else PLAIN
            self._last_redriven = received_at + self._read(target, payload, received_at, first=first) - 1

    def _find(self, topic: bytes) -> _Target:
        return self._topics.find(topic, self.listeners)

    def _forget_many(self) -> None:
        if self._topics.full:
            self.forget_routes()

    def _take_span(self, piece: Piece, strange: _Strange, start: int, end: int) -> None:
        """The packets of a piece from start to end, none of which has a listener."""
        if end > start and len(piece.data) >= TOGETHER_BYTES and self._now():
            self._take_together(piece, strange, start, end)
            return
        routes = self._topics.routes
        for place in range(start, end):
            target, topic, first = strange.get(place) or (routes[piece.number(place)], b"", PLAIN)
            self._take_one(target, topic, piece.payloads[place], first, piece.packet_id(place))

    def _take_one(self, target: _Target, topic: bytes, payload: bytes, first: int, packet_id: int) -> None:
        if packet_id:
            self.builder.packet_ids.append(packet_id)
        if isinstance(target, Refusal):
            self._refuse(target, topic, payload)
        elif not isinstance(target, Route):
            target(payload)
        elif not self._is_too_fast(target):
            stamp = self._stamp()
            used = self._read(target, payload, stamp, first=first, packet_id=packet_id)
            if stamp:
                self._last = stamp + used - 1

    def _take_together(self, piece: Piece, strange: _Strange, start: int, end: int) -> None:
        builder, routes, payloads = self.builder, self._topics.routes, piece.payloads[start:end]
        numbers, ids = piece.columns(start, end)
        at_least_once = bool(ids.any())
        if at_least_once:
            builder.packet_ids += ids[ids > 0].tolist()
        builder.close()

        def single(place: int, stamp: int, failure: Failure | None) -> int:
            payload, packet_id = payloads[place], int(ids[place])
            if start + place in strange:
                target, topic, first = strange[start + place]
                if isinstance(target, Refusal):
                    self._refuse(target, topic, payload)
                elif isinstance(target, Route) and not self._is_too_fast(target):
                    return self._read(target, payload, stamp, first=first, packet_id=packet_id)
                return 0
            route = routes[int(numbers[place])]
            if failure is not None and failure.error is not None:
                self._topics.distrust(route)
                refuse_unreadable(route, payload, failure.error, builder)
                return 0
            return self._read(route, payload, stamp, first=PLAIN, packet_id=packet_id, usual=failure is None)

        def usual(places: I64, part: Part, received_at: I64) -> None:
            if not at_least_once:
                return
            arrived, off = self._arrived, part.measured_at - part.received_at
            wrong = ((off > arrived.ahead) | (-off > arrived.behind)) & (ids[places] > 0)
            for place in np.unique(places[wrong]).tolist() if wrong.any() else ():
                builder.remember(int(ids[place]), payloads[place], int(received_at[place]))

        stamp, skip = self._stamp(), self._too_fast(numbers)
        used = read_together(
            self._topics, numbers, payloads, builder, stamp=stamp, skip=skip, single=single, usual=usual
        )
        self._last = stamp + used - 1

    def _stamp(self) -> int:
        """The instant at which what comes now arrives. No two elements share one, so that values timed by their arrival
        never replace one another. 0: the data clock has not spoken yet, and what tells its own time is taken to arrive
        at that time."""
        stamp = self._now()
        if stamp and 0 <= self._last - stamp < SECOND:  # further behind: the clock was set
            return self._last + 1
        return stamp

    def _is_too_fast(self, route: Route) -> bool:
        """Counts the message, and if it is beyond the device's limit refuses it."""
        number = route.device.number
        if not self.limiting or self._flood is None or not self._flood.refuses(number):
            return False
        self.builder.refuse_too_fast(route.topic, number)
        return True

    def _too_fast(self, numbers: I64) -> Bool | None:
        """The same for many messages by the numbers of their topics, but those of 0; None if none is refused."""
        if not self.limiting or self._flood is None:
            return None
        known = np.flatnonzero(numbers)
        over = self._flood.refused(self._topics.device[numbers[known]])
        if over is None:
            return None
        for number in numbers[known[over]].tolist():
            route = self._topics.routes[number]
            self.builder.refuse_too_fast(route.topic, route.device.number)
        skip = np.zeros(len(numbers), np.bool_)
        skip[known[over]] = True
        return skip

    def _refuse(self, refusal: Refusal, topic: bytes, payload: bytes) -> None:
        shown = topic.decode(errors="backslashreplace")[:1000]
        self.builder.refuse(shown, payload, refusal.reason, refusal.detail, refusal.device)

    def _read(
        self, route: Route, payload: bytes, received_at: int, *, first: int, packet_id: int = 0, usual: bool = True
    ) -> int:
        """How many instants of arrival the packet took. Not `usual`: it is known not to have its topic's form."""
        arrived = self._arrived
        arrived.received_at, arrived.retained, arrived.packet_id = received_at, bool(first & RETAIN), packet_id
        if first & DUP and packet_id:
            arrived.received_at = self._came_first(packet_id, digest(payload)) or received_at
        try:
            return self._read_as(route, payload, usual=usual)
        except Exception as error:  # whatever a payload does, it must not come back for ever
            log.exception("a payload on %s could not be read", route.topic)
            self.builder.repair()
            self.builder.refuse(route.topic, payload, "malformed", repr(error), route.device.number)
            return 0

    def _came_first(self, packet_id: int, said: bytes) -> int | None:
        known = self.unsettled.get(packet_id)
        if known is not None and known.digest == said:
            return known.received_at
        return self._first_arrival(packet_id, said)

    def _read_as(self, route: Route, payload: bytes, *, usual: bool) -> int:
        if route.channel == "readings":
            refused, before = len(self.builder.refused), route.shape
            used = read_usual(route, payload, self._arrived, self.builder) if usual else None
            if used is None:
                used = read_readings(route, payload, self._arrived, self.builder, self._registry, self._topics.shapes)
                if route.shape is not before:
                    self._topics.learn(route)
            if len(self.builder.refused) > refused:
                self._topics.distrust(route)
            elif route.alone:
                self._topics.trust(route)
            return used
        if route.channel == "events":
            return read_events(route, payload, self._arrived, self.builder, self._registry)
        if route.channel == "status":
            read_status(route, payload, self.builder)
        else:
            read_reply(route, payload, self._arrived, self.builder)
        return 0

    def _newcomer(self, site: str, kind: str, name: str) -> Device:
        if self._unknown is UnknownDevices.REFUSE:
            raise Refusal("unknown_device", f"{name} is not registered")
        status = DeviceStatus.ACTIVE
        if self._unknown is UnknownDevices.QUARANTINE:
            status = DeviceStatus.QUARANTINED
            if self._quarantined >= MAX_UNKNOWN:
                raise Refusal("too_many_unknown", f"{MAX_UNKNOWN:,} unknown devices already wait for approval")
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

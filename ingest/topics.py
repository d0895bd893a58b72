"""Whose topic it is, looked at once and remembered under a number, and what is known of each for reading at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from devices.batch import I32, I64
from devices.kinds import KINDS, Kind
from devices.names import is_name
from devices.registry import Device, DeviceStatus, Registry
from ingest.formats.native import Route
from ingest.formats.shapes import MAX_SHAPES, Shapes

# Topics remembered. A hostile publisher can invent topics without end; beyond this the memory starts again.
MAX_TOPICS = 200_000
MAX_UNKNOWN = 1_000
# After a packet of which something was refused so many must be good in a row before they are read with others again: a
# device that sends rubbish costs itself and not those whose packets lie beside. A form that changes is learned at once.
ALONE = 64

# Stands at number 0, which no topic has.
NOBODY = Route("", "", Device(-1, "", "", ""), Kind("", "", "", 0))

# Takes the payload of a topic that carries no readings.
Listener = Callable[[bytes], None]


def ignore(_payload: bytes) -> None:
    """For topics that are ours, or another site's clock."""


N = TypeVar("N", bound=np.generic)


class Refusal(Exception):
    """This topic is not for us: reason and detail."""

    def __init__(self, reason: str, detail: str, device: int = -1) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.device = reason, detail, device


class Topics:
    """`numbers` gives a topic that carries messages of a device its number, from 1. `shape[n]` is the number of the
    form its packets usually have (0: none known), `device[n]` the device, and the series of that form's metrics stand
    in `series` from `series_at[n]` on."""

    def __init__(self, registry: Registry, newcomer: Callable[[str, str, str], Device]) -> None:
        """`newcomer` takes site, kind and name of a device nobody registered; it may raise Refusal."""
        self._registry = registry
        self._newcomer = newcomer
        self.shapes = Shapes()
        self.numbers: dict[bytes, int] = {}
        self.routes: list[Route] = [NOBODY]
        self.listeners: dict[bytes, Listener] = {}
        self.shape: I32 = np.zeros(256, np.int32)
        self.device: I32 = np.zeros(256, np.int32)
        self.series_at: I64 = np.zeros(256, np.int64)
        self.series: I32 = np.zeros(1024, np.int32)
        self._used = 0
        self._room: dict[int, int] = {}

    @property
    def full(self) -> bool:
        return len(self.routes) > MAX_TOPICS or len(self.listeners) > MAX_TOPICS or len(self.shapes.known) > MAX_SHAPES

    def find(self, topic: bytes, listener: Callable[[bytes], Listener | None]) -> Route | Listener | Refusal:
        """A topic met before, or looked at now; what is refused is looked at again every time."""
        number = self.numbers.get(topic)
        if number is not None:
            return self.routes[number]
        known = self.listeners.get(topic)
        if known is not None:
            return known
        try:
            found = listener(topic) or self._look(topic)
        except Refusal as refusal:
            return refusal
        if isinstance(found, Route):
            self._add(topic, found)
        else:
            self.listeners[topic] = found
        return found

    def _add(self, topic: bytes, route: Route) -> None:
        number = route.number = len(self.routes)
        if number == len(self.shape):
            self.shape, self.device, self.series_at = _grown(self.shape), _grown(self.device), _grown(self.series_at)
        self.numbers[topic] = number
        self.routes.append(route)
        self.device[number] = route.device.number

    def distrust(self, route: Route) -> None:
        """Of a packet of this topic something was refused."""
        route.alone, self.shape[route.number] = ALONE, 0

    def trust(self, route: Route) -> None:
        """A packet that was read alone was good."""
        route.alone -= 1
        if not route.alone:
            self.learn(route)

    def learn(self, route: Route) -> None:
        """Take over the form that the route has now, unless it has to prove itself."""
        if route.alone:
            return
        number, size = route.number, len(route.series)
        if self._room.get(number, 0) < size:
            self.series_at[number], self._room[number] = self._used, size
            self._used += size
            while self._used > len(self.series):
                self.series = _grown(self.series)
        begin = int(self.series_at[number])
        self.series[begin : begin + size] = route.series
        self.shape[number] = route.shape.number if route.shape else 0

    def _look(self, topic: bytes) -> Route | Listener:
        """Raises Refusal for a topic nobody here listens to."""
        try:
            text = topic.decode()
        except UnicodeDecodeError as error:
            raise Refusal("bad_topic", "not UTF-8") from error
        parts = text.split("/")
        if len(parts) == 4 and parts[3] == "clock":
            return ignore  # site clocks: the subscriber takes the one it follows, the rest say nothing to us
        if len(parts) == 7 and parts[5:] == ["commands", "reply"]:
            _, _, site, kind, name, _, channel = parts
            return Route(text, channel, self._registered(site, kind, name), KINDS[kind])
        if len(parts) in (6, 7) and parts[5] == "commands":
            return ignore  # sent by us
        if len(parts) != 6 or parts[5] not in ("readings", "events", "status"):
            raise Refusal("bad_topic", "expected gw/v1/{site}/{kind}/{device}/readings, events or status")
        _, _, site, kind, name, channel = parts
        if not (is_name(site) and is_name(name)):
            raise Refusal("bad_topic", "site and device: expected [a-z0-9][a-z0-9_-]{0,63}")
        if kind not in KINDS:
            raise Refusal("bad_topic", f"unknown kind {kind[:64]!r}; one of {', '.join(KINDS)}")
        known = self._registry.get(name) is not None
        device = self._registered(site, kind, name) if known else self._newcomer(site, kind, name)
        return Route(text, channel, device, KINDS[kind])

    def _registered(self, site: str, kind: str, name: str) -> Device:
        device = self._registry.get(name)
        if device is None:
            raise Refusal("unknown_device", f"{name[:64]!r} is not registered")
        if device.status is DeviceStatus.REJECTED:
            raise Refusal("rejected_device", f"{name} was rejected", device.number)
        if (device.site, device.kind) != (site, kind):
            detail = f"{name} is a {device.kind} of {device.site}, not a {kind} of {site}"
            raise Refusal("wrong_topic", detail, device.number)
        return device


def _grown(column: NDArray[N]) -> NDArray[N]:
    """Twice as long, the new half zero."""
    return np.concatenate([column, np.zeros_like(column)])

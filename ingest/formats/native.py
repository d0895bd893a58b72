"""The native format: `gw/v1/{site}/{kind}/{device}/readings|events|status` with JSON (docs/architecture.md §8).

A bad metric refuses itself and not its siblings; a payload that is not JSON is one refusal. NaN and infinity are not
JSON and end here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from devices.batch import DERIVED_KEY, NO_SEQ, EventRow, Reply, Status
from devices.instants import MAX_INSTANT, MILLISECOND, MIN_INSTANT, from_iso
from devices.kinds import Kind
from devices.registry import EVENT, Device, Registry
from ingest.columns import Builder, digest
from ingest.formats.shapes import MAX_SEQ, UNREADABLE, Shape, Shapes
from ingest.pieces import MAX_PAYLOAD

# Names in refusals are the sender's text: bounded before they go anywhere.
SHOWN = 80
FAR = 1 << 62
MAX_REPLY = 16 * 1024
FINITE = 1.7976931348623157e308

_REFUSED = object()
_json = msgspec.json.Decoder()
_dump = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Route:
    """A device's topic, decoded once. `keys` maps a metric's name to its series; `shape` is the form of what it sent
    last and `series` that of each of its metrics; `number` is the topic's. `alone`: how many more good packets
    have to come before they are read together with others again."""

    topic: str
    channel: str
    device: Device
    kind: Kind
    keys: dict[str, int] = field(default_factory=dict)
    shape: Shape | None = None
    series: tuple[int, ...] = ()
    number: int = 0
    alone: int = 0


@dataclass(slots=True)
class Arrived:
    """How a packet came: when (at first, if it is a redelivery), retained by the broker or live; and how far a clock
    may be off (µs) before its element is timed by its arrival. Used again for every packet: making one takes as long as
    reading a small payload."""

    received_at: int = 0
    retained: bool = False
    packet_id: int = 0
    ahead: int = FAR
    behind: int = FAR

    def off(self, measured_at: int) -> bool:
        """Whether the clock that said so is wrong."""
        return measured_at - self.received_at > self.ahead or self.received_at - measured_at > self.behind


def read_usual(route: Route, payload: bytes, arrived: Arrived, builder: Builder) -> int | None:
    """The packet by its usual shape, without a look at each key: how many elements were added. None, with nothing done,
    for one of another shape."""
    shape = route.shape
    if shape is None or shape.listed or not arrived.received_at or len(payload) > MAX_PAYLOAD:
        return None
    try:
        measured_at, seq, values = shape.one(payload)
    except msgspec.ValidationError:
        return None
    except UNREADABLE as error:
        refuse_unreadable(route, payload, error, builder)
        return 0
    builder.series.extend(route.series)
    builder.values.extend(values)
    builder.rows.append(len(values))
    builder.device.append(route.device.number)
    builder.measured_at.append(measured_at)
    builder.received_at.append(arrived.received_at)
    builder.seq.append(seq)
    if arrived.packet_id and arrived.off(measured_at):
        builder.remember(arrived.packet_id, payload, arrived.received_at)
    return 1


def read_readings(  # noqa: PLR0917 - as _read_element
    route: Route, payload: bytes, arrived: Arrived, builder: Builder, registry: Registry, shapes: Shapes
) -> int:
    """Elements added; each takes one microsecond of arrival, so that no two share an instant by arriving together.
    The route learns the form of a packet of which nothing was refused."""
    refused = len(builder.refused)
    elements = _elements(route, payload, builder)
    timed_by_arrival = False
    strange: list[int] = []
    for position, element in enumerate(elements):
        if type(element) is not dict:
            strange.append(position)
            continue
        timed_by_arrival |= _read_element(route, element, arrived, builder, registry, position)
    if strange:  # one refusal of them all: half a megabyte holds a quarter of a million
        more = f", nor are {len(strange) - 1:,} more" if len(strange) > 1 else ""
        detail = f"element {strange[0]} is not a JSON object{more}"
        builder.refuse(route.topic, payload, "malformed", detail, route.device.number, len(strange))
    if timed_by_arrival and arrived.packet_id:
        builder.remember(arrived.packet_id, payload, arrived.received_at)
    if len(builder.refused) == refused:
        shape = shapes.find(route.kind, elements, listed=not payload.lstrip().startswith(b"{"))
        if shape is not None and shape is not route.shape:
            route.shape, route.series = shape, tuple(route.keys[name] for name in shape.metrics)
    return len(elements)


def _read_element(  # noqa: PLR0917 - the hot path: no object to carry them
    route: Route, element: dict[str, Any], arrived: Arrived, builder: Builder, registry: Registry, position: int
) -> bool:
    """Add the element's rows; True if it is timed by its arrival (no time of its own, or a clock that is wrong)."""
    keys = route.keys
    series, values = builder.series, builder.values
    before = len(series)
    said: Any = None
    for name, value in element.items():
        number = keys.get(name)
        if number is None:
            if name == "at":
                said = value
                continue
            if name == "seq":
                continue
            number = _new_key(route, name, element, builder, registry)
            if number is None:
                continue
        kind = type(value)
        if kind is float or kind is bool or (kind is int and -FINITE <= value <= FINITE):
            series.append(number)
            values.append(value)
        elif value is not None:
            _refuse_value(route, name, element, builder, "wrong_type", "expected a number, true, false or null")
    received_at = arrived.received_at + position
    if said is None:
        measured_at = received_at
        if arrived.retained or not arrived.received_at:
            _drop(route, element, builder, before, "retained_without_time" if arrived.retained else "no_clock_yet")
            return False
    else:
        parsed = _instant(said)
        if parsed is None:
            _drop(route, element, builder, before, "bad_time")
            return False
        measured_at = parsed
        received_at = received_at if arrived.received_at else measured_at
    builder.rows.append(len(series) - before)
    builder.device.append(route.device.number)
    builder.measured_at.append(measured_at)
    builder.received_at.append(received_at)
    builder.seq.append(_seq(element))
    off = measured_at - received_at
    return said is None or off > arrived.ahead or -off > arrived.behind


def _new_key(route: Route, name: str, element: dict[str, Any], builder: Builder, registry: Registry) -> int | None:
    """The series of a metric met for the first time on this topic, or None and a refusal."""
    if name not in route.kind.metrics:
        known = ", ".join(route.kind.metrics)
        _refuse_value(route, name, element, builder, "unknown_metric", f"a {route.kind.name} has {known}")
        return None
    number = route.keys[name] = registry.series(route.device.number, name)
    return number


def _refuse_value(  # noqa: PLR0917 - one row
    route: Route, name: str, element: dict[str, Any], builder: Builder, reason: str, detail: str
) -> None:
    """Kept with the element's time, so that it is of that instant should it be read again."""
    shown = name[:SHOWN]
    kept = {"at": _shown(element["at"])} if element.get("at") is not None else {}
    kept[shown] = _shown(element[name])
    builder.refuse(route.topic, _dump(kept), reason, f"{shown}: {detail}", route.device.number)


def _shown(value: Any) -> Any:
    """A value as a refusal keeps it. Of a list or an object only its type: it may be nested as deeply as the parser
    goes, and writing it out would go deeper."""
    kind = type(value)
    if kind is str:
        return value[:SHOWN]
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else f"integer of {value.bit_length()} bits"
    return value if value is None or kind is bool or kind is float else kind.__name__


def _drop(route: Route, element: dict[str, Any], builder: Builder, before: int, reason: str) -> None:
    """Refuse every value of an element whose instant cannot be told; one without values counts one."""
    gone = len(builder.series) - before
    del builder.series[before:]
    del builder.values[before:]
    detail = {
        "bad_time": "at: expected epoch milliseconds or ISO 8601 with an offset, 1970 to 9999",
        "no_clock_yet": "without `at` before the data clock has spoken",
        "retained_without_time": "a retained message without `at` says nothing of when",
    }[reason]
    payload = _dump({k[:SHOWN]: _shown(v) for k, v in list(element.items())[:64]})
    builder.refuse(route.topic, payload, reason, detail, route.device.number, max(gone, 1))


def read_events(route: Route, payload: bytes, arrived: Arrived, builder: Builder, registry: Registry) -> int:
    elements = _elements(route, payload, builder)
    timed_by_arrival = False
    for position, element in enumerate(elements):
        timed_by_arrival |= _read_event(route, element, arrived, builder, registry, position)
    if timed_by_arrival and arrived.packet_id:
        builder.remember(arrived.packet_id, payload, arrived.received_at)
    return len(elements)


def _read_event(  # noqa: PLR0917 - as _read_element
    route: Route, element: Any, arrived: Arrived, builder: Builder, registry: Registry, position: int
) -> bool:
    number = route.device.number
    try:
        raw = _dump(element)
    except (RecursionError, OverflowError) as error:
        builder.refuse(route.topic, b"", "malformed", f"element {position}: {error}", number)
        return False
    name = element.get("event") if type(element) is dict else None
    if not isinstance(name, str) or name not in route.kind.events:
        known = ", ".join(sorted(route.kind.events)) or "no events"
        builder.refuse(route.topic, raw, "unknown_event", f"event: a {route.kind.name} has {known}", number)
        return False
    said, received_at = element.get("at"), arrived.received_at + position
    at = received_at if said is None else _instant(said)
    if at is None or (said is None and (arrived.retained or not arrived.received_at)):
        reason = "bad_time" if at is None else "retained_without_time" if arrived.retained else "no_clock_yet"
        builder.refuse(route.topic, raw, reason, "at: expected epoch milliseconds or ISO 8601 with an offset", number)
        return False
    identity = element.get("id")
    received_at = received_at if arrived.received_at else at
    named = isinstance(identity, (str, int)) and identity != DERIVED_KEY
    key = str(identity)[:128] if named else digest(raw).hex()
    series = registry.series(number, EVENT + name)
    builder.events.append(EventRow(series, builder.elements, number, name, key, at, raw))
    builder.kept_bytes += len(raw)
    builder.rows.append(0)
    builder.device.append(number)
    builder.measured_at.append(at)
    builder.received_at.append(received_at)
    builder.seq.append(_seq(element))
    return said is None or at - received_at > arrived.ahead or received_at - at > arrived.behind


_ONLINE = {b"online": True, b"offline": False, b'"online"': True, b'"offline"': False}


def read_status(route: Route, payload: bytes, builder: Builder) -> None:
    """`online` or `offline`, bare or as JSON {"state": …}; a good status is no reading and not in the ledger."""
    online = _ONLINE.get(payload.strip().lower())
    if online is None and payload:
        found = _parse(route, payload, builder)
        state = found.get("state") if isinstance(found, dict) else None
        online = {"online": True, "offline": False}.get(state) if isinstance(state, str) else None
        if found is not _REFUSED and online is None:
            builder.refuse(route.topic, payload, "bad_status", "expected online or offline", route.device.number)
    if online is not None:
        builder.statuses.append(Status(route.device.number, online))


def read_reply(route: Route, payload: bytes, arrived: Arrived, builder: Builder) -> None:
    """What a device answers to a command: a JSON object with the command's id; no reading and not in the ledger."""
    try:
        found = _json.decode(payload) if len(payload) <= MAX_REPLY else None
    except UNREADABLE:
        found = None
    identity = found.get("id") if type(found) is dict else None
    if not isinstance(identity, str):
        detail = f"expected a JSON object with the command's id, at most {MAX_REPLY:,} bytes"
        builder.refuse(route.topic, payload, "bad_reply", detail, route.device.number)
        return
    builder.kept_bytes += len(payload)
    builder.replies.append(Reply(route.device.number, identity, arrived.received_at, payload))


def _seq(element: dict[str, Any]) -> int:
    """The device's own count of its messages; NO_SEQ where it says none, or no such number."""
    said = element.get("seq", NO_SEQ)
    return said if type(said) is int and 0 <= said <= MAX_SEQ else NO_SEQ


def _elements(route: Route, payload: bytes, builder: Builder) -> list[Any]:
    """The elements of the packet, none after a refusal."""
    found = _parse(route, payload, builder)
    if found is _REFUSED:
        return []
    elements = [found] if type(found) is dict else found
    if isinstance(elements, list):
        return elements
    builder.refuse(route.topic, payload, "malformed", "expected a JSON object or a list of them", route.device.number)
    return []


def _parse(route: Route, payload: bytes, builder: Builder) -> Any:
    """The JSON value, or _REFUSED once it is refused."""
    if len(payload) > MAX_PAYLOAD:
        detail = f"{len(payload):,} bytes; at most {MAX_PAYLOAD:,}"
        builder.refuse(route.topic, payload, "too_large", detail, route.device.number)
        return _REFUSED
    try:
        return _json.decode(payload)
    except UNREADABLE as error:
        refuse_unreadable(route, payload, error, builder)
        return _REFUSED


def refuse_unreadable(route: Route, payload: bytes, error: Exception, builder: Builder) -> None:
    """What is not JSON, with the parser's word for it."""
    builder.refuse(route.topic, payload, "malformed", str(error) or "nested too deeply", route.device.number)


def _instant(said: Any) -> int | None:
    """Microseconds since 1970 UTC, or None."""
    try:
        if type(said) is str:
            return from_iso(said)
        if type(said) is int or type(said) is float:
            at = said * MILLISECOND if type(said) is int else round(said * MILLISECOND)
            # Zero is a clock that was never set.
            return at if MIN_INSTANT < at <= MAX_INSTANT else None
    except (ValueError, OverflowError):
        return None
    return None

"""One connection to the broker, from CONNECT to its end; `subscriber` opens the next.

PUBLISH packets go from the socket's bytes to the sink a piece at a time, without an object of their own. The one thing
to know: nothing here acknowledges; the subscriber does, after the commit.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingest import wire
from ingest.pieces import MAX_PAYLOAD, PLAIN_QOS1, Piece

log = logging.getLogger("gridwhistle.link")

# First byte (DUP 0x08, QoS 0x06, RETAIN 0x01), two of the length, and two of that of the topic.
_HEAD = struct.Struct("!BBBH")
_head = _HEAD.unpack_from

# After less than so many bytes the socket is left alone for so long: a few large pieces cost far less than many small
# ones. Longer adds to every alarm's latency, shorter leaves pieces of a few packets (measured at QoS 1 and 30,000
# messages a second: the loop spends 5.1 µs a message without the rest and 3.9 with it).
ENOUGH, REST_S = 64 * 1024, 0.004
# A length the broker has no business sending; Mosquitto's own ceiling is 256 MB.
MAX_PACKET = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """`keep_alive` and `session_expiry` in seconds; the session survives that long without us."""

    client_id: str
    receive_maximum: int
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    keep_alive: int = 30
    session_expiry: int = 7 * 24 * 3600


class Refused(Exception):
    """The broker would not have us; `code` is its CONNACK reason."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the broker refused the connection (reason {code:#04x})")
        self.code = code


class Sink(Protocol):
    """Who takes the PUBLISH packets."""

    @property
    def numbers(self) -> Mapping[bytes, int]:
        """Topics by number."""

    def take(self, piece: Piece) -> None:
        """Every whole packet of a piece of the stream, in order."""


class Link(asyncio.Protocol):
    """`sink` takes every PUBLISH, `heard` is called after each piece of the stream. `connected` and `subscribed`
    resolve or fail; `closed` resolves with the DISCONNECT reason, None without one."""

    def __init__(self, options: Options, version: int, sink: Sink, heard: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._options = options
        self._version = version
        self._sink = sink
        self._after = heard
        self._rest: list[bytes] = []
        self._missing = 0
        self._transport: asyncio.Transport | None = None
        self._packet_id = 0
        self._heard = self._sent = loop.time()
        # When the broker last sent anything; `_heard` is also moved on when we begin to read again.
        self.received = self._heard
        self._paused = self._leaving = False
        self._resting: asyncio.TimerHandle | None = None
        self._reason: int | None = None
        self._keep_alive = options.keep_alive
        self._pinger: asyncio.TimerHandle | None = None
        # Packet ids of our own messages that the broker has not acknowledged, where somebody waits for it.
        self._delivering: dict[int, asyncio.Future[int]] = {}
        self.connected: asyncio.Future[wire.Connack] = loop.create_future()
        self.subscribed: asyncio.Future[list[int]] = loop.create_future()
        self.closed: asyncio.Future[int | None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        o = self._options
        self._write(
            wire.connect(
                o.client_id, version=self._version, keep_alive=o.keep_alive, receive_maximum=o.receive_maximum,
                session_expiry=o.session_expiry, username=o.username, password=o.password,
            )
        )  # fmt: skip

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._pinger, self._resting):
            if timer is not None:
                timer.cancel()
        waiting: tuple[asyncio.Future[Any], ...] = (self.connected, self.subscribed, *self._delivering.values())
        for each in waiting:
            self._lose(each, exc)
        if not self.closed.done():
            self.closed.set_result(self._reason)

    def subscribe(self, filters: Iterable[str]) -> None:
        self._write(wire.subscribe(self._next_id(), filters, version=self._version))

    def publish(self, topic: str, payload: bytes, *, expiry_s: int | None = None) -> None:
        """QoS 1, not retained. `expiry_s`: MQTT 5 only, the broker drops it undelivered after so many seconds."""
        packet_id = self._next_id()
        self._write(wire.publish(topic, payload, packet_id=packet_id, version=self._version, expiry_s=expiry_s))

    def deliver(self, topic: str, payload: bytes, *, expiry_s: int) -> asyncio.Future[int]:
        """`publish`, and the broker's reason once it has it (below 0x80: taken); ConnectionResetError if it never
        says."""
        self.publish(topic, payload, expiry_s=expiry_s)
        taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._delivering[self._packet_id] = taken
        if self._transport is None or self._transport.is_closing():
            self._lose(taken)
        return taken

    def acknowledge(self, packet_ids: Iterable[int]) -> None:
        self._write(wire.pubacks(packet_ids))

    def pause(self) -> None:
        """Stop reading: the broker's queue grows instead of our memory."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._heard = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def close(self) -> None:
        """Say goodbye; the session stays at the broker."""
        if self._transport is not None and not self._transport.is_closing():
            self._write(wire.disconnect())
            self._transport.close()

    async def leave(self, patience_s: float) -> None:
        """Say goodbye and hear the broker out until it closes, so long at most. A socket that is closed while something
        unread lies in it is reset, and the broker then forgets what it has not read yet, acknowledgements too."""
        if self._transport is None or self._transport.is_closing():
            return
        self._leaving = True
        self._write(wire.disconnect())
        self.resume()
        await asyncio.wait([self.closed], timeout=patience_s)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        self._heard = self.received = asyncio.get_running_loop().time()
        if self._missing > len(data):
            # The rest of a large packet: joined once, when it is whole.
            self._rest.append(data)
            self._missing -= len(data)
            return
        if self._rest:
            data = b"".join([*self._rest, data])
        piece = Piece(data)
        try:
            end, self._missing = self._read(piece)
            self._rest = [data[end:]] if end < len(data) else []
        except (wire.ProtocolError, IndexError) as error:
            log.error("the broker sent what is not MQTT: %s", error)
            assert self._transport is not None
            self._transport.abort()
        self._sink.take(piece)
        self._after()
        self._rest_a_little(len(data))

    def _rest_a_little(self, read: int) -> None:
        if read < ENOUGH and not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._resting = asyncio.get_running_loop().call_later(REST_S, self._read_on)

    def _read_on(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _read(self, piece: Piece) -> tuple[int, int]:
        """Sort every whole packet; how many bytes they were, and how many are missing from the next one at least."""
        data, number_of, v5 = piece.data, self._sink.numbers.get, self._version == wire.V5
        entries, payloads = piece.entries, piece.payloads
        position, size = 0, len(data)
        while True:
            # The hot path: plain packets of topics that have a number.
            while position + _HEAD.size <= size:
                first, low, high, name = _head(data, position)
                if first not in (0x30, 0x32):  # PLAIN, PLAIN_QOS1: names would be looked up for every packet
                    break
                if low < 0x80:  # a length of one byte: everything is one byte earlier
                    end, start, name = position + 2 + low, position + 4, high << 8 | name >> 8
                elif high < 0x80:
                    end, start = position + low + (high << 7) - 125, position + 5
                else:
                    break
                if end > size:
                    return position, end - size
                body = start + name
                number = number_of(data[start:body])
                if number is None:
                    break
                if first == 0x32:
                    number |= body << 32
                    body += 2
                if v5:
                    if data[body]:
                        break
                    body += 1
                entries.append(number)
                payloads.append(data[body:end])
                position = end
            end = self._read_any(piece, position)
            if end > size or end == position:
                return position, max(end - size, 1)
            position = end

    def _read_any(self, piece: Piece, position: int) -> int:
        """Sort the packet at the position; where it ends: beyond the data, and not sorted, if it is not whole; at the
        position if even its length is not."""
        data = piece.data
        try:
            length, start = wire.read_length(data, position + 1)
        except IndexError:
            return position
        if length > MAX_PACKET:
            raise wire.ProtocolError(f"a packet of {length:,} bytes")
        end = start + length
        if end > len(data):
            return end
        first = data[position]
        if first & 0xF0 != wire.PUBLISH:
            self._control(first, data[start:end])
            return end
        body = start + 2 + (data[start] << 8 | data[start + 1])
        topic, entry = data[start + 2 : body], 0
        if first & 0x06:
            entry = body << 32
            body += 2
        properties = 0
        if self._version == wire.V5:
            properties, body = wire.read_length(data, body)
            body += properties
        number = self._sink.numbers.get(topic)
        if number is None or first & ~PLAIN_QOS1 or properties or end - body > MAX_PAYLOAD:
            piece.strange.append((len(piece.entries), topic, first))
        else:
            entry |= number
        piece.entries.append(entry)
        piece.payloads.append(data[body:end])
        return end

    def _control(self, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if kind == wire.CONNACK and not self.connected.done():
            connack = wire.read_connack(body, version=self._version)
            if connack.code:
                self.connected.set_exception(Refused(connack.code))
            else:
                self._keep_alive = connack.properties.get(wire.SERVER_KEEP_ALIVE, self._keep_alive)
                self.connected.set_result(connack)
                self._ping()
        elif kind == wire.PUBACK and len(body) >= 2:
            taken = self._delivering.pop(body[0] << 8 | body[1], None)
            if taken is not None and not taken.done():
                taken.set_result(body[2] if len(body) > 2 else 0)
        elif kind == wire.SUBACK and not self.subscribed.done():
            self.subscribed.set_result(wire.read_suback(body, version=self._version))
        elif kind == wire.DISCONNECT:
            self._reason = body[0] if body else 0

    def _ping(self) -> None:
        """§3.1.2.10: something is sent at least every keep-alive; hearing nothing for one and a half is the end."""
        loop = asyncio.get_running_loop()
        if not self._keep_alive or self._transport is None:
            return
        if not self._paused and loop.time() - self._heard > 1.5 * self._keep_alive:
            log.warning("nothing from the broker for %.0f s", loop.time() - self._heard)
            self._transport.abort()
            return
        self._write(wire.PINGREQ)
        self._pinger = loop.call_later(self._keep_alive / 2, self._ping)

    def _lose(self, waiting: asyncio.Future[Any], error: Exception | None = None) -> None:
        if not waiting.done():
            waiting.set_exception(error or ConnectionResetError("the broker closed the connection"))
            waiting.exception()  # whoever waits still gets it; nobody waiting is no error

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

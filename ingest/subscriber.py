"""Keeps the session with the broker, hands over batches in order, acknowledges what is committed.

The order of everything: decode → settle (commit) → acknowledge. While one batch settles the next one grows; when it
has grown to its limit the socket is not read any more and the broker's queue takes over.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import secrets
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from devices.batch import Batch
from ingest import wire
from ingest.decoder import FILTERS, Decoder, read_clock
from ingest.link import Link, Options, Refused
from ingest.topics import Listener

log = logging.getLogger("gridwhistle.subscriber")

BACKOFF_S = (0.5, 1, 2, 5, 10, 30)
# How long the broker has to take our last acknowledgements.
LEAVE_S = 2.0
SETTLE_RETRY_S = (0.1, 0.5, 1, 2, 5)
# Mosquitto 2.0 closes a taken-over session without saying why: so many links in a row that were had at the first
# try and closed again at once are another client with our id; a try that fails says that the broker was away. Of two
# services one reaches the number first and leaves to the other.
MOST_TAKEN, TAKEN_WITHIN_S = 4, 5.0
# A marker goes out this often; the time it takes to come back through our own queue is the lag.
MARKER_EVERY_S = 10.0
# Batches and clock marks that may wait while one settles; at speed 60 a second brings about a dozen.
MOST_SEALED = 32


class SessionTaken(Exception):
    """Another client connected with our client id; going on would be a war of reconnects."""


class Centre(Protocol):
    """What the subscriber hands over to, in the order of arrival, one call at a time."""

    async def settle(self, batch: Batch, now: int) -> None:
        """Commit the batch, or raise and have changed nothing."""

    async def clock(self, now: int) -> None:
        """The data clock moved (clock.source = data)."""

    async def drained(self, now: int) -> None:
        """The link is up and everything that waited at the broker has been settled."""

    async def lost(self) -> None:
        """The link went down."""


@dataclass(frozen=True, slots=True)
class Address:
    """`tls` is None for a plain connection."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Flush:
    """A batch is handed over when it has `rows` values or its first one is `after_s` old.

    Under load batches grow while the one before settles; with room for fewer than a few hundred milliseconds of the
    broker's rate the socket is paused and the rate falls (measured: 20,000 rows 120k messages a second, 100,000 160k).
    """

    rows: int = 100_000
    after_s: float = 0.05


@dataclass(slots=True)
class _Sealed:
    """A batch ready to settle, its acknowledgements and the link they belong to; or a mark between batches."""

    batch: Batch | None
    packet_ids: list[int]
    link: Link | None
    now: int
    mark: str = ""  # "clock" or "drained"
    at: float = field(default_factory=lambda: asyncio.get_running_loop().time())


class Subscriber:
    def __init__(
        self,
        address: Address,
        options: Options,
        decoder: Decoder,
        centre: Centre,
        *,
        now: Callable[[], int],
        flush: Flush | None = None,
        data_clock: Callable[[int], None] | None = None,
        clock_topic: str | None = None,
    ) -> None:
        """`clock_topic` names the clock this installation follows (site `+`: any) and `data_clock` takes its instants;
        None both."""
        self._address = address
        self._options = options
        self._decoder = decoder
        decoder.listeners = self._listener
        self._centre = centre
        self._now = now
        self._flush = flush or Flush()
        self._data_clock = data_clock
        self._clock_topic = re.compile(re.escape(clock_topic).replace(r"\+", "[^/]+").encode()) if clock_topic else None
        self._marker_topic = f"gridwhistle/{options.client_id}/marker".encode()
        self._version = wire.V5
        self._link: Link | None = None
        self._sealed: deque[_Sealed] = deque()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        self._markers: dict[bytes, float] = {}
        self._stopping = False
        self._settled_to = 0.0
        self.up = False
        self.drained = False
        self._lag_s = 0.0
        self.trouble: str | None = "not connected yet"

    async def run(self) -> None:
        """Until `stop`; raises SessionTaken. Reconnects by itself, with back-off and jitter."""
        settling = asyncio.create_task(self._settle_all(), name="settle")
        try:
            await self._keep_connected(settling)
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)

    async def stop(self, timeout: float = 8.0) -> None:
        """Settle and acknowledge what has arrived, then leave; the session stays at the broker."""
        self._stopping = True
        if self._link is not None:
            self._link.pause()
        self._seal()
        deadline = asyncio.get_running_loop().time() + timeout
        while self._sealed and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        if self._link is not None:
            await self._link.leave(LEAVE_S)

    @property
    def unheard_s(self) -> float:
        """How far back it is that all had been settled that devices had sent by then. What is missing since may wait
        at the broker, on a link that is cut and not yet noticed, or in a batch that cannot be committed."""
        pending = bool(self._sealed) or bool(self._decoder.builder)
        to = self._settled_to if pending or self._link is None else self._link.received
        return asyncio.get_running_loop().time() - to

    @property
    def lag_s(self) -> float:
        """How long what the broker hands over now has waited for us, as the last marker told or the oldest that is
        still under way tells. From any thread."""
        oldest = min(list(self._markers.values()), default=None)
        return self._lag_s if oldest is None else max(self._lag_s, time.monotonic() - oldest)

    async def publish(self, topic: str, payload: bytes, *, expiry_s: int) -> None:
        """QoS 1; returns when the broker has it, which drops it undelivered after `expiry_s` seconds. Raises OSError
        without a link, where the link ends first, and where the broker will not have it."""
        if self._link is None or not self.up:
            raise ConnectionError(self.trouble or "no link to the broker")
        reason = await self._link.deliver(topic, payload, expiry_s=expiry_s)
        if reason >= wire.REFUSED:
            raise ConnectionRefusedError(f"the broker does not take {topic} (reason {reason:#04x})")

    async def _keep_connected(self, settling: asyncio.Task[None]) -> None:
        failures = taken = 0
        while not self._stopping:
            began = asyncio.get_running_loop().time()
            try:
                reason = await self._one_connection(settling)
                failures = 0
                taken = taken + 1 if asyncio.get_running_loop().time() - began < TAKEN_WITHIN_S else 0
            except Refused as error:
                if error.code in wire.UNSUPPORTED_VERSION and self._version == wire.V5:
                    log.info("the broker does not speak MQTT 5; going on with 3.1.1")
                    self._version = wire.V311
                    continue
                self.trouble, reason, taken = str(error), None, 0
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.trouble = f"{self._address.host}:{self._address.port}: {str(error) or 'timed out'}"
                reason, taken = None, 0
            if (reason == wire.SESSION_TAKEN_OVER or taken >= MOST_TAKEN) and not self._stopping:
                name = self._options.client_id
                raise SessionTaken(
                    f"另一个客户端以同一标识 {name!r} 连接了消息服务器，本服务已退出；"
                    "请为其中之一另设 broker.client_id "
                    f"another client connected as {name!r}, so this service has ended: give one of the two another "
                    "broker.client_id"
                )
            if self._stopping:
                return
            pause = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            log.warning("no link to the broker: %s; trying again in about %.1f s", self.trouble, pause)
            # Jitter: a hall full of services must not come back to a restarted broker in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def _one_connection(self, settling: asyncio.Task[None]) -> int | None:
        """Connect, subscribe and stay until it ends; the DISCONNECT reason."""
        loop = asyncio.get_running_loop()
        make = loop.create_connection(
            lambda: Link(self._options, self._version, self._decoder, self._received),
            self._address.host,
            self._address.port,
            ssl=self._address.tls,
        )
        _, link = await asyncio.wait_for(make, 10)
        self._link = link
        try:
            connack = await asyncio.wait_for(asyncio.shield(link.connected), 10)
            link.subscribe([*FILTERS, self._marker_topic.decode()])
            granted = await asyncio.wait_for(asyncio.shield(link.subscribed), 10)
            if any(code >= 0x80 for code in granted):
                raise ConnectionRefusedError(f"the broker does not let us subscribe to {', '.join(FILTERS)}")
            log.info("link up, session %s", "resumed" if connack.session_present else "new")
            self.up, self.trouble = True, None
            marking = asyncio.create_task(self._mark(link), name="marker")
            try:
                ends: set[asyncio.Future[Any]] = {link.closed, settling}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                marking.cancel()
            if settling.done():
                settling.result()
            return link.closed.result()
        finally:
            link.close()
            # What came over this link is in no batch with what comes over the next: that acknowledges its own alone.
            self._seal()
            self._decoder.unsettled = {a.packet_id: a for s in self._sealed if s.batch for a in s.batch.arrivals}
            was_up, self.up, self.drained, self._link = self.up, False, False, None
            self._decoder.limiting = False  # what waits at the broker meanwhile is no flood
            if was_up and not self._stopping:
                self.trouble = self.trouble or "the broker closed the connection"
                await self._centre.lost()

    async def _mark(self, link: Link) -> None:
        """Send ourselves a marker now and then: it queues behind everything that waits for us at the broker."""
        self._markers.clear()
        while True:
            token = secrets.token_hex(8).encode()
            self._markers[token] = time.monotonic()
            link.publish(self._marker_topic.decode(), token)
            await asyncio.sleep(MARKER_EVERY_S)

    def _listener(self, topic: bytes) -> Listener | None:
        if self._clock_topic is not None and self._clock_topic.fullmatch(topic):
            return self._receive_clock
        return self._receive_marker if topic == self._marker_topic else None

    def _received(self) -> None:
        """After each piece of the stream: hand over what has grown enough, or see that it is handed over in time."""
        builder = self._decoder.builder
        if len(builder) >= self._flush.rows:
            self._due = True
            self._wake.set()
            self._hold()
        elif self._timer is None and builder:
            self._timer = asyncio.get_running_loop().call_later(self._flush.after_s, self._fall_due)

    def _receive_clock(self, payload: bytes) -> None:
        at = read_clock(payload)
        self._seal()
        if at is not None and self._data_clock is not None:
            self._data_clock(at)
        self._sealed.append(_Sealed(None, [], self._link, self._now(), "clock"))
        self._wake.set()
        self._hold()

    def _hold(self) -> None:
        """Stop reading while more is sealed than one settling and one waiting batch, counting clock marks too."""
        full = len(self._decoder.builder) >= self._flush.rows
        if self._link is not None and ((full and self._sealed) or len(self._sealed) >= MOST_SEALED):
            self._link.pause()

    def _receive_marker(self, payload: bytes) -> None:
        sent = self._markers.get(payload)
        if sent is None:
            return  # of an earlier connection
        # They come back in order: one from before that has not, the broker has dropped.
        for token in [token for token, at in self._markers.items() if at <= sent]:
            del self._markers[token]
        self._lag_s = time.monotonic() - sent
        if not self.drained:
            self.drained = self._decoder.limiting = True
            self._seal()
            self._sealed.append(_Sealed(None, [], self._link, self._now(), "drained"))
            self._wake.set()

    def _fall_due(self) -> None:
        self._timer = None
        self._due = True
        self._wake.set()

    def _seal(self) -> None:
        """Close the batch that grows, so that what comes now is in the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = False
        if self._decoder.builder:
            now = self._now()
            batch, packet_ids = self._decoder.builder.take()
            self._sealed.append(_Sealed(batch, packet_ids, self._link, now))
            self._wake.set()

    async def _settle_all(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._due:
                self._seal()
            while self._sealed:
                await self._settle_one(self._sealed[0])
                self._settled_to = self._sealed.popleft().at
                if self._link is not None and not self._stopping:
                    self._link.resume()
                if self._due:
                    self._seal()

    async def _settle_one(self, sealed: _Sealed) -> None:
        if sealed.mark == "clock":
            await self._persist(lambda: self._centre.clock(sealed.now))
        elif sealed.mark == "drained":
            await self._persist(lambda: self._centre.drained(sealed.now))
        batch = sealed.batch
        if batch is not None and not batch.empty:
            await self._persist(lambda: self._centre.settle(batch, sealed.now))
        # A packet of an earlier connection comes again by itself; its old id may be another packet's now.
        if sealed.packet_ids and sealed.link is not None and sealed.link is self._link:
            sealed.link.acknowledge(sealed.packet_ids)

    async def _persist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Until it is done: what cannot be committed is not acknowledged, and nothing behind it is settled first."""
        failures = 0
        while True:
            try:
                await attempt()
                if failures:
                    self.trouble = None
                    log.info("settling goes on")
                return
            except Exception as error:
                self.trouble = f"cannot commit: {error}"
                log.exception("a batch could not be settled; trying again")
                await asyncio.sleep(SETTLE_RETRY_S[min(failures, len(SETTLE_RETRY_S) - 1)])
                failures += 1

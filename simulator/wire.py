"""One MQTT connection that publishes in order at QoS 1, several hundred messages ahead of their acknowledgements.

Everything goes over this connection at one QoS, clock and status included: brokers keep the order of messages only
within one.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import aiomqtt

# Fewer and a broker a millisecond away halves the rate; more only fills the broker's queues sooner.
IN_FLIGHT = 500
ACKNOWLEDGED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False


def parse_broker(url: str) -> BrokerAddress:
    """`mqtt://[user:password@]host[:1883]` or `mqtts://…[:8883]`; ValueError otherwise."""
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise ValueError(f"expected mqtt://host:port or mqtts://host:port, got {url!r}")
    tls = parts.scheme == "mqtts"
    return BrokerAddress(
        parts.hostname,
        parts.port or (8883 if tls else 1883),
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        tls,
    )


class Sender:
    """`send` returns once there is room; a failed message raises at the next `send` or at `drained`."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Raises aiomqtt.MqttError when the connection is lost. Messages go out in the order of the calls."""
        if self._room.locked():
            await self._one_acknowledged()
        await self._room.acquire()
        if self._failure is not None:
            raise self._failure
        # Tasks take their first step in the order they were made, and that step hands the packet to the client.
        task = asyncio.create_task(
            # No time-out of its own: that would double the cost of a message; waiting for room has one.
            self._client.publish(topic, payload, qos=1, retain=retain, timeout=math.inf),
            name="simulator.publish",
        )
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def drained(self) -> None:
        """Wait until the broker has acknowledged everything sent."""
        while self._tasks and self._failure is None:
            await self._one_acknowledged()
        if self._failure is not None:
            raise self._failure

    def give_up(self) -> None:
        """Stop waiting for acknowledgements that have not come."""
        for task in self._tasks:
            task.cancel()

    async def _one_acknowledged(self) -> None:
        done, _ = await asyncio.wait(self._tasks, timeout=ACKNOWLEDGED_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise aiomqtt.MqttError(f"the broker acknowledged nothing for {ACKNOWLEDGED_WITHIN_S:g} s")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error


@asynccontextmanager
async def connected(url: str, *, will: aiomqtt.Will | None = None) -> AsyncIterator[Sender]:
    """A connection to the broker; leaving it in peace waits for every acknowledgement.

    Raises ValueError for a url that is none, aiomqtt.MqttError where the broker cannot be reached.
    """
    address = parse_broker(url)
    client = aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        protocol=aiomqtt.ProtocolVersion.V311,  # the embedded broker speaks nothing newer
        tls_context=ssl.create_default_context() if address.tls else None,
        max_inflight_messages=IN_FLIGHT,
        will=will,
    )
    client.pending_calls_threshold = 2 * IN_FLIGHT  # else it logs a warning at each message beyond ten
    async with client:
        sender = Sender(client)
        try:
            yield sender
            await sender.drained()
        finally:
            sender.give_up()

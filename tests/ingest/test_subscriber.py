"""The link to the broker when it fails: noticed, tried again more and more slowly, and the session goes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import ingest.subscriber
from devices.batch import Batch
from devices.registry import Device, Registry
from ingest import wire
from ingest.decoder import FILTERS, Decoder, UnknownDevices
from ingest.link import Options
from ingest.subscriber import Address, SessionTaken, Subscriber
from tests.conftest import Broker

NOW = 1_763_700_000_000_000
TOPIC = "gw/v1/qidu/pump_station/ps-1/readings"


@dataclass
class Centre:
    """Keeps what it is handed."""

    values: list[float] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    lost_links: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def settle(self, batch: Batch, now: int) -> None:  # noqa: ARG002
        await self.open.wait()
        self.batches.append(batch)
        self.values += batch.value.tolist()

    async def clock(self, now: int) -> None:  # noqa: ARG002
        raise AssertionError("no clock was announced")

    async def drained(self, now: int) -> None:
        pass

    async def lost(self) -> None:
        self.lost_links += 1


@asynccontextmanager
async def running(
    port: int, centre: Centre, *, keep_alive: int = 30, receive_maximum: int = 100
) -> AsyncIterator[Subscriber]:
    registry = Registry()
    registry.add(Device(0, "ps-1", "qidu", "pump_station"))
    decoder = Decoder(registry, unknown=UnknownDevices.REFUSE, now=lambda: NOW, first_arrival=lambda *_: None)
    options = Options("test", receive_maximum, keep_alive=keep_alive)
    subscriber = Subscriber(Address("127.0.0.1", port), options, decoder, centre, now=lambda: NOW)
    task = asyncio.create_task(subscriber.run())
    try:
        yield subscriber
    finally:
        await subscriber.stop(2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.services
def test_a_broker_that_falls_silent_is_noticed_and_the_session_goes_on(tmp_path: Path) -> None:
    """The connection stays, as behind a router that has forgotten it, but nothing comes through it."""

    async def scene() -> None:
        centre = Centre()
        async with running(broker.port, centre, keep_alive=1) as subscriber:
            await until(lambda: subscriber.drained)
            assert broker.process
            broker.process.send_signal(signal.SIGSTOP)
            begun = asyncio.get_running_loop().time()
            await until(lambda: not subscriber.up)
            noticed = asyncio.get_running_loop().time() - begun
            assert 1 <= noticed < 4, "one and a half keep-alives, told by pings half of one apart"
            assert centre.lost_links == 1
            with pytest.raises(ConnectionError):
                await subscriber.publish(TOPIC, b"{}", expiry_s=1)
            broker.process.send_signal(signal.SIGCONT)
            await until(lambda: subscriber.drained)
            await subscriber.publish(TOPIC, b'{"at":1763700000000,"level_inside":2}', expiry_s=60)
            await until(lambda: centre.values == [2.0])

    broker = Broker(tmp_path / "broker")
    broker.start()
    try:
        asyncio.run(scene())
    finally:
        broker.stop(signal.SIGKILL)  # which a process that is stopped obeys too


def test_pauses_between_attempts_grow_and_are_not_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = (0.05, 0.1, 0.2)
    monkeypatch.setattr(ingest.subscriber, "BACKOFF_S", pauses)
    came: list[float] = []

    async def turn_away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(asyncio.get_running_loop().time())
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(turn_away, "127.0.0.1", 0)
        async with server, running(server.sockets[0].getsockname()[1], Centre()):
            await until(lambda: len(came) == 7)

    asyncio.run(scene())
    gaps = [b - a for a, b in itertools.pairwise(came)]
    for gap, pause in zip(gaps, (*pauses, 0.2, 0.2, 0.2), strict=True):
        assert gap >= 0.5 * pause
    assert gaps[0] < 0.1, "the first attempt after a failure comes soon"
    assert max(gaps[2:]) - min(gaps[2:]) > 0.005, "without jitter a hall full of services comes back in step"


@pytest.mark.parametrize(("tries", "taken"), [("bbbb", True), ("bbbxbbbxbbbxb", False)])
def test_links_that_are_closed_at_once_are_another_client_unless_the_broker_was_away(
    tries: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """b: a link that is up and closed again, x: nobody answers."""
    monkeypatch.setattr(ingest.subscriber, "BACKOFF_S", (0.01,))
    left = list(tries)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if left and left.pop(0) == "b":
            await reader.read(1000)
            writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK
            await reader.readuntil(b"\x82")  # after a ping
            length = (await reader.readexactly(1))[0]
            packet_id = await reader.readexactly(2)
            assert length < 0x80
            granted = bytes(len(FILTERS) + 1)
            writer.write(bytes([0x90, 3 + len(granted)]) + packet_id + b"\x00" + granted)  # SUBACK
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, running(server.sockets[0].getsockname()[1], Centre()) as subscriber:
            await until(lambda: not left and not subscriber.up)
            await asyncio.sleep(0.2)

    if taken:
        with pytest.raises(SessionTaken, match=r"broker\.client_id"):
            asyncio.run(scene())
    else:
        asyncio.run(scene())


@pytest.mark.services
def test_the_lag_grows_while_nothing_comes_and_a_marker_that_the_broker_dropped_is_none(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.subscriber, "MARKER_EVERY_S", 0.1)

    async def scene() -> None:
        async with running(broker.port, Centre()) as subscriber:
            await until(lambda: subscriber.drained)
            subscriber._markers = {b"dropped": time.monotonic() - 100, **subscriber._markers}
            assert subscriber.lag_s >= 100
            await until(lambda: subscriber.lag_s < 5)
            assert broker.process
            broker.process.send_signal(signal.SIGSTOP)
            await until(lambda: subscriber.lag_s > 1)
            broker.process.send_signal(signal.SIGCONT)
            await until(lambda: subscriber.lag_s < 0.5)

    asyncio.run(scene())


@pytest.mark.services
def test_what_comes_again_before_it_is_settled_has_come_when_it_came(broker: Broker) -> None:
    """A link that ends while a commit is slow: the broker sends again what only the batches under way remember, and
    what came over the old link is acknowledged in no batch of the new one."""

    async def scene() -> None:
        centre = Centre()
        async with running(broker.port, centre) as subscriber:
            await until(lambda: subscriber.drained)
            centre.open.clear()
            await subscriber.publish(TOPIC, b'{"level_inside":1}', expiry_s=60)
            await until(lambda: bool(subscriber._sealed))
            await subscriber.publish(TOPIC, b'{"level_inside":2}', expiry_s=60)
            await until(lambda: subscriber._decoder.builder.elements == 1)
            link = subscriber._link
            assert link is not None
            assert link._transport is not None
            link._transport.abort()
            await until(lambda: subscriber._link not in {None, link} and subscriber.drained)
            centre.open.set()
            await until(lambda: len(centre.values) >= 4)
        assert centre.values == [1, 2, 1, 2], "sent again, since nothing was acknowledged"
        at = [at for batch in centre.batches for at in batch.measured_at.tolist()]
        assert at[:2] == at[2:], "so they are duplicates, and no new readings"

    asyncio.run(scene())


def flood(port: int, messages: int) -> None:
    """QoS 1, as fast as the broker takes them, each with a value of its own."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(wire.connect("flood", version=wire.V311, keep_alive=0, receive_maximum=0, session_expiry=0,
                                  username=None, password=None))  # fmt: skip
        assert link.recv(4)[:1] == b"\x20"
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: link.recv(65_536), b"")], daemon=True)
        reader.start()
        for start in range(0, messages, 1_000):
            link.sendall(b"".join(
                wire.publish(TOPIC, b'{"level_inside":%d}' % n, packet_id=n % 65_535 + 1, version=wire.V311)
                for n in range(start, start + 1_000)
            ))  # fmt: skip
        link.shutdown(socket.SHUT_WR)
        reader.join(20)


@pytest.mark.services
def test_whoever_leaves_is_heard_to_the_end(broker: Broker) -> None:
    """The last acknowledgements are read by a broker that is still sending: nothing that was settled comes again."""
    messages = 60_000

    async def scene() -> None:
        centre = Centre()
        async with running(broker.port, centre, receive_maximum=65_535) as subscriber:
            await until(lambda: subscriber.drained)
            flooding = asyncio.create_task(asyncio.to_thread(flood, broker.port, messages))
            await until(lambda: len(centre.values) > 10_000)
        assert len(centre.values) < messages, "it left while more was coming"
        await flooding
        async with running(broker.port, centre, receive_maximum=65_535):
            await until(lambda: len(centre.values) >= messages)
            await asyncio.sleep(0.2)
        assert sorted(centre.values) == list(range(messages))

    asyncio.run(scene())

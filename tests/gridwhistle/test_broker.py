"""The broker the service starts itself: ready when it says so, durable where it can be, gone when its parent is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import aiomqtt
import psutil
import pytest

from gridwhistle.broker import BrokerChild, BrokerFailed, answers, configuration
from ingest import wire


def _session(broker: BrokerChild) -> aiomqtt.Client:
    return aiomqtt.Client(broker.host, broker.port, identifier="service", clean_session=False)


async def _received(client: aiomqtt.Client, count: int) -> list[object]:
    payloads: list[object] = []
    async with asyncio.timeout(10):
        async for message in client.messages:
            payloads.append(message.payload)
            if len(payloads) == count:
                break
    return payloads


@pytest.mark.services
def test_what_is_queued_survives_a_restart_of_the_broker(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with BrokerChild(tmp_path) as broker:
            assert broker.durable
            assert broker.warning is None
            async with _session(broker) as client:
                await client.subscribe("gw/#", qos=1)
            async with aiomqtt.Client(broker.host, broker.port) as publisher:
                for number in range(1200):  # more than the 1,000 a broker keeps by default
                    await publisher.publish("gw/x", b"%d" % number, qos=1)
        async with BrokerChild(tmp_path) as broker, _session(broker) as client:
            assert await _received(client, 1200) == [b"%d" % number for number in range(1200)]

    asyncio.run(scenario())


@pytest.mark.services
def test_it_can_be_stopped_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = BrokerChild(tmp_path)
        await broker.start()
        assert await answers(broker.host, broker.port)
        await broker.stop()
        await broker.stop()
        assert not await answers(broker.host, broker.port)

    asyncio.run(scenario())


def test_without_mosquitto_it_says_that_it_is_not_durable_and_still_carries_messages(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with BrokerChild(tmp_path, use_amqtt=True) as broker:
            assert not broker.durable
            assert broker.warning is not None
            assert "不持久" in broker.warning
            assert "not durable" in broker.warning
            async with _session(broker) as client:
                await client.subscribe("gw/#", qos=1)
                await client.publish("gw/x", b"hello", qos=1)
                assert await _received(client, 1) == [b"hello"]

    asyncio.run(scenario())


def test_amqtt_refuses_version_5_at_once_so_that_a_client_can_ask_for_3_1_1(tmp_path: Path) -> None:
    async def connack(broker: BrokerChild, version: int) -> wire.Connack:
        reader, writer = await asyncio.open_connection(broker.host, broker.port)
        writer.write(wire.connect("service", version=version, keep_alive=30, receive_maximum=100, session_expiry=60))
        async with asyncio.timeout(5):
            head = await reader.readexactly(4)
        writer.close()
        return wire.read_connack(head[2:], version=wire.V311)

    async def scenario() -> None:
        async with BrokerChild(tmp_path, use_amqtt=True) as broker:
            assert (await connack(broker, wire.V5)).code in wire.UNSUPPORTED_VERSION
            assert (await connack(broker, wire.V311)).code == 0

    asyncio.run(scenario())


@pytest.mark.services
def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = BrokerChild(tmp_path, mosquitto=sys.executable)  # python -c mosquitto.conf: a program that fails
        with pytest.raises(BrokerFailed, match="did not start"):
            await broker.start()
        assert broker.process is None

    asyncio.run(scenario())


@pytest.mark.services
def test_a_second_broker_over_the_same_folder_waits_for_the_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = BrokerChild(tmp_path), BrokerChild(tmp_path)
        await first.start()
        starting = asyncio.create_task(second.start())
        await asyncio.sleep(0.3)
        assert not starting.done()
        await first.stop()
        await starting
        await second.stop()

    asyncio.run(scenario())


@pytest.mark.services
def test_the_end_of_a_broker_that_dies_is_noticed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with BrokerChild(tmp_path) as broker:
            assert broker.process is not None
            os.kill(broker.process.pid, signal.SIGKILL)
            assert await asyncio.wait_for(broker.ended(), 5) == -signal.SIGKILL

    asyncio.run(scenario())


@pytest.mark.services
@pytest.mark.skipif(sys.platform != "linux", reason="the tie is Linux's PR_SET_PDEATHSIG")
@pytest.mark.parametrize("use_amqtt", [False, True])
def test_killing_the_parent_ends_the_broker(tmp_path: Path, use_amqtt: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path), "amqtt" if use_amqtt else ""], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    broker = psutil.Process(int(parent.stdout.readline()))
    assert broker.is_running()
    # Ctrl-C goes to everyone in the terminal's foreground group: the broker must not be in it.
    assert os.getsid(broker.pid) != os.getsid(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        broker.wait(timeout=10)
    finally:
        if broker.is_running():
            broker.kill()


_PARENT = textwrap.dedent("""
    import asyncio, sys, time
    from pathlib import Path
    from gridwhistle.broker import BrokerChild

    async def main():
        broker = BrokerChild(Path(sys.argv[1]), use_amqtt=bool(sys.argv[2]))
        await broker.start()
        print(broker.process.pid, flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
""")


def test_the_configuration_is_the_shipped_one(tmp_path: Path) -> None:
    lines = configuration(tmp_path, 1234).splitlines()
    assert "listener 1234 127.0.0.1" in lines  # never beyond the loopback: it lets anybody in
    for needed in ("persistence true", "max_queued_messages 0", "max_queued_bytes 0", "max_inflight_bytes 0"):
        assert needed in lines

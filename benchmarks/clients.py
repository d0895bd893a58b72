"""Which MQTT client carries the hot path: `python -m benchmarks.clients --json` (docs/adr/0002).

Each client feeds the same decoder and settler (5,000 devices, 100 rules of which 5 apply, journal, store) from the same
stream through a real Mosquitto, in a process of its own. Messages a second from the first publish to the last commit.
The libraries acknowledge QoS 1 by themselves as messages arrive, which is less than the path promises; our own client
acknowledges after the commit, as it must.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiomqtt
import gmqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.load import METRICS
from benchmarks.parts import Broker, Publisher
from benchmarks.path import open_path
from devices.batch import Batch
from flow.readings import Settler
from gridwhistle.clock import wall
from ingest.decoder import FILTERS, Decoder
from ingest.link import Options
from ingest.subscriber import Address, Subscriber

CLIENTS = ("gridwhistle", "gmqtt", "paho-mqtt", "aiomqtt")
FLUSH_S, LIMIT_S = 0.05, 120.0


class _Centre:
    def __init__(self, settler: Settler) -> None:
        self._settler = settler

    async def settle(self, batch: Batch, now: int) -> None:
        await asyncio.to_thread(self._settler.settle, batch, now)

    async def clock(self, now: int) -> None: ...

    async def drained(self, now: int) -> None: ...

    async def lost(self) -> None: ...


async def feed_own(port: int, settler: Settler, decoder: Decoder, _qos: int) -> None:
    options = Options("bench", 65_535)
    await Subscriber(Address("127.0.0.1", port), options, decoder, _Centre(settler), now=wall).run()


async def feed_gmqtt(port: int, settler: Settler, decoder: Decoder, qos: int) -> None:
    client: Any = gmqtt.Client("bench", receive_maximum=65_535)  # type: ignore[no-untyped-call]

    def on_message(_client: Any, topic: str, payload: bytes, got: int, _properties: Any) -> int:
        decoder.feed(topic.encode(), payload, 0x30 | got << 1, 0)
        return 0

    client.on_message = on_message
    client.on_connect = lambda *_: client.subscribe(FILTERS[0], qos=qos)
    await client.connect("127.0.0.1", port, version=5)
    await _flush(settler, decoder, threading.Lock())


async def feed_paho(port: int, settler: Settler, decoder: Decoder, qos: int) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, "bench")
    lock = threading.Lock()

    def on_message(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with lock:
            decoder.feed(message.topic.encode(), bytes(message.payload), 0x30 | message.qos << 1, 0)

    def on_connect(*_: Any) -> None:
        client.subscribe(FILTERS[0], qos)

    client.on_message = on_message
    client.on_connect = on_connect
    client.connect("127.0.0.1", port)
    client.loop_start()
    await _flush(settler, decoder, lock)


async def feed_aiomqtt(port: int, settler: Settler, decoder: Decoder, qos: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port, identifier="bench") as client:
        await client.subscribe(FILTERS[0], qos=qos)
        flushing = asyncio.create_task(_flush(settler, decoder, threading.Lock()))
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            decoder.feed(str(message.topic).encode(), message.payload, 0x30 | message.qos << 1, 0)
        await flushing


async def _flush(settler: Settler, decoder: Decoder, lock: threading.Lock) -> None:
    while True:
        await asyncio.sleep(FLUSH_S)
        with lock:
            batch, _ = decoder.builder.take()
        await asyncio.to_thread(settler.settle, batch, wall())


FEEDS: dict[str, Callable[..., Any]] = {
    "gridwhistle": feed_own, "gmqtt": feed_gmqtt, "paho-mqtt": feed_paho, "aiomqtt": feed_aiomqtt,
}  # fmt: skip


async def _window(client: str, qos: int, messages: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = Broker(stack, folder / "broker").port
        (folder / "path").mkdir()
        settler, decoder = open_path(folder / "path")
        feeding = asyncio.create_task(FEEDS[client](port, settler, decoder, qos))
        await asyncio.sleep(1)
        publisher = await asyncio.to_thread(Publisher, stack, port, messages, qos)
        begun = last = publisher.go()
        taken, wanted = 0, messages * len(METRICS)
        while taken < wanted and time.perf_counter() - begun < LIMIT_S and time.perf_counter() - last < 5:
            await asyncio.sleep(0.05)
            count = settler.memory.ledger.running()["received"]
            if count > taken:
                taken, last = count, time.perf_counter()
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        settler.appender.stop(30)
        return {
            "messages_per_s": round(taken / len(METRICS) / (last - begun)),
            "lost": (wanted - taken) // len(METRICS),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the default and only form of output")
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--only", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--qos", type=int, choices=(0, 1))
    options = parser.parse_args()
    if options.only:
        sys.setswitchinterval(0.001)
        print(json.dumps(asyncio.run(_window(options.only, options.qos, options.messages))), flush=True)
        # Some of these clients leave threads that outlive their disconnection.
        sys.stdout.flush()
        return
    result: dict[str, Any] = {}
    for qos in [0, 1] if options.qos is None else [options.qos]:
        for client in CLIENTS:
            command = [sys.executable, "-m", "benchmarks.clients", "--only", client, "--qos", str(qos)]
            done = subprocess.run(
                [*command, "--messages", str(options.messages)], stdout=subprocess.PIPE, timeout=300, check=True
            )
            result.setdefault(f"qos{qos}", {})[client] = json.loads(done.stdout.decode().strip().splitlines()[-1])
            print(f"QoS {qos} {client}: {result[f'qos{qos}'][client]}", file=sys.stderr)
    result["versions"] = {name: version(name) for name in ("gmqtt", "paho-mqtt", "aiomqtt")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""What a user would otherwise write: a plain subscriber that puts each message into SQLite, with paho or with aiomqtt.

`python -m benchmarks.contenders paho --commit message …` is that program. It gets the best of everything: MQTT 5 with a
full receive maximum, WAL, synchronous NORMAL, one row for a message's three values, no index. `--commit message` is
what one writes first; `--commit second` commits once a second, and loses what it has acknowledged since when it dies.
Neither judges a rule, notices a duplicate or keeps a ledger.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.load import METRICS
from benchmarks.machine import Usage
from benchmarks.parts import Broker, Publisher, end

LIBRARIES, COMMITS = ("paho", "aiomqtt"), ("message", "second")
TABLE = f"CREATE TABLE readings (device TEXT, at INTEGER, {', '.join(f'{m} REAL' for m in METRICS)})"
# A contender is given so long for its messages, and is over when nothing has come for QUIET_S.
LIMIT_S, QUIET_S = 20.0, 3.0


class Table:
    """Counts what it has committed; `begun` and `committed_at` are of the first message and the last commit."""

    def __init__(self, path: Path, *, commit: str, messages: int) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(TABLE)
        self._each, self._messages = commit == "message", messages
        self._due = 0.0
        self.taken = self.committed = 0
        self.begun = self.committed_at = 0.0

    @property
    def full(self) -> bool:
        return self.committed >= self._messages

    def insert(self, topic: str, payload: bytes) -> None:
        now = time.perf_counter()
        if not self.taken:
            self.begun, self._due = now, now + 1
        body = json.loads(payload)
        row = (topic.split("/")[4], body["at"], *(body[metric] for metric in METRICS))
        self._db.execute("INSERT INTO readings VALUES (?, ?, ?, ?, ?)", row)
        self.taken += 1
        if self._each or now >= self._due or self.taken == self._messages:
            self.commit()

    def commit(self) -> None:
        self._db.commit()
        self.committed, self.committed_at = self.taken, time.perf_counter()
        self._due = self.committed_at + 1


def _everything() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = 65_535
    return properties


async def run_paho(port: int, qos: int, table: Table) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, "plain", protocol=paho.MQTTv5)

    def on_connect(*_: Any) -> None:
        client.subscribe("gw/#", qos)

    def on_message(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        table.insert(message.topic, bytes(message.payload))

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = on_message
    client.connect("127.0.0.1", port, properties=_everything())
    client.loop_start()
    try:
        await asyncio.Event().wait()
    finally:
        client.disconnect()
        client.loop_stop()


async def run_aiomqtt(port: int, qos: int, table: Table) -> None:
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier="plain", protocol=aiomqtt.ProtocolVersion.V5, properties=_everything()
    ) as client:
        await client.subscribe("gw/#", qos)
        print("ready", flush=True)
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            table.insert(str(message.topic), message.payload)


async def _until_done(running: asyncio.Task[None], table: Table) -> None:
    """Until it has them all, has had its time, or nothing comes any more."""
    seen, seen_at, begun = 0, time.perf_counter(), time.perf_counter()
    while not table.full and not running.done():
        await asyncio.sleep(0.1)
        now = time.perf_counter()
        if table.taken != seen:
            seen, seen_at = table.taken, now
        if table.taken and (now - seen_at > QUIET_S or now - table.begun > LIMIT_S):
            break
        if now - begun > 2 * LIMIT_S:
            break


async def _run(library: str, port: int, qos: int, table: Table) -> None:
    running = asyncio.create_task({"paho": run_paho, "aiomqtt": run_aiomqtt}[library](port, qos, table))
    await _until_done(running, table)
    # Said before its threads end: what they used is read from outside.
    print(json.dumps({"messages": table.committed, "seconds": table.committed_at - table.begun}), flush=True)
    await asyncio.sleep(0.5)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def measure(library: str, commit: str, folder: Path, *, qos: int, messages: int) -> tuple[float, dict[str, Any]]:
    """Messages a second that it committed, from its first, and who used the cores meanwhile."""
    with ExitStack() as stack:
        folder.mkdir()
        broker = Broker(stack, folder / "broker")
        command = [sys.executable, "-m", "benchmarks.contenders", library, "--commit", commit, "--qos", str(qos)]
        command += ["--port", str(broker.port), "--messages", str(messages), "--database", str(folder / "plain.db")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(end, process)
        assert process.stdout
        if process.stdout.readline().strip() != "ready":
            sys.exit(f"the subscriber with {library} did not start")
        publisher = Publisher(stack, broker.port, messages, qos)
        usage = Usage({"broker": broker.process.pid, "publisher": publisher.process.pid, "subscriber": process.pid})
        usage.start()
        publisher.go()
        found = json.loads(process.stdout.readline())
        cpu = usage.stop()
        assert found["messages"] > 0, f"{library} took nothing"
        return found["messages"] / found["seconds"], cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--commit", choices=COMMITS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--qos", type=int, choices=(0, 1), required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--database", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Table(given.database or Path(folder) / "plain.db", commit=given.commit, messages=given.messages)
        asyncio.run(_run(given.library, given.port, given.qos, table))


if __name__ == "__main__":
    main()

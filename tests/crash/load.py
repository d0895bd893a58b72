"""Devices under load: numbered readings at QoS 1, and an exact account of what the broker has acknowledged.

Its own MQTT client of a hundred lines: after a lost link it sends again, in order, exactly what was not acknowledged,
so whatever a test does to broker and service, every message of `sent` has been handed over when `finish` returns.
"""

from __future__ import annotations

import json
import random
import select
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

# Unacknowledged at once; the broker's own limit for a client is 20 of them in flight and the rest in its queue.
WINDOW = 400
CAMERAS = 2
MACHINE = b"gw/v1/crash/equipment/m-0/readings"
# (topic, payload, how many values the ledger counts): every tenth message of a hostile load is the next of these.
HOSTILE = (
    (MACHINE, b"\xff\xfe\x00", 1),
    (MACHINE, b'{"temperature": NaN}', 1),
    (MACHINE, b"[" * 20_000, 1),
    (MACHINE, b'{"at": 1763700000000, "temperature": 1e999}', 1),
    (MACHINE, b'{"temperature": "hot", "shoe_size": 43}', 2),
    (MACHINE, b"", 1),
    (b"gw/v1/crash/submarine/m-0/readings", b'{"depth": 3}', 1),
    (b"gw/v1/crash/equipment/../readings", b'{"temperature": 3}', 1),
    (b"gw/v1/elsewhere/equipment/m-0/readings", b'{"temperature": 3}', 1),
    (b"gw/v1/" + b"deep/" * 100, b"x", 1),
)
CONNECT = b"\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
MAPPING = """
site: crash
kind: equipment
device: {column: machine}
time: {column: at, format: epoch_ms}
metrics: {temperature: {metric: temperature}, current: {metric: current}}
"""
# One judged at once, one that must hold (a kill loses its beginning unless the state is kept), one over a window.
RULES = """
rules:
  - {id: hot, name: {zh: 过热}, applies_to: {kind: equipment}, when: temperature > 80, clear: temperature < 70,
     max_gap: none, priority: high, order: {category: equipment.temperature}}
  - {id: cold, name: {zh: 过冷}, applies_to: {kind: equipment}, when: temperature < 30, for: 1s, max_gap: none,
     priority: low}
  - {id: strong, name: {zh: 过载}, applies_to: {kind: equipment}, when: "avg(current, 1s) > 60", max_gap: none,
     priority: medium}
"""


class Endpoint(Protocol):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Sent:
    """One message: a machine's reading, or an event of a camera (no values)."""

    device: str
    seq: int
    at: int  # ms
    values: tuple[float, float] | None

    @property
    def topic(self) -> bytes:
        kind, channel = ("equipment", "readings") if self.values else ("camera", "events")
        return f"gw/v1/crash/{kind}/{self.device}/{channel}".encode()

    @property
    def payload(self) -> bytes:
        body: dict[str, object] = {"at": self.at, "seq": self.seq}
        if self.values:
            body |= {"temperature": self.values[0], "current": self.values[1]}
        else:
            body |= {"event": "person_detected", "id": f"{self.device}-{self.seq}"}
        return json.dumps(body).encode()


class Load:
    """`rate` messages a second (None: as fast as the broker takes them) of `machines` and two cameras in turn."""

    def __init__(
        self,
        broker: Endpoint,
        *,
        machines: int = 20,
        rate: float | None = 1_500,
        name: str = "m-{}",
        cameras: int = CAMERAS,
        hostile: bool = False,
        longest: int | None = None,
        step: float = 9,
    ) -> None:
        """`longest`: what no service can read is cut to so many bytes. `step`: how far a value goes from one reading
        to the next at most; with 9 each machine has an alarm every few hundred readings."""
        self.sent: list[Sent] = []
        # Of all that was sent, and of it what no service can read; `refused` is what the ledger must count for that.
        self.made = self.acknowledged = self.refused = 0
        self._hostile = [(t, payload[:longest], n) for t, payload, n in HOSTILE] if hostile else []
        self._broker = broker
        self._rate = rate
        self._step = step
        self._names = [name.format(n) for n in range(machines)] + [f"cam-{n}" for n in range(cameras)]
        self._machines = machines
        self._chance = random.Random(7)
        self._walk = [[50.0, 50.0] for _ in range(machines)]
        self._last = [0] * len(self._names)
        self._waiting: OrderedDict[int, bytes] = OrderedDict()
        self._owed: list[bytes] = []
        self._next_id = 0
        self._most: int | None = None
        self._done = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._most = 0
        self._done.set()
        self._thread.join(10)

    def pause(self) -> None:
        """Nothing new from here; returns when the broker has acknowledged all that was sent."""
        self._most = self.made
        deadline = time.monotonic() + 60
        while self.acknowledged < self._most:
            assert self._failed is None, self._failed
            assert time.monotonic() < deadline, f"{self._most - self.acknowledged} messages are not acknowledged"
            time.sleep(0.02)

    def resume(self) -> None:
        self._most = None

    def send(self, count: int) -> None:
        """Exactly so many more, at the rate; returns when they are acknowledged."""
        self._most = self.made + count
        deadline = time.monotonic() + 600
        while self.acknowledged < self._most:
            assert self._failed is None, self._failed
            assert time.monotonic() < deadline, "not sent in ten minutes"
            time.sleep(0.01)

    def packets(self, count: int) -> list[bytes]:
        """The next so many, to be sent in another way."""
        made = [self._make() for _ in range(count)]
        self._waiting.clear()
        return made

    def finish(self) -> list[Sent]:
        """Everything sent, once the broker has acknowledged it all."""
        self.pause()
        self._done.set()
        self._thread.join(10)
        return self.sent

    def _run(self) -> None:
        try:
            while not self._done.is_set():
                try:
                    with socket.create_connection((self._broker.host, self._broker.port), 5) as link:
                        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        self._serve(link)
                except OSError:
                    time.sleep(0.05)
        except Exception as error:
            self._failed = error
            raise

    def _serve(self, link: socket.socket) -> None:
        link.sendall(bytes([0x10, len(CONNECT)]) + CONNECT)
        answer = link.recv(4)
        if answer[:2] != b"\x20\x02" or answer[3]:
            raise ConnectionError(f"CONNACK {answer!r}")
        for packet in self._waiting.values():
            link.sendall(packet)
        link.setblocking(False)
        rest = b""
        began, before = time.monotonic(), self.made
        while not self._done.is_set():
            due = WINDOW if self._rate is None else int((time.monotonic() - began) * self._rate) - (
                self.made - before
            )  # fmt: skip
            room = WINDOW - len(self._waiting)
            left = WINDOW if self._most is None else self._most - self.made
            if left <= 0:
                began, before = time.monotonic(), self.made
            packets = b"".join(self._make() for _ in range(min(due, room, left)))
            if packets:
                link.setblocking(True)
                link.sendall(packets)
                link.setblocking(False)
            if select.select([link], [], [], 0.005)[0]:
                heard = link.recv(65_536)
                if not heard:
                    raise ConnectionError("the broker closed the connection")
                rest = self._acknowledge(rest + heard)

    def _make(self) -> bytes:
        self.made += 1
        if self._hostile and self.made % 10 == 0:
            topic, payload, count = self._hostile[self.made // 10 % len(self._hostile)]
            self.refused += count
        else:
            message = self._next()
            topic, payload = message.topic, message.payload
        self._next_id = self._next_id % 0xFFFF + 1
        packet = self._waiting[self._next_id] = publish(topic, payload, self._next_id)
        return packet

    def _next(self) -> Sent:
        number = len(self.sent)
        device, count = number % len(self._names), number // len(self._names)
        values = None
        if device < self._machines:
            walk = self._walk[device]
            walk[:] = (round(min(max(v + self._chance.uniform(-self._step, self._step), 0), 110), 3) for v in walk)
            values = (walk[0], walk[1])
        at = self._last[device] = max(self._last[device] + 1, time.time_ns() // 1_000_000)
        message = Sent(self._names[device], count + 1, at, values)
        self.sent.append(message)
        return message

    def _acknowledge(self, heard: bytes) -> bytes:
        whole = len(heard) // 4 * 4
        for at in range(0, whole, 4):
            assert heard[at] == 0x40, heard[at : at + 4]
            if self._waiting.pop(heard[at + 2] << 8 | heard[at + 3], None) is not None:
                self.acknowledged += 1
        return heard[whole:]


def publish(topic: bytes, payload: bytes, packet_id: int) -> bytes:
    """A PUBLISH at QoS 1 of MQTT 3.1.1."""
    body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + payload
    length, head = len(body), bytearray(b"\x32")
    while True:
        length, low = length >> 7, length & 0x7F
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def write_csv(sent: list[Sent], file: Path) -> None:
    """The machines' readings for `backtest` with `MAPPING`."""
    with file.open("w") as out:
        out.write("machine,at,temperature,current\n")
        for message in sent:
            if message.values:
                out.write(f"{message.device},{message.at},{message.values[0]},{message.values[1]}\n")

"""Publishes a stream as fast as the socket takes it, or at a rate: a process of its own.

`python -m benchmarks.load --port P --messages N --qos Q [--rate R]`: publishes the `--warm` messages, prints "ready",
waits for a line on standard input, publishes the rest, and prints the seconds that took. MQTT 3.1.1, whose publisher
may have any number of packets under way. Without a rate every byte is made before anything is published, so that
publishing costs next to nothing (0.05 µs a message at QoS 0, measured: the broker is what saturates); with a rate they
are made as they go, in pieces of 10 ms, and `at` is the instant of publishing.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from ingest.wire import length_bytes

DEVICES = 5_000
SITE, KIND = "bench", "water_monitor"
METRICS = ("dissolved_oxygen", "total_phosphorus", "water_temperature")
# What `--metrics 5` sends besides.
MORE = ("ammonia_nitrogen", "turbidity")
CHUNK = 2_000
# A list's elements are this far apart, and so are the rounds of single messages, in ms.
STEP = 1_000
# PUBACKs are read when so many bytes of them have come: reading each would cost more than publishing.
AT_ONCE = 32_768


def payload(message: int, at: int, seq: int, more: tuple[str, ...] = ()) -> bytes:
    """140 bytes of JSON with three metrics, more with those in `more`; nothing repeats within a run. `at` in ms, `seq`
    the device's own count."""
    a, b, c = 5 + message % 4001 / 1000, 0.01 + message % 307 / 10000, 12 + message % 9001 / 1000
    body = f'{{"at":{at},"seq":{seq},"dissolved_oxygen":{a:.9f},"total_phosphorus":{b:.9f},"water_temperature":{c:.9f}'
    body += "".join(f',"{metric}":{a + n:.9f}' for n, metric in enumerate(more))
    return body.encode().ljust(139) + b"}"


def readings_topic(device: str) -> bytes:
    return f"gw/v1/{SITE}/{KIND}/{device}/readings".encode()


def packet(topic: bytes, body: bytes, *, qos: int, number: int) -> bytes:
    """A whole PUBLISH packet."""
    head = struct.pack("!H", len(topic)) + topic
    if qos:
        head += struct.pack("!H", number % 65_535 + 1)
    return bytes([0x30 | qos << 1]) + length_bytes(len(head) + len(body)) + head + body


@dataclass(frozen=True, slots=True)
class Stream:
    """Messages of devices in turn, each of so many elements; `first_round`: what every device has sent before."""

    qos: int
    devices: int = DEVICES
    elements: int = 1
    first_round: int = 0
    more: tuple[str, ...] = ()

    def rounds(self, messages: int) -> int:
        """Elements that a device sends, of so many messages in all."""
        return -(-messages // self.devices) * self.elements

    def packet(self, number: int, at: int) -> bytes:
        """The first element is of `at`, in ms, the others a STEP later each."""
        turn, device = divmod(number, self.devices)
        seq = self.first_round + turn * self.elements
        made = [payload(number * self.elements + e, at + e * STEP, seq + e, self.more) for e in range(self.elements)]
        body = made[0] if self.elements == 1 else b"[%b]" % b",".join(made)
        return packet(readings_topic(f"m-{device}"), body, qos=self.qos, number=number)

    def packets(self, messages: int, end: int) -> Iterator[bytes]:
        """A STEP further each round, so that the last one ends at `end`."""
        start = end - self.rounds(messages) * STEP
        for number in range(messages):
            yield self.packet(number, start + number // self.devices * self.elements * STEP)


def connect(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    client = f"load-{time.monotonic_ns()}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(client)) + client
    link.sendall(b"\x10" + length_bytes(len(body)) + body)
    assert link.recv(4)[:2] == b"\x20\x02"
    return link


def chunks_of(packets: Iterable[bytes], size: int) -> Iterator[bytes]:
    pieces = iter(packets)
    while chunk := b"".join(itertools.islice(pieces, size)):
        yield chunk


def publish(link: socket.socket, chunks: Iterable[bytes]) -> float:
    """The seconds it took."""
    begun = time.perf_counter()
    for chunk in chunks:
        link.sendall(chunk)
    return time.perf_counter() - begun


def paced(stream: Stream, messages: int, rate: float) -> Iterator[bytes]:
    """Pieces of 10 ms or of one message, each when it is due; after one that is late the next comes at once."""
    size = max(1, round(rate / 100))
    begun = time.perf_counter()
    for start in range(0, messages, size):
        ahead = start / rate - (time.perf_counter() - begun)
        if ahead > 0:
            time.sleep(ahead)
        at = time.time_ns() // 1_000_000
        yield b"".join(stream.packet(m, at) for m in range(start, min(start + size, messages)))


def discard(link: socket.socket, at_once: int) -> None:
    """PUBACKs of the broker, until it ends: read, so that it never waits for us, but only so many bytes at a time."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, at_once)
    with suppress(OSError):
        while link.recv(4 * AT_ONCE):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--qos", type=int, choices=(0, 1), required=True)
    parser.add_argument("--rate", type=float, help="messages a second; as fast as the socket takes them without")
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--elements", type=int, default=1, help="of a payload list")
    parser.add_argument("--metrics", type=int, choices=(len(METRICS), len(METRICS + MORE)), default=len(METRICS))
    parser.add_argument("--warm", type=int, default=0, help="single messages before ready")
    options = parser.parse_args()
    now, more = time.time_ns() // 1_000_000, MORE if options.metrics > len(METRICS) else ()
    before = Stream(options.qos, options.devices, more=more)
    stream = Stream(options.qos, options.devices, options.elements, before.rounds(options.warm), more)
    span = 0 if options.rate else stream.rounds(options.messages) * STEP
    warm = list(chunks_of(before.packets(options.warm, now - span), CHUNK))
    if options.rate:
        chunks: Iterable[bytes] = paced(stream, options.messages, options.rate)
    else:
        chunks = list(chunks_of(stream.packets(options.messages, now), max(1, CHUNK // options.elements)))
    link = connect(options.port)
    if options.qos:
        threading.Thread(target=discard, args=(link, AT_ONCE), daemon=True).start()
    publish(link, warm)
    print("ready", flush=True)
    sys.stdin.readline()
    print(f"{publish(link, chunks):.6f}", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()

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

from ingest.wire import length_bytes

DEVICES = 5_000
SITE, KIND = "bench", "water_monitor"
METRICS = ("dissolved_oxygen", "total_phosphorus", "water_temperature")
CHUNK = 2_000
# A list's elements are this far apart, and so are the rounds of single messages, in ms.
STEP = 1_000
# PUBACKs are read when so many bytes of them have come: reading each would cost more than publishing.
AT_ONCE = 32_768


def payload(message: int, at: int, seq: int) -> bytes:
    """140 bytes of JSON with three metrics; nothing repeats within a run. `at` in ms, `seq` the device's own count."""
    a, b, c = 5 + message % 4001 / 1000, 0.01 + message % 307 / 10000, 12 + message % 9001 / 1000
    body = f'{{"at":{at},"seq":{seq},"dissolved_oxygen":{a:.9f},"total_phosphorus":{b:.9f},"water_temperature":{c:.9f}'
    return body.encode().ljust(139) + b"}"


def readings_topic(device: str) -> bytes:
    return f"gw/v1/{SITE}/{KIND}/{device}/readings".encode()


def packet(topic: bytes, body: bytes, *, qos: int, number: int) -> bytes:
    """A whole PUBLISH packet."""
    head = struct.pack("!H", len(topic)) + topic
    if qos:
        head += struct.pack("!H", number % 65_535 + 1)
    return bytes([0x30 | qos << 1]) + length_bytes(len(head) + len(body)) + head + body


def packets(
    messages: int, qos: int, end_ms: int, *, devices: int = DEVICES, elements: int = 1, first_round: int = 0
) -> Iterator[bytes]:
    """Devices in turn, a STEP further each round, so that the last round ends at `end_ms`; `elements` > 1: payload
    lists. `first_round`: how many rounds every device has sent before."""
    topics = [readings_topic(f"m-{n}") for n in range(devices)]
    start = end_ms - -(-messages // devices) * elements * STEP
    for m in range(messages):
        round_ = m // devices * elements
        made = (
            payload(m * elements + e, start + (round_ + e) * STEP, first_round + round_ + e) for e in range(elements)
        )
        body = next(made) if elements == 1 else b"[%b]" % b",".join(made)
        yield packet(topics[m % devices], body, qos=qos, number=m)


def connect(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    client = f"load-{time.monotonic_ns()}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(client)) + client
    link.sendall(b"\x10" + length_bytes(len(body)) + body)
    assert link.recv(4)[:2] == b"\x20\x02"
    return link


def chunks_of(stream: Iterable[bytes], size: int) -> Iterator[bytes]:
    pieces = iter(stream)
    while chunk := b"".join(itertools.islice(pieces, size)):
        yield chunk


def publish_at_rate(
    link: socket.socket, *, messages: int, qos: int, rate: float, devices: int, first_round: int
) -> float:
    """In pieces of 10 ms or of one message; a piece that is late is followed by the next at once."""
    topics = [readings_topic(f"m-{n}") for n in range(devices)]
    size = max(1, round(rate / 100))
    begun = time.perf_counter()
    for start in range(0, messages, size):
        ahead = start / rate - (time.perf_counter() - begun)
        if ahead > 0:
            time.sleep(ahead)
        at = time.time_ns() // 1_000_000
        piece = range(start, min(start + size, messages))
        link.sendall(b"".join(_one(topics, m, at, qos, first_round) for m in piece))
    return time.perf_counter() - begun


def _one(topics: list[bytes], message: int, at: int, qos: int, first_round: int) -> bytes:
    round_, device = divmod(message, len(topics))
    return packet(topics[device], payload(message, at, first_round + round_), qos=qos, number=message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--qos", type=int, choices=(0, 1), required=True)
    parser.add_argument("--rate", type=float, help="messages a second; as fast as the socket takes them without")
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--elements", type=int, default=1, help="of a payload list")
    parser.add_argument("--warm", type=int, default=0, help="single messages before ready")
    options = parser.parse_args()
    qos, devices, now = options.qos, options.devices, time.time_ns() // 1_000_000
    span = -(-options.messages // devices) * options.elements * STEP if options.rate is None else 0
    rounds = -(-options.warm // devices)
    warm = list(chunks_of(packets(options.warm, qos, now - span, devices=devices), CHUNK))
    made: list[bytes] = []
    if options.rate is None:
        stream = packets(options.messages, qos, now, devices=devices, elements=options.elements, first_round=rounds)
        made = list(chunks_of(stream, max(1, CHUNK // options.elements)))
    link = connect(options.port)
    if qos:
        threading.Thread(target=discard, args=(link, AT_ONCE), daemon=True).start()
    for chunk in warm:
        link.sendall(chunk)
    print("ready", flush=True)
    sys.stdin.readline()
    if options.rate is None:
        begun = time.perf_counter()
        for chunk in made:
            link.sendall(chunk)
        seconds = time.perf_counter() - begun
    else:
        seconds = publish_at_rate(
            link, messages=options.messages, qos=qos, rate=options.rate, devices=devices, first_round=rounds
        )
    print(f"{seconds:.6f}", flush=True)
    sys.stdin.readline()


def discard(link: socket.socket, at_once: int) -> None:
    """PUBACKs of the broker, until it ends: read, so that it never waits for us, but only so many bytes at a time."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, at_once)
    with suppress(OSError):
        while link.recv(4 * AT_ONCE):
            pass


if __name__ == "__main__":
    main()

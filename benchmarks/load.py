"""Publishes a prepared stream as fast as the socket takes it, or at a rate: a process of its own, bytes made before.

`python -m benchmarks.load --port P --messages N --qos Q [--rate R]`: prints "ready", waits for a line on standard
input, publishes, and prints the seconds it took. MQTT 3.1.1, whose publisher may have any number of packets under way.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

from ingest.wire import length_bytes

DEVICES = 5_000
SITE, KIND = "bench", "water_monitor"
METRICS = ("dissolved_oxygen", "total_phosphorus", "water_temperature")
CHUNK = 2_000


def payload(message: int, at: int) -> bytes:
    """140 bytes of JSON with three metrics; nothing repeats within a run."""
    a, b, c = 5 + message % 4001 / 1000, 0.01 + message % 307 / 10000, 12 + message % 9001 / 1000
    body = (
        f'{{"at":{at},"seq":{message},"dissolved_oxygen":{a:.9f},"total_phosphorus":{b:.9f},"water_temperature":{c:.9f}'
    )
    return body.encode().ljust(139) + b"}"


def packets(messages: int, qos: int, start_ms: int) -> Iterator[bytes]:
    """Whole PUBLISH packets, devices in turn, a second further each round."""
    topics = [f"gw/v1/{SITE}/{KIND}/m-{n}/readings".encode() for n in range(DEVICES)]
    for m in range(messages):
        topic = topics[m % DEVICES]
        head = struct.pack("!H", len(topic)) + topic
        if qos:
            head += struct.pack("!H", m % 65_535 + 1)
        body = head + payload(m, start_ms + m // DEVICES * 1000)
        yield bytes([0x30 | qos << 1]) + length_bytes(len(body)) + body


def connect(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    client = f"load-{time.monotonic_ns()}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(client)) + client
    link.sendall(b"\x10" + length_bytes(len(body)) + body)
    assert link.recv(4)[:2] == b"\x20\x02"
    return link


def publish(link: socket.socket, chunks: list[bytes], rate: float | None) -> float:
    begun = time.perf_counter()
    for i, chunk in enumerate(chunks):
        link.sendall(chunk)
        if rate:
            ahead = (i + 1) * CHUNK / rate - (time.perf_counter() - begun)
            if ahead > 0:
                time.sleep(ahead)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--qos", type=int, choices=(0, 1), required=True)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    made = list(packets(options.messages, options.qos, int(time.time() * 1000)))
    chunks = [b"".join(made[i : i + CHUNK]) for i in range(0, len(made), CHUNK)]
    del made
    link = connect(options.port)
    if options.qos:
        threading.Thread(target=_discard, args=(link,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.readline()
    print(f"{publish(link, chunks, options.rate):.3f}", flush=True)
    sys.stdin.readline()


def _discard(link: socket.socket) -> None:
    """PUBACKs of the broker: read, so that it never waits for us."""
    while link.recv(65536):
        pass


if __name__ == "__main__":
    main()

"""What one message costs between the socket and the batch: `python -m benchmarks.decode`, one JSON object.

The stream of `benchmarks.load`, as a broker passes it on in MQTT 5, is fed in pieces of a socket's size to a link with
the service's decoder. CPU time of the one thread that does it, in µs a message (for lists: a value); the best of the
rounds, since every disturbance only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import version

from benchmarks.load import DEVICES, KIND, METRICS, SITE, Stream
from devices.faults import ClockLimits
from devices.registry import Device, Registry
from ingest import wire
from ingest.decoder import Decoder, UnknownDevices
from ingest.flood import Flood
from ingest.link import Link, Options, Sink
from ingest.pieces import Piece

MALFORMED = (
    b'{"at":1', b"not json", b'{"at":1760000000000,"dissolved_oxygen":"wet"}', b'{"at":"never","dissolved_oxygen":5}',
    b'{"at":1760000000000,"colour":5}', b"\xff\xfe", b'{"at":1,"dissolved_oxygen":5},{"at":2,"dissolved_oxygen":6}',
)  # fmt: skip


class Nothing:
    """A sink that knows every topic and does nothing."""

    def __init__(self) -> None:
        self.numbers = {f"gw/v1/{SITE}/{KIND}/m-{n}/readings".encode(): n + 1 for n in range(DEVICES)}

    def take(self, piece: Piece) -> None:
        pass


def as_passed_on(packet: bytes) -> bytes:
    """The packet in MQTT 5: with an empty list of properties."""
    length, start = wire.read_length(packet, 1)
    payload = start + 2 + int.from_bytes(packet[start : start + 2], "big") + (2 if packet[0] & 0x06 else 0)
    return packet[:1] + wire.length_bytes(length + 1) + packet[start:payload] + b"\x00" + packet[payload:]


def spoiled(stream: Iterable[bytes]) -> Iterator[bytes]:
    """Every tenth payload malformed."""
    for number, packet in enumerate(stream):
        if number % 10:
            yield packet
            continue
        _, start = wire.read_length(packet, 1)
        topic = start + 2 + int.from_bytes(packet[start : start + 2], "big")
        body = packet[start:topic] + MALFORMED[number // 10 % len(MALFORMED)]
        yield packet[:1] + wire.length_bytes(len(body)) + body


def pieces(stream: Iterable[bytes], size: int) -> list[bytes]:
    data = b"".join(as_passed_on(packet) for packet in stream)
    return [data[start : start + size] for start in range(0, len(data), size)]


def decoder() -> Decoder:
    """The service's, with its limits, knowing the devices."""
    registry = Registry()
    for n in range(DEVICES):
        registry.add(Device(0, f"m-{n}", SITE, KIND))
    made = Decoder(
        registry, unknown=UnknownDevices.QUARANTINE, now=lambda: time.time_ns() // 1000,
        first_arrival=lambda *_: None, clock=ClockLimits(None, None), flood=Flood(1_000_000, 60),
    )  # fmt: skip
    made.limiting = True
    return made


def feed(stream: Iterable[bytes], sink: Sink) -> None:
    link = Link(Options("bench", 65_535), wire.V5, sink, lambda: None)
    for piece in stream:
        link.data_received(piece)


def cpu_of(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


async def measure(stream: list[bytes], units: int, rounds: int) -> dict[str, float]:
    """µs a unit: sorting the packets alone, that and reading them, taking the batches, acknowledging."""
    reader, best = decoder(), {"link": float("inf"), "decode": float("inf"), "take": float("inf"), "acknowledge": 0.0}
    for round_ in range(rounds + 1):
        for name, sink in (("link", Nothing()), ("decode", reader)):
            spent = cpu_of(partial(feed, stream, sink))
            if round_:  # in the first the forms are learned
                best[name] = min(best[name], spent)
        packet_ids = list(reader.builder.packet_ids)
        best["take"] = min(best["take"], cpu_of(reader.builder.take))
        best["acknowledge"] = cpu_of(partial(wire.pubacks, packet_ids))
    return {name: round(spent / units * 1e6, 3) for name, spent in best.items()}


async def run(messages: int, rounds: int, size: int) -> dict[str, object]:
    now = time.time_ns() // 1_000_000
    lists = 100
    single = {
        f"qos{qos}": await measure(pieces(Stream(qos).packets(messages, now), size), messages, rounds) for qos in (0, 1)
    }
    spoil = await measure(pieces(spoiled(Stream(0).packets(messages, now)), size), messages, rounds)
    listed = pieces(Stream(0, elements=lists).packets(messages // lists, now), size)
    values = messages // lists * lists * len(METRICS)
    return {
        "us_a_message": {**single, "qos0_a_tenth_malformed": spoil},
        "us_a_value_in_lists_of_100": await measure(listed, values, rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--piece", type=int, default=256 * 1024, help="bytes; a socket gives 256 KiB at most")
    options = parser.parse_args()
    result = asyncio.run(run(options.messages, options.rounds, options.piece))
    result["machine"] = {"python": platform.python_version(), "system": platform.system()}
    result["versions"] = {name: version(name) for name in ("numpy", "msgspec")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""MQTT as bytes: whole packets out of any fragments, and nothing a broker sends can do more than end the link."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import wire
from ingest.link import Link, Options
from ingest.pieces import Piece

Heard = list[tuple[bytes, bytes, int, int]]


def publish(topic: bytes, payload: bytes, *, qos: int, packet_id: int, version: int, properties: bytes = b"") -> bytes:
    body = struct.pack("!H", len(topic)) + topic
    if qos:
        body += struct.pack("!H", packet_id)
    if version == wire.V5:
        body += wire.length_bytes(len(properties)) + properties
    body += payload
    return bytes([wire.PUBLISH | qos << 1]) + wire.length_bytes(len(body)) + body


class Hearing:
    """A sink that knows some topics by number and writes down what it takes."""

    def __init__(self, known: list[bytes]) -> None:
        self.numbers = {topic: number for number, topic in enumerate(dict.fromkeys(known), 1)}
        self.heard: Heard = []

    def take(self, piece: Piece) -> None:
        topics = {number: topic for topic, number in self.numbers.items()}
        strange = {place: (topic, first) for place, topic, first in piece.strange}
        for place, payload in enumerate(piece.payloads):
            packet_id = piece.packet_id(place)
            topic, first = strange.get(place) or (topics[piece.number(place)], 0x32 if packet_id else 0x30)
            self.heard.append((topic, payload, first, packet_id))
        _, ids = piece.columns(0, len(piece.payloads))
        assert ids.tolist() == [piece.packet_id(place) for place in range(len(piece.payloads))]


async def listen(sink: Hearing, pieces: Iterable[bytes], version: int) -> None:
    """A link over a real socket's transport, fed these pieces."""
    ours, theirs = socket.socketpair()
    with theirs:
        link = Link(Options("t", 100), version, sink, lambda: None)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
        for piece in pieces:
            if not transport.is_closing():
                link.data_received(piece)
        transport.abort()
        await asyncio.sleep(0)


def read(data: bytes, cuts: list[int], version: int, known: list[bytes]) -> Heard:
    """What the sink hears when the data comes in these pieces."""
    sink = Hearing(known)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    asyncio.run(listen(sink, [data[a:b] for a, b in itertools.pairwise(places)], version))
    return sink.heard


messages = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=20),
        st.one_of(st.binary(max_size=300), st.integers(16_380, 16_400).map(bytes)),
        st.sampled_from([0, 1]),
        st.integers(1, 65535),
    ),
    max_size=8,
)


@given(messages, st.lists(st.integers(0, 5000), max_size=12), st.sampled_from([wire.V311, wire.V5]), st.booleans())
def test_packets_come_whole_out_of_any_pieces(
    sent: list[tuple[bytes, bytes, int, int]], cuts: list[int], version: int, properties: bool
) -> None:
    # A property: a Payload Format Indicator is skipped whatever it says.
    extra = b"\x01\x01" if version == wire.V5 and properties else b""
    data = b"".join(
        publish(topic, payload, qos=qos, packet_id=packet_id, version=version, properties=extra)
        for topic, payload, qos, packet_id in sent
    )
    expected = [(t, p, wire.PUBLISH | q << 1, i if q else 0) for t, p, q, i in sent]
    assert read(data, cuts, version, [t for t, *_ in sent[::2]]) == expected


@given(st.binary(max_size=200), st.sampled_from([wire.V311, wire.V5]))
def test_bytes_that_are_not_mqtt_end_the_link_and_nothing_else(data: bytes, version: int) -> None:
    heard = read(data, [], version, [b"a"])
    assert all(topic in data and payload in data for topic, payload, _, _ in heard)


@given(st.integers(0, 268_435_455))
def test_a_length_survives_its_bytes(length: int) -> None:
    encoded = wire.length_bytes(length)
    assert wire.read_length(encoded, 0) == (length, len(encoded))


def test_a_length_of_five_bytes_is_refused() -> None:
    with pytest.raises(wire.ProtocolError):
        wire.read_length(b"\xff\xff\xff\xff\x01", 0)


def test_many_acknowledgements_are_one_write() -> None:
    assert wire.pubacks([1, 258]) == b"\x40\x02\x00\x01\x40\x02\x01\x02"


def test_the_session_goes_on_and_the_password_is_not_shown() -> None:
    packet = wire.connect(
        "gw", version=wire.V5, keep_alive=30, receive_maximum=65_535, session_expiry=600, username="u", password=b"p"
    )
    flags = packet[packet.index(b"MQTT") + 5]
    assert flags & 0x02 == 0, "clean start would throw away what waits for us"
    assert flags & 0xC0 == 0xC0
    assert "p'" not in repr(Options("gw", 10, "u", b"p"))


def test_connack_properties_are_read() -> None:
    body = b"\x01\x00\x06\x22\x00\x0a\x13\x00\x14"
    assert wire.read_connack(body, version=wire.V5) == wire.Connack(True, 0, {0x22: 10, wire.SERVER_KEEP_ALIVE: 20})

"""However the stream is cut and read, the rows, refusals, order and acknowledgements are those of packet by packet."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ingest.decoder
import ingest.topics
from devices.batch import Batch, EventRow
from devices.faults import ClockLimits
from devices.instants import DAY, MINUTE
from devices.registry import Device, Registry
from ingest import wire
from ingest.decoder import Decoder, UnknownDevices
from ingest.formats.shapes import Read, Shape
from ingest.link import Link, Options
from tests.ingest.test_wire import publish

NOW = 1_763_700_000_000_000
DEVICES = {
    "ps-1": "pump_station", "ps-2": "pump_station", "wm-1": "water_monitor", "door-1": "door_sensor",
    "cam-1": "camera",
}  # fmt: skip
CLOCK = b"gw/v1/qidu/clock"


def topic(device: str, channel: str = "readings", kind: str | None = None) -> bytes:
    return f"gw/v1/qidu/{kind or DEVICES[device]}/{device}/{channel}".encode()


@dataclass(frozen=True, slots=True)
class Sent:
    topic: bytes
    payload: bytes
    first: int = wire.PUBLISH
    packet_id: int = 0

    def packet(self) -> bytes:
        qos = (self.first & 0x06) >> 1
        whole = publish(self.topic, self.payload, qos=qos, packet_id=self.packet_id, version=wire.V5)
        return bytes([self.first]) + whole[1:]


@dataclass
class Ingest:
    """A decoder, the batches that its clock topic closes, and what is left."""

    batches: list[tuple[Batch, list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry = Registry()
        for name, kind in DEVICES.items():
            self.registry.add(Device(0, name, "qidu", kind))
        self.decoder = Decoder(
            self.registry, unknown=UnknownDevices.QUARANTINE, now=lambda: NOW, clock=ClockLimits(5 * MINUTE, 7 * DAY),
            first_arrival=lambda packet_id, _: NOW - packet_id * 1000 if packet_id % 2 else None,
        )  # fmt: skip
        self.decoder.listeners = lambda heard: self.close if heard == CLOCK else None

    def close(self, _payload: bytes = b"") -> None:
        self.batches.append(self.decoder.builder.take())


def singly(sent: Iterable[Sent]) -> Ingest:
    ingest = Ingest()
    for each in sent:
        ingest.decoder.feed(each.topic, each.payload, each.first, each.packet_id)
    ingest.close()
    return ingest


def in_pieces(sent: Iterable[Sent], cuts: Sequence[int]) -> Ingest:
    """Through a link over a real socket's transport; every piece is large enough to be read together."""
    ingest, data = Ingest(), b"".join(each.packet() for each in sent)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]

    async def listen() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            link = Link(Options("t", 100), wire.V5, ingest.decoder, lambda: None)
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: link, sock=ours)
            for start, end in itertools.pairwise(places):
                link.data_received(data[start:end])
            assert not transport.is_closing()
            transport.abort()
            await asyncio.sleep(0)

    asyncio.run(listen())
    ingest.close()
    return ingest


@pytest.fixture(autouse=True)
def small_pieces_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.decoder, "TOGETHER_BYTES", 1)
    monkeypatch.setattr(ingest.topics, "ALONE", 2)


def rows_of(batch: Batch) -> list[tuple[int, ...]]:
    """Every row; those of one element in order of series (one instant has no order within)."""
    found = zip(
        batch.element.tolist(), batch.series.tolist(), batch.measured_at.tolist(), batch.value.tolist(),
        batch.quality.tolist(), strict=True,
    )  # fmt: skip
    return sorted(found)


def assert_same(one: Ingest, other: Ingest) -> None:
    assert len(one.batches) == len(other.batches)
    for (a, a_ids), (b, b_ids) in zip(one.batches, other.batches, strict=True):
        assert a_ids == b_ids
        assert a.element.tolist() == sorted(a.element.tolist())
        assert b.element.tolist() == sorted(b.element.tolist())
        assert rows_of(a) == rows_of(b)
        for name in ("element_device", "element_received_at", "element_seq"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert {column.dtype for column in (a.series, a.element, b.series, b.element)} == {np.dtype(np.int32)}
        assert a.refused == b.refused
        assert a.events == b.events
        assert a.statuses == b.statuses
        assert a.replies == b.replies
        # One piece never holds two packets of one id that are both unacknowledged: within it there is no order.
        assert sorted(a.arrivals, key=repr) == sorted(b.arrivals, key=repr)
    for name in ("series_metric", "series_device"):
        assert getattr(one.registry, name) == getattr(other.registry, name)
    assert [d.id for d in one.registry.devices] == [d.id for d in other.registry.devices]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


numbers = st.one_of(
    st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0, -1, 3.5])
)
instants: st.SearchStrategy[object] = st.one_of(
    st.integers(NOW // 1000 - 10_000, NOW // 1000 + 10_000),
    st.sampled_from([
        0, -1, 1, 253_402_300_799_999, 253_402_300_800_000, 1 << 80, 1.5e12, "2025-11-21T04:40:00Z", "today", None,
        NOW // 1000 - 864_000_000, NOW // 1000 + 3_600_000, True, [],
    ]),
)  # fmt: skip
counts: st.SearchStrategy[object] = st.one_of(
    st.integers(0, 1000), st.sampled_from([-1, (1 << 63) - 1, 1 << 63, 1.0, "7", None, True, {}])
)
metric = st.sampled_from(["level_inside", "mains_ok", "flow", "ph", "open", "online", "battery", "depth", "x" * 200])
values = st.one_of(numbers, st.booleans(), st.none(), st.text(max_size=5), st.just([1]), st.just({"a": 1}))
good = st.fixed_dictionaries(
    {"at": st.integers(NOW // 1000 - 10_000, NOW // 1000 + 10_000), "level_inside": st.floats(-5, 20)},
    optional={"seq": st.integers(0, 1000)},
)
elements = st.one_of(
    good,
    good,
    st.fixed_dictionaries({}, optional={"at": instants, "seq": counts, "ph": numbers, "flow": values, "open": values}),
    st.dictionaries(metric, values, max_size=3),
    st.fixed_dictionaries(
        {"event": st.sampled_from(["door_opened", "tamper", "boo", 3])},
        optional={"at": instants, "id": st.sampled_from(["e1", 2]), "seq": counts},
    ),
)
documents = st.one_of(
    elements, elements, st.lists(elements, max_size=4), st.lists(good, min_size=2, max_size=4), values
)
# Text that would be taken for something else if payloads were only strung together.
HOSTILE = (
    b"", b" ", b"0", b"0,0", b",", b",0,", b"null", b"{", b"}", b"]", b"[", b"{}", b"[]", b"[[]]", b"[0]", b"\xff\xfe",
    b'{"at":1763700000000,"level_inside":1}, {"at":1763700000000,"level_inside":2}',
    b'{"at":1763700000000,"level_inside":1},0,{"at":1763700000000,"level_inside":2}',
    b'{"at":1763700000000', b',"level_inside":2}', b'"level_inside":2}', b'{"at":1763700000000,"level_inside":',
    b'{"at":1763700000000,"', b'":2}', b'{"at":1763700000000,"level_inside', b'{"at":1763700000000,"level_inside\\',
    b'{"at":1763700000000,"level_inside":1}]', b'[{"at":1763700000000,"level_inside":1}', b'[{"at":1763700000000',
    b'{"at":1763700000000,"level_inside":1}],[{"at":1763700000000,"level_inside":1}',
    b'{"at":1763700000000,"level_inside":NaN}', b'{"at":1763700000000,"level_inside":1e999}',
    b'{"at":1763700000000,"level_inside":1' + b"0" * 400 + b"}",
    b'{"at":1763700000000,"level_inside":1,"level_inside":2}',
    b'\xef\xbb\xbf{"at":1763700000000,"level_inside":1}', b'{"at":1763700000000,"level_inside":1}\x00',
    b'{"level_inside":1,"at":1763700000000}', b' {"at" : 1763700000000 , "level_inside" : 1 } ',
    b'{"id":"c1","ok":true}', b'{"id":7}', b"online", b'"offline"', b'{"state":"online"}',
    nested(5_000), b'{"at":1763700000000,"level_inside":' + nested(2_000) + b"}",
)  # fmt: skip
payloads = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()), good.map(lambda g: json.dumps(g).encode()),
    st.sampled_from(HOSTILE), st.binary(max_size=20),
)  # fmt: skip
topics = st.one_of(
    st.sampled_from([topic("ps-1"), topic("ps-2"), topic("ps-1")]),
    st.sampled_from([
        topic("wm-1"), topic("door-1"), topic("door-1", "events"), topic("cam-1", "events"), topic("ps-1", "status"),
        topic("ps-1", "commands/reply"), topic("ps-1", "commands"), topic("new-1", kind="pump_station"),
        topic("new-2", "commands/reply", kind="pump_station"), topic("ps-1", kind="water_monitor"), CLOCK,
        b"gw/v1/else/clock", b"gw/v1/qidu/spaceship/x/readings", b"gw/v1/\xff", b"", topic("ps-1", "else"),
    ]),
)  # fmt: skip
FIRST = (0x30, 0x30, 0x32, 0x32, 0x3A, 0x31, 0x33, 0x38)
packets = st.builds(
    lambda to, payload, first, packet_id: Sent(to, payload, first, packet_id if first & 0x06 else 0),
    topics, payloads, st.sampled_from(FIRST), st.integers(1, 65_535),
)  # fmt: skip


@given(st.lists(packets, max_size=30), st.lists(st.integers(0, 20_000), max_size=4))
def test_any_cut_of_any_stream_gives_what_packet_by_packet_gives(sent: list[Sent], cuts: list[int]) -> None:
    assert_same(singly(sent), in_pieces(sent, cuts))


def reading(value: float, *, device: str = "ps-1", seq: int = 5) -> Sent:
    return Sent(topic(device), json.dumps({"at": NOW // 1000, "seq": seq, "level_inside": value}).encode())


ONE = b'{"at":1763700000000,"level_inside":1}'


@given(st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=6), st.integers(0, 3))
@example([b"5"], 0)
@example([ONE + b"," + ONE, b'{"at":1763700000000', b'"level_inside":2}'], 0)
@example([ONE + b",0," + ONE], 0)
@example([ONE + b",0," + ONE, b"", b" "], 1)
def test_no_payload_is_taken_for_two_and_no_two_for_one(hostile: list[bytes], every: int) -> None:
    """Among packets whose form is known, so that they are decoded together."""
    known = [Sent(topic("ps-1"), ONE), Sent(topic("ps-2"), ONE)]
    mixed: list[Sent] = []
    for payload in hostile:
        mixed += [Sent(topic("ps-1"), ONE)] * every
        mixed.append(Sent(topic("ps-2"), payload))
    cut = len(b"".join(each.packet() for each in known))
    assert_same(singly([*known, *mixed, *known]), in_pieces([*known, *mixed, *known], [cut]))


def test_packets_sent_again_or_retained_or_with_a_wrong_clock_are_so_among_many_of_a_known_form() -> None:
    known = [Sent(topic("ps-1"), ONE), Sent(topic("wm-1"), b'{"ph":7}')]
    days = [f'{{"at":{NOW // 1000 + hours * 3_600_000},"level_inside":{hours}}}'.encode() for hours in (-240, 0, 1)]
    mixed = [
        Sent(topic("ps-1"), payload, first, 100 * place + first + 1 if first & 0x06 else 0)
        for place, payload in enumerate([*days, b'{"level_inside":3}', ONE])
        for first in sorted(set(FIRST))
    ]
    cut = len(b"".join(each.packet() for each in known))
    together = in_pieces([*known, *mixed], [cut])
    assert_same(singly([*known, *mixed]), together)
    batch = together.batches[0][0]
    assert {refused.reason for refused in batch.refused} == {"retained_without_time"}
    assert {arrival.packet_id // 100 for arrival in batch.arrivals} == {0, 2, 3}


def test_a_payload_beyond_the_limit_is_refused_whatever_its_form() -> None:
    large = Sent(topic("ps-1"), ONE[:-1] + b" " * 600_000 + b"}")
    sent = [Sent(topic("ps-1"), ONE), large, Sent(topic("ps-1"), ONE)]
    together = in_pieces(sent, [len(sent[0].packet()), 100_000, 300_000])
    assert_same(singly(sent), together)
    assert [refused.reason for refused in together.batches[0][0].refused] == ["too_large"]


def test_lists_of_one_form_keep_their_order_and_take_an_instant_each() -> None:
    def listed(device: str, n: int) -> Sent:
        body = [{"at": NOW // 1000 + i, "seq": i, "level_inside": i, "flow": -i} for i in range(n)]
        return Sent(topic(device), json.dumps(body).encode())

    first = [listed("ps-1", 3), listed("ps-2", 2), reading(1.0, device="wm-1")]
    then = [listed("ps-2", 5), reading(1.0, device="wm-1"), listed("ps-1", 100), listed("ps-2", 0), listed("ps-1", 1)]
    cut = len(b"".join(each.packet() for each in first))
    together = in_pieces([*first, *then], [cut])
    assert_same(singly([*first, *then]), together)
    arrived = together.batches[0][0].element_received_at
    assert len(np.unique(arrived)) == len(arrived)


def test_a_device_without_a_count_has_none_and_a_batch_without_any_has_no_column() -> None:
    none = Sent(topic("ps-1"), b'{"at":1763700000000,"level_inside":1}')
    assert singly([none]).batches[0][0].element_seq is None
    batch = singly([none, reading(1.0, seq=7), Sent(topic("ps-1"), b'{"level_inside":1,"seq":9.5}')]).batches[0][0]
    assert batch.element_seq is not None
    assert batch.element_seq.tolist() == [-1, 7, -1]


def test_events_keep_their_elements_among_readings_read_together() -> None:
    known = [reading(1.0)]
    opened = Sent(topic("door-1", "events"), b'[{"event":"door_opened"},{"event":"door_closed"}]')
    mixed = [reading(2.0), opened, reading(3.0), opened, reading(4.0)]
    cut = len(known[0].packet())
    events: tuple[EventRow, ...] = in_pieces([*known, *mixed], [cut]).batches[0][0].events
    assert [event.element for event in events] == [2, 3, 5, 6]


def test_a_device_that_sends_rubbish_is_read_alone_until_it_has_proved_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    read = Shape.read

    def watched(shape: Shape, payloads: Sequence[bytes]) -> Read:
        together.append(len(payloads))
        return read(shape, payloads)

    monkeypatch.setattr(Shape, "read", watched)
    good, rubbish, other = reading(1.0), Sent(topic("ps-1"), b"rubbish"), reading(1.0, device="ps-2")
    pieces = [[good, other], [good, rubbish, other], [good, other], [good, rubbish, other], [good] * 3, [good, other]]
    cuts = list(itertools.accumulate(sum(len(each.packet()) for each in piece) for piece in pieces))
    sent = [each for piece in pieces for each in piece]
    assert_same(singly(sent), in_pieces(sent, cuts[:-1]))
    assert together == [3, 1, 1, 2], "the first is new to it; from the second on ps-2 alone, until ps-1 was good twice"


@pytest.mark.parametrize("read", [singly, lambda sent: in_pieces(sent, [])])
def test_what_a_listener_hears_stands_between_batches(read: Callable[[list[Sent]], Ingest]) -> None:
    sent = [reading(1.0), Sent(CLOCK, b"1"), reading(2.0), reading(3.0), Sent(CLOCK, b"2"), Sent(CLOCK, b"3")]
    assert [batch.value.tolist() for batch, _ in read(sent).batches] == [[1.0], [2.0, 3.0], [], []]

"""One device that floods is limited and counted; its neighbours, and a backlog, are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingest.decoder
from devices.batch import Batch
from devices.registry import Device, Registry
from ingest import wire
from ingest.decoder import Decoder, UnknownDevices
from ingest.flood import Flood
from ingest.pieces import Piece

NOW = 1_763_700_000_000_000


class Seconds:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_then_the_rate_and_a_quiet_minute_gives_the_burst_again() -> None:
    seconds = Seconds()
    flood = Flood(10, 6, elapsed=seconds)
    assert sum(not flood.refuses(3) for _ in range(500)) == 60
    seconds.now += 1
    assert sum(not flood.refuses(3) for _ in range(500)) == 10
    assert not flood.refuses(2_000_000), "another device, whatever its number"
    seconds.now += 60
    assert sum(not flood.refuses(3) for _ in range(500)) == 60


@given(st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=40), st.floats(0, 2)), max_size=6))
def test_many_at_once_are_judged_as_one_by_one(pieces: list[tuple[list[int], float]]) -> None:
    seconds = Seconds()
    at_once, singly = Flood(4, 2, elapsed=seconds), Flood(4, 2, elapsed=seconds)
    for devices, pause in pieces:
        refused = at_once.refused(np.asarray(devices, np.int32))
        expected = [singly.refuses(device) for device in devices]
        assert (refused.tolist() if refused is not None else [False] * len(devices)) == expected
        seconds.now += pause


def topic(device: str) -> bytes:
    return f"gw/v1/qidu/pump_station/{device}/readings".encode()


def sent(*, together: bool, limiting: bool) -> Batch:
    """1,000 messages of a flooder and one each of 20 others, of which 30 of a device may pass at once."""
    registry = Registry()
    for name in ("flooder", *(f"quiet-{n}" for n in range(20))):
        registry.add(Device(0, name, "qidu", "pump_station"))
    seconds = Seconds()
    decoder = Decoder(
        registry, unknown=UnknownDevices.REFUSE, now=lambda: NOW, first_arrival=lambda *_: None,
        flood=Flood(3, 10, elapsed=seconds),
    )  # fmt: skip
    decoder.limiting = limiting
    names = [f"quiet-{n // 50}" if n % 50 == 0 else "flooder" for n in range(1_000)]
    packets = [(topic(name), b'{"at":%d,"level_inside":1}' % (NOW // 1000 + n)) for n, name in enumerate(names)]
    for name in set(names):
        decoder.feed(topic(name), b'{"at":1,"level_inside":1}', wire.PUBLISH, 0)
    seconds.now += 10
    decoder.builder.take()
    if together:
        piece = Piece(bytes(ingest.decoder.TOGETHER_BYTES))
        for to, payload in packets:
            piece.entries.append(decoder.numbers[to])
            piece.payloads.append(payload)
        decoder.take(piece)
    else:
        for to, payload in packets:
            decoder.feed(to, payload, wire.PUBLISH, 0)
    return decoder.builder.take()[0]


@pytest.mark.parametrize("together", [False, True])
def test_the_flooder_is_refused_in_one_row_with_its_count_and_the_quiet_lose_nothing(*, together: bool) -> None:
    batch = sent(together=together, limiting=True)
    per_device = np.bincount(batch.element_device, minlength=21)
    assert per_device[0] == 30
    assert per_device[1:].tolist() == [1] * 20
    (refused,) = batch.refused
    assert (refused.device, refused.reason, refused.count, refused.whole) == (0, "too_fast", 980 - 30, False)


@pytest.mark.parametrize("together", [False, True])
def test_a_backlog_is_no_flood(*, together: bool) -> None:
    batch = sent(together=together, limiting=False)
    assert len(batch.element_device) == 1_000
    assert not batch.refused

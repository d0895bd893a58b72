"""What devices answer, packets that are read again, and what a hostile packet may not do."""

from __future__ import annotations

import json

import pytest

from devices.batch import Batch, Redriven
from ingest import wire
from ingest.columns import KEPT_PAYLOAD, ROW_BYTES
from tests.ingest.test_together import NOW, Ingest, Sent, singly, topic


def redriven(number: int, reason: str = "unknown_metric") -> Redriven:
    return Redriven(number, 0, NOW, reason, 1)


def again(sent: Sent, *others: Sent, reason: str = "unknown_metric", at: int = NOW - 5_000_000) -> Batch:
    ingest = Ingest()
    for number, each in enumerate((sent, *others), 1):
        ingest.decoder.redrive(each.topic, each.payload, at, redriven(number, reason))
    ingest.close()
    return ingest.batches[0][0]


def test_a_packet_read_again_has_come_when_it_came() -> None:
    batch = again(Sent(topic("ps-1"), b'{"level_inside":1}'), Sent(topic("ps-1"), b'[{"level_inside":2},{"flow":3}]'))
    assert batch.measured_at.tolist() == [NOW - 5_000_000, NOW - 4_999_999, NOW - 4_999_998]
    assert batch.element_received_at.tolist() == batch.measured_at.tolist()
    assert [each.id for each in batch.redriven] == [1, 2]
    assert not batch.empty


def test_what_is_refused_again_is_refused_anew_and_named_all_the_same() -> None:
    batch = again(Sent(b"gw/v1/nothing", b"{}"), Sent(topic("ps-1"), b"["), Sent(topic("ps-1"), b'{"depth":1}'))
    assert [each.reason for each in batch.refused] == ["bad_topic", "malformed", "unknown_metric"]
    assert [each.id for each in batch.redriven] == [1, 2, 3]


def test_a_retained_packet_without_a_time_still_says_nothing_of_when() -> None:
    batch = again(Sent(topic("ps-1"), b'{"level_inside":1}'), reason="retained_without_time")
    assert [each.reason for each in batch.refused] == ["retained_without_time"]


def test_a_value_that_is_refused_is_kept_with_its_time() -> None:
    (refused,) = singly([Sent(topic("ps-1"), b'{"depth":3.5,"at":1763700000000,"flow":1}')]).batches[0][0].refused
    assert json.loads(refused.payload) == {"at": 1763700000000, "depth": 3.5}


def test_an_answer_to_a_command_is_taken_whole() -> None:
    answer = b'{"id": "c-1", "ok": true}'
    batch = singly([Sent(topic("ps-1", "commands/reply"), answer)]).batches[0][0]
    (reply,) = batch.replies
    assert (reply.device, reply.id, reply.payload, reply.received_at) == (0, "c-1", answer, NOW)
    assert not batch.empty


@pytest.mark.parametrize("answer", [b'{"id":7}', b"[]", b"", b"\xff", b'{"id":"' + b"x" * 17_000 + b'"}', b"[" * 9_000])
def test_an_answer_that_cannot_be_read_is_refused(answer: bytes) -> None:
    batch = singly([Sent(topic("ps-1", "commands/reply"), answer)]).batches[0][0]
    assert [(each.reason, each.payload) for each in batch.refused] == [("bad_reply", answer)]


def test_nobody_is_registered_by_an_answer() -> None:
    ingest = singly([Sent(topic("new-1", "commands/reply", kind="pump_station"), b'{"id":"c"}')])
    assert [each.reason for each in ingest.batches[0][0].refused] == ["unknown_device"]
    assert ingest.registry.get("new-1") is None


def test_a_list_of_a_quarter_of_a_million_nothings_is_one_refusal() -> None:
    payload = b"[" + b",".join([b"0"] * 200_000) + b"]"
    (refused,) = singly([Sent(topic("ps-1"), payload)]).batches[0][0].refused
    assert (refused.reason, refused.count, len(refused.payload)) == ("malformed", 200_000, KEPT_PAYLOAD)
    assert not refused.whole


def test_refusals_and_elements_without_values_count_towards_the_size_of_a_batch() -> None:
    ingest = Ingest()
    for payload in (b'[{"at":1},{"at":2}]', b'{"at":1,"depth":1}', b"[", b'{"at":1,"flow":1,"level_inside":1}'):
        ingest.decoder.feed(topic("ps-1"), payload, wire.PUBLISH, 0)
    assert len(ingest.decoder.builder) == 4 + 2


def test_what_is_kept_of_payloads_fills_a_batch_by_its_size() -> None:
    """A hundred thousand of the largest would be gigabytes before the socket is paused."""
    decoder, builder = (ingest := Ingest()).decoder, ingest.decoder.builder
    decoder.feed(topic("ps-1"), b"[" * KEPT_PAYLOAD, wire.PUBLISH, 0)
    assert len(builder) == 1 + KEPT_PAYLOAD // ROW_BYTES
    decoder.feed(topic("ps-1", "commands/reply"), b'{"id":"c-1"}', wire.PUBLISH, 0)
    decoder.feed(topic("ps-1", "status"), b"online", wire.PUBLISH, 0)
    assert len(builder) == 3 + KEPT_PAYLOAD // ROW_BYTES
    builder.take()
    assert not len(builder)

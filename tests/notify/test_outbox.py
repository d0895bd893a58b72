"""The outbox: what is claimed, when it is due again, when it is given up."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from devices.instants import HOUR, MINUTE, SECOND
from flow import messages
from flow.outbox import LEASE, Message, bury_unknown, claim, dead_letters, mark_failed, mark_sent
from store.records.database import migrate, open_records, write
from store.records.tables import outbox

NOW = 1_763_721_600_000_000


@pytest.fixture
def records(tmp_path: Path) -> Engine:
    migrate(tmp_path / "records.db")
    return open_records(tmp_path / "records.db")


def post(records: Engine, *keys: str, channel: str = "duty", now: int = NOW) -> None:
    with write(records) as tx:
        messages.post(tx, now, [messages.Message(key, {"zh": "水位", "en": key}, channel) for key in keys])


def keys(claimed: list[Message]) -> list[str]:
    return [message.key for message in claimed]


def test_a_message_is_claimed_once_until_its_lease_ends(records: Engine) -> None:
    post(records, "a", "b")
    first = claim(records, NOW, 10)
    assert [(m.key, m.channel, m.body["zh"], m.attempts) for m in first] == [
        ("a", "duty", "水位", 1),
        ("b", "duty", "水位", 1),
    ]
    assert claim(records, NOW + LEASE - 1, 10) == []
    again = claim(records, NOW + LEASE, 10)
    assert [(m.key, m.attempts) for m in again] == [("a", 2), ("b", 2)]


def test_a_message_of_a_rolled_back_transaction_was_never_there(records: Engine) -> None:
    with records.connect().execution_options(gridwhistle_writes=True) as tx:
        messages.post(tx, NOW, [messages.Message("a", {})])
        tx.rollback()
    assert claim(records, NOW, 10) == []


def test_the_same_key_is_the_same_message(records: Engine) -> None:
    post(records, "a")
    post(records, "a", channel="other")
    assert [(m.key, m.channel) for m in claim(records, NOW, 10)] == [("a", "duty")]


def test_oldest_first_up_to_the_limit_and_only_of_the_channel_asked_for(records: Engine) -> None:
    post(records, "night", channel="night")
    post(records, "first")
    post(records, "second")
    assert keys(claim(records, NOW, 1, channel="duty")) == ["first"]
    assert keys(claim(records, NOW, 10, channel="duty")) == ["second"]
    assert keys(claim(records, NOW, 10)) == ["night"]


def test_what_is_sent_stays_sent(records: Engine) -> None:
    post(records, "a")
    [message] = claim(records, NOW, 10)
    mark_sent(records, NOW, message)
    assert claim(records, NOW + 10 * HOUR, 10) == []
    assert not mark_failed(records, NOW, message, "late news", allowed=12)
    assert claim(records, NOW + 10 * HOUR, 10) == []


def test_failures_wait_twice_as_long_each_time_and_at_most_an_hour(records: Engine) -> None:
    post(records, "a")
    now, waits = NOW, []
    for _ in range(11):
        [message] = claim(records, now, 10)
        assert not mark_failed(records, now, message, "HTTP 500", allowed=12)
        with records.connect() as tx:
            due = tx.execute(select(outbox.c.due_at)).scalar_one()
        assert claim(records, due - 1, 10) == []
        waits.append((due - now) // SECOND)
        now = due
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]


def test_after_the_last_attempt_it_is_a_dead_letter(records: Engine) -> None:
    post(records, "a")
    [message] = claim(records, NOW, 10)
    assert mark_failed(records, NOW, message, "HTTP 404", allowed=0)
    assert claim(records, NOW + 100 * HOUR, 10) == []
    assert [(d.key, d.attempts, d.last_error) for d in dead_letters(records, 10)] == [("a", 1, "HTTP 404")]


def test_a_worker_whose_lease_ran_out_cannot_put_off_the_next_ones_attempt(records: Engine) -> None:
    post(records, "a")
    [slow] = claim(records, NOW, 10)
    [quick] = claim(records, NOW + LEASE, 10)
    mark_failed(records, NOW + LEASE, slow, "timed out", allowed=1)
    assert dead_letters(records, 10) == []
    mark_sent(records, NOW + LEASE, quick)
    assert claim(records, NOW + HOUR, 10) == []


def test_messages_to_channels_nobody_configured_are_dead_at_once(records: Engine) -> None:
    post(records, "a", "b")
    post(records, "c", channel="pager")
    assert bury_unknown(records, NOW + MINUTE, ["duty"]) == 1
    assert bury_unknown(records, NOW + MINUTE, ["duty"]) == 0
    assert [(d.key, d.last_error) for d in dead_letters(records, 10)] == [("c", "no such channel")]
    assert keys(claim(records, NOW + MINUTE, 10)) == ["a", "b"]

"""Messages reach a receiver: at least once, with the same key, whatever happens in between."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from devices.instants import HOUR
from flow import messages
from flow.outbox import LEASE, dead_letters
from notify.channel import Channel
from notify.channels import ChannelError, open_channels
from notify.webhook import Webhook
from notify.worker import Worker
from store.records.database import migrate, open_records, write
from tests.notify.receiver import Receiver, receiving

NOW = 1_763_721_600_000_000


class Wall:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> int:
        return self.at


@pytest.fixture
def records(tmp_path: Path) -> Engine:
    migrate(tmp_path / "records.db")
    return open_records(tmp_path / "records.db")


def post(records: Engine, *keys: str, channel: str = "duty") -> None:
    with write(records) as tx:
        body = {"zh": "圩内水位超限", "en": "Level inside above its limit"}
        messages.post(tx, NOW, [messages.Message(key, body, channel) for key in keys])


@contextmanager
def working(
    records: Engine, channels: Callable[[], Mapping[str, Channel]], *, wall: Wall, attempts: int = 12
) -> Iterator[Callable[[], None]]:
    """A worker on a loop of its own; yields what wakes it."""
    loop, wake = asyncio.new_event_loop(), asyncio.Event()
    started = threading.Event()

    async def run() -> None:
        worker = Worker(records, channels(), wall=wall, wake=wake, attempts=attempts)
        task = asyncio.create_task(worker.run())
        started.set()
        await stop.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    started.wait()

    def call() -> None:
        loop.call_soon_threadsafe(wake.set)

    try:
        yield call
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def eventually(true: Callable[[], object], within_s: float = 10.0) -> None:
    pause = threading.Event()
    for _ in range(int(within_s / 0.02)):
        if true():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen")


def column(records: Engine, name: str) -> list[object]:
    with records.connect() as tx:
        return [row[0] for row in tx.exec_driver_sql(f"select {name} from outbox order by id")]


def test_a_message_arrives_as_agreed_as_soon_as_the_worker_is_woken(records: Engine) -> None:
    with (
        receiving(Receiver()) as receiver,
        working(records, lambda: {"duty": Webhook(receiver.url)}, wall=Wall()) as wake,
    ):
        post(records, "alarm-1-raised")
        wake()
        [got] = receiver.wait_for(1, within_s=0.9)  # less than the worker's own poll
    assert got.body == {
        "key": "alarm-1-raised",
        "channel": "duty",
        "created_at": "2025-11-21T10:40:00Z",
        "message": {"zh": "圩内水位超限", "en": "Level inside above its limit"},
    }
    assert None not in column(records, "sent_at")


def test_what_was_already_there_is_sent_at_start_without_being_woken(records: Engine) -> None:
    post(records, *(f"m{i}" for i in range(30)))
    with receiving(Receiver()) as receiver, working(records, lambda: {"duty": Webhook(receiver.url)}, wall=Wall()):
        assert {got.key for got in receiver.wait_for(30)} == {f"m{i}" for i in range(30)}


def test_stopping_the_worker_lets_it_finish_what_is_under_way(records: Engine) -> None:
    post(records, "a")
    with receiving(Receiver(delay_s=0.5)) as receiver:
        with working(records, lambda: {"duty": Webhook(receiver.url)}, wall=Wall()):
            eventually(lambda: column(records, "attempts") == [1])
        assert None not in column(records, "sent_at")


@pytest.mark.parametrize("status", [500, 503, 408, 429, 302])
def test_a_receiver_in_trouble_gets_it_again_with_the_same_key_and_body(records: Engine, status: int) -> None:
    wall = Wall()
    with (
        receiving(Receiver(answers=[status])) as receiver,
        working(records, lambda: {"duty": Webhook(receiver.url)}, wall=wall),
    ):
        post(records, "a")
        eventually(lambda: column(records, "last_error") == [f"HTTP {status}"])
        wall.at += HOUR
        first, second = receiver.wait_for(2)
        assert (first.key, first.raw) == (second.key, second.raw)
    assert None not in column(records, "sent_at")
    assert dead_letters(records, 10) == []


def test_a_receiver_that_refuses_for_good_is_not_asked_again(records: Engine) -> None:
    wall = Wall()
    with (
        receiving(Receiver(answers=[422])) as receiver,
        working(records, lambda: {"duty": Webhook(receiver.url)}, wall=wall) as wake,
    ):
        post(records, "a")
        receiver.wait_for(1)
        eventually(lambda: dead_letters(records, 10))
        wall.at += 10 * HOUR
        post(records, "b")
        wake()
        assert [got.key for got in receiver.wait_for(2)] == ["a", "b"]
    assert [(d.key, d.last_error) for d in dead_letters(records, 10)] == [("a", "HTTP 422")]


def test_after_the_last_attempt_the_message_is_dead_and_the_next_one_is_sent(records: Engine) -> None:
    wall = Wall()
    with (
        receiving(Receiver(answers=[500, 500, 500])) as receiver,
        working(records, lambda: {"duty": Webhook(receiver.url)}, wall=wall, attempts=3) as wake,
    ):
        post(records, "a")
        for count in (1, 2, 3):
            receiver.wait_for(count)
            eventually(lambda: column(records, "claimed_until") == [None])
            wall.at += HOUR
        eventually(lambda: [d.attempts for d in dead_letters(records, 10)] == [3])
        post(records, "b")
        wake()
        assert receiver.wait_for(4)[-1].key == "b"


def test_a_slow_channel_delays_no_other(records: Engine) -> None:
    with receiving(Receiver(delay_s=3.0)) as slow, receiving(Receiver()) as quick:
        post(records, *(f"s{i}" for i in range(20)), channel="slow")
        post(records, "q", channel="quick")
        channels = {"slow": slow.url, "quick": quick.url}
        with working(records, lambda: {name: Webhook(url) for name, url in channels.items()}, wall=Wall()):
            assert [got.key for got in quick.wait_for(1, within_s=2.0)] == ["q"]


def test_a_receiver_that_is_down_costs_nothing_but_the_wait(records: Engine) -> None:
    with receiving(Receiver()) as receiver:
        gone = receiver.url
    wall = Wall()
    with working(records, lambda: {"duty": Webhook(gone)}, wall=wall):
        post(records, "a")
        eventually(lambda: column(records, "last_error") == ["ConnectError"])
    assert column(records, "sent_at") == [None]


def test_killed_between_sending_and_marking_it_is_sent_again_with_the_same_key(tmp_path: Path, records: Engine) -> None:
    post(records, "a")
    with receiving(Receiver(twice_allowed=True)) as receiver:
        died = subprocess.run(
            [sys.executable, "-c", _DIES_AFTER_SENDING, str(tmp_path / "records.db"), receiver.url, str(NOW)],
            timeout=30,
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        assert len(receiver.got) == 1
        wall = Wall()
        wall.at += LEASE
        with working(records, lambda: {"duty": Webhook(receiver.url)}, wall=wall):
            first, second = receiver.wait_for(2)
    assert (first.key, first.raw) == (second.key, second.raw)
    assert None not in column(records, "sent_at")


_DIES_AFTER_SENDING = textwrap.dedent("""
    import asyncio, os, signal, sys
    from notify.webhook import Webhook
    from notify.worker import Worker
    from store.records.database import open_records

    class Dies(Webhook):
        async def send(self, message):
            await super().send(message)
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        channels = {"duty": Dies(sys.argv[2])}
        await Worker(open_records(sys.argv[1]), channels, wall=lambda: int(sys.argv[3]), wake=asyncio.Event()).run()

    asyncio.run(main())
""")


def test_apprise_sends_title_text_and_key(tmp_path: Path, records: Engine) -> None:
    with receiving(Receiver(path="/apprise")) as receiver:
        (tmp_path / "duty.url").write_text(f"json://127.0.0.1:{receiver.port}/apprise\n")
        with working(records, lambda: open_channels({"duty": f"file:{tmp_path / 'duty.url'}"}, {}), wall=Wall()):
            post(records, "a")
            eventually(lambda: receiver.unwanted)
        [said] = receiver.unwanted  # Apprise's own JSON is not our webhook's
        receiver.unwanted.clear()
    assert "圩内水位超限" in said
    assert "Level inside above its limit\\n[a]" in said


def test_no_url_reaches_log_database_or_message(records: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(Receiver()) as receiver:
        gone = f"http://user:hunter2@127.0.0.1:{receiver.port}/token-hunter2"
    with caplog.at_level(logging.INFO, "notify"), working(records, lambda: {"duty": Webhook(gone)}, wall=Wall()):
        post(records, "a")
        eventually(lambda: column(records, "last_error") == ["ConnectError"])
        eventually(lambda: "not sent" in caplog.text)
    assert "hunter2" not in caplog.text
    with pytest.raises(ChannelError) as caught:
        open_channels({"x": "env:X", "y": "file:/no/such", "z": "env:Z", "w": "env:W"},
                      {"X": "nonsense://hunter2", "Z": " ", "W": "http://hunter2:port/"})  # fmt: skip
    assert "hunter2" not in str(caught.value)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        f"notify.channels.{name}" for name in "xyzw"
    ]

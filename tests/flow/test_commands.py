"""What a device answers to a command: in time, too late, twice, to another's, in a way nobody can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from alerts.commands import CommandState
from alerts.roles import Actor, Role
from devices.batch import Reply
from devices.instants import MINUTE, SECOND
from devices.registry import Device, Registry
from flow.commands import ask, expire, mark_sent, message, save_replies, waiting
from store.records.commands import CommandRow, get_command
from store.records.database import migrate, open_records, write
from store.records.devices import add_devices
from store.records.tables import audit, commands, refused, stream

NOW = 1_763_700_000_000_000
OFFICER = Actor("wang", Role.DUTY_OFFICER)


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for name in ("ps-1", "ps-2"):
        registry.add(Device(0, name, "qidu", "pump_station", first_seen=1))
    return registry


@pytest.fixture
def records(tmp_path: Path, registry: Registry) -> Iterator[Engine]:
    migrate(tmp_path / "records.sqlite")
    records = open_records(tmp_path / "records.sqlite")
    with write(records) as tx:
        add_devices(tx, registry.devices)
    yield records
    records.dispose()


@pytest.fixture
def asked(records: Engine, registry: Registry) -> CommandRow:
    return ask(
        records, NOW, OFFICER, registry, device="ps-1", command="start_pump", arguments={"pump": 2}, lasts=MINUTE,
        why="水位超限",
    )  # fmt: skip


def answer(records: Engine, id_: str, now: int = NOW + SECOND, *, device: int = 0, **body: Any) -> None:
    raw = body.pop("raw", None) or json.dumps({"id": id_, **body}).encode()
    with write(records) as tx:
        save_replies(tx, [Reply(device, id_, now, raw)], now)


def row(records: Engine, id_: str) -> CommandRow:
    with records.connect() as tx:
        found = get_command(tx, id_)
    assert found is not None
    return found


def told(records: Engine) -> list[tuple[str, bool]]:
    with records.connect() as tx:
        bodies = tx.execute(select(stream.c.body).where(stream.c.kind == "command").order_by(stream.c.id)).scalars()
        return [(body["state"], body["late"]) for body in bodies]


def test_asked_sent_answered_and_everyone_is_told(records: Engine, asked: CommandRow) -> None:
    (pending,) = waiting(records, NOW)
    assert pending.topic == "gw/v1/qidu/pump_station/ps-1/commands"
    assert json.loads(message(pending)) == {
        "id": asked.id, "command": "start_pump", "arguments": {"pump": 2}, "expires_at": (NOW + MINUTE) // 1000,
    }  # fmt: skip
    mark_sent(records, NOW + 1, pending)
    assert waiting(records, NOW) == []
    answer(records, asked.id, ok=True, result={"running": 2})
    ended = row(records, asked.id)
    assert (ended.state, ended.sent_at, ended.ended_at) == (CommandState.REPLIED, NOW + 1, NOW + SECOND)
    assert ended.reply == {"id": asked.id, "ok": True, "result": {"running": 2}}
    assert told(records) == [("pending", False), ("sent", False), ("replied", False)]


def test_one_audit_row_says_who_asked_what_and_why(records: Engine, asked: CommandRow) -> None:
    answer(records, asked.id, ok=False, error="联锁")
    assert row(records, asked.id).state == CommandState.FAILED
    with records.connect() as tx:
        (line,) = tx.execute(select(audit).where(audit.c.act == "command_asked")).all()
    assert (line.by, line.subject) == ("wang", "ps-1")
    assert line.why == f'{asked.id} start_pump {{"pump": 2}}: 水位超限'


def test_an_answer_may_come_before_the_command_counts_as_sent(records: Engine, asked: CommandRow) -> None:
    answer(records, asked.id, ok=True)
    mark_sent(records, NOW + 2 * SECOND, asked)
    assert row(records, asked.id).state == CommandState.REPLIED
    assert told(records) == [("pending", False), ("replied", False)]


def test_nobody_answers_and_then_somebody_does(records: Engine, asked: CommandRow) -> None:
    mark_sent(records, NOW, asked)
    assert expire(records, NOW + MINUTE - 1, heard=True) == 0
    assert expire(records, NOW + MINUTE, heard=True) == 1
    assert not row(records, asked.id).late
    answer(records, asked.id, NOW + 2 * MINUTE, ok=True, result=1)
    answer(records, asked.id, NOW + 3 * MINUTE, ok=True, result=2)
    late = row(records, asked.id)
    assert (late.state, late.late, late.ended_at) == (CommandState.EXPIRED, True, NOW + MINUTE)
    assert late.reply is not None
    assert late.reply["result"] == 1
    assert told(records)[-2:] == [("expired", False), ("expired", True)]


def test_what_was_sent_does_not_expire_while_answers_may_wait_unread(records: Engine, asked: CommandRow) -> None:
    mark_sent(records, NOW, asked)
    assert expire(records, NOW + MINUTE, heard=False) == 0
    answer(records, asked.id, NOW + 2 * MINUTE, ok=True)
    assert row(records, asked.id).state == CommandState.REPLIED


def test_what_was_never_sent_expires_without_a_link_and_is_not_sent_then(records: Engine, asked: CommandRow) -> None:
    assert waiting(records, NOW + MINUTE) == []
    assert expire(records, NOW + MINUTE, heard=False) == 1
    assert row(records, asked.id).state == CommandState.EXPIRED


def test_the_first_answer_stands(records: Engine, asked: CommandRow) -> None:
    answer(records, asked.id, ok=True)
    answer(records, asked.id, ok=False)
    assert row(records, asked.id).state == CommandState.REPLIED
    with records.connect() as tx:
        assert tx.execute(select(refused)).all() == []


@pytest.mark.parametrize(
    ("device", "id_", "raw", "reason"),
    [
        (1, None, None, "wrong_device"),
        (0, "unknown", None, "unknown_command"),
        (0, None, b'{"ok": "yes"}', "bad_reply"),
        (0, None, b'{"ok": true, "result": "\\ud800"}', "bad_reply"),
        (0, None, b'{"ok": true, "result": %s}' % (b"9" * 6000), "bad_reply"),
        (0, None, b'{"ok": true, "result": %s1%s}' % (b"[" * 8000, b"]" * 8000), "bad_reply"),
        (0, None, b'{"ok": true, "result": 1e999}', "bad_reply"),
        (0, None, b'{"ok": true, "result": %s1%s}' % (b"[" * 20, b"]" * 20), "bad_reply"),
    ],
)
def test_what_is_no_answer_to_this_command_is_refused_and_kept(
    records: Engine, asked: CommandRow, device: int, id_: str | None, raw: bytes | None, reason: str
) -> None:
    answer(records, id_ or asked.id, device=device, raw=raw, ok=True)
    assert row(records, asked.id).state == CommandState.PENDING
    with records.connect() as tx:
        (kept,) = tx.execute(select(refused)).all()
    assert (kept.reason, kept.device, kept._mapping["count"]) == (reason, device, 0)
    assert kept.topic == f"gw/v1/qidu/pump_station/ps-{device + 1}/commands/reply"


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda t: json.dumps({"ok": True, "result": t}).encode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_can_stop_the_commit_it_comes_in(records: Engine, asked: CommandRow, raw: bytes) -> None:
    answer(records, asked.id, raw=raw)
    found = row(records, asked.id)
    with write(records) as tx:
        kept = tx.execute(select(refused.c.reason)).scalars().all()
        tx.execute(refused.delete())
        tx.execute(commands.update().values(state=CommandState.SENT, ended_at=None, reply=None))
    assert (found.state, kept) == (CommandState.REPLIED, []) or (found.reply, kept) == (None, ["bad_reply"])

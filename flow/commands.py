"""Commands to devices: asked, sent, answered, expired. Every instant here is the wall's, not the rule clock's.

A command is for a device in the real world, and the broker and the device count real seconds: in a replay at sixty
times the speed a minute of waiting must stay a minute. What was asked is committed before it is sent and marked after,
so a crash in between sends it twice, with the same id, and never not at all.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from alerts.commands import CommandState, CommandStep, step
from alerts.refusals import Conflict
from devices.batch import Refused, Reply
from flow.stream import emit
from store.records.commands import CommandRow, change_command, get_command, topic_of
from store.records.refused import add_refused

log = logging.getLogger("gridwhistle.commands")


def save_replies(tx: Connection, replies: Sequence[Reply], now: int) -> None:
    """What devices answered, in the commit of the batch it came in; the same answer again changes nothing.

    An answer that cannot be read, or is to another device's command, is kept among what was refused; it is no reading,
    so the ledger does not count it.
    """
    for reply in replies:
        answer = _read(reply.payload)
        row = get_command(tx, reply.id)
        if answer is None:
            _refuse(tx, now, reply, "bad_reply", 'expected {"id": "…", "ok": true or false}')
        elif row is None:
            _refuse(tx, now, reply, "unknown_command", f"no command has the id {reply.id[:64]!r}")
        elif row.device_number != reply.device:
            _refuse(tx, now, reply, "wrong_device", f"command {reply.id} is {row.device}'s")
        else:
            _take(tx, now, row, answer)


def _take(tx: Connection, now: int, row: CommandRow, answer: Mapping[str, Any]) -> None:
    before = CommandState(row.state)
    happened = CommandStep.CONFIRMED if answer["ok"] else CommandStep.DECLINED
    try:
        to = step(before, happened)
    except Conflict:
        return  # it was answered before
    if row.reply is not None:
        return  # too late, and for the second time
    late = before is CommandState.EXPIRED
    change_command(tx, row.number, [before], state=to.value, reply=dict(answer), ended_at=row.ended_at or now)
    tell_command(tx, now, row, to, late=late)
    log.info("command %s of %s: %s%s", row.id, row.device, to, ", answered too late" if late else "")


def tell_command(tx: Connection, now: int, row: CommandRow, state: CommandState, *, late: bool = False) -> None:
    """On the event stream."""
    body = {"id": row.id, "device": row.device, "kind": row.kind, "command": row.command, "by": row.by, "late": late}
    emit(tx, now, "command", body | {"state": state.value})


def _read(payload: bytes) -> dict[str, Any] | None:
    """The answer, None where it is none that can be kept: JSON of a device may hold what no database takes."""
    try:
        answer = msgspec.json.decode(payload)
        json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("ok"), bool) else None


def _refuse(tx: Connection, now: int, reply: Reply, reason: str, detail: str) -> None:
    topic = f"{topic_of(tx, reply.device)}/reply"
    add_refused(tx, now, [Refused(topic, reply.payload, reason, detail, reply.device, 0)])

"""Commands to devices: asked, sent, answered, expired. Every instant here is the wall's, not the rule clock's.

A command is for a device in the real world, and the broker and the device count real seconds: in a replay at sixty
times the speed a minute of waiting must stay a minute. What was asked is committed before it is sent and marked after,
so a crash in between sends it twice, with the same id, and never not at all.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine

from alerts.commands import OPEN, CommandState, CommandStep, step
from alerts.refusals import Conflict, Invalid, NotFound
from alerts.roles import Actor
from devices.batch import Refused, Reply
from devices.instants import DAY, MILLISECOND, SECOND
from devices.registry import Device, DeviceStatus, Registry
from flow.stream import emit
from store.records.access import write_audit
from store.records.commands import (
    CommandRow,
    add_command,
    change_command,
    count_open,
    get_command,
    lapsed_commands,
    pending_commands,
    topic_of,
)
from store.records.database import write
from store.records.refused import add_refused

log = logging.getLogger("gridwhistle.commands")

LONGEST = 7 * DAY
MOST_ARGUMENTS = 4096  # bytes of JSON
MOST_LEVELS = 20  # of lists and objects inside one another
# Of all devices together; who asks for more has a device that does not answer, or a script that does not stop.
MOST_OPEN = 1000
AT_ONCE = 100

_NAME = re.compile(r"[a-z0-9_]{1,64}")


def ask(  # noqa: PLR0913 - one row
    records: Engine,
    wall: int,
    actor: Actor,
    registry: Registry,
    *,
    device: str,
    command: str,
    arguments: Mapping[str, Any],
    lasts: int,
    why: str,
) -> CommandRow:
    """Ask a device to do something, within `lasts` microseconds. Raises NotAllowed, NotFound, Invalid, Conflict."""
    actor.require("command.send")
    found = _active(registry, device)
    if not _NAME.fullmatch(command):
        raise Invalid("bad_command", "指令名应为 [a-z0-9_]{1,64}", "the name of a command is [a-z0-9_]{1,64}")
    _check_arguments(arguments)
    if not SECOND <= lasts <= LONGEST:
        raise Invalid("bad_expiry_of_command", "有效期应为 1 秒到 7 天", "a command lasts a second to seven days")
    if not why.strip():
        raise Invalid("reason_required", "请填写原因", "a reason is required")
    id_ = secrets.token_hex(12)
    with write(records) as tx:
        if count_open(tx) >= MOST_OPEN:
            zh, en = f"等待应答的指令已达 {MOST_OPEN} 条", f"{MOST_OPEN} commands wait for an answer already"
            raise Conflict("too_many_commands", zh, en)
        add_command(
            tx, id=id_, device=found.number, command=command, arguments=dict(arguments), state=CommandState.PENDING,
            by=actor.name, why=why.strip(), at=wall, expires_at=wall + lasts,
        )  # fmt: skip
        what = f"{command} {json.dumps(arguments, ensure_ascii=False)}" if arguments else command
        write_audit(tx, wall, actor.name, "command_asked", subject=device, why=f"{id_} {what}: {why.strip()}")
        row = get_command(tx, id_)
        assert row is not None
        _tell(tx, wall, row, CommandState.PENDING)
    return row


def waiting(records: Engine, wall: int) -> list[CommandRow]:
    """What is to be sent now, the oldest first: not sent yet and still worth it."""
    with records.connect() as tx:
        return pending_commands(tx, wall, AT_ONCE)


def message(row: CommandRow) -> bytes:
    """What goes to the device."""
    body = {
        "id": row.id,
        "command": row.command,
        "arguments": row.arguments,
        "expires_at": row.expires_at // MILLISECOND,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def mark_sent(records: Engine, wall: int, row: CommandRow) -> None:
    """The broker has it. One that was answered meanwhile stays as it is."""
    with write(records) as tx:
        to = step(CommandState.PENDING, CommandStep.SENT)
        if change_command(tx, row.number, [CommandState.PENDING], state=to, sent_at=wall):
            _tell(tx, wall, row, to)


def expire(records: Engine, wall: int, *, heard: bool) -> int:
    """End what nobody answered in time; how many. While answers may wait unread at the broker (not `heard`) only what
    was never sent ends."""
    states = OPEN if heard else {CommandState.PENDING}
    with records.connect() as tx:
        if not lapsed_commands(tx, wall, states, 1):
            return 0
    with write(records) as tx:
        over = lapsed_commands(tx, wall, states, AT_ONCE)
        for row in over:
            to = step(CommandState(row.state), CommandStep.LAPSED)
            change_command(tx, row.number, states, state=to, ended_at=wall)
            _tell(tx, wall, row, to)
    return len(over)


def save_replies(tx: Connection, replies: Sequence[Reply], now: int) -> None:
    """What devices answered, in the commit of the batch it came in; the same answer again changes nothing.

    An answer that cannot be read, or is to another device's command, is kept among what was refused; it is no reading,
    so the ledger does not count it.
    """
    for reply in replies:
        answer = _read(reply.payload)
        row = get_command(tx, reply.id)
        if answer is None:
            _keep(tx, now, reply, "bad_reply", 'expected {"id": "…", "ok": true or false}')
        elif row is None:
            _keep(tx, now, reply, "unknown_command", f"no command has the id {reply.id[:64]!r}")
        elif row.device_number != reply.device:
            _keep(tx, now, reply, "wrong_device", f"command {reply.id} is {row.device}'s")
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
    _tell(tx, now, row, to, late=late)
    log.info("command %s of %s: %s%s", row.id, row.device, to, ", answered too late" if late else "")


def _tell(tx: Connection, now: int, row: CommandRow, state: CommandState, *, late: bool = False) -> None:
    """On the event stream."""
    body = {"id": row.id, "device": row.device, "kind": row.kind, "command": row.command, "by": row.by, "late": late}
    emit(tx, now, "command", body | {"state": state.value})


def _active(registry: Registry, device: str) -> Device:
    found = registry.get(device)
    if found is None:
        raise NotFound("no_such_device", f"没有设备 {device}", f"there is no device {device}")
    if found.status is not DeviceStatus.ACTIVE:
        raise Conflict("not_active", f"设备 {device} 未启用", f"{device} is {found.status}, not active")
    return found


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    try:
        size = len(json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError) as error:
        raise Invalid("bad_arguments", "参数应为 JSON 对象", "arguments are a JSON object") from error
    if size > MOST_ARGUMENTS or not _is_shallow(dict(arguments)):
        zh = f"参数不能超过 {MOST_ARGUMENTS} 字节、{MOST_LEVELS} 层"
        en = f"arguments have at most {MOST_ARGUMENTS} bytes of JSON, {MOST_LEVELS} levels deep"
        raise Invalid("bad_arguments", zh, en)


def _read(payload: bytes) -> dict[str, Any] | None:
    """The answer, None where it is none that can be kept: JSON of a device may hold what no database takes."""
    try:
        answer = msgspec.json.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    readable = isinstance(answer, dict) and isinstance(answer.get("ok"), bool) and _is_shallow(answer)
    return answer if readable else None


def _is_shallow(value: object, levels: int = MOST_LEVELS) -> bool:
    """Whoever writes or shows it goes down level by level, and must not run out of stack."""
    if not isinstance(value, (dict, list)):
        return True
    inside = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inside)


def _keep(tx: Connection, now: int, reply: Reply, reason: str, detail: str) -> None:
    topic = f"{topic_of(tx, reply.device)}/reply"
    add_refused(tx, now, [Refused(topic, reply.payload, reason, detail, reply.device, 0)])

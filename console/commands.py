"""Commands to one device: a form for those who may, the last ones with what became of them.

Their instants are the wall's, whatever clock the rules follow: a device counts real seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from alerts.commands import CommandState, read_argument
from alerts.refusals import Invalid, NotFound
from console.pages import done, part
from console.places import is_personal
from console.visits import Posted, Signed, SignedVisit, is_fragment
from devices.instants import parse_duration
from devices.registry import Device, DeviceStatus
from flow import commands
from store.records.commands import CommandRow, list_commands

router = APIRouter()

MOST_LINES = 20


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`said` is the device's result or error, `late` that it came after the command had expired,
    `state` is unsent where that expired before the broker had it."""

    id: str
    command: str
    arguments: str
    state: str
    late: bool
    said: str
    by: str
    why: str
    at: int
    ended_at: int | None
    expires_at: int


@dataclass(frozen=True, slots=True)
class Commands:
    """`shown` is false where the device is personal and the visitor may not know when it did what."""

    device: str
    shown: bool
    may_send: bool
    lines: Sequence[CommandLine]


def commands_of(visit: SignedVisit, device: Device) -> Commands:
    shown = not is_personal(device.kind) or visit.allows("person.see")
    with visit.installation.records.connect() as tx:
        rows = list_commands(tx, device.number, limit=MOST_LINES).items if shown else ()
    may_send = visit.allows("command.send") and device.status is DeviceStatus.ACTIVE
    return Commands(device.id, shown, may_send, [_line(row) for row in rows])


@router.get("/devices/{device_id}/commands")
def see_commands(request: Request, visit: Signed, device_id: str) -> Response:
    if not is_fragment(request.headers):
        return RedirectResponse(f"/devices/{device_id}", 303)
    return part(request, visit, "parts/commands.html", commands=commands_of(visit, _device(visit, device_id)), done="")


@router.post("/devices/{device_id}/commands")
async def send_command(
    request: Request,
    visit: Posted,
    device_id: str,
    *,
    command: Annotated[str, Form(max_length=64)] = "",
    arguments: Annotated[str, Form(max_length=commands.MOST_ARGUMENTS)] = "",
    expires: Annotated[str, Form(max_length=16)] = "60s",
    why: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    here = visit.installation

    def act() -> Response:
        commands.ask(
            here.records, here.wall(), visit.actor, here.registry, device=device_id, command=command.strip(),
            arguments=_arguments(arguments), lasts=_lasts(expires), why=why,
        )  # fmt: skip
        here.command_asked()
        here.hub.poke()
        if not is_fragment(request.headers):
            return RedirectResponse(f"/devices/{device_id}", 303)
        message = done(request, visit, "command.asked", command=command)
        view = commands_of(visit, _device(visit, device_id))
        return part(request, visit, "parts/commands.html", commands=view, done=message)

    return await run_in_threadpool(act)


def _device(visit: SignedVisit, device_id: str) -> Device:
    known = visit.installation.registry.get(device_id)
    if known is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    return known


def _line(row: CommandRow) -> CommandLine:
    return CommandLine(
        id=row.id,
        command=row.command,
        arguments=" ".join(f"{name}={_text(value)}" for name, value in row.arguments.items()),
        state="unsent" if row.state == CommandState.EXPIRED and row.sent_at is None and not row.reply else row.state,
        late=row.late,
        said=_said(row.reply or {}),
        by=row.by,
        why=row.why,
        at=row.at,
        ended_at=row.ended_at,
        expires_at=row.expires_at,
    )


def _said(reply: Mapping[str, Any]) -> str:
    said = reply.get("result", reply.get("error"))
    return "" if said is None else _text(said)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _arguments(lines: str) -> dict[str, object]:
    """One `name=value` a line."""
    try:
        return dict(read_argument(line) for line in lines.splitlines() if line.strip())
    except ValueError as error:
        zh, en = "参数每行一个：名称=值", "one argument a line: name=value"
        raise Invalid("bad_arguments", zh, en) from error


def _lasts(text: str) -> int:
    try:
        return parse_duration(text.strip())
    except ValueError as error:
        zh, en = "有效期的写法如 60s、10m、2h", "write how long it lasts as 60s, 10m or 2h"
        raise Invalid("bad_expiry_of_command", zh, en) from error

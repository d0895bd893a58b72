"""Commands to devices: asked, listed, followed to their end. All instants are of the wall."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import Field

from alerts.commands import CommandState
from alerts.refusals import NotFound
from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.privacy import refuse_hidden
from api.problems import describe
from api.shapes import Cursor, In, Instant, Limit, Listed, Name, Note, Out, listed
from devices.instants import SECOND
from devices.registry import Device
from flow import commands
from flow.installation import Installation
from store.records.commands import CommandRow, get_command, list_commands

router = APIRouter(tags=["devices"], responses=describe(401, 403, 404, 422))

Id = Annotated[str, Path(min_length=1, max_length=64)]


class CommandGiven(In):
    command: Annotated[str, Field(pattern="^[a-z0-9_]{1,64}$", examples=["start_pump"])]
    arguments: dict[str, Any] = Field(default_factory=dict, description="At most 4 KiB of JSON")
    expires_s: float = Field(default=60, ge=1, le=commands.LONGEST // SECOND, description="Nobody need answer after")
    why: Note


class Command(Out):
    id: str = Field(description="As on the wire; the device's reply names it")
    device: str
    command: str
    arguments: dict[str, Any]
    state: CommandState
    by: str
    why: str
    at: Instant
    expires_at: Instant
    sent_at: Instant | None = Field(description="When the broker had it")
    ended_at: Instant | None
    reply: dict[str, Any] | None = Field(description="The device's whole answer: id, ok, result, error")
    late: bool = Field(description="It answered after the command had expired")


@router.post(
    "/devices/{device_id}/commands", summary="Send a command / 下发指令", status_code=201, responses=describe(409)
)
def send_command(
    here: Here, caller: Annotated[Actor, Depends(may("command.send"))], device_id: Name, given: CommandGiven
) -> Command:
    """It is sent as soon as there is a link to the broker, and again after a crash, with the same id."""
    row = commands.ask(
        here.records, here.wall(), caller, here.registry, device=device_id, command=given.command,
        arguments=given.arguments, lasts=round(given.expires_s * SECOND), why=given.why,
    )  # fmt: skip
    here.command_asked()
    return _shown(row)


@router.get("/devices/{device_id}/commands", summary="Commands of a device / 指令记录")
def see_commands(
    here: Here, caller: Caller, *, device_id: Name, limit: Limit = 100, cursor: Cursor = None
) -> Listed[Command]:
    """Last asked first. Those of personal devices are for handlers and above."""
    device = _device(here, caller, device_id)
    with here.records.connect() as tx:
        return listed(list_commands(tx, device.number, limit=limit, cursor=cursor), _shown)


@router.get("/devices/{device_id}/commands/{command_id}", summary="One command / 指令详情")
def see_command(here: Here, caller: Caller, device_id: Name, command_id: Id) -> Command:
    device = _device(here, caller, device_id)
    with here.records.connect() as tx:
        row = get_command(tx, command_id)
    if row is None or row.device_number != device.number:
        raise NotFound("no_such_command", f"没有这条指令 {command_id}", f"there is no command {command_id}")
    return _shown(row)


def _device(here: Installation, actor: Actor, device_id: str) -> Device:
    device = here.registry.get(device_id)
    if device is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    refuse_hidden(actor, device)
    return device


def _shown(row: CommandRow) -> Command:
    return Command.model_validate(row)

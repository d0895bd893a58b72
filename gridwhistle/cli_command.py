"""`command`: ask a device to do something, over the running service, and wait for its answer if wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gridwhistle.cli_options import AsJson, Config, Overrides, read_settings
from gridwhistle.console_io import NO, OK, WRONG_USE, answer_json, give_up, say, status

Json = Mapping[str, Any]
_STATES = {
    "pending": "等待下发 waiting for the link", "sent": "已下发 sent", "replied": "已执行 replied",
    "failed": "执行失败 failed", "expired": "已过期，无应答 expired without an answer",
}  # fmt: skip
_UNSENT = "已过期，未曾下发 expired, never sent"
_OPEN = ("pending", "sent")


def command(  # noqa: PLR0913 - one option each
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="设备\n\nId of the device.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="指令名\n\nCommand, as the device knows it.")],
    *,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--arg", metavar="KEY=VALUE", help="参数，值可为 JSON\n\nAn argument; the value may be JSON; repeatable."
        ),
    ] = None,
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="原因，记入审计\n\nReason, for the audit.")
    ] = "由命令行下发 sent from the command line",
    expires: Annotated[
        str, typer.Option("--expires", metavar="60s", help="有效期\n\nNobody need answer after; at most 7d.")
    ] = "60s",
    wait: Annotated[
        bool, typer.Option("--wait", help="等待应答\n\nWait for the answer, or for the end of its time.")
    ] = False,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """向设备下发指令，须有服务在运行。

    Ask a device to do something; the service must be running. It sends the
    command once it has a link to the broker, again after a crash with the
    same id, and keeps the answer. With --wait the status is 0 where the
    device did it, 1 where it could not or nobody answered in time.

    [bold]gridwhistle command ps-1 start_pump --arg pump=2 --why "水位超限" --wait[/bold]
    """
    from alerts.commands import read_argument
    from devices.instants import SECOND, parse_duration

    try:
        lasts = parse_duration(expires) / SECOND
    except ValueError as error:
        raise typer.BadParameter(f"--expires: 应为 60s、10m、2h 之类 {error}") from error
    try:
        given = dict(map(read_argument, arguments or ()))
    except ValueError as error:
        raise typer.BadParameter(f"--arg: 应为 名称=值 {error}") from error
    if not why.strip():
        raise typer.BadParameter("--why: 请填写原因 a reason is required")
    settings = read_settings(config, overrides)
    from gridwhistle.reach import NotDone, WrongRequest, open_running
    from gridwhistle.remote_commands import send_command, until_ended

    body = {"command": name, "arguments": given, "expires_s": lasts, "why": why}
    try:
        with open_running(settings.data_dir) as client:
            found = send_command(client, device, body)
            if wait:
                with status(f"等待应答 waiting for {device}") as told:
                    found = until_ended(client, found, told=lambda state: told(_STATES[state]))
    except WrongRequest as error:
        give_up(str(error), WRONG_USE)
    except NotDone as error:
        give_up(str(error), NO)
    _answer(found, as_json=as_json)
    raise typer.Exit(OK if found["state"] == "replied" or not wait else NO)


def _state(found: Json) -> str:
    unsent = found["state"] == "expired" and found["sent_at"] is None and found["reply"] is None
    return _UNSENT if unsent else _STATES[found["state"]]


def _answer(found: Json, *, as_json: bool) -> None:
    if as_json:
        answer_json(found)
        return
    print(f"{found['id']} · {found['device']} · {found['command']} · {_state(found)}")
    reply = found["reply"]
    if reply is not None:
        said = reply.get("result", reply.get("error"))
        if said is not None:
            print(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False))
    elif found["state"] in _OPEN:
        say(f"有效至 until {found['expires_at']}")

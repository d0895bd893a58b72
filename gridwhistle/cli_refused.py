"""`refused list|show|retry|purge`: what came in and could not be stored."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridwhistle.cli_options import AsJson, Config, Overrides, moments, read_settings, time_given
from gridwhistle.console_io import NO, OK, WRONG_USE, answer_json, answer_table, give_up, progress, say

if TYPE_CHECKING:
    from gridwhistle.refused_packets import Packets
    from gridwhistle.settings import Settings

Json = Mapping[str, Any]
Reason = Annotated[str | None, typer.Option("--reason", metavar="R", help="拒收理由\n\nSuch as rejected_device.")]
Device = Annotated[str | None, typer.Option("--device", metavar="D", help="设备\n\nOf this device.")]
All = Annotated[bool, typer.Option("--all", help="全部\n\nAll of them.")]
IDS_AT_ONCE = 500
_HEX_BYTES = 16
_LEFT = {
    "cut": "未保留全部字节 not all bytes kept",
    "status": "状态消息只说明当时 a status says how a device was then",
    "timeless": "来时没有时间 came without a time",
}


def list_refused(
    *,
    reason: Reason = None,
    device: Device = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="T", help="从何时起，如 -24h、2025-07-01\n\nArrived since: -24h, 2025-07-01."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="每页条数\n\nItems on a page.")] = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="C", help="上一页给出的游标\n\nWhere the page before ended.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """列出拒收的数据，最近的在前。

    List what was refused, newest first; works whether or not the service
    is running.

    [bold]gridwhistle refused list --config gridwhistle.toml[/bold]

    [bold]gridwhistle refused list --reason unknown_metric --since -24h --config gridwhistle.toml[/bold]
    """
    _check_reason(reason)
    settings = read_settings(config, overrides)
    from gridwhistle.refused_packets import Chosen

    with _packets(settings) as packets:
        at = _time(settings, packets, since, "--since")
        found = packets.page(Chosen(reason=reason, device=device, since=at), limit=limit, cursor=cursor)
    if as_json:
        answer_json(found)
        return
    shown = moments(settings)
    from rich.markup import escape

    columns = ("编号 id", "时间 at", "理由 reason", "设备 device", "计数 count", "字节 bytes", "说明 detail")
    rows = [
        (p["id"], shown(p["at"]), _reason(p["reason"]), p["device"], p["count"], len(_bytes(p)), escape(_detail(p)))
        for p in found["items"]
    ]
    answer_table("", columns, rows)
    if found["next"] is not None:
        say(f"还有更多 more: --cursor {found['next']}")


def show(
    number: Annotated[int, typer.Argument(metavar="ID", min=1, help="编号\n\nNumber of the packet.")],
    *,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """看一条拒收的数据：主题、理由、内容。

    Show one refused packet: topic, reason, and its payload as text or as
    hex where it is none. Of a personal device nothing is shown.

    [bold]gridwhistle refused show 17 --config gridwhistle.toml[/bold]
    """
    settings = read_settings(config, overrides)
    with _packets(settings) as packets:
        found = packets.one(number)
    if as_json:
        answer_json(found)
        return
    payload = _bytes(found)
    print(f"{found['id']} · {moments(settings)(found['at'])} · {_reason(found['reason'])}")
    print(f"主题 topic: {_printable(found['topic']) or '—'}")
    print(f"设备 device: {found['device'] or '—'}")
    print(f"说明 detail: {_detail(found) or '—'}")
    print(f"计数 counted: {found['count']}")
    if found["masked"]:
        print("个人设备，内容不显示 about a personal device: not shown")
        return
    print(f"内容 payload: {len(payload)} 字节 bytes{'' if found['whole'] else '，未保留全部 not all bytes kept'}")
    print("\n".join(_dump(payload)))


def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="编号\n\nNumbers of packets.", show_default=False)
    ] = None,
    *,
    reason: Reason = None,
    device: Device = None,
    every: All = False,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """重新处理拒收的数据，须有服务在运行。

    Read refused packets again, once a format, a rule or a device is mended;
    the service must be running. Each goes the way of every reading, with
    the time it came. Exit status 1 if any was refused again or could not
    be read again.

    [bold]gridwhistle refused retry 17 18 --config gridwhistle.toml[/bold]

    [bold]gridwhistle refused retry --reason rejected_device --config gridwhistle.toml[/bold]
    """
    if sum((bool(ids), reason is not None or device is not None, every)) != 1:
        give_up(
            "请给出编号，或 --reason、--device，或 --all give numbers, or --reason and --device, or --all", WRONG_USE
        )
    _check_reason(reason)
    settings = read_settings(config, overrides)
    said = {name: value for name, value in (("reason", reason), ("device", device)) if value is not None}
    numbers = list(dict.fromkeys(ids or ()))
    bodies: list[Json] = [{"ids": numbers[n : n + IDS_AT_ONCE]} for n in range(0, len(numbers), IDS_AT_ONCE)]
    bodies = bodies or [said or {"all": True}]
    from gridwhistle.reach import NotDone, WrongRequest, open_running
    from gridwhistle.refused_packets import read_again

    try:
        with open_running(settings.data_dir) as client, progress("重新处理 reading again") as told:
            found = read_again(
                client, bodies, lambda done, waiting: told(done / max(1, len(numbers) or done + waiting))
            )
    except WrongRequest as error:
        give_up(str(error))
    except NotDone as error:
        give_up(str(error), NO)
    if as_json:
        answer_json(found.as_json())
    else:
        print(f"已处理 taken: {found.taken}")
        for name, count in found.again.most_common():
            print(f"再次拒收 refused again: {count} {_reason(name)}")
        for name, count in found.left.most_common():
            print(f"无法重新处理 left: {count} {_LEFT.get(name, name)}")
    raise typer.Exit(NO if found.again or found.left else OK)


def purge(
    *,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="T", help="在此之前，如 -30d\n\nArrived before: -30d, 2025-07-01."),
    ] = None,
    reason: Reason = None,
    device: Device = None,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="不再询问\n\nDo not ask.")] = False,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """清除保留的拒收数据；台账中的计数不变。

    Throw kept refused packets away. That they were refused stays in the
    ledger; who did it stands in the audit.

    [bold]gridwhistle refused purge --before -30d --yes --config gridwhistle.toml[/bold]
    """
    narrowed = any(value is not None for value in (before, reason, device))
    if narrowed == every:
        give_up("请给出 --before、--reason、--device，或 --all give --before, --reason, --device, or --all", WRONG_USE)
    _check_reason(reason)
    settings = read_settings(config, overrides)
    if not yes:
        if not sys.stdin.isatty():
            give_up("此处无人可问，请加 --yes nobody to ask here: add --yes", WRONG_USE)
        typer.confirm("清除后无法重新处理，继续？ They cannot be read again afterwards. Go on?", abort=True, err=True)
    from gridwhistle.refused_packets import Chosen

    with _packets(settings) as packets:
        at = _time(settings, packets, before, "--before")
        gone = packets.purge(Chosen(reason=reason, device=device, before=at))
    if as_json:
        answer_json({"purged": gone})
    else:
        print(f"已清除 purged: {gone}")


@contextmanager
def _packets(settings: Settings) -> Iterator[Packets]:
    """Ends the command with status 2 for what makes no sense, 1 for what could not be done."""
    from gridwhistle.reach import NotDone, WrongRequest
    from gridwhistle.refused_packets import open_packets

    try:
        with open_packets(settings.data_dir) as packets:
            yield packets
    except WrongRequest as error:
        give_up(str(error))
    except NotDone as error:
        give_up(str(error), NO)


def _time(settings: Settings, packets: Packets, text: str | None, option: str) -> int | None:
    from gridwhistle.times import now_of

    return time_given(settings, text, option, now=lambda: now_of(packets.reached, settings.clock.source))


def _check_reason(name: str | None) -> None:
    """A usage mistake for one that there is not, with the nearest."""
    from console.texts import TEXTS
    from devices.documents import nearest

    known = [key.removeprefix("refused.") for key in TEXTS if key.startswith("refused.") and key != "refused.title"]
    if name is not None and name not in known:
        near = nearest(name, known).removeprefix("; nearest: ")
        hint = f"；最接近的是 {near}" if near else "，见 docs/glossary.md"
        said = f"; nearest: {near}" if near else ", see docs/glossary.md"
        raise typer.BadParameter(f"--reason: 没有拒收理由 {name}{hint} there is no such reason{said}")


def _reason(name: str) -> str:
    """The machine name, and before it the Chinese word where there is one."""
    from console.texts import TEXTS

    zh, _ = TEXTS.get(f"refused.{name}", ("", ""))
    return f"{zh} {name}".strip()


def _bytes(packet: Json) -> bytes:
    return base64.b64decode(packet["payload_base64"])


def _detail(packet: Json) -> str:
    return "个人设备 personal" if packet["masked"] else _printable(packet["detail"])


def _printable(text: str) -> str:
    """Control and direction characters as escapes: what strangers send must not rearrange a terminal."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _dump(payload: bytes) -> list[str]:
    """Text where it is text, else offset and bytes."""
    try:
        text = payload.decode()
        if all(c.isprintable() or c in "\t\n\r" for c in text):
            return text.splitlines()
    except UnicodeDecodeError:
        pass
    return [f"{n:06x}  {payload[n : n + _HEX_BYTES].hex(' ')}" for n in range(0, len(payload), _HEX_BYTES)]

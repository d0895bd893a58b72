"""`ledger`: what became of everything that was received, and the stores counted again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridwhistle.cli_options import AsJson, Config, Overrides, moments, read_settings, time_given
from gridwhistle.console_io import NO, OK, answer_json, answer_table, give_up, say, status

if TYPE_CHECKING:
    from gridwhistle.ledger_files import Books
    from gridwhistle.settings import Settings

Json = Mapping[str, Any]
_WITH_REASONS = {"refused": "refused_by", "flagged": "flagged_by"}


def ledger(
    *,
    device: Annotated[str | None, typer.Option("--device", metavar="D", help="设备\n\nOf this device.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="T", help="从何时起，默认一天\n\nFrom; default: the last day.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="T", help="到何时前，默认现在\n\nBefore; default: now.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="重新清点存储并核对\n\nCount the stores again and compare.")
    ] = False,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """收发台账：收到的每个值去了哪里，按设备和小时。

    The ledger: what became of every value and event that was received, by
    device and hour of arrival: received = stored + duplicate + replaced +
    refused. Works whether or not the service is running, and after it was
    killed. T is 2025-07-01, 2025-07-01T08:00 (of the site),
    2025-07-01T08:00+08:00 or -24h.

    With --verify the stores are counted again, device by device, against
    stored less deleted; exit status 1 on any difference.

    [bold]gridwhistle ledger --from -24h --config gridwhistle.toml[/bold]

    [bold]gridwhistle ledger --device ps-1 --from 2025-07-01 --to 2025-07-02 --json[/bold]

    [bold]gridwhistle ledger --verify --config gridwhistle.toml[/bold]
    """
    settings = read_settings(config, overrides)
    from gridwhistle.ledger_files import open_books
    from gridwhistle.reach import NotDone, WrongRequest

    # Verified is what is stored at all: the table only where a span of it was asked for too.
    listed = not verify or start is not None or end is not None
    found: dict[str, Any] = {}
    try:
        with open_books(settings.data_dir) as books:
            if listed:
                found |= _read(settings, books, device, start, end)
            if verify:
                with status("核对台账 verifying the ledger") as told:
                    found["verified"] = books.verify(device=device, told=told)
    except WrongRequest as error:
        give_up(str(error))
    except NotDone as error:
        give_up(str(error), NO)
    if as_json:
        answer_json(found)
    else:
        if listed:
            _print(settings, found)
        if verify:
            _print_verified(found["verified"])
    raise typer.Exit(OK if not verify or found["verified"]["ok"] else NO)


def _read(settings: Settings, books: Books, device: str | None, start: str | None, end: str | None) -> dict[str, Any]:
    """Every page of the span: items, total, from and to."""
    from gridwhistle.times import now_of

    def at(text: str | None, option: str) -> int | None:
        return time_given(settings, text, option, now=lambda: now_of(books.reached, settings.clock.source))

    begins, ends = at(start, "--from"), at(end, "--to")
    first = page = books.page(device=device, start=begins, end=ends, cursor=None)
    items = list(page["items"])
    with status("读取台账 reading the ledger") as told:
        while page["next"] is not None:
            told(f"读取台账 reading the ledger: {len(items):,}")
            page = books.page(device=device, start=begins, end=ends, cursor=page["next"])
            items += page["items"]
    return {"from": first["from"], "to": first["to"], "items": items, "total": first["total"]}


def _print(settings: Settings, found: Json) -> None:
    from console.texts import TEXTS
    from flow.ledger import COLUMNS

    shown = moments(settings, "minutes")
    words = [f"{TEXTS[f'ledger.{name}'][0]}\n{name}" for name in COLUMNS]
    rows: list[Sequence[object]] = [
        (shown(row["hour"]), row["device"] or "—", *(row[name] or "" for name in COLUMNS)) for row in found["items"]
    ]
    total = found["total"]
    rows.append(("合计 sum", "", *(total[name] for name in COLUMNS)))
    answer_table(f"{shown(found['from'])} – {shown(found['to'])}", ("小时\nhour", "设备\ndevice", *words), rows)
    for column, key in _WITH_REASONS.items():
        if total[key]:
            told = " · ".join(f"{_reason(column, reason)} {count:,}" for reason, count in total[key].items())
            print(f"{TEXTS[f'ledger.{column}'][0]} {column}: {told}")


def _print_verified(found: Json) -> None:
    said = f"{found['devices']:,} 台设备 devices, {found['stored']:,} 个值与事件 values and events"
    if found["ok"]:
        print(f"台账与存储一致 the stores have what the ledger says: {said}")
        return
    columns = ("设备 device", "台账 ledger", "实有 counted", "相差 difference")
    rows = [(d["device"] or "—", d["ledger"], d["counted"], d["counted"] - d["ledger"]) for d in found["differences"]]
    answer_table("", columns, rows)
    say(f"台账与存储不一致 the stores do not have what the ledger says: {len(rows)} / {said}")


def _reason(column: str, name: str) -> str:
    from console.texts import TEXTS

    zh, _ = TEXTS.get(f"{column}.{name}", ("", ""))
    return f"{zh} {name}".strip()

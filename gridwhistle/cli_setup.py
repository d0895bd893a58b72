"""`init`, `check` and `doctor`: making a configuration, every mistake in it, what is wrong around it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gridwhistle.cli_options import AsJson, Config, Overrides
from gridwhistle.console_io import NO, OK, WRONG_USE, answer_json, console, give_up, progress, say


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="新建的目录\n\nFolder to make.")],
    books: Annotated[
        str | None,
        typer.Option(
            "--books",
            metavar="NAMES",
            help="规则书，以逗号分隔\n\nRule books to take, separated by commas: "
            "air, camera, device-health, door, equipment, lake, polder, pond, rain, sewage, surface-water.",
        ),
    ] = None,
) -> None:
    """新建一套带注释的设置、规则与乡镇文件。

    Make a commented configuration, rules and a town to start from.
    Nothing that is there already is overwritten.

    [bold]gridwhistle init my-town[/bold]

    [bold]gridwhistle init my-town --books polder,door[/bold]

    [bold]gridwhistle check my-town/gridwhistle.toml[/bold]
    """
    from gridwhistle.starter import UnknownBook, write_starter

    try:
        made = write_starter(folder, [name.strip() for name in books.split(",")] if books else ())
    except UnknownBook as error:
        give_up(f"没有这本规则书 no such rule book: {error}", WRONG_USE)
    except FileExistsError as error:
        give_up(f"{error.filename} 已存在，未改动任何文件 exists already; nothing was changed")
    except OSError as error:
        give_up(str(error))
    for path in made:
        print(path)
    say(f"接下来 next:\n  gridwhistle check {folder / 'gridwhistle.toml'}")
    if books:
        say(f"  gridwhistle test-rules {folder / 'scenarios'}")
    say(f"  gridwhistle run --config {folder / 'gridwhistle.toml'} --embedded-broker")


def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="设置文件\n\nSettings file (TOML).")],
    as_json: AsJson = False,
) -> None:
    """检查设置、规则、乡镇，列出全部错误。

    Check settings, rules, town and categories, and tell every mistake.
    Each mistake comes as file:line:column; the exit status is 1 if there
    is any. Warnings are no mistakes.

    [bold]gridwhistle check my-town/gridwhistle.toml[/bold]
    """
    from gridwhistle.checking import check_all

    checked = check_all(config)
    if as_json:
        answer_json({
            "ok": not checked.mistakes,
            "mistakes": [asdict(mistake) for mistake in checked.mistakes],
            "warnings": [asdict(warning) for warning in checked.warnings],
            "rules": checked.rules, "devices": checked.devices, "grids": checked.grids,
        })  # fmt: skip
    else:
        for mistake in checked.mistakes:
            print(mistake)
        for warning in checked.warnings:
            print(f"{warning} (注意 warning)")
        if not checked.mistakes:
            print(
                f"没有错误 no mistakes: {checked.rules} 条规则 rules, {checked.devices} 台设备 devices, "
                f"{checked.grids} 个网格 grids"
            )
    raise typer.Exit(NO if checked.mistakes else OK)


_MARKS = {"ok": "[green]好 ok  [/green]", "warn": "[yellow]注意 warn[/yellow]", "fail": "[red]故障 fail[/red]"}


def doctor(
    config: Config = None,
    overrides: Overrides = None,
    broker_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Mosquitto 的配置文件\n\nMosquitto's configuration: what it keeps, what outlives it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """体检：哪里不对、怎么办。

    What is wrong here, and what to do. Looks at the broker and its limits
    (it publishes 1,200 small messages to a topic of its own to see what
    the broker keeps for an absent subscriber), the stores, the disk and
    whether what is to be kept fits on it, the clock, the versions. The exit
    status is 1 if anything fails; a warning is no failure.

    [bold]gridwhistle doctor --config gridwhistle.toml[/bold]
    """
    import asyncio

    from gridwhistle.doctor import examine
    from gridwhistle.findings import Level

    with progress("体检 examining") as done:
        findings = asyncio.run(examine(config, overrides or (), done, broker_config=broker_config))
    failed = any(finding.level is Level.FAIL for finding in findings)
    if as_json:
        answer_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
        raise typer.Exit(NO if failed else OK)
    from rich.markup import escape

    out = console()
    for finding in findings:
        out.print(f"{_MARKS[finding.level]} {escape(finding.name)}: {escape(finding.found)}")
        if finding.todo:
            out.print(f"       → {escape(finding.todo)}")
    raise typer.Exit(NO if failed else OK)

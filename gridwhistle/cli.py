"""The command line: one command a task, each saying by example what it is for.

Commands import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gridwhistle import cli_recorded, cli_service, cli_setup, cli_users

app = typer.Typer(
    name="gridwhistle",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # they would show passwords
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"gridwhistle {version('gridwhistle')}")
        raise typer.Exit


@app.callback()
def gridwhistle(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="版本 Show the version.")
    ] = False,
) -> None:
    """吹哨：从一条读数到告警，再到办结的工单。 From a reading to an alarm to a verified work order.

    先看演示 See it work:  [bold]gridwhistle demo[/bold]

    自己的站点 Your own site:  [bold]gridwhistle init my-town[/bold]  →  [bold]gridwhistle check
    my-town/gridwhistle.toml[/bold]  →  [bold]gridwhistle run --config my-town/gridwhistle.toml[/bold]

    先用历史数据试规则 Try rules on recorded data first:  [bold]gridwhistle backtest --help[/bold]

    退出状态 Exit status: 0 正常 ok, 1 答案为否 the answer is no, 2 用法有误 used wrongly.
    """


users = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="用户 People who may sign in: add, list.")
app.add_typer(users, name="users")

app.command("demo")(cli_service.demo)
app.command("run")(cli_service.run)
app.command("replay")(cli_recorded.replay)
app.command("backtest")(cli_recorded.backtest)
users.command("add")(cli_users.add)
users.command("list")(cli_users.list_all)
app.command("init")(cli_setup.init)
app.command("check")(cli_setup.check)
app.command("doctor")(cli_setup.doctor)


def main() -> None:
    app()


if __name__ == "__main__":
    main()

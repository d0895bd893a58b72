"""The command line: one command a task, each saying by example what it is for.

Commands import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gridwhistle import (
    cli_backup,
    cli_command,
    cli_explain,
    cli_ledger,
    cli_recorded,
    cli_refused,
    cli_rules,
    cli_service,
    cli_setup,
    cli_simulate,
    cli_users,
)

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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="版本\n\nShow the version.")
    ] = False,
) -> None:
    """吹哨：从一条读数到告警，再到结案的工单。

    From a reading to an alarm to a verified work order.

    先看演示 See it work:

      [bold]gridwhistle demo[/bold]

    自己的站点 Your own site:

      [bold]gridwhistle init my-town[/bold]
      [bold]gridwhistle check my-town/gridwhistle.toml[/bold]
      [bold]gridwhistle run --config my-town/gridwhistle.toml[/bold]

    先用历史数据试规则 Try rules on recorded data first:

      [bold]gridwhistle backtest --help[/bold]

    退出状态 Exit status: 0 正常 ok, 1 答案为否 no, 2 用法有误 wrong use.
    """


refused = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="拒收的数据。\n\nWhat came in and could not be stored."
)
app.add_typer(refused, name="refused", short_help="拒收 Refused packets: list, show, retry, purge")
users = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="可以登录的人。\n\nPeople who may sign in.")
app.add_typer(users, name="users", short_help="用户 People who may sign in: add, list")

# One line each in the list of commands, short enough for 80 columns: rich cuts Chinese that would have to be wrapped.
app.command("demo", short_help="演示 A pretend township in front of the whole service")(cli_service.demo)
app.command("run", short_help="运行 Run the service")(cli_service.run)
app.command("simulate", short_help="模拟 A pretend township over MQTT")(cli_simulate.simulate)
app.command("replay", short_help="重放 Publish a recorded file over MQTT")(cli_recorded.replay)
app.command("test-rules", short_help="测试规则 Do rules raise what scenario files say")(cli_rules.check_scenarios)
app.command("backtest", short_help="回测 Which alarms would rules have raised")(cli_rules.backtest)
app.command("suggest", short_help="建议 What would quieten a rule that chatters")(cli_rules.suggest)
app.command("explain", short_help="为何 Why a rule fired or stayed silent")(cli_explain.explain)
app.command("command", short_help="指令 Ask a device to do something")(cli_command.command)
app.command("ledger", short_help="台账 What became of everything received; --verify")(cli_ledger.ledger)
app.command("backup", short_help="备份 Copy the installation while it runs")(cli_backup.backup)
app.command("restore", short_help="恢复 Put a backup into an empty data folder")(cli_backup.restore)
app.command("init", short_help="新建 Make a configuration, rules and a town to start from")(cli_setup.init)
app.command("check", short_help="检查 Tell every mistake in a configuration")(cli_setup.check)
app.command("doctor", short_help="体检 What is wrong here, and what to do")(cli_setup.doctor)
refused.command("list", short_help="列出 List them")(cli_refused.list_refused)
refused.command("show", short_help="查看 Show one")(cli_refused.show)
refused.command("retry", short_help="重新处理 Read them again")(cli_refused.retry)
refused.command("purge", short_help="清除 Throw them away")(cli_refused.purge)
users.command("add", short_help="添加 Add a user")(cli_users.add)
users.command("list", short_help="列出 List the users")(cli_users.list_all)


def main() -> None:
    app()


if __name__ == "__main__":
    main()

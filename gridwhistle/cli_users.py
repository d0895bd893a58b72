"""`users add` and `users list`: through the running service's API, or in the files where none is running."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from alerts.roles import Role
from gridwhistle.cli_options import AsJson, Config, Overrides, read_settings
from gridwhistle.console_io import NO, answer_json, answer_table, give_up, say


def add(
    name: Annotated[str, typer.Argument(help="用户名\n\nUser name.")],
    *,
    role: Annotated[
        Role,
        typer.Option(help="角色\n\nOne of viewer, handler, checker, duty_officer, admin.", show_choices=True),
    ],
    display_name: Annotated[str, typer.Option(help="姓名\n\nName to show.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="从标准输入读密码\n\nRead the password from standard input.")
    ] = False,
    config: Config = None,
    overrides: Overrides = None,
) -> None:
    """添加用户，服务运行与否都可以。

    Add a user; works whether or not the service is running.

    At a terminal the password is asked for; left empty, or without a
    terminal, one is made and printed once.

    [bold]gridwhistle users add wang.min --role handler --config gridwhistle.toml[/bold]

    [bold]gridwhistle users add wang.min --role handler --password-stdin < password.txt[/bold]
    """
    settings = read_settings(config, overrides)
    given = _read_password() if password_stdin else _ask_password()
    from gridwhistle.people import open_people, random_password
    from gridwhistle.reach import NotDone

    password = given or random_password()
    try:
        with open_people(settings.data_dir) as people:
            people.add(name=name, role=role, password=password, display_name=display_name)
    except NotDone as error:
        give_up(str(error), NO)
    say(f"已添加 added: {name} ({role})")
    if not given:
        say("密码只显示这一次 the password is shown this once:")
        print(password)


def list_all(config: Config = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """列出用户。

    List the users.

    [bold]gridwhistle users list --config gridwhistle.toml[/bold]
    """
    settings = read_settings(config, overrides)
    from gridwhistle.people import open_people
    from gridwhistle.reach import NotDone

    try:
        with open_people(settings.data_dir) as people:
            found = people.everyone()
    except NotDone as error:
        give_up(str(error), NO)
    if as_json:
        answer_json([asdict(person) for person in found])
        return
    columns = ("用户 name", "角色 role", "姓名 shown as", "停用 disabled")
    answer_table("", columns, [(p.name, p.role, p.display_name, "是 yes" if p.disabled else "") for p in found])


def _read_password() -> str:
    line = sys.stdin.readline()
    if not line.strip():
        give_up("标准输入没有密码 no password on standard input")
    return line.rstrip("\r\n")


def _ask_password() -> str:
    """Empty where there is nobody to ask."""
    if not sys.stdin.isatty():
        return ""
    return str(
        typer.prompt(
            "密码（留空则自动生成） Password (empty: one is made)",
            default="",
            show_default=False,
            hide_input=True,
            confirmation_prompt=True,
            err=True,
        )
    )

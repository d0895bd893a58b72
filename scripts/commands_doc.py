"""Prints docs/commands.md from the command line itself: `python scripts/commands_doc.py > docs/commands.md`.

A test compares the two, so the page cannot teach an option that is not there.
"""

from __future__ import annotations

import inspect
from typing import Any

import typer.main

from gridwhistle.cli import app

HEAD = """# 命令 Commands

<!-- Made by scripts/commands_doc.py from the commands' own --help; do not edit by hand. -->

答案在标准输出，其余一概在标准错误。 The answer is on standard output, everything else on standard error; so
`gridwhistle … --json | jq` works whatever a command has to say besides.

退出状态 Exit status: `0` 正常 ok, `1` 答案为否 the answer is no, `2` 用法有误 used wrongly.

设置 Settings: [settings.md](settings.md).
"""


def sections(command: Any, path: str) -> list[str]:
    """The command and those below it; typer's commands are not typed."""
    if hasattr(command, "commands"):
        found: list[str] = []
        for name, below in command.commands.items():
            found += sections(below, f"{path} {name}")
        return found
    return [section(command, path)]


def section(command: Any, path: str) -> str:
    lines = [f"## `{path}`", ""]
    for paragraph in inspect.cleandoc(command.help).split("\n\n"):
        example = paragraph.startswith("[bold]") and paragraph.endswith("[/bold]")
        lines += [f"    {bare(paragraph)}" if example else code(paragraph), ""]
    rows = [row(option) for option in command.params if option.name != "help"]
    if rows:
        lines += ["| | | 默认 default |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def row(option: Any) -> str:
    metavar = option.metavar or ""
    named = option.param_type_name == "option"
    name = f"`{option.opts[0]}{' ' + metavar if metavar else ''}`" if named else f"`{metavar or option.name}`"
    text = " ".join((option.help or "").split("\n\n"))
    cells = (name, text, default(option))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def default(option: Any) -> str:
    if option.required:
        return "必需 required"
    if isinstance(option.show_default, str):
        return f"`{option.show_default}`"
    if option.default in {None, False, ""} or callable(option.default):
        return ""
    return f"`{option.default}`"


def code(text: str) -> str:
    return " ".join(text.split()).replace("[bold]", "`").replace("[/bold]", "`")


def bare(text: str) -> str:
    return text.replace("[bold]", "").replace("[/bold]", "")


def page() -> str:
    return "\n".join([HEAD, *sections(typer.main.get_command(app), "gridwhistle")])


if __name__ == "__main__":
    print(page(), end="")

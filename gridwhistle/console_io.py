"""What commands print: the answer on standard output, everything else on standard error, Chinese first.

So `gridwhistle … --json | jq` works whatever a command has to say besides.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

OK, NO, WRONG_USE = 0, 1, 2
UNCUT = 1_000


def console(*, stderr: bool = False) -> Console:
    """Made when needed: rich takes a noticeable part of the time `--help` has."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A remark for the person: never part of the answer."""
    print(text, file=sys.stderr, flush=True)


def give_up(text: str, status: int = WRONG_USE) -> NoReturn:
    """Say why, and end with this status: 1 the answer is no, 2 used wrongly."""
    say(text)
    raise typer.Exit(status)


def answer_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def answer_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", title_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out = console()
    if not out.is_terminal:
        out.width = UNCUT  # a file or a pipe has no width: there, no cell is cut
    out.print(table)


@contextmanager
def progress(text: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error for long work, fed the part done (0 to 1); nothing where nobody looks."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    err = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error for work without an end, fed what to say; nothing where nobody looks."""
    err = console(stderr=True)
    if not err.is_terminal:
        yield lambda _: None
        return
    with err.status(text) as line:
        yield line.update

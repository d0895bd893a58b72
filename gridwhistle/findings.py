"""What an examination finds: one line a matter, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"  # works, and will hurt some day
    FAIL = "fail"  # does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` and `todo` are for people, Chinese first; `todo` is empty where there is nothing to do."""

    name: str
    level: Level
    found: str
    todo: str = ""


def ok(name: str, found: str) -> Finding:
    return Finding(name, Level.OK, found)


def warn(name: str, found: str, todo: str) -> Finding:
    return Finding(name, Level.WARN, found, todo)


def fail(name: str, found: str, todo: str) -> Finding:
    return Finding(name, Level.FAIL, found, todo)

"""A rule as it is written in YAML, before its conditions are read.

YAML 1.1 reads on, off, yes and no as true and false and 1:30 as ninety: such values are named, never guessed at.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from devices.documents import Model, nearest
from devices.instants import format_duration, parse_duration
from devices.kinds import KINDS
from rules.expression import MODES
from rules.rule import NO_GAP, Priority
from rules.tokens import MAX_DURATION

MAX_RULES = 10_000
MAX_LEVELS = 20
MAX_REPEAT = 32
SERVICE_PREFIX = "gw-"
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REPEAT = re.compile(r"\s*([0-9]{1,4})\s+of\s+([0-9]{1,4})\s*")


def _text(value: Any) -> Any:
    if value is None:
        raise ValueError("expected text, found nothing")
    if isinstance(value, bool):
        raise ValueError(
            "expected text; YAML reads yes, no, on, off, true and false as a truth value: put it in quotes"
        )
    if isinstance(value, (int, float)):
        raise ValueError(f"expected text, found the number {value}: put it in quotes")
    return value


def _duration(value: Any) -> Any:
    if isinstance(value, (int, float)):
        raise ValueError("expected a duration with its unit such as 0s, 90s, 15m, 1h30m or 2d, found a bare value")
    if not isinstance(value, str):
        raise ValueError("expected a duration such as 15m, written as text")
    span = parse_duration(value) if len(value) <= 40 else MAX_DURATION + 1
    if span > MAX_DURATION:
        raise ValueError(f"a duration is at most {format_duration(MAX_DURATION)}")
    return span


def _duration_or_none(value: Any) -> Any:
    return NO_GAP if value == "none" else _duration(value)


def _priority(value: Any) -> Priority:
    known = [str(each) for each in Priority]
    if not isinstance(value, str) or value not in known:
        near = nearest(value, known) if isinstance(value, str) else ""
        raise ValueError(f"expected one of {', '.join(known)}, found {value!r}{near}")
    return Priority(value)


def _repeat(value: Any) -> tuple[int, int]:
    found = _REPEAT.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"expected so many of so many readings such as 3 of 5, found {value!r}")
    times, readings = int(found[1]), int(found[2])
    if not 1 <= times <= readings <= MAX_REPEAT:
        raise ValueError(f"expected k of n with k at least 1, k at most n and n at most {MAX_REPEAT}, found {value!r}")
    return times, readings


def _modes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("expected a list of modes such as [flood_season]")
    for name in value:
        if name not in MODES:
            raise ValueError(f"unknown mode {name!r}{nearest(str(name), MODES)}; one of {', '.join(MODES)}")
    return tuple(dict.fromkeys(value))


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=2000)]
Condition = Annotated[str, BeforeValidator(_text)]
Span = Annotated[int, BeforeValidator(_duration)]
SpanOrNone = Annotated[int | None, BeforeValidator(_duration_or_none)]
Severity = Annotated[Priority, BeforeValidator(_priority)]


class NameEntry(Model):
    zh: Text
    en: str = ""


class AppliesToEntry(Model):
    kind: Text | None = None
    devices: list[Text] | None = None
    grids: list[Text] | None = None
    tags: list[Text] | None = None

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in KINDS:
            raise ValueError(f"unknown kind {value!r}{nearest(value, KINDS)}; one of {', '.join(KINDS)}")
        return value


class OrderEntry(Model):
    category: Text


class LevelEntry(Model):
    """One of the `levels` of a rule; `for` is a word of Python, hence `hold`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    priority: Severity
    when: Condition
    hold: Annotated[Span, Field(alias="for")] = 0
    clear: Annotated[str | None, BeforeValidator(_text)] = None
    name: NameEntry | None = None


class RuleEntry(Model):
    """One rule. With `levels` it has no `when`, `for`, `clear` and `priority` of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    id: Text
    name: NameEntry | None = None
    applies_to: AppliesToEntry = Field(default_factory=AppliesToEntry)
    when: Annotated[str | None, BeforeValidator(_text)] = None
    hold: Annotated[Span, Field(alias="for")] = 0
    clear: Annotated[str | None, BeforeValidator(_text)] = None
    levels: list[LevelEntry] | None = None
    repeat: Annotated[tuple[int, int] | None, BeforeValidator(_repeat)] = None
    keep_for: Span = 0
    only_in: Annotated[tuple[str, ...], BeforeValidator(_modes)] = ()
    suppresses: list[Text] | None = None
    max_age: SpanOrNone = None
    max_gap: SpanOrNone = None
    priority: Severity = Priority.MEDIUM
    order: OrderEntry | None = None

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError("expected lower-case letters, digits, - and _, such as polder-inside-high")
        if value.startswith(SERVICE_PREFIX):
            raise ValueError(f"names that start with {SERVICE_PREFIX!r} belong to the service's own alarms")
        return value

    @field_validator("levels")
    @classmethod
    def _few(cls, value: list[LevelEntry] | None) -> list[LevelEntry] | None:
        if value is not None and not 1 <= len(value) <= MAX_LEVELS:
            raise ValueError(f"a rule has 1 to {MAX_LEVELS} levels, this has {len(value)}")
        return value


class RuleFile(Model):
    rules: Annotated[list[RuleEntry], Field(max_length=MAX_RULES)]

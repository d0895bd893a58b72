"""The rule book: YAML files to rules, refused whole with every mistake told at its file, line and column.

YAML 1.1 reads on, off, yes and no as true and false and 1:30 as ninety: such values are named, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from devices.documents import Document, DocumentError, Mistake, Model, Path, check, parse
from devices.instants import format_duration, parse_duration
from devices.kinds import KINDS
from rules.checking import Vocabulary, check_condition, kinds_with, vocabulary
from rules.expression import Event, Expression, leaves, series_names
from rules.language import MAX_DURATION, ExpressionError, Slip, nearest
from rules.language import parse as parse_expression
from rules.rule import NO_GAP, AppliesTo, Priority, Rule

MAX_RULES = 10_000
SERVICE_PREFIX = "gw-"
_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
T = TypeVar("T")


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


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=2000)]
Span = Annotated[int, BeforeValidator(_duration)]
SpanOrNone = Annotated[int | None, BeforeValidator(_duration_or_none)]


class _Name(Model):
    zh: Text
    en: str = ""


class _AppliesTo(Model):
    kind: Text | None = None
    devices: list[Text] | None = None
    grids: list[Text] | None = None
    tags: list[Text] | None = None

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in KINDS:
            raise ValueError(f"unknown kind {value!r}{nearest(value, list(KINDS))}; one of {', '.join(KINDS)}")
        return value


class _Order(Model):
    category: Text


class RuleEntry(Model):
    """One rule as written; `for` is a word of Python, hence `hold`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)

    id: Text
    name: _Name | None = None
    applies_to: _AppliesTo = Field(default_factory=_AppliesTo)
    when: Annotated[str, BeforeValidator(_text)]
    hold: Annotated[Span, Field(alias="for")] = 0
    clear: Annotated[str | None, BeforeValidator(_text)] = None
    max_age: SpanOrNone = None
    max_gap: SpanOrNone = None
    priority: Priority = Priority.MEDIUM
    order: _Order | None = None

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError("expected lower-case letters, digits, - and _, such as polder-inside-high")
        if value.startswith(SERVICE_PREFIX):
            raise ValueError(f"names that start with {SERVICE_PREFIX!r} belong to the service's own alarms")
        return value


class RuleFile(Model):
    rules: Annotated[list[RuleEntry], Field(max_length=MAX_RULES)]


@dataclass(frozen=True)
class RuleBook:
    """The rules in the order of their files and lines; `files` is the text they were read from."""

    rules: Mapping[str, Rule]
    files: Mapping[str, str]

    @cached_property
    def timed(self) -> bool:
        """Some rule is judged by the clock too."""
        return any(rule.timed for rule in self.rules.values())


def load(files: Mapping[str, str]) -> RuleBook:
    """The book of these files (name: content). Raises DocumentError with every mistake of every file."""
    mistakes: list[Mistake] = []
    rules: dict[str, Rule] = {}
    where: dict[str, Mistake] = {}
    for file, text in files.items():
        try:
            document = parse(text, file)
        except DocumentError as error:
            mistakes += error.mistakes
            continue
        for index, entry in _entries(document, mistakes):
            place = document.mistake(("rules", index, "id"), f"rule {entry.id!r} stands twice")
            if entry.id in where:
                first = where[entry.id]
                mistakes.append(Mistake(place.file, place.line, place.column,
                                        f"{place.message}, first at {first.file}:{first.line}"))  # fmt: skip
            where.setdefault(entry.id, place)
            reader = _Reader(document, text.splitlines(), index, mistakes)
            rule = reader.rule(entry)
            if rule is not None:
                rules[entry.id] = rule
    if mistakes:
        raise DocumentError(mistakes)
    return RuleBook(rules, dict(files))


def _entries(document: Document, mistakes: list[Mistake]) -> list[tuple[int, RuleEntry]]:
    """The entries of a file; where one has a mistake the others are read all the same, so that theirs are told too."""
    try:
        return list(enumerate(check(document, RuleFile).rules))
    except DocumentError as error:
        mistakes += error.mistakes
    raw = document.data.get("rules") if isinstance(document.data, dict) else None
    found: list[tuple[int, RuleEntry]] = []
    for index, each in enumerate(raw if isinstance(raw, list) else []):
        with suppress(ValidationError):
            found.append((index, RuleEntry.model_validate(each)))
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    """One entry to its rule; mistakes go to the list."""

    document: Document
    lines: list[str]
    index: int
    mistakes: list[Mistake]

    def rule(self, entry: RuleEntry) -> Rule | None:
        words = vocabulary(entry.applies_to.kind)
        when = self._condition("when", entry.when, words)
        clear = self._condition("clear", entry.clear, words) if entry.clear is not None else None
        if when is None or (clear is None and entry.clear is not None):
            return None
        self._cross_check(entry, when, clear)
        name = entry.name
        return Rule(
            id=entry.id,
            when=when,
            clear=clear,
            name_zh=name.zh if name else entry.id,
            name_en=(name.en or name.zh) if name else entry.id,
            applies_to=AppliesTo(
                entry.applies_to.kind,
                _set(entry.applies_to.devices),
                _set(entry.applies_to.grids),
                _set(entry.applies_to.tags),
            ),
            hold_us=entry.hold,
            max_age_us=entry.max_age,
            max_gap_us=entry.max_gap,
            priority=entry.priority,
            order_category=entry.order.category if entry.order else None,
            when_text=entry.when.strip(),
            clear_text=(entry.clear or "").strip(),
            text=self._written(),
        )

    def _condition(self, key: str, text: str, words: Vocabulary) -> Expression | None:
        try:
            tree = parse_expression(text)
            slips: tuple[Slip, ...] = tuple(check_condition(tree, words))
        except ExpressionError as error:
            tree, slips = None, error.slips
        for slip in slips:
            self.mistakes.append(self._at(key, text, slip))
        return None if slips else tree

    def _cross_check(self, entry: RuleEntry, when: Expression, clear: Expression | None) -> None:
        names = [*series_names(when), *(series_names(clear) if clear else ())]
        if not kinds_with(names):
            self._say("when", f"no kind of device has all of {', '.join(dict.fromkeys(names))}")
        if entry.hold and any(isinstance(leaf, Event) for leaf in leaves(when)):
            self._say(
                "for", 'event(…) lasts no time, so it cannot hold: leave `for` out, or use count(event("x"), 10m)'
            )

    def _say(self, key: str, message: str) -> None:
        path: Path = ("rules", self.index, key)
        self.mistakes.append(self.document.mistake(path, message))

    def _at(self, key: str, text: str, slip: Slip) -> Mistake:
        """The very character, where the expression stands on one line as it is; else the key and the position."""
        place = self.document.mistake(("rules", self.index, key), slip.message)
        line = self.lines[place.line - 1] if 0 < place.line <= len(self.lines) else ""
        start = line.find(text, place.column + len(key)) if "\n" not in text else -1
        if start >= 0:
            return Mistake(place.file, place.line, start + slip.column, f"{key}: {slip.message}")
        return Mistake(place.file, place.line, place.column, f"{key}, character {slip.column}: {slip.message}")

    def _written(self) -> str:
        """The lines of this rule as they stand in the file; all its lines where two rules share one."""
        places = self.document.places
        first = places[("rules", self.index)][0]
        last = places.get(("rules", self.index + 1), (len(self.lines) + 1, 0))[0]
        return "\n".join(line.rstrip() for line in self.lines[first - 1 : max(last - 1, first)]).strip("\n")


def _set(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)

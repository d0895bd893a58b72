"""Scenario files: what a duty officer writes to say which alarms a story must raise, read with every mistake's place.

Several scenarios may stand in one file: as YAML documents, or as a list `scenarios:` whose file may say rules, calendar
and zone for all of them. Rules and a calendar within the file are read by their own readers from the text as it stands,
so their mistakes keep line and column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from devices.documents import Document, DocumentError, Mistake, Path, check, nearest, parse
from rules.book import RuleBook, load
from rules.calendar import EMPTY, Calendar
from rules.calendar_file import read_calendar
from rules.scenario import Scenario
from rules.scenario_models import Common, ScenarioEntry, ScenarioFile
from rules.scenario_story import Story

# Files by the path that a scenario gives: one, or all of a folder. Raises DocumentError, OSError.
Read = Callable[[str], Mapping[str, str]]

# A document with none of these is something else: a rule book, a town.
MARKS = frozenset({"scenarios", "expect", "series", "values", "events"})
_BREAK = re.compile(r"^---(?=\s|$)", re.MULTILINE)


def parse_scenarios(text: str, file: str, read: Read) -> list[Scenario]:
    """The scenarios of a file's text; `read` reads what they name. Raises DocumentError with every mistake of all."""
    mistakes: list[Mistake] = []
    found: list[Scenario] = []
    shelf = _Shelf(read)
    for part in _documents(text):
        try:
            document = parse(part, file)
            if document.data is not None:
                found += _Reader(document, part, shelf, mistakes).scenarios()
        except DocumentError as error:
            mistakes += error.mistakes
    if not mistakes and not found:
        mistakes.append(Mistake(file, 1, 1, "no scenario in it; expected name, rules, device, series and expect"))
    if mistakes:
        raise DocumentError(mistakes)
    return found


def has_scenarios(text: str, file: str) -> bool:
    """Whether it means to hold scenarios, right or wrong: what a folder has beside them is not read."""
    for part in _documents(text):
        try:
            data = parse(part, file).data
        except DocumentError:
            return any(re.search(rf"^\s*(- )?{mark}:", text, re.MULTILINE) for mark in ("scenarios", "expect"))
        if isinstance(data, dict) and MARKS & data.keys():
            return True
    return False


def _documents(text: str) -> Iterator[str]:
    """Each YAML document with as many empty lines before it as stand there, so that its lines are those of the file."""
    starts = [0, *(found.start() for found in _BREAK.finditer(text))]
    for start, stop in zip(starts, [*starts[1:], len(text)], strict=True):
        part = text[start:stop]
        if part.startswith("---"):
            part = "   " + part[3:]
        if part.strip():
            yield "\n" * text.count("\n", 0, start) + part


@dataclass(slots=True)
class _Shelf:
    """What scenarios share is read once."""

    read: Read
    books: dict[str, RuleBook] = field(default_factory=dict)
    calendars: dict[str, Calendar] = field(default_factory=dict)

    def book(self, path: str) -> RuleBook:
        if path not in self.books:
            self.books[path] = load(self.read(path))
        return self.books[path]

    def calendar(self, path: str) -> Calendar:
        if path not in self.calendars:
            ((name, text),) = self.read(path).items()
            self.calendars[path] = read_calendar(text, name)
        return self.calendars[path]


class _Reader:
    """One document to its scenarios; mistakes go to the list."""

    def __init__(self, document: Document, text: str, shelf: _Shelf, mistakes: list[Mistake]) -> None:
        self._document, self._text, self._shelf, self._mistakes = document, text, shelf, mistakes
        self._root = yaml.compose(text, Loader=yaml.SafeLoader)

    def scenarios(self) -> Iterator[Scenario]:
        data = self._document.data
        if isinstance(data, dict) and "scenarios" in data:
            file = check(self._document, ScenarioFile)
            common: Common = file
            entries: list[tuple[Path, ScenarioEntry]] = [
                (("scenarios", index), entry) for index, entry in enumerate(file.scenarios)
            ]
        else:
            common, entries = Common(), [((), check(self._document, ScenarioEntry))]
        for place, entry in entries:
            scenario = self._scenario(place, entry, common)
            if scenario is not None:
                yield scenario

    def _scenario(self, place: Path, entry: ScenarioEntry, common: Common) -> Scenario | None:
        known = len(self._mistakes)
        book = self._given("rules", place, entry, common, self._rules)
        calendar = self._given("calendar", place, entry, common, self._calendar)
        if entry.rules is None and common.rules is None:
            self._say((*place, "rules"), "rules: is required, a list of rules or the name of a file or folder")
        if book is not None and entry.only is not None:
            book = self._only(book, entry.only, (*place, "only"))
        story = Story(self._document, place, entry, book=book, zone=entry.zone or common.zone)
        scenario = story.scenario(calendar or EMPTY)
        self._mistakes += story.mistakes
        return scenario if len(self._mistakes) == known else None

    def _given(
        self, key: str, place: Path, entry: Common, common: Common, reader: Callable[[Path, Any], Any]
    ) -> Any | None:
        """The scenario's own, else the file's; None where there is none, or a mistake in it."""
        for path, holder in (((*place, key), entry), ((key,), common)):
            value = getattr(holder, key)
            if value is not None:
                try:
                    return reader(path, value)
                except DocumentError as error:
                    self._mistakes += [m for m in error.mistakes if m not in self._mistakes]
                except OSError as error:
                    self._say(path, f"{value}: cannot be read: {error.strerror or error}")
                return None
        return None

    def _rules(self, path: Path, value: Any) -> RuleBook:
        if isinstance(value, str):
            return self._shelf.book(value)
        if not isinstance(value, list):
            raise DocumentError([self._document.mistake(path, "rules: expected a list of rules, or a name")])
        key, node = self._node(path)
        return load({self._document.file: self._written(key, node)})

    def _calendar(self, path: Path, value: Any) -> Calendar:
        if isinstance(value, str):
            return self._shelf.calendar(value)
        _, node = self._node(path)
        return read_calendar(self._written(node, node), self._document.file)

    def _only(self, book: RuleBook, wanted: list[str], path: Path) -> RuleBook:
        unknown = [(place, name) for place, name in enumerate(wanted) if name not in book.rules]
        for place, name in unknown:
            self._say((*path, place), f"there is no rule {name!r}{nearest(name, book.rules)}")
        if unknown:
            return book
        return replace(book, rules={name: rule for name, rule in book.rules.items() if name in wanted})

    def _node(self, path: Path) -> tuple[yaml.Node, yaml.Node]:
        """Key and value of what the path leads to."""
        key = node = self._root
        assert node is not None
        for step in path:
            if isinstance(node, yaml.MappingNode):
                key, node = next((k, v) for k, v in node.value if k.value == step)
            else:
                assert isinstance(node, yaml.SequenceNode)
                key = node = node.value[int(step)]
        assert key is not None
        return key, node

    def _written(self, first: yaml.Node, last: yaml.Node) -> str:
        """The text from one to the other at its very line and column, with nothing before or behind it."""
        begin, end = first.start_mark, last.end_mark
        return "\n" * begin.line + " " * begin.column + self._text[begin.index : end.index]

    def _say(self, path: Path, message: str) -> None:
        self._mistakes.append(self._document.mistake(path, message))

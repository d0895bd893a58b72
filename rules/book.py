"""The rule book: YAML files to rules, refused whole with every mistake told at its file, line and column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from devices.documents import Document, DocumentError, Mistake, Path, check, nearest, parse
from devices.kinds import KINDS
from rules.agreeing import disagreements
from rules.checking import Vocabulary, check_condition, vocabulary
from rules.entries import LevelEntry, RuleEntry, RuleFile
from rules.expression import Expression
from rules.language import ExpressionError, Slip
from rules.language import parse as parse_expression
from rules.locating import place_of
from rules.rule import AppliesTo, Level, Rule

# The service's own alarm that a group rule may hold back beside those of the book (alerts for a device that is silent).
SILENCE = "gw-silence"


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
    readers: list[tuple[_Reader, RuleEntry]] = []
    for file, text in files.items():
        try:
            document = parse(text, file)
        except DocumentError as error:
            mistakes += error.mistakes
            continue
        lines = text.splitlines()
        for index, entry in _entries(document, mistakes):
            reader = _Reader(document, lines, index, mistakes)
            if entry is None:
                reader.refused(document.data["rules"][index])
                continue
            place = document.mistake(("rules", index, "id"), f"rule {entry.id!r} stands twice")
            if entry.id in where:
                first = where[entry.id]
                mistakes.append(Mistake(place.file, place.line, place.column,
                                        f"{place.message}, first at {first.file}:{first.line}"))  # fmt: skip
            where.setdefault(entry.id, place)
            readers.append((reader, entry))
            rule = reader.rule(entry)
            if rule is not None:
                rules[entry.id] = rule
    known = [*where, SILENCE]
    for reader, entry in readers:
        reader.suppressed(entry, known)
    if mistakes:
        raise DocumentError(mistakes)
    return RuleBook(rules, dict(files))


def _entries(document: Document, mistakes: list[Mistake]) -> list[tuple[int, RuleEntry | None]]:
    """The entries of a file, None for one with a mistake: the others are read all the same, so theirs are told too."""
    try:
        return list(enumerate(check(document, RuleFile).rules))
    except DocumentError as error:
        mistakes += error.mistakes
    raw = document.data.get("rules") if isinstance(document.data, dict) else None
    return [(index, _entry(each)) for index, each in enumerate(raw if isinstance(raw, list) else [])]


def _entry(raw: object) -> RuleEntry | None:
    try:
        return RuleEntry.model_validate(raw)
    except ValidationError:
        return None


@dataclass(frozen=True, slots=True)
class _Reader:
    """One entry to its rule; mistakes go to the list."""

    document: Document
    lines: list[str]
    index: int
    mistakes: list[Mistake]

    def rule(self, entry: RuleEntry) -> Rule | None:
        before = len(self.mistakes)
        words = vocabulary(entry.applies_to.kind)
        when: Expression | None = None
        clear: Expression | None = None
        levels: tuple[Level, ...] = ()
        if entry.levels is not None:
            self._nothing_beside_levels(entry)
            levels = tuple(self._levels(entry.levels, words))
            when = levels[0].when if len(levels) == len(entry.levels) else None
        elif entry.when is None:
            self._say((), "when: is required, or levels, each with a when of its own")
        else:
            when, clear = self._conditions((), entry.when, entry.clear, words)
        if when is None or len(self.mistakes) > before:
            return None
        rule = self._made(entry, when, clear, levels)
        for path, message in disagreements(rule):
            self._say(path, message)
        return rule if len(self.mistakes) == before else None

    def refused(self, raw: object) -> None:
        """Tells what is wrong in the conditions of an entry that has another mistake."""
        if not isinstance(raw, dict):
            return
        choice = raw.get("applies_to") or {}
        kind = choice.get("kind") if isinstance(choice, dict) else None
        if kind is not None and (not isinstance(kind, str) or kind not in KINDS):
            return  # what it may read is not known, and every metric of it would seem a mistake
        levels = raw.get("levels")
        inner = [(("levels", k), each) for k, each in enumerate(levels)] if isinstance(levels, list) else []
        for path, each in [((), raw), *inner]:
            if not isinstance(each, dict) or any(")" in str(key) for key in each):
                continue  # {when: avg(level, 10m) > 3}: the comma has cut the condition, which is told
            for key in ("when", "clear"):
                if isinstance(text := each.get(key), str):
                    self._condition((*path, key), text, vocabulary(kind))

    def suppressed(self, entry: RuleEntry, known: list[str]) -> None:
        """Told when every file is read: a rule may name one of a later file."""
        for k, name in enumerate(entry.suppresses or []):
            if name not in known or name == entry.id:
                said = "a rule does not suppress itself" if name == entry.id else f"no rule {name!r}"
                self._say(("suppresses", k), f"{said}{nearest(name, [n for n in known if n != entry.id])}")

    def _made(self, entry: RuleEntry, when: Expression, clear: Expression | None, levels: tuple[Level, ...]) -> Rule:
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
            priority=levels[0].priority if levels else entry.priority,
            order_category=entry.order.category if entry.order else None,
            when_text=levels[0].when_text if levels else (entry.when or "").strip(),
            clear_text=(entry.clear or "").strip(),
            text=self._written(),
            repeat=entry.repeat,
            keep_us=entry.keep_for,
            only_in=entry.only_in,
            levels=levels,
            suppresses=_set(entry.suppresses),
        )

    def _nothing_beside_levels(self, entry: RuleEntry) -> None:
        for name, key in (("when", "when"), ("hold", "for"), ("clear", "clear"), ("priority", "priority")):
            if name in entry.model_fields_set:
                self._say((key,), f"a rule with levels has `{key}` in each of them, not beside them")

    def _levels(self, entries: list[LevelEntry], words: Vocabulary) -> Iterator[Level]:
        """Those whose conditions could be read."""
        for k, entry in enumerate(entries):
            when, clear = self._conditions(("levels", k), entry.when, entry.clear, words)
            if when is not None:
                name = entry.name
                yield Level(entry.priority, when, entry.hold, clear, name.zh if name else "",
                            (name.en or name.zh) if name else "", entry.when.strip(), (entry.clear or "").strip(),
                            )  # fmt: skip

    def _conditions(
        self, path: Path, when: str, clear: str | None, words: Vocabulary
    ) -> tuple[Expression | None, Expression | None]:
        return (
            self._condition((*path, "when"), when, words),
            None if clear is None else self._condition((*path, "clear"), clear, words),
        )

    def _condition(self, path: Path, text: str, words: Vocabulary) -> Expression | None:
        try:
            tree = parse_expression(text)
            slips: tuple[Slip, ...] = tuple(check_condition(tree, words, clear=path[-1] == "clear"))
        except ExpressionError as error:
            tree, slips = None, error.slips
        for slip in slips:
            self.mistakes.append(self._at(path, text, slip))
        return None if slips else tree

    def _say(self, path: Path, message: str) -> None:
        self.mistakes.append(self.document.mistake(("rules", self.index, *path), message))

    def _at(self, path: Path, text: str, slip: Slip) -> Mistake:
        """The very character, where the file writes the expression as it is; else the key and the position."""
        key = str(path[-1])
        place = self.document.mistake(("rules", self.index, *path), slip.message)
        found = place_of(self.lines, (place.line, place.column), key, text, slip.column)
        if found is not None:
            return Mistake(place.file, *found, f"{key}: {slip.message}")
        return Mistake(place.file, place.line, place.column, f"{key}, character {slip.column}: {slip.message}")

    def _written(self) -> str:
        """The lines of this rule as they stand in the file; all its lines where two rules share one."""
        places = self.document.places
        first = places[("rules", self.index)][0]
        last = places.get(("rules", self.index + 1), (len(self.lines) + 1, 0))[0]
        return "\n".join(line.rstrip() for line in self.lines[first - 1 : max(last - 1, first)]).strip("\n")


def _set(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)

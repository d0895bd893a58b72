"""YAML documents that remember where every value stood, checked against a pydantic model, every mistake with its line.

Text in, values or mistakes out: opening files is the caller's business.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

# The YAML a person writes is small; beyond this it is an accident or an attack (aliases are refused altogether).
MAX_CHARACTERS = 8_000_000
# Nothing written by hand is deeper, and the scanner's time grows with the square of the depth.
MAX_DEPTH = 40


class Model(BaseModel):
    """Base of every document: unknown keys are mistakes, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a document; `line` and `column` count from 1, 0 where the place is not known."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class DocumentError(ValueError):
    """The document is refused whole; `mistakes` is never empty."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True)
class Document:
    """Parsed data and the text that it was."""

    file: str
    data: Any
    text: str = field(repr=False)

    @cached_property
    def places(self) -> dict[Path, tuple[int, int]]:
        """The line and column (from 1) of every value, by its path. Only who has something to say of the text asks: of
        a town of 20,000 devices they take more memory than everything else that is known of it."""
        places: dict[Path, tuple[int, int]] = {}
        _read(self.text, self.file, places)
        return places

    def mistake(self, path: Path, message: str) -> Mistake:
        """A mistake at the path, or at the nearest enclosing value that exists."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (0, 0))
        return Mistake(self.file, line, column, message)


class _Loader(yaml.CSafeLoader):
    """SafeLoader without timestamps: `2026-07-01` in a document stays the text the person wrote."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def nearest(name: str, known: Iterable[str]) -> str:
    """`; nearest: x`, or nothing where none is near."""
    close = difflib.get_close_matches(name.lower()[:64], list(known), n=1)
    return f"; nearest: {close[0]}" if close else ""


def parse(text: str, file: str) -> Document:
    """Raises DocumentError where the text is not YAML, repeats a key, uses an alias or is too large."""
    if len(text) > MAX_CHARACTERS:
        raise DocumentError([Mistake(file, 0, 0, f"more than {MAX_CHARACTERS:,} characters")])
    return Document(file, _read(text, file, None), text)


def _read(text: str, file: str, places: dict[Path, tuple[int, int]] | None) -> Any:
    """The data; `places` takes where everything stood. Raises DocumentError."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        # Characters that no YAML may hold are found on opening, before there is a loader to dispose of.
        raise DocumentError([Mistake(file, 0, 0, str(error).splitlines()[0])]) from error
    reading = _Reading(loader, file, places)
    try:
        data = reading.whole()
    except yaml.MarkedYAMLError as error:
        problem = error.problem or "not YAML"
        raise DocumentError([_at(file, error.problem_mark, problem)]) from error
    except yaml.YAMLError as error:
        raise DocumentError([Mistake(file, 0, 0, str(error).splitlines()[0])]) from error
    finally:
        loader.dispose()
    if reading.mistakes:
        raise DocumentError(reading.mistakes)
    return data


def check(document: Document, model: type[M], path: Path = ()) -> M:
    """The document as the model. Raises DocumentError with every mistake and its place."""
    if document.data is None:
        wanted = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise DocumentError([Mistake(document.file, 1, 1, f"nothing in it; expected {wanted or 'a mapping'}")])
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise DocumentError(
            [
                document.mistake(path + _clean(e["loc"], document), _say(e, model))
                for e in error.errors(include_url=False)
            ]
        ) from error


def _at(file: str, mark: Any, message: str) -> Mistake:
    return Mistake(file, mark.line + 1, mark.column + 1, message) if mark else Mistake(file, 0, 0, message)


class _Reading:
    """Data straight from the parser's events: a tree of YAML nodes would be many times as large as what it says."""

    def __init__(self, loader: _Loader, file: str, places: dict[Path, tuple[int, int]] | None) -> None:
        self._loader: Any = loader  # half of what PyYAML has is not typed
        self._file = file
        self._places = places
        self.mistakes: list[Mistake] = []

    def whole(self) -> Any:
        """The one document of the stream, None for an empty one. Raises yaml.YAMLError."""
        loader = self._loader
        loader.get_event()
        if loader.check_event(yaml.StreamEndEvent):
            return None
        loader.get_event()
        data = self._value((), 1)
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            raise _refused(loader.get_event(), "expected a single document in the stream")
        return data

    def _value(self, path: Path, depth: int) -> Any:
        event = self._loader.get_event()
        if depth > MAX_DEPTH:
            raise _refused(event, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            raise _refused(event, "aliases (*name) are not allowed")
        if self._places is not None:
            self._places.setdefault(path, _place(event.start_mark))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            found: list[Any] = []
            while not self._loader.check_event(yaml.SequenceEndEvent):
                found.append(self._value((*path, len(found)), depth + 1))
            self._loader.get_event()
            return found
        return self._scalar(event)

    def _mapping(self, path: Path, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            mark = self._loader.peek_event().start_mark
            key = self._key(path, depth)
            step = key if isinstance(key, (str, int)) and not isinstance(key, bool) else str(key)
            if key in found:
                self.mistakes.append(_at(self._file, mark, f"{key!r} stands twice"))
            if self._places is not None:
                self._places[(*path, step)] = _place(mark)
            found[key] = self._value((*path, step), depth + 1)
        self._loader.get_event()
        return found

    def _key(self, path: Path, depth: int) -> str | int | float | bool:
        """A key that is none is a mistake, and stands as its text."""
        event = self._loader.peek_event()
        key = self._value(path, depth + 1)
        if isinstance(key, (str, int, float, bool)):
            return key
        self.mistakes.append(_at(self._file, event.start_mark, "a key must be plain text"))
        return str(key)

    def _scalar(self, event: Any) -> Any:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark, style=event.style)
        # Not construct_object: it remembers every node that it has met.
        construct = self._loader.yaml_constructors.get(tag, self._loader.yaml_constructors[None])
        return construct(self._loader, node)


def _refused(event: Any, message: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=event.start_mark)


def _place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _clean(loc: tuple[int | str, ...], document: Document) -> Path:
    """pydantic's loc with the steps it adds for unions and validators taken out."""
    path: Path = ()
    for step in loc:
        if (*path, step) in document.places:
            path = (*path, step)
    return path


def _say(error: Any, model: type[BaseModel]) -> str:
    name = ".".join(str(step) for step in error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        if ")" in key:  # {when: avg(level, 10m) > 3}
            return f"{name}: not a known key; inside {{ }} a comma ends a value: put the value in quotes"
        return f"{name}: not a known key{nearest(key, _keys(model, error['loc'][:-1]))}"
    if error["type"] == "missing":
        return f"{name}: is required"
    said = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {said}" if name else said


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys a mapping at that place may have."""
    at = model
    for step in loc:
        fields = {field.alias or name: field.annotation for name, field in at.model_fields.items()}
        at = next(_models(fields.get(step)), at) if isinstance(step, str) else at
    return [field.alias or name for name, field in at.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models within `list[X]`, `X | None` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)

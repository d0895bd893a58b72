"""YAML documents that remember where every value stood, checked against a pydantic model, every mistake with its line.

Text in, values or mistakes out: opening files is the caller's business.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed data and the line and column (from 1) of every value, by its path."""

    file: str
    data: Any
    places: dict[Path, tuple[int, int]]

    def mistake(self, path: Path, message: str) -> Mistake:
        """A mistake at the path, or at the nearest enclosing value that exists."""
        while path and path not in self.places:
            path = path[:-1]
        line, column = self.places.get(path, (0, 0))
        return Mistake(self.file, line, column, message)


class _Loader(yaml.SafeLoader):
    """SafeLoader without timestamps: `2026-07-01` in a document stays the text the person wrote."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise self._refuse("aliases (*name) are not allowed")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._refuse(f"nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refuse(self, message: str) -> yaml.MarkedYAMLError:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        return yaml.MarkedYAMLError(problem=message, problem_mark=mark)


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
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        # Characters that no YAML may hold are found on opening, before there is a loader to dispose of.
        raise DocumentError([Mistake(file, 0, 0, str(error).splitlines()[0])]) from error
    places: dict[Path, tuple[int, int]] = {}
    mistakes: list[Mistake] = []
    try:
        node = loader.get_single_node()
        data = None if node is None else _walk(node, (), loader, places, mistakes, file)
    except yaml.MarkedYAMLError as error:
        problem = error.problem or "not YAML"
        raise DocumentError([_at(file, error.problem_mark, problem)]) from error
    except yaml.YAMLError as error:
        raise DocumentError([Mistake(file, 0, 0, str(error).splitlines()[0])]) from error
    except RecursionError as error:
        raise DocumentError([Mistake(file, 0, 0, "nested too deeply")]) from error
    finally:
        loader.dispose()
    if mistakes:
        raise DocumentError(mistakes)
    return Document(file, data, places)


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


def _walk(  # noqa: PLR0917 - one recursion, its accumulators are arguments
    node: Any, path: Path, loader: Any, places: dict[Path, tuple[int, int]], mistakes: list[Mistake], file: str
) -> Any:
    places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                mistakes.append(_at(file, key_node.start_mark, "a key must be plain text"))
                continue
            if key in found:
                mistakes.append(_at(file, key_node.start_mark, f"{key!r} stands twice"))
            step = key if isinstance(key, (str, int)) and not isinstance(key, bool) else str(key)
            found[key] = _walk(value_node, (*path, step), loader, places, mistakes, file)
            places[(*path, step)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_walk(n, (*path, i), loader, places, mistakes, file) for i, n in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


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

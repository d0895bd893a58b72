"""Where settings come from: --set, then the environment, then the TOML file, then the defaults.

Every value remembers where it stood, so that a mistake names the line, the variable or the option, and all mistakes
are told at once. Relative paths in the file are relative to the file, elsewhere to the working folder.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import InitSettingsSource

from gridwhistle.settings import AS_DURATION, Settings

PREFIX = "GRIDWHISTLE_"
# For the tests and for CI; what the service reads of them makes it fail on purpose.
OTHER_VARIABLES = frozenset({
    "GRIDWHISTLE_SHARED", "GRIDWHISTLE_REQUIRE_SERVICES", "GRIDWHISTLE_SOAK",
    "GRIDWHISTLE_FAULT_POINT", "GRIDWHISTLE_FAULT_FILE", "GRIDWHISTLE_CLOCK_OFFSET_FILE",
})  # fmt: skip

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SettingMistake:
    """One setting that cannot be used. `where` is `file:line`, a variable's name, or `--set KEY`."""

    key: str
    where: str
    expected: str
    got: str = ""

    def __str__(self) -> str:
        got = f"，得到 got {self.got}" if self.got else ""
        return f"{self.where}: {self.key}: 应为 expected {self.expected}{got}"


class SettingsError(ValueError):
    """The settings are refused whole; `mistakes` is never empty."""

    def __init__(self, mistakes: Sequence[SettingMistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Given:
    value: Any
    where: str


Layer = dict[Key, Given]


def leaves(model: type[BaseModel] = Settings, path: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    """Every setting that takes a value, by its key as written in a file."""
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, here)
        else:
            yield here, field


LEAVES: Mapping[Key, FieldInfo] = dict(leaves())


def load(
    config: Path | None = None, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of the file, the environment and `--set KEY=VALUE`s. Raises SettingsError with every mistake."""
    mistakes: list[SettingMistake] = []
    layers = [_from_options(overrides, mistakes), _from_environment(environ, mistakes)]
    if config is not None:
        layers.append(from_file(config, mistakes))
    given: Layer = {}
    for layer in reversed(layers):
        given |= layer
    mistakes += _missing_files(given)
    sources = tuple(InitSettingsSource(Settings, init_kwargs=_nested(layer)) for layer in layers)
    try:
        settings = Settings(_build_sources=(sources, {}))  # type: ignore[call-arg]
    except ValidationError as error:
        mistakes += [_explain(e["loc"], given) for e in error.errors(include_url=False, include_input=False)]
        # `from None`: the original would show the values, secrets among them, in a traceback.
        raise SettingsError(mistakes) from None
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def variable(key: Key) -> str:
    return PREFIX + "__".join(key).upper()


def _from_options(overrides: Sequence[str], mistakes: list[SettingMistake]) -> Layer:
    layer: Layer = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            # Without its "=" this may be a secret typed by mistake: it is not repeated.
            mistakes.append(SettingMistake("--set", "--set", "KEY=VALUE, such as broker.url=mqtt://127.0.0.1:1883"))
            continue
        path = tuple(key.strip().split("."))
        layer[path] = Given(value, f"--set {'.'.join(path)}")
    return layer


def _from_environment(environ: Mapping[str, str], mistakes: list[SettingMistake]) -> Layer:
    layer: Layer = {}
    for name, value in environ.items():
        if name.upper().startswith(PREFIX) and name.upper() not in OTHER_VARIABLES:
            path = tuple(name[len(PREFIX) :].lower().split("__"))
            if path in layer:
                mistakes.append(SettingMistake(".".join(path), name, f"one variable, beside {layer[path].where}"))
            layer[path] = Given(value, name)
    return layer


def from_file(config: Path, mistakes: list[SettingMistake]) -> Layer:
    """What the file gives, each value with its line, unchecked; what cannot be read as TOML is added to `mistakes`."""
    try:
        text = config.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        mistakes.append(SettingMistake("--config", str(config), f"a TOML file that can be read ({error})"))
        return {}
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{config}:{at[1]}:{at[2]}" if at else str(config)
        mistakes.append(SettingMistake("TOML", where, str(error).partition(" (at ")[0]))
        return {}
    lines = _lines(text)
    layer: Layer = {}
    for path, value in _flat(data):
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
        layer[path] = Given(_as_meant(path, value, config.parent), f"{config}:{line}" if line else str(config))
    return layer


def _flat(data: Mapping[str, Any], path: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in data.items():
        here = (*path, name)
        if isinstance(value, dict) and value and here not in LEAVES:
            yield from _flat(value, here)
        elif isinstance(value, dict):
            yield from (((*here, key), inner) for key, inner in value.items())
        else:
            yield here, value


_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"\s*((?:[\w-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[\w-]+|\"[^\"]*\"|'[^']*'))*)\s*=")


def _lines(text: str) -> dict[Key, int]:
    """The line of every key. tomllib keeps none; this looks at headers and assignments, which is all settings use."""
    found: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _dotted(header[1])
            found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault((*table, *_dotted(assignment[1])), number)
    return found


def _dotted(text: str) -> Key:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _as_meant(path: Key, value: Any, folder: Path) -> Any:
    """Paths stand beside the file; a bare number is no duration (inside it would be microseconds)."""
    if path in LEAVES and AS_DURATION in LEAVES[path].metadata:
        return str(value)
    if not isinstance(value, str) or not value:
        return value
    if path in LEAVES and _is_path(LEAVES[path]):
        return str(folder / value)
    if path[:2] == ("notify", "channels") and value.startswith("file:"):
        return f"file:{folder / value[5:]}"
    return value


def _is_path(field: FieldInfo) -> bool:
    return field.annotation is Path or Path in get_args(field.annotation)


def _nested(layer: Layer) -> dict[str, Any]:
    """Values by key as the nested mapping pydantic takes; where `a` and `a.b` are both given, `a` stays and is told."""
    whole: dict[str, Any] = {}
    for path, given in sorted(layer.items(), key=lambda item: len(item[0])):
        at: Any = whole
        for step in path[:-1]:
            at = at.setdefault(step, {}) if isinstance(at, dict) else at
        if isinstance(at, dict):
            at[path[-1]] = given.value
    return whole


def _explain(loc: tuple[int | str, ...], given: Layer) -> SettingMistake:
    key = tuple(map(str, loc))
    known = next((LEAVES[key[:n]] for n in range(len(key), 0, -1) if key[:n] in LEAVES), None)
    related = (g for path, g in reversed(given.items()) if path[: len(key)] == key or key[: len(path)] == path)
    at = given.get(key) or next(related, None)
    where = at.where if at else "default"
    if known is not None:
        return SettingMistake(".".join(key), where, _expected(known), _shown(known, at))
    if any(path[: len(key)] == key for path in LEAVES):
        return SettingMistake(".".join(key), where, f"a group of settings: {', '.join(_under(key))}")
    near = difflib.get_close_matches(".".join(key), [".".join(path) for path in LEAVES], n=1)
    hint = f"; did you mean {near[0]}?" if near else "; see docs/settings.md"
    return SettingMistake(".".join(key), where, f"a known setting{hint}")


def _expected(field: FieldInfo) -> str:
    return str(field.json_schema_extra["expected"]) if isinstance(field.json_schema_extra, dict) else ""


def _under(key: Key) -> list[str]:
    return [".".join(path) for path in LEAVES if path[: len(key)] == key]


def _shown(field: FieldInfo, at: Given | None) -> str:
    """The value as given, unless it is or may hold a secret (a password, an address with user and password in it)."""
    secret = SecretStr in get_args(field.annotation) or "secret" in (field.description or "")
    if at is None or secret or "@" in str(at.value):
        return ""
    return repr(at.value)[:80]


_MUST_EXIST: tuple[Key, ...] = (("rules",), ("town",), ("broker", "password_file"), ("broker", "ca_file"))


def _missing_files(given: Layer) -> list[SettingMistake]:
    found: list[SettingMistake] = []
    for key in _MUST_EXIST:
        if key not in given or not isinstance(given[key].value, str):
            continue
        path = Path(given[key].value)
        if not (path.is_dir() if key == ("town",) else path.exists()):
            found.append(SettingMistake(".".join(key), given[key].where, _expected(LEAVES[key]), repr(str(path))))
    return found

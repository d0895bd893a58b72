"""Reading the files of a rule book and of a town; the folders that think take text."""

from __future__ import annotations

from pathlib import Path

from devices.documents import DocumentError, Mistake
from devices.town import Town, read_town

TOWN_FILES = ("town.yaml", "grids.geojson", "devices.yaml", "calendar.yaml", "categories.yaml")


def read_rule_files(place: Path | None) -> dict[str, str]:
    """A file, or every .yaml and .yml below a folder, by name relative to it, sorted.

    Raises DocumentError for a file that is not UTF-8, OSError.
    """
    if place is None:
        return {}
    if place.is_file():
        return {place.name: _text(place, place.name)}
    found = sorted([*place.rglob("*.yaml"), *place.rglob("*.yml")])
    return {(name := str(path.relative_to(place))): _text(path, name) for path in found}


def read_town_files(folder: Path) -> dict[str, str]:
    """Raises DocumentError for a file that is not UTF-8, OSError."""
    return {name: _text(folder / name, name) for name in TOWN_FILES if (folder / name).is_file()}


def town_in(folder: Path | None) -> Town | None:
    """Raises DocumentError with every mistake, OSError."""
    return None if folder is None else read_town(read_town_files(folder))


def _text(path: Path, name: str) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        message = "不是 UTF-8 编码，请另存为 UTF-8 not UTF-8: save the file as UTF-8"
        raise DocumentError([Mistake(name, line, column, message)]) from error

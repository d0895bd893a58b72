"""Scenario files on disk: which there are, and the rules and calendars they name, relative to themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from devices.documents import DocumentError, Mistake
from gridwhistle.folders import read_rule_files
from rules.scenario import Scenario
from rules.scenario_file import has_scenarios, parse_scenarios


def read_scenarios(places: Sequence[Path]) -> tuple[list[Scenario], list[Mistake]]:
    """Of files and of folders with everything below them, each file once; every mistake of all.

    A file that is named must hold scenarios; what holds none in a folder (rules, a town) is passed over.
    Raises OSError.
    """
    found: list[Scenario] = []
    mistakes: list[Mistake] = []
    for path in dict.fromkeys(_files(places)):
        try:
            ((_, text),) = read_rule_files(path).items()
            if path in places or has_scenarios(text, str(path)):
                found += parse_scenarios(text, str(path), _Beside(path))
        except DocumentError as error:
            mistakes += error.mistakes
    return found, mistakes


def _files(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_dir():
            yield from sorted([*place.rglob("*.yaml"), *place.rglob("*.yml")])
        else:
            yield place


class _Beside:
    """Reads what a scenario file names: one file, or every rule file of a folder, as the service reads it."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent

    def __call__(self, name: str) -> Mapping[str, str]:
        place = Path(os.path.normpath(self._folder / name))
        if not place.exists():
            raise FileNotFoundError(2, "没有这个文件或目录 no such file or folder", name)
        folder = place if place.is_dir() else place.parent
        return {str(folder / file): text for file, text in read_rule_files(place).items()}

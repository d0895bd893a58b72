"""`gridwhistle check`: every mistake of a configuration and of the files it names, each with file, line and column.

The environment is left out: what is checked is the file. Beside mistakes there are warnings: what the service would
run with, and what nobody can have meant, such as a rule that applies to no device of the town.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alerts.categories import BUILT_IN, Catalogue, read_categories
from devices.documents import DocumentError, Mistake
from devices.town import Town, read_town
from gridwhistle.across import across
from gridwhistle.clock import wall
from gridwhistle.folders import read_rule_files, read_town_files
from gridwhistle.settings import DEFAULT_ZONE
from gridwhistle.settings_sources import Layer, SettingMistake, SettingsError, from_file, load
from gridwhistle.site import CALENDAR, calendar_of, remarks
from rules.book import RuleBook
from rules.book import load as load_rules
from rules.calendar import EMPTY, Site

CATEGORIES = "categories.yaml"


@dataclass(slots=True)
class Checked:
    """Numbers are of what could be read."""

    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    rules: int = 0
    devices: int = 0
    grids: int = 0


def check_all(config: Path, now: int | None = None) -> Checked:
    """One mistake hides no other: each file is read whether or not the others are right. `now` None is the wall's: the
    calendar should know this year."""
    checked = Checked()
    unreadable: list[SettingMistake] = []
    given = from_file(config, unreadable)
    try:
        load(config, environ={})
    except SettingsError as error:
        checked.mistakes += [_placed(mistake) for mistake in error.mistakes]
    _check_channels(given, checked)
    town_folder, rules_place = _path(given, "town"), _path(given, "rules")
    town, catalogue, site = _check_town(town_folder, checked) if town_folder else (None, BUILT_IN, Site())
    if rules_place is not None:
        files, book = _check_rules(rules_place, checked)
        if book is not None:
            place = str(town_folder / CALENDAR) if town_folder else str(rules_place)
            said = remarks(book, site, wall() if now is None else now)
            checked.warnings += [Mistake(place, 0, 0, remark) for remark in said]
            folder = rules_place if rules_place.is_dir() else rules_place.parent
            for mistake, fatal in across(book, files, town, catalogue):
                (checked.mistakes if fatal else checked.warnings).append(_below(folder, mistake))
    return checked


def _path(given: Layer, name: str) -> Path | None:
    value = given[(name,)].value if (name,) in given else None
    path = Path(value) if isinstance(value, str) else None
    return path if path is not None and path.exists() else None  # its absence is told by the settings


def _placed(mistake: SettingMistake) -> Mistake:
    file, line, column = mistake.where, 0, 0
    parts = mistake.where.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
        file, line, column = parts[0], int(parts[1]), int(parts[2])
    elif len(parts) >= 2 and parts[-1].isdigit():
        file, line = mistake.where.rpartition(":")[0], int(parts[-1])
    return Mistake(file, line, column, str(mistake).removeprefix(f"{mistake.where}: "))


def _below(folder: Path, mistake: Mistake) -> Mistake:
    return Mistake(str(folder / mistake.file), mistake.line, mistake.column, mistake.message)


def _check_channels(given: Layer, checked: Checked) -> None:
    """A variable may be set elsewhere than here, so its absence is only a warning."""
    from notify.channels import ChannelError, open_channels

    for key, value in given.items():
        if key[:2] != ("notify", "channels") or len(key) != 3 or not isinstance(value.value, str):
            continue
        if not value.value.startswith(("file:", "env:")):
            continue  # told by the settings
        try:
            open_channels({key[2]: value.value}, os.environ)
        except ChannelError as error:
            found = checked.mistakes if value.value.startswith("file:") else checked.warnings
            found.append(_placed(SettingMistake(".".join(key), value.where, str(error).rpartition(": ")[2])))


def _check_town(folder: Path, checked: Checked) -> tuple[Town | None, Catalogue, Site]:
    town, catalogue, calendar = None, BUILT_IN, EMPTY
    try:
        files = read_town_files(folder)
    except (OSError, UnicodeDecodeError) as error:
        checked.mistakes.append(Mistake(str(folder), 0, 0, str(error)))
        return None, BUILT_IN, Site()
    try:
        town = read_town(files)
        checked.devices, checked.grids = len(town.devices), len(town.grids)
    except DocumentError as error:
        checked.mistakes += [_below(folder, mistake) for mistake in error.mistakes]
    try:
        catalogue = read_categories(files.get(CATEGORIES, ""), CATEGORIES)
    except DocumentError as error:
        checked.mistakes += [_below(folder, mistake) for mistake in error.mistakes]
    try:
        calendar = calendar_of(files)
    except DocumentError as error:
        checked.mistakes += [_below(folder, mistake) for mistake in error.mistakes]
    return town, catalogue, Site(town.zone if town else DEFAULT_ZONE, calendar)


def _check_rules(place: Path, checked: Checked) -> tuple[Mapping[str, str], RuleBook | None]:
    folder = place if place.is_dir() else place.parent
    try:
        files = read_rule_files(place)
        book = load_rules(files)
    except (OSError, UnicodeDecodeError) as error:
        checked.mistakes.append(Mistake(str(place), 0, 0, str(error)))
        return {}, None
    except DocumentError as error:
        checked.mistakes += [_below(folder, mistake) for mistake in error.mistakes]
        return {}, None
    checked.rules = len(book.rules)
    return files, book

"""`gridwhistle check`: every mistake of a configuration and of the files it names, each with file, line and column.

The environment is left out: what is checked is the file. Beside mistakes there are warnings: what the service would
run with, and what nobody can have meant, such as a rule that applies to no device of the town.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alerts.categories import BUILT_IN, Catalogue, read_categories
from devices.documents import Document, DocumentError, Mistake, parse
from devices.town import Town, TownDevice, read_town
from gridwhistle.folders import read_rule_files, read_town_files
from gridwhistle.settings_sources import Layer, SettingMistake, SettingsError, from_file, load
from rules.book import RuleBook
from rules.book import load as load_rules
from rules.expression import Attribute, leaves
from rules.rule import Rule

CATEGORIES = "categories.yaml"


@dataclass(slots=True)
class Checked:
    """Numbers are of what could be read."""

    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    rules: int = 0
    devices: int = 0
    grids: int = 0


def check_all(config: Path) -> Checked:
    """One mistake hides no other: each file is read whether or not the others are right."""
    checked = Checked()
    unreadable: list[SettingMistake] = []
    given = from_file(config, unreadable)
    try:
        load(config, environ={})
    except SettingsError as error:
        checked.mistakes += [_placed(mistake) for mistake in error.mistakes]
    _check_channels(given, checked)
    town_folder, rules_place = _path(given, "town"), _path(given, "rules")
    town, catalogue = _check_town(town_folder, checked) if town_folder else (None, BUILT_IN)
    if rules_place is not None:
        files, book = _check_rules(rules_place, checked)
        if book is not None:
            folder = rules_place if rules_place.is_dir() else rules_place.parent
            for mistake, fatal in _across(book, files, town, catalogue):
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


def _check_town(folder: Path, checked: Checked) -> tuple[Town | None, Catalogue]:
    town, catalogue = None, BUILT_IN
    try:
        files = read_town_files(folder)
    except (OSError, UnicodeDecodeError) as error:
        checked.mistakes.append(Mistake(str(folder), 0, 0, str(error)))
        return None, BUILT_IN
    try:
        town = read_town(files)
        checked.devices, checked.grids = len(town.devices), len(town.grids)
    except DocumentError as error:
        checked.mistakes += [_below(folder, mistake) for mistake in error.mistakes]
    try:
        catalogue = read_categories(files.get(CATEGORIES, ""), CATEGORIES)
    except DocumentError as error:
        checked.mistakes += [_below(folder, mistake) for mistake in error.mistakes]
    return town, catalogue


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


def _across(
    book: RuleBook, files: Mapping[str, str], town: Town | None, catalogue: Catalogue
) -> Iterator[tuple[Mistake, bool]]:
    """What is wrong between rules, town and categories; True where it is a mistake, False for a warning."""
    for document, index, rule in _written(book, files):
        if rule.order_category is not None and rule.order_category not in catalogue.categories:
            path = ("rules", index, "order", "category")
            said = f"{rule.id}: category {rule.order_category!r} is not in the catalogue; it gets the limits of `other`"
            yield document.mistake(path, said), False
        if town is not None:
            yield from _against_town(document, index, rule, town)


def _written(book: RuleBook, files: Mapping[str, str]) -> Iterator[tuple[Document, int, Rule]]:
    for file, text in files.items():
        document = parse(text, file)
        entries: list[Any] = document.data["rules"]
        for index, entry in enumerate(entries):
            yield document, index, book.rules[entry["id"]]


def _against_town(document: Document, index: int, rule: Rule, town: Town) -> Iterator[tuple[Mistake, bool]]:
    at = ("rules", index, "applies_to")
    known = {"devices": town.devices.keys(), "grids": town.grids.keys()}
    unknown = False
    for what, names in known.items():
        for name in sorted((getattr(rule.applies_to, what) or frozenset()) - names):
            unknown = True
            yield document.mistake((*at, what), f"{rule.id}: no {what[:-1]} {name!r} in the town"), True
    matched = [device for device in town.devices.values() if _applies(rule, device, town)]
    if not matched and not unknown:
        yield document.mistake(at, f"{rule.id}: applies to no device of the town"), False
    for name in sorted({leaf.name for leaf in _leaves(rule) if isinstance(leaf, Attribute)}):
        if matched and not any(name in device.attributes for device in matched):
            said = f"{rule.id}: none of its {len(matched)} devices has attribute {name!r}, so it can never be true"
            yield document.mistake(("rules", index, "when"), said), False


def _leaves(rule: Rule) -> Iterator[object]:
    yield from leaves(rule.when)
    if rule.clear is not None:
        yield from leaves(rule.clear)


def _applies(rule: Rule, device: TownDevice, town: Town) -> bool:
    to = rule.applies_to
    if (to.kind is not None and device.kind != to.kind) or (to.devices is not None and device.id not in to.devices):
        return False
    if to.tags is not None and not to.tags <= device.tags:
        return False
    return to.grids is None or any(device.grid in town.under(grid) for grid in to.grids if grid in town.grids)

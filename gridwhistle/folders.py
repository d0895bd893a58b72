"""Reading the files of a rule book and of a town; the folders that think take text."""

from __future__ import annotations

from pathlib import Path

TOWN_FILES = ("town.yaml", "grids.geojson", "devices.yaml", "categories.yaml")


def read_rule_files(place: Path | None) -> dict[str, str]:
    """A file, or every .yaml and .yml below a folder, by name relative to it, sorted. Raises OSError."""
    if place is None:
        return {}
    if place.is_file():
        return {place.name: place.read_text(encoding="utf-8")}
    found = sorted([*place.rglob("*.yaml"), *place.rglob("*.yml")])
    return {str(path.relative_to(place)): path.read_text(encoding="utf-8") for path in found}


def read_town_files(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text(encoding="utf-8") for name in TOWN_FILES if (folder / name).is_file()}

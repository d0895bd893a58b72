"""A town as its folder describes it: site, grid tree, devices (docs/town.md gives the files)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, FiniteFloat, PlainValidator, TypeAdapter, field_validator

from devices.attributes import Attribute, Dated, in_order
from devices.documents import Document, DocumentError, Mistake, Model, check, nearest, parse
from devices.instants import from_iso
from devices.kinds import KINDS
from devices.names import is_name

# More than a century of yearly values is a mistake.
MAX_DATED = 200
Name = Annotated[str, Field(min_length=1, max_length=64)]


class Text(Model):
    zh: str
    en: str = ""


def _instant(text: object) -> int:
    wanted = f"expected a time such as 2026-05-01T00:00:00+08:00, found {text!r}"
    if not isinstance(text, str):
        raise ValueError(wanted)
    try:
        return from_iso(text)
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from error


class _Dated(Model):
    value: FiniteFloat
    valid_from: Annotated[int, BeforeValidator(_instant)]


_NUMBER = TypeAdapter(FiniteFloat)
_DATED = TypeAdapter(Annotated[list[_Dated], Field(max_length=MAX_DATED)])


def _attribute(value: object) -> Attribute:
    """A mistake in it keeps its place: pydantic adds that of the attribute."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return _NUMBER.validate_python(value)
    return in_order([Dated(each.value, each.valid_from) for each in _DATED.validate_python(value)])


# A number, a text, or numbers with the instants they hold from.
AttributeValue = Annotated[Attribute, PlainValidator(_attribute)]


@dataclass(frozen=True, slots=True)
class TownDevice:
    """One entry of devices.yaml; `interval` and `silent_after` in seconds, `at` latitude and longitude (WGS 84);
    `second_of` the device whose station this one is another source of."""

    id: str
    kind: str
    name: str = ""
    grid: str | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    interval: float | None = None
    silent_after: float | None = None
    at: tuple[float, float] | None = None
    keeper: str = ""
    keeper_phone: str = ""
    person: str = ""
    person_address: str = ""
    second_of: str | None = None


class DeviceEntry(Model):
    """The same as it is read and checked: ten times as large, so that it is not kept."""

    id: Name
    kind: str
    name: str = ""
    grid: str | None = None
    attributes: dict[str, AttributeValue] = Field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    interval: Annotated[float, Field(gt=0)] | None = None
    silent_after: Annotated[float, Field(gt=0)] | None = None
    at: tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-180, le=180)]] | None = None
    keeper: str = ""
    keeper_phone: str = ""
    person: str = ""
    person_address: str = ""
    second_of: str | None = None

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError("expected [a-z0-9][a-z0-9_-]{0,63}")
        return value

    @field_validator("kind")
    @classmethod
    def _kind(cls, value: str) -> str:
        if value not in KINDS:
            raise ValueError(f"unknown kind {value!r}{nearest(value, KINDS)}; one of {', '.join(KINDS)}")
        return value


class Grid(Model):
    """A node of the grid tree: `level` is the town's own name for its depth, `geometry` GeoJSON or None."""

    id: Name
    name: str
    level: str = ""
    parent: str | None = None
    geometry: dict[str, Any] | None = None


class TownFile(Model):
    """town.yaml."""

    site: Name
    name: Text
    zone: str = "Asia/Shanghai"

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"no such zone {value!r}; expected one such as Asia/Shanghai") from error
        return value


class DevicesFile(Model):
    """devices.yaml."""

    devices: list[DeviceEntry]


@dataclass(frozen=True, slots=True)
class Town:
    site: str
    name: Text
    zone: str
    grids: Mapping[str, Grid]
    devices: Mapping[str, TownDevice]

    def under(self, grid: str) -> frozenset[str]:
        """The grid and every grid below it."""
        found = {grid}
        while more := {g.id for g in self.grids.values() if g.parent in found} - found:
            found |= more
        return frozenset(found)


def tree_of(grids: Iterable[Grid]) -> dict[str, frozenset[str]]:
    """Every grid → itself and the grids below it."""
    parents = {grid.id: grid.parent for grid in grids}
    tree: dict[str, set[str]] = {grid: {grid} for grid in parents}
    for grid, parent in parents.items():
        above = parent
        while above in tree and grid not in tree[above]:
            tree[above].add(grid)
            above = parents[above]
    return {grid: frozenset(below) for grid, below in tree.items()}


def read_town(files: Mapping[str, str]) -> Town:
    """The town of a folder's files by name (town.yaml, grids.geojson, devices.yaml), content as text.

    Raises DocumentError with every mistake of every file.
    """
    mistakes: list[Mistake] = []
    town = devices = None
    devices_document: Document | None = None
    grids: dict[str, Grid] = {}
    if "town.yaml" not in files:
        mistakes.append(Mistake("town.yaml", 0, 0, "there is no such file in the town's folder"))
    try:
        town = check(parse(files["town.yaml"], "town.yaml"), TownFile) if "town.yaml" in files else None
    except DocumentError as error:
        mistakes += error.mistakes
    try:
        grids = _read_grids(files["grids.geojson"]) if "grids.geojson" in files else {}
    except DocumentError as error:
        mistakes += error.mistakes
    try:
        devices_document = parse(files.get("devices.yaml", "devices: []"), "devices.yaml")
        devices = check(devices_document, DevicesFile)
        mistakes += _cross_check(devices, grids, devices_document)
    except DocumentError as error:
        mistakes += error.mistakes
    if mistakes or town is None or devices is None:
        raise DocumentError(mistakes)
    return Town(town.site, town.name, town.zone, grids, _kept(devices.devices))


def _kept(entries: Iterable[DeviceEntry]) -> dict[str, TownDevice]:
    """Without what pydantic remembers of each; equal sets of tags are one set."""
    tags: dict[frozenset[str], frozenset[str]] = {}
    return {e.id: TownDevice(**{**dict(e), "tags": tags.setdefault(e.tags, e.tags)}) for e in entries}


def _cross_check(devices: DevicesFile, grids: Mapping[str, Grid], document: Document) -> list[Mistake]:
    mistakes, seen = [], set[str]()
    for i, device in enumerate(devices.devices):
        if device.id in seen:
            mistakes.append(document.mistake(("devices", i, "id"), f"device {device.id!r} stands twice"))
        seen.add(device.id)
        if device.grid is not None and device.grid not in grids:
            mistakes.append(
                document.mistake(
                    ("devices", i, "grid"), f"no grid {device.grid!r} in grids.geojson{nearest(device.grid, grids)}"
                )
            )
    known = {device.id: device for device in devices.devices}
    for i, device in enumerate(devices.devices):
        if (said := wrong_source(device.id, device, known)) is not None:
            mistakes.append(document.mistake(("devices", i, "second_of"), f"second_of: {said}"))
    return mistakes


class Sourced(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def second_of(self) -> str | None: ...


def wrong_source(name: str, device: Sourced, known: Mapping[str, Sourced]) -> str | None:
    """Why the device of that name cannot be the second source it says it is; None where it can, or says nothing."""
    first = device.second_of
    if first is None:
        return None
    primary = known.get(first)
    if first == name:
        return "a device is not its own second source"
    if primary is None:
        return f"there is no device {first!r}{nearest(first, set(known) - {name})}"
    if primary.kind != device.kind:
        return f"{first} is a {primary.kind}, this a {device.kind}: two sources are of one kind"
    if primary.second_of is not None:
        return f"{first} is itself the second source of {primary.second_of}: name the device that is judged"
    return None


def _read_grids(text: str) -> dict[str, Grid]:
    """A GeoJSON FeatureCollection; id, name, level and parent are properties of each feature."""
    name = "grids.geojson"
    try:
        features = json.loads(text)["features"]
        grids = {f["properties"]["id"]: Grid(**{**f["properties"], "geometry": f.get("geometry")}) for f in features}
    except json.JSONDecodeError as error:
        raise DocumentError([Mistake(name, error.lineno, error.colno, error.msg)]) from error
    except (KeyError, TypeError, ValueError) as error:
        raise DocumentError([Mistake(name, 0, 0, f"expected GeoJSON features with id and name: {error}")]) from error
    orphans = [
        Mistake(name, 0, 0, f"grid {g.id!r}: no parent {g.parent!r}")
        for g in grids.values()
        if g.parent and g.parent not in grids
    ]
    for grid in grids.values():
        seen, at = {grid.id}, grid.parent
        while at is not None and at in grids:
            if at in seen:
                orphans.append(Mistake(name, 0, 0, f"grid {grid.id!r} is its own ancestor"))
                break
            seen.add(at)
            at = grids[at].parent
    if orphans:
        raise DocumentError(orphans)
    return grids

"""Grids by name and as a tree, and which devices are personal: what every page needs to know of the township."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Connection

from console.texts import Language, say
from console.visits import Visit
from devices.kinds import KINDS
from devices.registry import Device
from devices.subjects import grid_of, is_group
from devices.town import Grid
from store.records.devices import list_grids


@dataclass(frozen=True, slots=True)
class Choice:
    """One grid in a list of grids; `indented` shows its depth."""

    id: str
    indented: str


@dataclass(frozen=True)
class Places:
    """The grid tree as it is now."""

    grids: Mapping[str, Grid]

    def name(self, grid: str | None, language: Language) -> str:
        if grid is None:
            return say(language, "grid.none")
        known = self.grids.get(grid)
        return known.name if known else grid

    @cached_property
    def ordered(self) -> Sequence[tuple[int, Grid]]:
        """Every grid after the one it lies in, with its depth."""
        return tuple(self._below(None, 0))

    def choices(self) -> list[Choice]:
        # An em space for each level: a select has no other way to show depth.
        return [Choice(grid.id, " " * depth + grid.name) for depth, grid in self.ordered]

    def under(self, grid: str) -> frozenset[str]:
        """The grid and every grid below it."""
        found = {grid}
        while more := {g.id for g in self.grids.values() if g.parent in found} - found:
            found |= more
        return frozenset(found)

    def above(self, grid: str | None) -> Iterator[str]:
        """The grid and every grid it lies in."""
        while grid is not None and grid in self.grids:
            yield grid
            grid = self.grids[grid].parent

    def _below(self, parent: str | None, depth: int) -> Iterator[tuple[int, Grid]]:
        for grid in self.grids.values():
            if grid.parent == parent:
                yield depth, grid
                yield from self._below(grid.id, depth + 1)


def read_places(tx: Connection) -> Places:
    return Places({grid.id: grid for grid in list_grids(tx)})


def is_personal(kind: str) -> bool:
    known = KINDS.get(kind)
    return known is not None and known.personal


def device_name(visit: Visit, device: str, name: str, kind: str) -> str:
    """What a device is called in a list: a personal one by its id, for the name given to it is often the elder's.
    Several at once are called by their grid or by what they have in common."""
    if is_group(device):
        return say(visit.language, "subject.grid" if grid_of(device) else "subject.group", name=name)
    if is_personal(kind):
        return f"{say(visit.language, 'personal.device')} {device}"
    return name or device


def shown_name(visit: Visit, device: Device) -> str:
    return device_name(visit, device.id, device.name, device.kind)

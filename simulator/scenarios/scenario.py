"""What a scenario is: a name, an hour to start at, and a function that writes the script of a world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from devices.instants import HOUR, SECOND, from_iso
from devices.town import Town
from simulator.world import World


@dataclass(frozen=True, slots=True)
class Scenario:
    """`start` is ISO 8601, used where none is asked for; `lead_in` hours are computed and not published."""

    name: str
    zh: str
    en: str
    start: str
    write: Callable[[World], None]
    lead_in: int = 0


def world_of(scenario: Scenario, town: Town, *, seed: int = 1, start: int | None = None) -> World:
    """The township of one run; the start is cut to whole seconds."""
    first = (from_iso(scenario.start) if start is None else start) // SECOND * SECOND
    world = World(scenario.name, town, seed, first, first - scenario.lead_in * HOUR)
    scenario.write(world)
    return world

"""A quiet day: nothing worth more than a notice."""

from __future__ import annotations

from simulator.scenarios.scenario import Scenario
from simulator.world import World


def write(world: World) -> None:
    # A lost opening could leave a door a whole day without one.
    world.script.door_loss = 0.0


SCENARIO = Scenario("calm", "平静", "A quiet day", "2026-06-15T22:00:00Z", write)

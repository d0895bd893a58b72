"""An elder stays in bed; a door sensor dies. Day two tells both, and a visitor ends the first."""

from __future__ import annotations

from devices.instants import DAY, HOUR, MINUTE
from simulator.faults import silent
from simulator.scenarios.scenario import Scenario
from simulator.world import Span, World


def write(world: World) -> None:
    script = world.script
    doors = [door.id for door in world.of_kind("door_sensor")]
    if len(doors) < 2:
        return
    still, dead = doors[len(doors) // 5], doors[len(doors) // 2]
    morning = world.midnight + 7 * HOUR
    # Seen once this morning, so that the day without movement counts from an opening.
    found = morning + DAY + 5 * HOUR
    script.visits[still] = [morning, found]
    script.still[still] = Span(morning - HOUR, found + HOUR)
    script.visits[dead] = [morning + 20 * MINUTE]
    script.disturb(dead, silent(Span(morning + 2 * HOUR, world.start + 365 * DAY)))


SCENARIO = Scenario("silent-elder", "老人失联", "An elder without movement", "2026-06-15T22:00:00Z", write)

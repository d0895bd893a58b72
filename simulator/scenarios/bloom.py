"""Warm still days: algae grow for two days, and the wind of the third mixes them under."""

from __future__ import annotations

from simulator.physics.lake import Bloom
from simulator.physics.sky import Sky, Wind
from simulator.scenarios.scenario import Scenario
from simulator.world import World

WIND_RISES = 60.0  # hours


def write(world: World) -> None:
    world.script.sky = Sky(wind=Wind(before=2.0, after=7.0, turn_hour=WIND_RISES), warmth=30.0, swing=4.0)
    world.script.bloom = Bloom(mixed=WIND_RISES + 1.0)


SCENARIO = Scenario("bloom", "蓝藻", "An algal bloom", "2026-07-31T22:00:00Z", write)

"""A night of rain, 150 mm: polders fill, mains fail at one station, a fifth of the stations drop out at its peak."""

from __future__ import annotations

from devices.instants import HOUR, MINUTE
from simulator.faults import silent
from simulator.physics.river import River
from simulator.physics.sky import Rainstorm, Sky, Wind
from simulator.scenarios.scenario import Scenario
from simulator.world import Span, World

MAINS_LOST = (9, 12)  # hours since the rain began
PEAK_HOUR = 9


def write(world: World) -> None:
    script = world.script
    rng = world.rng("flood")
    script.sky = Sky(rain=Rainstorm(), wind=Wind(before=8.0, after=4.0, turn_hour=14.0), warmth=24.0, swing=2.5)
    script.river = River(rise=float(rng.uniform(0.05, 0.10)), set_up=float(rng.uniform(0.10, 0.30)))
    stations = [device.id for device in world.of_kind("pump_station")]
    if len(stations) < 3:
        return
    powerless = stations[-2]
    first, last = (world.zero + hour * HOUR for hour in MAINS_LOST)
    script.mains_lost[powerless] = [Span(first, last)]
    others = [station for station in stations[2:] if station != powerless]
    for station in rng.choice(others, size=round(len(stations) / 5), replace=False).tolist():
        gone = world.zero + PEAK_HOUR * HOUR + int(rng.integers(-20, 5)) * MINUTE
        script.disturb(station, silent(Span(gone, gone + int(rng.integers(10, 41)) * MINUTE)))


SCENARIO = Scenario("flood", "暴雨", "A night of rain", "2026-06-20T10:00:00Z", write)

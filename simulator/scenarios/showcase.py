"""An hour to show: the flood from its hour 11, and an incident of four other kinds within the first quarter hour."""

from __future__ import annotations

from devices.instants import MINUTE, SECOND
from simulator.faults import silent
from simulator.scenarios import flood
from simulator.scenarios.scenario import Scenario
from simulator.world import Excursion, Span, World


def write(world: World) -> None:
    flood.write(world)
    script = world.script

    def minutes(first: float, last: float) -> Span:
        return Span(world.start + round(first * MINUTE), world.start + round(last * MINUTE))

    for pond in world.of_kind("aquaculture_pond")[:1]:
        script.excursions[pond.id] = [Excursion("dissolved_oxygen", minutes(5, 75), 2.6, 5 * MINUTE)]
    for station in world.of_kind("weather_station")[-1:]:
        script.disturb(station.id, silent(minutes(8, 38)))
    for camera in world.of_kind("camera", "no-go")[:1]:
        script.persons[camera.id] = [
            world.start + 10 * MINUTE + step * SECOND for step in (0, 15, 40, 150, 260, 400, 520, 640)
        ]
    for motor in [m for m in world.of_kind("equipment", "motor") if "standby" not in m.tags][:1]:
        script.excursions[motor.id] = [Excursion("temperature", minutes(12, 32), 92.0, 3 * MINUTE)]


SCENARIO = Scenario("showcase", "演示", "An hour to show", "2026-06-20T21:00:00Z", write, lead_in=11)

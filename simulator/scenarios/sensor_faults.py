"""Everything that sensors and their links do wrong, one after the other within an hour."""

from __future__ import annotations

from collections.abc import Sequence

from devices.instants import HOUR, MINUTE
from devices.town import TownDevice
from simulator import faults
from simulator.scenarios.scenario import Scenario
from simulator.world import Fault, Span, World


def write(world: World) -> None:
    def at(minute: float) -> int:
        return world.start + round(minute * MINUTE)

    def between(first: float, last: float) -> Span:
        return Span(at(first), at(last))

    _disturb(world, world.of_kind("river_gauge"), (faults.stuck(between(10, 50)),))
    _disturb(
        world,
        world.of_kind("pump_station"),
        (
            faults.spike(at(15), "level_inside", 4.8),
            faults.duplicated(between(10, 40)),
            faults.swapped(between(10, 40)),
            faults.malformed(at(12), at(17), at(33)),
        ),
    )
    _disturb(
        world,
        world.of_kind("equipment"),
        (faults.clock_off(between(20, 50), 8 * HOUR), faults.spike(at(25), "temperature", 180.0)),
    )
    _disturb(
        world,
        world.of_kind("air_monitor"),
        (faults.silent(between(20, 60)), faults.held_back(between(24, 33)), faults.not_a_number(at(14), at(44))),
    )
    _disturb(world, world.of_kind("aquaculture_pond"), (faults.spike(at(31), "ph", 25.0),))


def _disturb(world: World, devices: Sequence[TownDevice], each: Sequence[Fault]) -> None:
    """The first fault to the first device, the second to the second."""
    for device, fault in zip(devices, each, strict=False):
        world.script.disturb(device.id, fault)


SCENARIO = Scenario("sensor-faults", "传感器故障", "What sensors do wrong", "2026-06-16T01:00:00Z", write)

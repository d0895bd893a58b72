"""Ordinary days: between one and three small troubles each, of the kinds every duty desk knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from devices.instants import DAY, HOUR, MINUTE, SECOND
from devices.town import TownDevice
from simulator.faults import silent
from simulator.scenarios.scenario import Scenario
from simulator.world import Excursion, Span, World

DAYS_WRITTEN = 60
QUIET_SHARE = 0.03  # of all elders' days; together with the rest never more than three troubles a day

# Writes one trouble that begins at this instant; nothing where the town has no such device.
Trouble = Callable[[World, np.random.Generator, int], None]


def write(world: World) -> None:
    rng = world.rng("ordinary")
    # A lost opening would be a trouble that nobody counted.
    world.script.door_loss = 0.0
    doors = [door.id for door in world.of_kind("door_sensor")]
    for day in range(DAYS_WRITTEN):
        quiet = _quiet(world, rng, day, doors)
        wanted = int(rng.integers(1 if not quiet else 0, 4 - quiet))
        for i in rng.permutation(len(_TROUBLES)).tolist()[:wanted]:
            begins = world.start + day * DAY + int(rng.integers(2 * HOUR // SECOND, 22 * HOUR // SECOND)) * SECOND
            _TROUBLES[i](world, rng, begins)


def _quiet(world: World, rng: np.random.Generator, day: int, doors: list[str]) -> int:
    """How many elders stay in today, two at most; none at the start, when nobody has been seen yet."""
    count = min(int(rng.binomial(len(doors), QUIET_SHARE)), 2)
    if day == 0 or not doors:
        return 0
    quiet = world.script.quiet_days
    near = {door for door, days in quiet.items() if day - 1 in days}
    chosen = [door for door in rng.permutation(doors).tolist()[:count] if door not in near]
    for door in chosen:
        quiet[door] = quiet.get(door, frozenset()) | {day}
    return len(chosen)


def _one(rng: np.random.Generator, devices: list[TownDevice]) -> str | None:
    return devices[int(rng.integers(len(devices)))].id if devices else None


def _excursion(world: World, device: str | None, excursion: Excursion) -> None:
    if device is not None:
        world.script.excursions.setdefault(device, []).append(excursion)


def _pond(world: World, rng: np.random.Generator, at: int) -> None:
    """The aerator's fuse: 25 minutes without enough oxygen."""
    span = Span(at, at + 25 * MINUTE)
    _excursion(
        world, _one(rng, world.of_kind("aquaculture_pond")), Excursion("dissolved_oxygen", span, 2.6, 20 * MINUTE)
    )


def _herons(world: World, rng: np.random.Generator, at: int) -> None:
    """Something that walks upright, three times in five minutes."""
    camera = _one(rng, world.of_kind("camera", "no-go"))
    if camera is not None:
        world.script.persons.setdefault(camera, []).extend(at + step * SECOND for step in (0, 90, 250))


def _hot(world: World, rng: np.random.Generator, at: int) -> None:
    """A filter full of willow fluff."""
    motors = [m for m in world.of_kind("equipment", "motor") if "standby" not in m.tags]
    _excursion(world, _one(rng, motors), Excursion("temperature", Span(at, at + 9 * MINUTE), 90.0, 10 * MINUTE))


def _dust(world: World, rng: np.random.Generator, at: int) -> None:
    """Lorries at the building site."""
    span = Span(at, at + 50 * MINUTE)
    _excursion(
        world, _one(rng, world.of_kind("air_monitor", "building-site")), Excursion("pm10", span, 320.0, 10 * MINUTE)
    )


def _blip(world: World, rng: np.random.Generator, at: int) -> None:
    """Mains gone for six minutes."""
    station = _one(rng, world.of_kind("pump_station"))
    if station is not None:
        world.script.mains_lost.setdefault(station, []).append(Span(at, at + 6 * MINUTE))


def _radio(world: World, rng: np.random.Generator, at: int) -> None:
    """A weather station nobody hears for 40 minutes."""
    station = _one(rng, world.of_kind("weather_station"))
    if station is not None:
        world.script.disturb(station, silent(Span(at, at + 40 * MINUTE)))


_TROUBLES: tuple[Trouble, ...] = (_pond, _herons, _hot, _dust, _blip, _radio)

SCENARIO = Scenario("ordinary", "日常", "Ordinary days", "2026-06-15T16:00:00Z", write)

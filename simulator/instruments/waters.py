"""Water monitors, algae buoys, sewage stations and crab ponds."""

from __future__ import annotations

from simulator.instruments.place import Measure, Place, Reading
from simulator.physics.lake import bay, pond_oxygen
from simulator.physics.sky import daily

CLEAR_WATER = 14.0  # µg/L of chlorophyll without a bloom
CELLS_PER_UG = 2.5e5


def water_monitor(place: Place) -> Measure:
    world = place.world
    drifts = {
        "ph": (7.7, place.drift(0.08)),
        "dissolved_oxygen": (6.3, place.drift(0.25)),
        "cod_mn": (3.9, place.drift(0.3)),
        "cod": (15.0, place.drift(1.2)),
        "ammonia_nitrogen": (0.45, place.drift(0.06)),
        "total_phosphorus": (0.12, place.drift(0.015)),
        "total_nitrogen": (1.7, place.drift(0.15)),
        "turbidity": (26.0, place.drift(3.0)),
        "conductivity": (430.0, place.drift(12.0)),
        "water_temperature": (26.5, place.drift(0.3)),
    }

    def measure(at: int) -> Reading:
        found: Reading = {metric: usual + drift.next() for metric, (usual, drift) in drifts.items()}
        breath = daily(world.hour_of_day(at), lowest=5.5, highest=15.5)
        found["dissolved_oxygen"] = float(found["dissolved_oxygen"]) + 0.8 * breath
        found["ph"] = float(found["ph"]) + 0.15 * breath
        found["level"] = world.script.river.level(world.hour(at)) - 0.05
        return found

    return measure


def algae_buoy(place: Place) -> Measure:
    world, bloom = place.world, place.world.script.bloom
    oxygen, acid, algae, murk = place.drift(0.12), place.drift(0.02), place.drift(0.05), place.drift(2.0)
    warmth = place.drift(0.2)

    def measure(at: int) -> Reading:
        hour = world.hour(at)
        strength = bloom.strength(hour) if bloom else 0.0
        chlorophyll = (bloom.chlorophyll(hour) if bloom else CLEAR_WATER) * (1.0 + algae.next())
        breath = bay(world.hour_of_day(at), strength)
        return {
            "chlorophyll": chlorophyll,
            "phycocyanin": 0.6 * chlorophyll,
            "algal_density": CELLS_PER_UG * chlorophyll,
            "dissolved_oxygen": breath.oxygen + oxygen.next(),
            "ph": breath.ph + acid.next(),
            "turbidity": 20.0 + 25.0 * strength + murk.next(),
            "water_temperature": (28.0 if bloom else 26.0) + warmth.next(),
        }

    return measure


def sewage_station(place: Place) -> Measure:
    world = place.world
    drifts = {
        "flow": (13.0, place.drift(1.0)),
        "ph": (7.2, place.drift(0.08)),
        "cod": (30.0, place.drift(2.5)),
        "ammonia_nitrogen": (1.6, place.drift(0.25)),
        "total_phosphorus": (0.28, place.drift(0.03)),
        "total_nitrogen": (9.0, place.drift(0.6)),
        "suspended_solids": (7.5, place.drift(0.7)),
    }

    def measure(at: int) -> Reading:
        found: Reading = {metric: usual + drift.next() for metric, (usual, drift) in drifts.items()}
        found["flow"] = float(found["flow"]) + 5.0 * daily(world.hour_of_day(at), lowest=3.5, highest=19.5)
        return found

    return measure


def aquaculture_pond(place: Place) -> Measure:
    world = place.world
    oxygen, acid, ammonia, warmth = place.drift(0.1), place.drift(0.05), place.drift(0.03), place.drift(0.2)

    def measure(at: int) -> Reading:
        of_day = world.hour_of_day(at)
        return {
            "dissolved_oxygen": pond_oxygen(of_day) + oxygen.next(),
            "ph": 8.1 + 0.3 * daily(of_day, lowest=5.5, highest=15.5) + acid.next(),
            "ammonia_nitrogen": 0.25 + ammonia.next(),
            "water_temperature": 26.5 + 1.0 * daily(of_day, lowest=6.0, highest=16.0) + warmth.next(),
        }

    return measure

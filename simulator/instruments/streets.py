"""Air monitors, equipment, and what cameras and door sensors say between their events."""

from __future__ import annotations

from simulator.instruments.place import Measure, Place, Reading
from simulator.physics.noise import jitter
from simulator.physics.sky import daily


def air_monitor(place: Place) -> Measure:
    world, sky = place.world, place.world.script.sky
    dusty = 35.0 if "building-site" in place.device.tags else 0.0
    loud = 5.0 if place.device.tags & {"industry", "building-site"} else 0.0
    fine, dust, sulphur, nitrogen = place.drift(7.0, 40.0), place.drift(9.0), place.drift(1.2), place.drift(4.0)
    carbon, ozone, noise, warmth, damp = (place.drift(s) for s in (60.0, 8.0, 2.5, 0.4, 2.0))

    def measure(at: int) -> Reading:
        hour, of_day = world.hour(at), world.hour_of_day(at)
        washed = 1.0 - 0.5 * min(sky.rain_rate(hour) / 10.0, 1.0)
        pm2_5 = (32.0 + fine.next()) * washed
        pm10 = (1.6 * pm2_5 + dusty) * washed + max(0.0, 8.0 + dust.next())
        sun = daily(of_day, lowest=4.0, highest=15.0)
        awake = 1.0 if 6 <= of_day < 22 else 0.0
        return {
            "pm2_5": pm2_5,
            "pm10": pm10,
            "tsp": 1.5 * pm10,
            "so2": 8.0 + sulphur.next(),
            "no2": 30.0 + 6.0 * awake + nitrogen.next(),
            "co": 700.0 + carbon.next(),
            "o3": max(5.0, 75.0 + 45.0 * sun + ozone.next()),
            "noise": 48.0 + loud + 10.0 * awake + noise.next(),
            "temperature": sky.air_temperature(hour, of_day) + warmth.next(),
            "humidity": min(99.0, 74.0 - 12.0 * sun + damp.next()),
        }

    return measure


def equipment(place: Place) -> Measure:
    world, sky, tags = place.world, place.world.script.sky, place.device.tags
    standby, pumping, turning = "standby" in tags, "pump" in tags, "transformer" not in tags
    warmth, shake, load, supply, water = (place.drift(s) for s in (1.2, 0.25, 1.5, 1.5, 2.0))

    def measure(at: int) -> Reading:
        around = sky.air_temperature(world.hour(at), world.hour_of_day(at))
        found: Reading = {
            "temperature": around + 0.3 * warmth.next() if standby else 58.0 + 0.4 * (around - 27.0) + warmth.next(),
            "current": 0.0 if standby else 46.0 + load.next(),
            "voltage": 0.0 if standby else 396.0 + supply.next(),
            "running": not standby,
        }
        if turning:
            found["vibration"] = 0.0 if standby else 2.2 + shake.next()
        if pumping:
            found["flow"] = 85.0 + water.next()
        return found

    return measure


def camera(_place: Place) -> Measure:
    return lambda _at: {"online": True}


def door_sensor(place: Place) -> Measure:
    charge = float(place.rng.uniform(60.0, 100.0))
    world, rng = place.world, place.rng

    def measure(at: int) -> Reading:
        worn = 0.1 * max(world.hour(at), 0.0) / 24.0  # a battery lasts about two years
        return {"open": False, "battery": max(charge - worn, 40.0), "signal": -72.0 + jitter(rng, 8.0)}

    return measure

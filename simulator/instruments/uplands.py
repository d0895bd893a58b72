"""Pump stations, river gauges and weather stations: the instruments of a flood."""

from __future__ import annotations

from collections.abc import Callable

from devices.attributes import number_at
from devices.instants import SECOND
from simulator.instruments.place import Measure, Place, Reading
from simulator.physics.noise import jitter
from simulator.physics.polder import Polder, PolderShape, PolderState
from simulator.physics.river import wake
from simulator.physics.sky import daily
from simulator.world import interval_of

# The first polders get the whole storm, as do those whose gauge stands in the forebay; over the rest it thins out.
FULL_RAIN = 4
PUMP_AMPERES = 105.0
GAUGE_NOISE = 0.01


def pump_station(place: Place) -> Measure:
    polder = _polder(place)
    world, rng = place.world, place.rng
    lost = world.script.mains_lost.get(place.device.id, [])
    forebay = "forebay-gauge" in place.device.tags
    current = place.drift(2.0)

    def measure(at: int) -> Reading:
        hour = world.hour(at)
        state = polder(hour)
        drawn = 0.05 * (state.running + 1) if forebay and state.running else 0.0  # 0.10 m with one pump, 0.25 with four
        outside = world.script.river.level(hour) + wake(at // SECOND, place.order)
        return {
            "level_inside": state.level - drawn + jitter(rng, GAUGE_NOISE),
            "level_outside": outside + jitter(rng, GAUGE_NOISE),
            "flow": max(0.0, 1.2 * state.running + jitter(rng, 0.05) * state.running),
            "pumps_running": float(state.running),
            "pumps_available": 4.0,
            "gate_height": 0.0 if outside > state.level + 0.1 else 0.8,
            "mains_ok": not any(at in span for span in lost),
            "pump_current": max(0.0, PUMP_AMPERES * state.running + current.next()) if state.running else 0.0,
        }

    return measure


def _polder(place: Place) -> Callable[[float], PolderState]:
    world, attributes = place.world, place.device.attributes
    lag = place.rain_lag_hours()
    whole = place.order < FULL_RAIN or "forebay-gauge" in place.device.tags
    lost = world.script.mains_lost.get(place.device.id, [])
    scale = 1.0 if whole or lost else float(place.rng.uniform(0.70, 0.93))
    hours = [(world.hour(span.start), world.hour(span.end)) for span in lost]
    start = number_at(attributes, "drain_start_level", world.start)
    stop = number_at(attributes, "drain_stop_level", world.start)
    shape = PolderShape(start=3.20 if start is None else start, stop=2.95 if stop is None else stop)
    polder = Polder(
        shape,
        lambda hour: scale * world.script.sky.rain_rate(hour - lag),
        lambda hour: not any(start <= hour < end for start, end in hours),
    )
    return polder.at


def river_gauge(place: Place) -> Measure:
    world, rng = place.world, place.rng
    flow = place.drift(1.5)

    def measure(at: int) -> Reading:
        level = world.script.river.level(world.hour(at)) + wake(at // SECOND, 50 + place.order)
        return {"level": level + jitter(rng, GAUGE_NOISE), "flow": max(0.0, 18.0 + 30.0 * (level - 3.3) + flow.next())}

    return measure


def weather_station(place: Place) -> Measure:
    world, rng, sky = place.world, place.rng, place.world.script.sky
    lag, hours = place.rain_lag_hours(), interval_of(place.device) / 3600.0
    warmth, gust, damp = place.drift(0.3), place.drift(0.1), place.drift(2.0)
    pressure, veer = place.drift(0.4, 60.0), place.drift(15.0, 60.0)

    def measure(at: int) -> Reading:
        hour, of_day = world.hour(at), world.hour_of_day(at)
        rate = sky.rain_rate(hour - lag - hours / 2)
        wet = min(rate / 5.0, 1.0)
        return {
            "rain": rate * hours,
            "temperature": sky.air_temperature(hour, of_day) + warmth.next(),
            "humidity": min(99.0, 74.0 + 18.0 * wet - 12.0 * daily(of_day, lowest=5.0, highest=15.0) + damp.next()),
            "pressure": 1005.0 - 6.0 * wet + pressure.next(),
            "wind_speed": max(0.0, sky.wind.speed(hour) * (1.0 + gust.next()) + jitter(rng, 0.2)),
            "wind_direction": (120.0 + veer.next()) % 360.0,
        }

    return measure

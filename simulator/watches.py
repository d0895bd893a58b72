"""What the rules of examples/qidu/rules are meant to find, said a second time in plain Python.

The simulator may not read the rule language: a mistake there would then excuse itself. A test holds the two lists of
ids together, and another the findings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from devices.instants import HOUR, MINUTE

Values = Mapping[str, float]
Attributes = Mapping[str, float]
Condition = Callable[[Values, Attributes], bool]


@dataclass(frozen=True, slots=True)
class Watch:
    """`when` holds for `hold` µs → raised; `clear` → cleared. A KeyError of a condition means: not known."""

    rule: str
    kind: str
    reads: frozenset[str]
    when: Condition
    clear: Condition
    hold: int = 0
    tag: str | None = None


def _watch(
    rule: str, kind: str, reads: str, *, when: Condition, clear: Condition, hold: int = 0, tag: str | None = None
) -> Watch:
    return Watch(rule, kind, frozenset(reads.split()), when, clear, hold, tag)


def _above(  # noqa: PLR0917 - a row of the table below
    rule: str, kind: str, metric: str, limit: float, back: float, hold: int = 0
) -> Watch:
    return _watch(
        rule, kind, metric, when=lambda v, _a: v[metric] > limit, clear=lambda v, _a: v[metric] <= back, hold=hold
    )


def _over_attribute(rule: str, kind: str, metric: str, attribute: str, hold: int) -> Watch:
    return _watch(
        rule, kind, metric,
        when=lambda v, a: v[metric] > a[attribute],
        clear=lambda v, a: v[metric] <= a[attribute] - 0.20,
        hold=hold,
    )  # fmt: skip


WATCHES: tuple[Watch, ...] = (
    _over_attribute("polder-inside-high", "pump_station", "level_inside", "inside_limit_level", 0),
    _watch("pump-not-started", "pump_station", "level_inside pumps_running",
           when=lambda v, a: v["level_inside"] > a["drain_start_level"] + 0.20 and v["pumps_running"] < 1,
           clear=lambda v, a: v["pumps_running"] >= 1 or v["level_inside"] <= a["drain_start_level"], hold=10 * MINUTE),
    _watch("pump-mains-lost", "pump_station", "mains_ok",
           when=lambda v, _a: not v["mains_ok"], clear=lambda v, _a: bool(v["mains_ok"]), hold=2 * MINUTE),
    _watch("pump-unavailable", "pump_station", "pumps_available",
           when=lambda v, _a: v["pumps_available"] < 3, clear=lambda v, _a: v["pumps_available"] >= 3,
           hold=10 * MINUTE),
    _watch("pump-no-current", "pump_station", "pumps_running pump_current",
           when=lambda v, _a: v["pumps_running"] >= 1 and v["pump_current"] < 30 * v["pumps_running"],
           clear=lambda v, _a: v["pumps_running"] < 1 or v["pump_current"] >= 60 * v["pumps_running"], hold=5 * MINUTE),
    _over_attribute("outside-warning", "pump_station", "level_outside", "outside_warning_level", 5 * MINUTE),
    _over_attribute("outside-guarantee", "pump_station", "level_outside", "outside_guarantee_level", 5 * MINUTE),
    _over_attribute("river-warning", "river_gauge", "level", "warning_level", 10 * MINUTE),
    _over_attribute("river-guarantee", "river_gauge", "level", "guarantee_level", 10 * MINUTE),
    _watch("rain-short-heavy", "weather_station", "rain",
           when=lambda v, _a: v["rain"] * 12 >= 20, clear=lambda v, _a: v["rain"] * 12 < 10, hold=15 * MINUTE),
    _watch("rain-blue-standard", "weather_station", "rain",
           when=lambda v, _a: v["rain"] * 12 >= 25, clear=lambda v, _a: v["rain"] * 12 < 4, hold=115 * MINUTE),
    _watch("wind-gale", "weather_station", "wind_speed",
           when=lambda v, _a: v["wind_speed"] >= 17.2, clear=lambda v, _a: v["wind_speed"] < 13.9, hold=10 * MINUTE),
    _watch("heat-standard", "weather_station", "temperature",
           when=lambda v, _a: v["temperature"] >= 37, clear=lambda v, _a: v["temperature"] < 36, hold=30 * MINUTE),
    _above("air-pm25-high", "air_monitor", "pm2_5", 115, 75, 30 * MINUTE),
    _above("air-dust-high", "air_monitor", "pm10", 250, 150, 30 * MINUTE),
    _above("air-ozone-high", "air_monitor", "o3", 200, 160, 30 * MINUTE),
    _above("air-noise-high", "air_monitor", "noise", 85, 75, 15 * MINUTE),
    _watch("water-oxygen-low", "water_monitor", "dissolved_oxygen",
           when=lambda v, _a: v["dissolved_oxygen"] < 3, clear=lambda v, _a: v["dissolved_oxygen"] >= 4,
           hold=30 * MINUTE),
    _above("water-ammonia-high", "water_monitor", "ammonia_nitrogen", 1.5, 1.0, 30 * MINUTE),
    _above("water-phosphorus-high", "water_monitor", "total_phosphorus", 0.3, 0.2, 30 * MINUTE),
    _watch("water-ph-off", "water_monitor", "ph",
           when=lambda v, _a: v["ph"] < 6 or v["ph"] > 9.5, clear=lambda v, _a: 6.2 <= v["ph"] <= 9.3,
           hold=30 * MINUTE),
    _above("algae-bloom", "algae_buoy", "chlorophyll", 60, 40, 45 * MINUTE),
    _watch("algae-oxygen-low", "algae_buoy", "dissolved_oxygen",
           when=lambda v, _a: v["dissolved_oxygen"] < 2, clear=lambda v, _a: v["dissolved_oxygen"] >= 3,
           hold=30 * MINUTE),
    _above("sewage-cod-high", "sewage_station", "cod", 60, 50, HOUR),
    _above("sewage-ammonia-high", "sewage_station", "ammonia_nitrogen", 8, 5, HOUR),
    _watch("sewage-ph-off", "sewage_station", "ph",
           when=lambda v, _a: v["ph"] < 6 or v["ph"] > 9, clear=lambda v, _a: 6.2 <= v["ph"] <= 8.8, hold=30 * MINUTE),
    _watch("pond-oxygen-low", "aquaculture_pond", "dissolved_oxygen",
           when=lambda v, _a: v["dissolved_oxygen"] < 3, clear=lambda v, _a: v["dissolved_oxygen"] >= 3.5),
    _above("pond-ammonia-high", "aquaculture_pond", "ammonia_nitrogen", 1.0, 0.6, 30 * MINUTE),
    _watch("door-tamper", "door_sensor", "tamper",
           when=lambda v, _a: bool(v["tamper"]), clear=lambda v, _a: not v["tamper"]),
    _watch("door-battery-low", "door_sensor", "battery",
           when=lambda v, _a: v["battery"] < 15, clear=lambda v, _a: v["battery"] >= 30),
    _watch("camera-offline", "camera", "online",
           when=lambda v, _a: not v["online"], clear=lambda v, _a: bool(v["online"]), hold=10 * MINUTE),
    _above("equipment-hot", "equipment", "temperature", 85, 75, 2 * MINUTE),
    _watch("equipment-vibration", "equipment", "vibration", tag="motor",
           when=lambda v, _a: v["vibration"] > 7.1, clear=lambda v, _a: v["vibration"] <= 4.5, hold=5 * MINUTE),
    _watch("equipment-voltage-low", "equipment", "running voltage",
           when=lambda v, _a: bool(v["running"]) and v["voltage"] < 340, clear=lambda v, _a: v["voltage"] >= 360,
           hold=2 * MINUTE),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EventWatch:
    """Raised and cleared at every such event."""

    rule: str
    kind: str
    event: str


@dataclass(frozen=True, slots=True)
class SinceWatch:
    """Raised `limit` µs after the last such event, or after the device was first heard; cleared by the next."""

    rule: str
    kind: str
    event: str
    limit: int


@dataclass(frozen=True, slots=True)
class CountWatch:
    """Raised when so many such events lie within `window` µs, cleared when no longer."""

    rule: str
    kind: str
    tag: str
    event: str
    window: int
    least: int


EVENT_WATCHES = (
    EventWatch("door-opened", "door_sensor", "door_opened"),
    EventWatch("camera-tamper", "camera", "tamper"),
)
SINCE_WATCHES = (SinceWatch("elder-no-movement", "door_sensor", "door_opened", 24 * HOUR),)
COUNT_WATCHES = (CountWatch("camera-intrusion", "camera", "no-go", "person_detected", 10 * MINUTE, 3),)

RULES = frozenset(
    [w.rule for w in WATCHES]
    + [w.rule for w in EVENT_WATCHES]
    + [w.rule for w in SINCE_WATCHES]
    + [w.rule for w in COUNT_WATCHES]
)

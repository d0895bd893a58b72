"""The flood-night table: how far every pump station is from its limit and when it will be there, worst first.

The surprise: a station that has gone quiet is not calm. Its last values are shown struck through, nothing is computed
from them, and it stands above the stations that are known to be well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from console.pages import page_or_part
from console.places import Places, read_places, shown_name
from console.texts import Language, say
from console.visits import Signed, SignedVisit
from console.words import Level, level, number
from devices.attributes import number_at
from devices.batch import F64, I64, Quality
from devices.instants import HOUR, MINUTE, SECOND
from devices.registry import Device, DeviceStatus
from rules.rule import Priority
from store.readings import StoreUnavailable
from store.records.alarms import standing

router = APIRouter()

KIND = "pump_station"
# A value is stale after three missed reports, as rules see it (docs/architecture.md §4).
STALE_INTERVALS = 3
# Near: what the pumps of a station cannot take back before somebody is there.
NEAR_M = 0.10
NEAR_TIME = 2 * HOUR
# A slope over less than ten minutes is wave and noise; ±1 cm of noise over an hour is well under 1 cm/h.
RATE_SPAN, RATE_LEAST = HOUR, 10 * MINUTE
RISING_CM_H = 0.5
_MOST_POINTS = 4_000

Latest = Mapping[str, tuple[int, float, int]]


@dataclass(frozen=True, slots=True)
class Second:
    """What another source of the station says of its inside level; it is no station of its own."""

    device: str
    inside: float
    at: int
    stale: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One station. `state` is over, near or empty; `rate` in cm/h; `time_left` in microseconds; None is unknown."""

    device: str
    name: str
    grid_name: str
    datum: str
    keeper: str
    keeper_phone: str
    priority: Priority | None
    inside: float | None
    limit: float | None
    margin: float | None
    margin_text: str
    bar: Level | None
    state: str
    rate: float | None
    rate_text: str
    time_left: int | None
    outside: float | None
    outside_warning: float | None
    outside_state: str
    running: float | None
    available: float | None
    pumps_short: bool
    mains: bool | None
    at: int | None
    stale: bool
    seconds: Sequence[Second] = ()

    @property
    def rising(self) -> bool:
        return self.rate is not None and self.rate >= RISING_CM_H

    @property
    def badness(self) -> tuple[int, float, float]:
        """Worst first: over its limit, near it, unknown, then by what is left."""
        group = {"over": 0, "near": 1}.get(self.state, 2 if self.stale else 3)
        left = self.time_left if self.time_left is not None and not self.stale else float("inf")
        return group, left if group else 0.0, self.margin if self.margin is not None else float("inf")


@dataclass(frozen=True, slots=True)
class Pumps:
    rows: Sequence[Row]

    @property
    def over(self) -> int:
        return sum(row.state == "over" and not row.stale for row in self.rows)

    @property
    def near(self) -> int:
        return sum(row.state == "near" and not row.stale for row in self.rows)

    @property
    def stale(self) -> int:
        return sum(row.stale for row in self.rows)


def pumps_of(visit: SignedVisit) -> Pumps:
    installation = visit.installation
    with installation.records.connect() as tx:
        places = read_places(tx)
        worst: dict[str, Priority] = {}
        for alarm in standing(tx, notices=False):
            worst.setdefault(alarm.device, alarm.priority)
    latest = installation.latest()
    stations = [d for d in installation.registry.devices if d.kind == KIND and d.status is DeviceStatus.ACTIVE]
    rows = [
        replace(_row(visit, d, latest.of(d.number), places=places, priority=worst.get(d.id)),
                seconds=[s for other in stations if other.second_of == d.id and (s := _second(visit, other))])
        for d in stations if d.second_of is None
    ]  # fmt: skip
    return Pumps(sorted(rows, key=lambda row: row.badness))


def _row(visit: SignedVisit, device: Device, values: Latest, *, places: Places, priority: Priority | None) -> Row:
    now = visit.now
    measured = values.get("level_inside")
    at = measured[0] if measured else None
    stale = is_stale(device, at, now)
    inside, outside = value_of(values, "level_inside"), value_of(values, "level_outside")
    limit = number_at(device.attributes, "inside_limit_level", now)
    warning = number_at(device.attributes, "outside_warning_level", now)
    margin = None if inside is None or limit is None else limit - inside
    rate = None if stale else _rate(visit, device, now)
    time_left = _time_left(margin, rate)
    running, available = value_of(values, "pumps_running"), value_of(values, "pumps_available")
    mains = value_of(values, "mains_ok")
    return Row(
        device=device.id,
        name=shown_name(visit, device),
        grid_name=places.name(device.grid, visit.language),
        datum=str(device.attributes.get("datum", "")),
        keeper=device.keeper,
        keeper_phone=device.keeper_phone,
        priority=priority,
        inside=inside,
        limit=limit,
        margin=margin,
        margin_text="—" if margin is None else say(visit.language, "pumps.cm", n=number(margin * 100, decimals=0)),
        bar=_bar(device, inside, limit, now),
        state=_state(margin, time_left),
        rate=rate,
        rate_text=_rate_text(rate, visit.language),
        time_left=time_left,
        outside=outside,
        outside_warning=warning,
        outside_state="over" if outside is not None and warning is not None and outside > warning else "",
        running=running,
        available=available,
        pumps_short=running is not None and available is not None and 0 < available <= running,
        mains=None if mains is None else mains >= 0.5,
        at=at,
        stale=stale,
    )


def _second(visit: SignedVisit, device: Device) -> Second | None:
    """None where it never told a level."""
    measured = visit.installation.latest().of(device.number).get("level_inside")
    if measured is None or measured[2] == Quality.BAD:
        return None
    return Second(device.id, measured[1], measured[0], is_stale(device, measured[0], visit.now))


def value_of(values: Latest, metric: str) -> float | None:
    """The newest value that is not bad."""
    found = values.get(metric)
    return None if found is None or found[2] == Quality.BAD else found[1]


def is_stale(device: Device, at: int | None, now: int) -> bool:
    """Never heard is stale too. A sensor that sleeps on purpose is judged by its own silence limit."""
    allowed = device.silent_after_s or STALE_INTERVALS * device.interval_s
    return at is None or now - at > allowed * SECOND


def slope_cm_h(measured_at: I64, value: F64) -> float | None:
    """Least squares over the points, metres in, cm per hour out; None where they span too little."""
    if len(measured_at) < 3 or measured_at[-1] - measured_at[0] < RATE_LEAST:
        return None
    hours = (measured_at - measured_at[0]) / HOUR
    centred = hours - hours.mean()
    return float((centred * (value - value.mean())).sum() / (centred**2).sum() * 100)


def _rate(visit: SignedVisit, device: Device, now: int) -> float | None:
    series = visit.installation.registry.find_series(device.number, "level_inside")
    if series is None:
        return None
    try:
        points = visit.installation.readings.range(series, now - RATE_SPAN, now + 1, _MOST_POINTS)
    except StoreUnavailable:
        return None
    good = points.quality != Quality.BAD
    return slope_cm_h(points.measured_at[good], points.value[good])


def _time_left(margin: float | None, rate: float | None) -> int | None:
    if margin is None or rate is None or rate < RISING_CM_H or margin < 0:
        return None
    return round(margin * 100 / rate * HOUR)


def _state(margin: float | None, time_left: int | None) -> str:
    if margin is None:
        return ""
    if margin < 0:
        return "over"
    return "near" if margin <= NEAR_M or (time_left is not None and time_left < NEAR_TIME) else ""


def _bar(device: Device, inside: float | None, limit: float | None, now: int) -> Level | None:
    if inside is None or limit is None:
        return None
    stop = number_at(device.attributes, "drain_stop_level", now)
    low = (limit - 1.0 if stop is None else stop) - 0.25
    return level(inside, limit, low, limit + (limit - low) * 0.4)


def _rate_text(rate: float | None, language: Language) -> str:
    if rate is None:
        return ""
    sign = "+" if rate >= 0.05 else ""
    return say(language, "pumps.cm_h", n=sign + number(rate, decimals=1))


@router.get("/pumps")
def see_pumps(request: Request, visit: Signed) -> Response:
    return page_or_part(request, visit, "pumps.html", "parts/pumps.html", here="pumps", view=pumps_of(visit))

"""Holds and accumulations over real recordings, against counts in plain Python that know nothing of the engine.

Rain is counted in exact tenths, and what just reaches a limit has reached it.
"""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from devices.instants import from_datetime, to_datetime
from devices.registry import Device, Registry
from rules.backtest import Finding, backtest
from rules.book import load
from rules.calendar import Site
from rules.engine import Rows

pytestmark = pytest.mark.shared
HOUR = timedelta(hours=1)
BEIJING = ZoneInfo("Asia/Shanghai")
GAUGES = ("Bacup", "Gorple", "Gorpley", "Walshaw-Dean-Lodge")
# About a tenth of the four rainstorm standards, because this was a quiet month: millimetres, hours, priority.
TENTHS = ((5, 12, "low"), (5, 6, "medium"), (5, 3, "high"), (8, 3, "critical"))
Readings = list[tuple[datetime, Decimal]]
Span = tuple[datetime, datetime | None]


def judge(
    rules: str, kind: str, series: Mapping[str, Readings], *, interval_s: float, zone: str = "UTC"
) -> list[Finding]:
    """What the engine finds in each device's readings of its one metric."""
    registry = Registry()
    metric = {"weather_station": "rain", "air_monitor": "pm2_5"}[kind]
    for number, name in enumerate(series):
        registry.put(Device(number, name, "recorded", kind, interval_s=interval_s))
        registry.series(number, metric)
    measured = sorted(
        (from_datetime(at), number, float(value))
        for number, readings in enumerate(series.values()) for at, value in readings
    )  # fmt: skip
    at, device, value = (np.array(column) for column in zip(*measured, strict=True))
    device = device.astype(np.int32)
    rows = Rows(device, at.astype(np.int64), value, np.arange(len(at), dtype=np.int32), device)
    return backtest(load({"recorded.yaml": rules}), registry, [rows], site=Site(zone))


def spans(found: list[Finding], rule: str, device: str) -> list[Span]:
    return [
        (to_datetime(f.raised_at), None if f.cleared_at is None else to_datetime(f.cleared_at))
        for f in found if f.rule == rule and f.device == device
    ]  # fmt: skip


def air(shared: Path, station: str) -> Readings:
    """Hours of the clock in Beijing; NA is left out."""
    path = shared / "data/beijing_air" / f"PRSA_Data_{station}_20130301-20170228.csv"
    with path.open(encoding="utf-8") as lines:
        return [
            (datetime(int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"]), tzinfo=BEIJING),
             Decimal(row["PM2.5"]))
            for row in csv.DictReader(lines) if row["PM2.5"] != "NA"
        ]  # fmt: skip


def rain(shared: Path) -> dict[str, Readings]:
    """What fell in the quarter of an hour up to each instant."""
    found = {}
    for gauge in GAUGES:
        with (shared / "data/ea_calder_2025/weather" / f"{gauge}-rainfall-15min-Qualified.csv").open() as lines:
            found[gauge.lower()] = [
                (datetime.fromisoformat(row["dateTime"]).replace(tzinfo=UTC), Decimal(row["value"]))
                for row in csv.DictReader(lines)
            ]
    return found


def held(readings: Readings, hold: timedelta, gap: timedelta | None) -> Iterator[Span]:
    """Above 75 for so long until at most 50: stretch by stretch of readings without a gap."""
    place = 0
    while place < len(readings):
        above = place
        while above < len(readings) and readings[above][1] <= 75:
            above += 1
        last = above
        while last < len(readings) and readings[last][1] > 75:
            if gap is not None and last > above and readings[last][0] - readings[last - 1][0] > gap:
                above = last
            if readings[last][0] - readings[above][0] >= hold:
                break
            last += 1
        if last == len(readings):
            return
        place = last + 1
        if readings[last][1] > 75:
            end = next((k for k in range(last + 1, len(readings)) if readings[k][1] <= 50), len(readings))
            yield readings[last][0], readings[end][0] if end < len(readings) else None
            place = end + 1


@pytest.mark.parametrize(("station", "patient", "strict"), [("Guanyuan", 454, 454), ("Wanliu", 442, 441)])
def test_three_hours_above_75_in_beijing(shared: Path, station: str, patient: int, strict: int) -> None:
    readings = air(shared, station)
    rules = "rules:\n" + "".join(
        f"  - {{id: {name}, when: pm2_5 > 75, for: 3h, clear: pm2_5 <= 50, max_gap: {gap}}}\n"
        for name, gap in (("patient", "none"), ("strict", "1h"))
    )
    found = judge(rules, "air_monitor", {"station": readings}, interval_s=3600, zone="Asia/Shanghai")
    assert spans(found, "patient", "station") == list(held(readings, 3 * HOUR, None))
    assert spans(found, "strict", "station") == list(held(readings, 3 * HOUR, HOUR))
    counts = Counter(f.rule for f in found)
    assert (counts["patient"], counts["strict"]) == (patient, strict)


def fallen(readings: Readings, hours: int) -> list[Decimal]:
    """At each reading what fell in so many hours up to it, the reading itself included."""
    totals, inside = [], deque[tuple[datetime, Decimal]]()
    for at, value in readings:
        inside.append((at, value))
        while inside[0][0] <= at - hours * HOUR:
            inside.popleft()
        totals.append(sum((v for _, v in inside), Decimal()))
    return totals


def reached(readings: Readings, totals: list[Decimal], millimetres: int) -> list[Span]:
    """From the first reading with so much behind it to the first with less."""
    turns = [place for place, now in enumerate(totals) if (now >= millimetres) is not
             (place > 0 and totals[place - 1] >= millimetres)]  # fmt: skip
    at: list[datetime | None] = [*(readings[place][0] for place in turns), None]
    return [(start, end) for start, end in zip(at[::2], at[1::2], strict=False) if start is not None]


def test_no_gauge_of_a_quiet_month_reached_a_rainstorm_standard(shared: Path) -> None:
    rules = _rain_rules((f"r{mm}-{hours}", mm, hours) for mm, hours in ((50, 12), (50, 6), (50, 3), (100, 3)))
    assert judge(rules, "weather_station", rain(shared), interval_s=900) == []


def _rain_rules(standards: Iterator[tuple[str, int, int]]) -> str:
    return "rules:\n" + "".join(
        f"  - {{id: {name}, when: 'sum(rain, {hours}h) >= {mm}'}}\n" for name, mm, hours in standards
    )


def test_what_fell_in_three_six_and_twelve_hours(shared: Path) -> None:
    gauges = rain(shared)
    standards = [(f"r{mm}-{hours}", mm, hours) for mm in (5, 8, 10, 12, 15) for hours in (3, 6, 12)]
    found = judge(_rain_rules(iter(standards)), "weather_station", gauges, interval_s=900)
    for gauge, readings in gauges.items():
        totals = {hours: fallen(readings, hours) for hours in (3, 6, 12)}
        for name, mm, hours in standards:
            assert spans(found, name, gauge) == reached(readings, totals[hours], mm), (name, gauge)
    for each in found:
        during = [
            v for at, v in gauges[each.device] if each.raised_at <= from_datetime(at) < (each.cleared_at or 2**62)
        ]
        assert each.peak_value == float(max(during))
    assert len(found) == 91


def test_a_tenth_of_the_standards_as_levels_of_one_alarm(shared: Path) -> None:
    gauges = rain(shared)
    levels = "".join(
        f"      - {{priority: {priority}, when: 'sum(rain, {hours}h) >= {mm}'}}\n" for mm, hours, priority in TENTHS
    )
    found = judge(f"rules:\n  - id: standard\n    levels:\n{levels}", "weather_station", gauges, interval_s=900)
    for gauge, readings in gauges.items():
        told = [
            (to_datetime(f.raised_at), None if f.cleared_at is None else to_datetime(f.cleared_at),
             [(to_datetime(at), str(priority)) for at, priority in f.priority])
            for f in found if f.device == gauge
        ]  # fmt: skip
        assert told == list(_worst_by_reading(readings)), gauge
    assert len(found) == 19
    assert Counter(str(priority) for f in found for _, priority in f.priority) == {
        "low": 27, "medium": 26, "high": 17, "critical": 2,
    }  # fmt: skip


def _worst_by_reading(readings: Readings) -> Iterator[tuple[datetime, datetime | None, list[tuple[datetime, str]]]]:
    totals = {hours: fallen(readings, hours) for _, hours, _ in TENTHS}
    start: datetime | None = None
    changes: list[tuple[datetime, str]] = []
    for place, (at, _) in enumerate(readings):
        worst = [priority for mm, hours, priority in TENTHS if totals[hours][place] >= mm][-1:]
        if worst and (start is None or changes[-1][1] != worst[0]):
            start = start or at
            changes.append((at, worst[0]))
        elif not worst and start is not None:
            yield start, at, changes
            start, changes = None, []
    if start is not None:
        yield start, None, changes


@pytest.mark.parametrize(
    ("zone", "counts"),
    [("UTC", {"day5": 23, "day9": 10, "day11": 3}), ("Europe/London", {"day5": 22, "day9": 11, "day11": 3})],
)
def test_rainy_days_of_the_site(shared: Path, zone: str, counts: dict[str, int]) -> None:
    """A day is told at the midnight that ends it; summer time makes it begin an hour earlier than the day of UTC."""
    gauges, limits = rain(shared), (5, 9, 11)
    rules = "rules:\n" + "".join(
        f'  - {{id: day{mm}, when: \'sum(rain, 1d) >= {mm} and between("00:00", "00:15")\'}}\n' for mm in limits
    )
    found = judge(rules, "weather_station", gauges, interval_s=900, zone=zone)
    for gauge, readings in gauges.items():
        days = by_day(readings, ZoneInfo(zone))
        for mm in limits:
            wet = [midnight_after(day, ZoneInfo(zone)) for day, total in sorted(days.items()) if total >= mm]
            ended = [at for at in wet if at <= readings[-1][0]]
            quarter = timedelta(minutes=15)
            assert spans(found, f"day{mm}", gauge) == [(at, at + quarter) for at in ended], (gauge, mm)
    assert Counter(f.rule for f in found) == counts


def by_day(readings: Readings, zone: ZoneInfo) -> dict[date, Decimal]:
    """What a reading at midnight tells fell on the day before."""
    days: dict[date, Decimal] = {}
    for at, value in readings:
        day = (at - timedelta(microseconds=1)).astimezone(zone).date()
        days[day] = days.get(day, Decimal()) + value
    return days


def midnight_after(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), zone).astimezone(UTC)

"""Backtest: the alarms that recorded data must give, and what a service running then would have said."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from devices.instants import from_datetime, from_iso, to_iso
from devices.registry import Device, Registry
from rules.backtest import Finding, Newest, backtest
from rules.book import load
from rules.outcome import Rows
from tests.conftest import SHARED
from tests.rules.desk import START, at, rows, rule, town

DATA = SHARED / "data"
BEIJING = timezone(timedelta(hours=8))


def run(kind: str, metric: str, readings: list[tuple[int, float]], text: str, chunk: int = 5000) -> list[Finding]:
    registry = Registry()
    registry.put(Device(0, "it", "site", kind, first_seen=readings[0][0]))
    series = registry.series(0, metric)
    book = load({"b.yaml": f"rules:\n  - {{id: r, applies_to: {{kind: {kind}}}, max_gap: none, {text}}}"})

    def chunks() -> Iterator[Rows]:
        for start in range(0, len(readings), chunk):
            part = readings[start : start + chunk]
            yield Rows(
                np.full(len(part), series, np.int32),
                np.array([instant for instant, _ in part], np.int64),
                np.array([value for _, value in part]),
                np.arange(len(part), dtype=np.int32),
                np.zeros(len(part), np.int32),
            )

    return backtest(book, registry, chunks())


def table(path: str) -> Iterator[dict[str, str]]:
    with (DATA / path).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def hour_of(row: dict[str, str]) -> int:
    year, month, day, hour = (int(row[name]) for name in ("year", "month", "day", "hour"))
    return from_datetime(datetime(year, month, day, hour, tzinfo=BEIJING))


@pytest.mark.shared
def test_the_water_flow_of_a_pipeline_fails_three_times() -> None:
    readings = [
        (from_iso(row["Time"]), float(row["Water flow [l/s]"])) for row in table("tecnojest_waterflow/water-flow.csv")
    ]
    found = run("equipment", "flow", readings, "when: flow < 60")
    edges = [
        ("2022-03-24T09:00:00+01:00", "2022-03-25T00:00:00+01:00"),
        ("2022-03-29T09:00:00+02:00", "2022-03-29T18:00:00+02:00"),
        ("2022-04-27T16:00:00+02:00", "2022-04-28T05:00:00+02:00"),
    ]
    assert [(f.raised_at, f.cleared_at) for f in found] == [(from_iso(a), from_iso(b)) for a, b in edges]


@pytest.mark.shared
@pytest.mark.parametrize(("station", "count"), [("Guanyuan", 604), ("Wanliu", 592)])
@pytest.mark.parametrize("chunk", [1, 977, 100_000])
def test_four_years_of_beijing_air(station: str, count: int, chunk: int) -> None:
    readings = [
        (hour_of(row), float(row["PM2.5"]))
        for row in table(f"beijing_air/PRSA_Data_{station}_20130301-20170228.csv")
        if row["PM2.5"] not in ("", "NA")
    ]
    if chunk == 1:
        readings = readings[:3000]
        count = len(run("air_monitor", "pm2_5", readings, "when: pm2_5 > 75, clear: pm2_5 <= 50"))
    assert len(run("air_monitor", "pm2_5", readings, "when: pm2_5 > 75, clear: pm2_5 <= 50", chunk)) == count


@pytest.mark.shared
def test_the_calder_at_hebden_bridge_rises_once() -> None:
    readings = [
        (from_iso(row["dateTime"] + "Z"), float(row["value"]))
        for row in table("ea_calder_2025/river/Hebden-Bridge-level-15min-Qualified.csv")
        if row["value"]
    ]
    (only,) = run("river_gauge", "level", readings, "when: level > 0.20")
    assert (to_iso(only.raised_at), only.peak_value) == ("2025-09-12T07:00:00Z", 0.289)
    assert only.cleared_at == from_iso("2025-09-12T14:45:00Z")


@pytest.mark.shared
def test_the_machine_that_failed_cools_down_three_times() -> None:
    (path,) = (DATA / "nab").rglob("*machine_temperature*.csv")
    readings = [
        (from_datetime(datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC)), float(row["value"]))
        for row in table(str(path.relative_to(DATA)))
    ]
    found = run("equipment", "temperature", readings, "when: temperature < 45, clear: temperature >= 60")
    assert [to_iso(f.raised_at) for f in found] == [
        "2013-12-16T15:25:00Z", "2014-02-03T11:10:00Z", "2014-02-08T00:00:00Z",
    ]  # fmt: skip


def test_what_still_stands_at_the_end_is_listed_with_its_peak_so_far() -> None:
    devices = town()
    chunks = [rows(devices, [("ps-1", "1m", {"level_inside": v})]) for v in (3.6,)]
    chunks.append(rows(devices, [("ps-1", "2m", {"level_inside": 3.8}), ("ps-1", "3m", {"level_inside": 3.7})]))
    (only,) = backtest(rule("level_inside > 3.5"), devices, chunks)
    assert (only.cleared_at, only.first_value, only.peak_value) == (None, 3.6, 3.8)


def test_an_absence_is_found_between_two_readings_of_the_past() -> None:
    devices = town()
    readings = rows(devices, [("ps-1", f"{m}m", {"level_inside": 3.0}) for m in (1, 2, 30, 31)])
    (only,) = backtest(rule("absent(level_inside, 15m)"), devices, [readings])
    assert (only.raised_at, only.cleared_at) == (at("17m"), at("30m"))


def test_a_repeated_or_older_row_is_skipped_within_and_across_chunks() -> None:
    devices = town()
    newest = Newest()
    order = ["2m", "1m", "2m", "3m", "3m", "2m", "4m"]
    mixed = [("ps-1" if i % 3 else "ps-2", after, {"level_inside": float(i)}) for i, after in enumerate(order * 3)]
    last: dict[str, int] = {}
    for start in range(0, len(mixed), 5):
        part = mixed[start : start + 5]
        wanted = []
        for name, after, values in part:
            if at(after) > last.get(name, START):
                last[name] = at(after)
                wanted.append(values["level_inside"])
        assert newest.only(rows(devices, part)).value.tolist() == wanted

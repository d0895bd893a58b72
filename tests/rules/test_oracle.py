"""The plain engine itself, against numbers worked out by hand; minutes from the start."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pytest

from devices.instants import MINUTE, from_iso
from devices.registry import Registry
from rules.book import RuleBook
from rules.calendar import Calendar
from rules.declared import Declared, Pause, Response, Span
from rules.expression import (
    Absent,
    Between,
    ByResponse,
    Compare,
    DeviceAbsent,
    Event,
    Expression,
    Group,
    Holiday,
    Metric,
    Mode,
    Number,
    Weekday,
)
from rules.rule import NO_GAP, AppliesTo, Level, Priority, Rule
from tests.rules import oracle_windows as windows
from tests.rules.desk import START, put, town
from tests.rules.oracle import Oracle
from tests.rules.oracle_time import Scheduled, Times

HIGH = Compare(">", Metric("level_inside"), Number(3.5))
PUMPS = AppliesTo(kind="pump_station", devices=frozenset({"ps-1"}))


def at(minutes: float) -> int:
    return START + round(minutes * MINUTE)


class Sheet:
    """An oracle and what it has said: "raised 2", "changed 3 critical", "cleared 5"; of groups the subject too."""

    def __init__(self, rule: Rule, registry: Registry | None = None, calendar: Calendar | None = None) -> None:
        devices = (registry or town()).devices
        self.oracle = Oracle(RuleBook({rule.id: rule}, {}), devices, calendar=calendar or Calendar())
        self.said: list[str] = []
        self.number = 0

    def take(self, told: list) -> None:  # type: ignore[type-arg]
        for t in told:
            priority = f" {t.priority}" if t.priority else ""
            self.said.append(f"{t.edge} {(t.at - START) / MINUTE:g}{priority}")

    def reads(self, minutes: float, values: Mapping[str, float], device: str = "ps-1") -> None:
        self.take(self.oracle.element(self.number, device, at(minutes), values))
        self.number += 1

    def levels(self, *readings: tuple[float, float]) -> Sheet:
        for minutes, value in readings:
            self.reads(minutes, {"level_inside": value})
        return self

    def ticks(self, minutes: float) -> Sheet:
        self.take(self.oracle.tick(at(minutes)))
        return self

    def declares(self, declared: Declared, minutes: float) -> Sheet:
        self.take(self.oracle.declare(declared, at(minutes)))
        return self


def rule(when: Expression = HIGH, **fields: object) -> Rule:
    given: dict[str, object] = {"applies_to": PUMPS, **fields}
    return Rule("r", when, **given)  # type: ignore[arg-type]


# Every minute a value: 0 → 4, 1 → 1, 2 → 7, 3 → 2, 4 → 2.
FIVE = [(at(k), value) for k, value in enumerate([4.0, 1.0, 7.0, 2.0, 2.0])]


@pytest.mark.parametrize(
    ("function", "span", "expected"),
    [
        ("avg", 5, 3.2), ("avg", 4, 3.0), ("min", 4, 1.0), ("max", 3, 7.0), ("sum", 2, 4.0), ("count", 5, 5),
        ("median", 5, 2.0), ("median", 4, 2.0), ("median", 2.5, 2.0), ("stddev", 2, 0.0), ("stddev", 4, 5.5**0.5),
        ("delta", 5, -2.0), ("delta", 1, None), ("rate", 2, 0.0), ("rate", 3, -2.5 / 60), ("rate", 1, None),
        ("increase", 3, 6.0 + 2.0 + 0.0), ("increase", 2, 2.0 + 0.0), ("increase", 5, 1.0 + 6.0 + 2.0 + 0.0),
    ],
)  # fmt: skip
def test_five_values_by_hand(function: str, span: float, expected: float | None) -> None:
    found = windows.window(function, FIVE, at(4), round(span * MINUTE), max_gap=MINUTE)
    assert found == (None if expected is None else pytest.approx(expected))


def test_tenths_add_up() -> None:
    tenths = [(at(k), 0.1 + k % 2 * 0.2) for k in range(500)]
    assert windows.window("sum", tenths, at(499), 500 * MINUTE, max_gap=MINUTE) == 100.0
    assert windows.window("avg", tenths, at(499), 500 * MINUTE, max_gap=MINUTE) == 0.2
    assert windows.window("delta", tenths, at(499), 2 * MINUTE, max_gap=MINUTE) == 0.2


def test_a_window_is_open_at_its_old_end_and_closed_at_its_new_one() -> None:
    assert [value for _, value in windows.inside(FIVE, at(3), 2 * MINUTE)] == [7.0, 2.0]


def test_an_anchor_too_far_before_the_window_is_no_neighbour_of_a_counter() -> None:
    samples = [(at(0), 10.0), (at(5), 30.0), (at(6), 35.0)]
    assert windows.window("increase", samples, at(6), 2 * MINUTE, max_gap=5 * MINUTE) == 25.0
    assert windows.window("increase", samples, at(6), 2 * MINUTE, max_gap=4 * MINUTE) == 5.0
    assert windows.window("increase", samples, at(6), MINUTE, max_gap=MINUTE) == 5.0
    assert windows.window("increase", samples, at(9), MINUTE, max_gap=9 * MINUTE) is None


def test_stuck_needs_an_anchor_a_sample_and_no_silence() -> None:
    still = [(at(0), 3.0), (at(2), 3.001), (at(4), 3.0)]
    assert windows.flat(still, at(4), 4 * MINUTE, 0.01, max_gap=2 * MINUTE) is True
    assert windows.flat(still, at(4), 4 * MINUTE, 0.0001, max_gap=2 * MINUTE) is False
    assert windows.flat(still, at(4), 5 * MINUTE, 0.01, max_gap=2 * MINUTE) is None
    assert windows.flat(still, at(4), 4 * MINUTE, 0.01, max_gap=MINUTE) is None
    assert windows.flat(still, at(9), 4 * MINUTE, 0.01, max_gap=9 * MINUTE) is None


def test_a_step_is_one_between_neighbours() -> None:
    assert windows.spike(FIVE[:3], 5.9, max_gap=MINUTE) is True
    assert windows.spike(FIVE[:3], 6.0, max_gap=MINUTE) is False
    assert windows.spike(FIVE[:1], 0.1, max_gap=MINUTE) is None
    assert windows.spike(FIVE[:2], 0.1, max_gap=MINUTE - 1) is None


def test_a_trend_goes_on_and_where_there_is_none_the_median_stays() -> None:
    rising = [(at(k), 1.0 + k) for k in range(5)]
    assert windows.forecast(rising, at(4), 5 * MINUTE, 10 * MINUTE) == pytest.approx(15.0)
    assert windows.forecast(rising, at(5), 6 * MINUTE, 10 * MINUTE) == pytest.approx(16.0)
    one_wild = [*rising[:2], (at(2), 90.0), *rising[3:]]
    assert windows.forecast(one_wild, at(4), 5 * MINUTE, 0) == 4.0, "the wild one outweighs the fit: no trend"
    assert windows.forecast(rising[1:], at(4), 5 * MINUTE, 0) is None, "four are too few"
    assert windows.forecast(rising, at(4), 9 * MINUTE, 0) is None, "four minutes are less than half of nine"
    assert windows.forecast([(t, 2.0) for t, _ in rising], at(4), 5 * MINUTE, MINUTE) == 2.0


def test_many_samples_are_thinned_by_place() -> None:
    many = [(at(k), float(k)) for k in range(127)]
    assert [round(v) for _, v in windows.thinned(many)] == list(range(0, 127, 2))
    assert len(windows.thinned(many[:65])) == 64
    assert windows.thinned(many[:64]) == many[:64]


def test_the_wall_clock_and_the_days_off() -> None:
    calendar = Calendar(
        frozenset({date(2026, 10, 1)}), frozenset({date(2026, 10, 10)}), frozenset({2026}), ((5, 1), (9, 30))
    )
    times = Times("Asia/Shanghai", calendar, Declared())
    night = Between(22 * 60 * MINUTE, 6 * 60 * MINUTE)

    def told(node: Scheduled, *texts: str) -> list[bool]:
        return [times.truth(node, from_iso(f"2026-{text}+08:00")) for text in texts]

    assert told(night, "07-01T21:59:59", "07-01T22:00:00", "07-02T05:59:59", "07-02T06:00:00") == [0, 1, 1, 0]
    assert told(Holiday(), "10-01T12:00:00", "10-02T12:00:00", "10-03T12:00:00", "10-10T12:00:00") == [1, 0, 1, 0]
    assert told(Weekday(frozenset({0})), "07-06T00:00:00", "07-05T23:59:59") == [1, 0]
    assert told(Mode("flood_season"), "04-30T23:59:59", "05-01T00:00:00", "09-30T12:00:00", "10-01T00:00:00") == [
        0,
        1,
        1,
        0,
    ]
    assert times.changes(night, START, START + 24 * 60 * MINUTE) == [
        from_iso("2026-07-01T22:00:00+08:00"), from_iso("2026-07-02T06:00:00+08:00")]  # fmt: skip


def test_an_hour_that_is_skipped_and_one_that_comes_twice() -> None:
    times = Times("Europe/London", Calendar(), Declared())
    early = Between(90 * MINUTE, 150 * MINUTE)
    spring = times.changes(early, from_iso("2026-03-29T00:00:00Z"), from_iso("2026-03-29T12:00:00Z"))
    assert spring == [from_iso("2026-03-29T01:00:00Z"), from_iso("2026-03-29T01:30:00Z")]
    autumn = times.changes(early, from_iso("2026-10-25T00:00:00Z"), from_iso("2026-10-25T12:00:00Z"))
    assert autumn == [from_iso(f"2026-10-25T{t}:00Z") for t in ("00:30", "01:00", "01:30", "02:30")]


def test_three_of_five() -> None:
    sheet = Sheet(rule(repeat=(3, 5))).levels((1, 4), (2, 3), (3, 4), (4, 3), (5, 4), (6, 3), (7, 3))
    assert sheet.said == ["raised 5", "cleared 6"]
    silent = Sheet(rule(repeat=(2, 3))).levels((1, 4), (2, 4), (20, 4), (21, 3), (22, 3))
    assert silent.said == ["raised 2", "cleared 22"], "a silence empties the count, and one of one is no opinion"


def test_what_is_kept_clears_late_and_an_event_by_the_clock() -> None:
    sheet = Sheet(rule(keep_us=5 * MINUTE)).levels((1, 4), (3, 3), (5, 3), (6, 3))
    assert sheet.said == ["raised 1", "cleared 6"]
    door = Sheet(rule(Event("door_opened"), applies_to=AppliesTo(kind="door_sensor"), keep_us=5 * MINUTE))
    for minute in (1, 3):
        door.reads(minute, {"event:door_opened": 1.0}, "door")
    assert door.ticks(5.9).said == ["raised 1"]
    assert door.ticks(9).said == ["raised 1", "cleared 6"]


def test_only_in_the_flood_season() -> None:
    calendar = Calendar(flood_season=((6, 1), (7, 1)))
    sheet = Sheet(rule(only_in=("flood_season",)), calendar=calendar)
    sheet.levels((1, 4))
    assert sheet.ticks(959).said == ["raised 1"]
    assert sheet.ticks(961).said == ["raised 1", "cleared 960"], "1 July ends at 16:00 UTC"


def test_a_drill_is_seen_by_the_clock_and_a_level_chooses_the_limit() -> None:
    drill = Sheet(rule(Compare("==", Mode("drill"), HIGH), max_age_us=NO_GAP)).levels((1, 3))
    drill.declares(Declared(drills=(Span(at(5), at(8)),)), 2)
    assert drill.ticks(20).said == ["raised 1", "cleared 5", "raised 8"]
    limit = ByResponse(Number(3.5), Number(3.4), Number(3.3), Number(3.2), Number(3.1))
    sheet = Sheet(rule(Compare(">", Metric("level_inside"), limit))).levels((1, 3.25))
    sheet.declares(Declared((Response(2, at(2), at(4)), Response(4, at(1)))), 2)
    sheet.ticks(3).levels((3, 3.25), (4, 3.25))
    assert sheet.said == ["raised 3", "cleared 4"]


def test_a_pause_ends_what_stands_resets_what_holds_and_absence_counts_from_its_end() -> None:
    pause = Declared(pauses=(Pause("ps-1", at(3), at(10), "限排"),))
    sheet = (
        Sheet(rule(hold_us=MINUTE)).levels((1, 4), (2, 4)).declares(pause, 3).levels((4, 4), (9, 4), (10, 4), (11, 4))
    )
    assert sheet.said == ["raised 2", "cleared 3", "raised 11"]
    ahead = Sheet(rule()).levels((1, 4)).declares(pause, 2)
    assert ahead.ticks(4).said == ["raised 1", "cleared 3"], "declared ahead: the clock ends it"
    silent = Sheet(rule(Absent("level_inside", 5 * MINUTE))).levels((1, 4)).declares(pause, 3)
    assert silent.ticks(14).said == []
    assert silent.ticks(16).said == ["raised 15"]
    unheard = Sheet(rule(hold_us=4 * MINUTE)).levels((1, 4), (2, 4))
    unheard.declares(Declared(pauses=(Pause("ps-1", at(2.2), at(2.8), "x"),)), 2.1).levels((3, 4), (6, 4))
    assert unheard.said == [], "no hold reaches over a pause"
    other = (
        Sheet(rule()).declares(Declared(pauses=(Pause("ps-1", at(0), at(9), "x", frozenset({"q"})),)), 0).levels((1, 4))
    )
    assert other.said == ["raised 1"]


def test_levels_rise_and_fall_as_one_alarm() -> None:
    worse = Level(Priority.CRITICAL, Compare(">", Metric("level_inside"), Number(4.0)))
    book = rule(levels=(Level(Priority.MEDIUM, HIGH, hold_us=MINUTE), worse))
    assert Sheet(book).levels((1, 3.6), (2, 3.6), (3, 4.1), (4, 3.9), (5, 3.0)).said == [
        "raised 2 medium", "changed 3 critical", "changed 4 medium", "cleared 5 medium"]  # fmt: skip
    at_once = Sheet(book)
    at_once.levels((1, 4.5), (2, 4.2))
    assert at_once.said == ["raised 1 critical"]
    assert at_once.oracle.standing == {("r", "ps-1"): 4.5}


def test_two_stations_of_a_grid_are_a_group() -> None:
    sheet = Sheet(rule(Group(None, HIGH, False, ">=", 2), applies_to=AppliesTo(kind="pump_station"), hold_us=MINUTE))
    sheet.reads(1, {"level_inside": 4}, "ps-1")
    sheet.reads(2, {"level_inside": 4}, "ps-2")
    sheet.ticks(2.9)
    assert sheet.said == []
    sheet.ticks(3)
    sheet.reads(4, {"level_inside": 3}, "ps-1")
    assert sheet.said == ["raised 3", "cleared 4"]


def test_a_gateway_that_takes_its_sensors_with_it() -> None:
    registry = town()
    for name in ("ps-1", "ps-2", "door", "cam"):
        put(registry, name, tags=frozenset({"g7"}), interval_s=60.0)
    sheet = Sheet(rule(Group("g7", DeviceAbsent(), True, ">", 0.5), applies_to=AppliesTo()), registry)
    sheet.reads(1, {"event:tamper": 1}, "cam")
    assert sheet.ticks(1.9).said == []
    assert sheet.ticks(4).said == ["raised 2"], "three of four were never heard and are missed two minutes on"
    sheet.reads(5, {"battery": 90}, "door")
    assert sheet.said == ["raised 2"]
    sheet.reads(6, {"pumps_running": 1}, "ps-1")
    assert sheet.said == ["raised 2", "cleared 6"]

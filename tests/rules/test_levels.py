"""One alarm of a rule with levels, made of what the engine says of each level."""

from __future__ import annotations

from dataclasses import replace

from devices.registry import EVENT
from rules.combining import Combiner
from rules.language import parse
from rules.outcome import Edge, Peak, Transition
from rules.parts import parts_of
from rules.rule import AppliesTo, Level, Priority, Rule
from tests.rules.desk import START, at, rows
from tests.rules.room import OUTSIDE, Room, stations


def test_one_alarm_rises_and_falls_with_the_worst_level_that_stands() -> None:
    room = Room([OUTSIDE])
    assert room.outside(("0s", 3.1), ("1m", 3.2)) == ["raised medium 1 of ps-1"]
    assert room.outside(("2m", 4.1)) == ["changed critical 2 of ps-1"]
    assert room.outside(("3m", 4.5), ("4m", 3.9)) == ["changed medium 4 of ps-1"]
    assert room.outside(("5m", 2.9), ("6m", 2.7)) == ["cleared medium 6 of ps-1"]
    assert [t.since for t in room.said] == [START] * 4
    assert [t.first_value for t in room.said] == [3.1] * 4
    assert [t.peak_value for t in room.said] == [3.2, 4.1, 4.5, 4.5]
    assert {(t.rule, t.metric) for t in room.said} == {("outside", "level_outside")}
    assert [t.element for t in room.said] == [1, 0, 1, 1]
    assert not room.peaks


def test_a_leap_over_both_limits_is_one_edge() -> None:
    jump = replace(OUTSIDE, levels=tuple(replace(level, hold_us=0) for level in OUTSIDE.levels))
    room = Room([jump])
    assert room.outside(("0s", 4.2)) == ["raised critical 0 of ps-1"]
    assert room.outside(("1m", 2.5)) == ["cleared critical 1 of ps-1"]
    assert room.outside(("2m", 3.5), ("3m", 2.5)) == ["raised medium 2 of ps-1", "cleared medium 3 of ps-1"]


def test_a_milder_level_under_a_worse_one_is_no_edge_but_is_remembered() -> None:
    room = Room([OUTSIDE])
    assert room.outside(("0s", 4.2)) == ["raised critical 0 of ps-1"]
    assert room.outside(("1m", 4.3)) == []  # the medium level is full
    assert room.outside(("2m", 3.5)) == ["changed medium 2 of ps-1"]


def test_the_worst_value_is_told_while_the_alarm_stands() -> None:
    room = Room([OUTSIDE])
    room.outside(("0s", 3.1), ("1m", 3.2), ("2m", 3.5))
    assert room.peaks == [Peak("outside", "ps-1", at("1m"), 3.5)]
    room.outside(("3m", 3.4), ("4m", 3.5))
    assert len(room.peaks) == 1
    room.outside(("5m", 4.1), ("6m", 4.4))  # both levels stand: told once
    assert room.peaks[1:] == [Peak("outside", "ps-1", at("1m"), 4.4)]


def test_the_reason_is_that_of_the_level_and_names_it() -> None:
    room = Room([OUTSIDE])
    room.outside(("0s", 3.1), ("1m", 3.2), ("2m", 4.1), ("3m", 3.9), ("4m", 2))
    warning = {"priority": "medium", "zh": "警戒", "en": "warning"}
    assert [t.reason["level"] for t in room.said] == [warning, {"priority": "critical", "zh": "保证"}, warning, warning]
    assert [t.reason["when"] for t in room.said] == [f"level_outside > {n}" for n in (3, 4, 4, 3)]
    assert room.said[1].reason["values"] == {"level_outside": 4.1}


def test_levels_of_two_metrics_keep_the_peak_of_the_one_that_raised_it() -> None:
    rule = replace(OUTSIDE, levels=(Level(Priority.LOW, parse("level_inside > 0.1")),
                                    Level(Priority.HIGH, parse("level_outside < 1"))))  # fmt: skip
    room = Room([rule])
    told = [
        *room.outside(("0s", 0.9), ("10s", 0.5)),
        *room.inside("20s", ps_1=0.2),
        *room.inside("30s", ps_1=0.3),
        *room.outside(("40s", 2)),
        *room.inside("50s", ps_1=0.0),
    ]
    assert [text.split()[:2] for text in told] == [["raised", "high"], ["changed", "low"], ["cleared", "low"]]
    assert {(t.metric, t.first_value) for t in room.said} == {("level_outside", 0.9)}
    assert [t.peak_value for t in room.said] == [0.9, 0.5, 0.5]
    assert [p.peak_value for p in room.peaks] == [0.5]


def test_levels_that_last_for_one_element_are_one_occurrence() -> None:
    event = Rule("door", parse('event("door_opened")'), applies_to=AppliesTo(kind="door_sensor"),
                 levels=(Level(Priority.LOW, parse('event("door_opened")')),
                         Level(Priority.HIGH, parse('event("door_opened") and battery < 50'))))  # fmt: skip
    room = Room([event])
    opened = {EVENT + "door_opened": 1.0}
    assert room.reads(("door", "0s", opened)) == ["raised low 0 of door", "cleared low 0 of door"]
    assert room.reads(("door", "1m", {"battery": 20.0, **opened})) == [
        "raised high 1 of door",
        "cleared high 1 of door",
    ]


def test_levels_judged_by_the_clock() -> None:
    silent = replace(OUTSIDE, levels=(Level(Priority.LOW, parse("absent(level_outside, 10m)")),
                                      Level(Priority.HIGH, parse("absent(level_outside, 30m)"))))  # fmt: skip
    room = Room([silent], stations(1))
    assert room.outside(("0s", 1)) == []
    assert room.ticks("20m") == ["raised low 10 of ps-1", "raised low 10 of ps-2"]
    assert room.ticks("40m") == ["changed high 30 of ps-1", "changed high 30 of ps-2"]
    assert room.outside(("41m", 1)) == ["cleared high 41 of ps-1"]


def test_the_alarm_never_goes_back_in_time() -> None:
    rule = replace(OUTSIDE, levels=(Level(Priority.LOW, parse("level_inside > 3")),
                                    Level(Priority.HIGH, parse("level_outside > 3"))))  # fmt: skip
    room = Room([rule])
    room.outside(("10m", 3.5), ("11m", 1))
    assert room.inside("5m", ps_1=3.5) == ["raised low 11 of ps-1"]


def test_a_level_that_ends_and_begins_at_one_instant_of_the_clock_is_two_occurrences() -> None:
    parts = parts_of({"outside": OUTSIDE})
    alone = Combiner(parts, stations(), {})
    up, down = (Transition("outside#0", "ps-1", "level_outside", edge, START, START, 3.1, 3.1, {}, -1)
                for edge in (Edge.RAISED, Edge.CLEARED))  # fmt: skip
    alone.adopt(alone.judge([up], (), START).changes)
    assert [t.edge for t in alone.judge([down, up], (), START).transitions] == ["cleared", "raised"]


def turn(part: str, edge: Edge, element: int, peak: float, metric: str = "level_outside") -> Transition:
    return Transition(part, "ps-1", metric, edge, START, START, peak, peak, {}, element)


def test_the_peak_of_a_change_is_all_that_the_levels_have_seen_up_to_it() -> None:
    registry = stations()
    alone = Combiner(parts_of({"outside": OUTSIDE}), registry, {})
    levels = [(f"{n}m", {"level_outside": v}) for n, v in enumerate([3.1, 3.3, 4.5, 3.6, 4.6, 4.8])]
    readings = rows(registry, [("ps-1", after, values) for after, values in levels])
    alone.adopt(alone.judge([turn("outside#0", Edge.RAISED, 0, 3.1)], (), None, readings).changes)
    one, other = turn("outside#1", Edge.RAISED, 3, 3.6), turn("outside#1", Edge.CLEARED, 4, 3.6)
    found = alone.judge([one, other], (Peak("outside#0", "ps-1", START, 4.8),), None, readings)
    assert [(t.edge, t.peak_value) for t in found.transitions] == [("changed", 4.5), ("changed", 4.6)]
    assert found.peaks == (Peak("outside", "ps-1", START, 4.8),)
    after = [turn("outside#0", Edge.CLEARED, 4, 4.5)]  # what ends it is no peak
    assert [t.peak_value for t in alone.judge(after, (), None, readings).transitions] == [4.5]


def test_the_worst_of_those_that_rise_together_says_since_when_and_why() -> None:
    room = Room([OUTSIDE])
    assert room.outside(("0s", 3.1), ("1m", 4.2)) == ["raised critical 1 of ps-1"]
    assert (room.said[0].since, room.said[0].first_value, room.said[0].peak_value) == (at("1m"), 4.2, 4.2)
    assert room.said[0].reason["when"] == "level_outside > 4"
    assert room.outside(("2m", 1)) == ["cleared critical 2 of ps-1"]
    assert room.said[1].reason["when"] == "level_outside > 4"


def test_an_occurrence_has_nothing_of_the_one_before_it() -> None:
    registry = stations()
    alone = Combiner(parts_of({"outside": OUTSIDE}), registry, {})
    readings = rows(registry, [("ps-1", f"{n}m", {"level_outside": v}) for n, v in enumerate([9.0, 1.0, 3.1, 4.1])])
    told = [turn("outside#0", Edge.RAISED, 0, 9.0), turn("outside#0", Edge.CLEARED, 1, 9.0),
            turn("outside#0", Edge.RAISED, 2, 3.1), turn("outside#1", Edge.RAISED, 3, 4.1)]  # fmt: skip
    assert [t.peak_value for t in alone.judge(told, (), None, readings).transitions] == [9.0, 9.0, 3.1, 4.1]


def test_a_level_of_another_metric_does_not_look_at_the_first() -> None:
    rule = replace(OUTSIDE, levels=(Level(Priority.LOW, parse("level_outside > 3")),
                                    Level(Priority.MEDIUM, parse("level_inside > 3")),
                                    Level(Priority.HIGH, parse("level_inside > 4"))))  # fmt: skip
    registry = stations()
    alone = Combiner(parts_of({"outside": rule}), registry, {})
    readings = rows(registry, [("ps-1", f"{n}m", {"level_outside": 3.0 + n}) for n in range(5)])
    told = [turn("outside#0", Edge.RAISED, 0, 3.0), turn("outside#1", Edge.RAISED, 2, 9.0, "level_inside"),
            turn("outside#0", Edge.CLEARED, 3, 5.0),
            turn("outside#2", Edge.RAISED, 4, 9.0, "level_inside")]  # fmt: skip
    assert [t.peak_value for t in alone.judge(told, (), None, readings).transitions] == [3.0, 5.0, 5.0]


def test_what_rises_while_another_falls_is_one_edge_up_and_none_down() -> None:
    alone = Combiner(parts_of({"outside": OUTSIDE}), stations(), {})
    alone.adopt(alone.judge([turn("outside#0", Edge.RAISED, 0, 3.1)], (), None).changes)
    both = [turn("outside#0", Edge.CLEARED, 1, 3.1), turn("outside#1", Edge.RAISED, 1, 4.1)]
    assert [(t.edge, t.priority) for t in alone.judge(both, (), None).transitions] == [("changed", "critical")]

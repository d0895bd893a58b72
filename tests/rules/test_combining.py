"""Alarms of rules with levels and of groups, made of what the engine says of their parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.instants import MINUTE
from devices.registry import EVENT, DeviceStatus, Registry
from rules.book import RuleBook
from rules.combining import Combiner, Saved, members_of
from rules.engine import Engine, Outcome
from rules.expression import Group, Order
from rules.language import parse
from rules.outcome import FAR, Edge, Peak, Transition
from rules.parts import parts_of
from rules.rule import AppliesTo, Level, Priority, Rule
from tests.rules.desk import START, Element, at, put, rows, town

OUTSIDE = Rule(
    "outside",
    parse("level_outside > 3"),
    applies_to=AppliesTo(kind="pump_station"),
    levels=(
        Level(Priority.MEDIUM, parse("level_outside > 3"), MINUTE, parse("level_outside <= 2.8"), "警戒", "warning",
              "level_outside > 3", "level_outside <= 2.8"),
        Level(Priority.CRITICAL, parse("level_outside > 4"), name_zh="保证", when_text="level_outside > 4"),
    ),
)  # fmt: skip


TREE = {"town": frozenset({"town", "west", "east"})}


def of_group(text: str, op: Order, limit: float, *, share: bool = True, tag: str | None = "g7", **more: object) -> Rule:
    fields: dict[str, object] = {"applies_to": AppliesTo(kind="pump_station"), "when_text": "many", **more}
    return Rule("many", Group(tag, parse(text), share, op, limit), **fields)  # type: ignore[arg-type]


def stations(count: int = 4) -> Registry:
    registry = town()
    for name in ("ps-1", "ps-2"):
        put(registry, name, tags=frozenset({"g7"}))
    first = registry.devices[0]
    for n in range(3, count + 1):
        registry.put(replace(first, number=len(registry.devices), id=f"ps-{n}", grid="east"))
    return registry


def members(rules: Sequence[Rule], registry: Registry) -> dict[str, dict[str, tuple[int, ...]]]:
    able = [d.number for d in registry.devices if d.kind == "pump_station" and d.status is DeviceStatus.ACTIVE]
    return {rule.id: members_of(rule, able, registry, TREE) for rule in rules}


@dataclass
class Room:
    """An engine and what it said."""

    rules: list[Rule]
    registry: Registry = field(default_factory=stations)
    said: list[Transition] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(book(self.rules), self.registry, grid_tree=TREE)

    @property
    def combiner(self) -> Combiner:
        return self.engine._bound.combiner

    def take(self, outcome: Outcome) -> list[str]:
        self.engine.adopt(outcome)
        self.peaks += outcome.peaks
        return self.hear(outcome.transitions)

    def hear(self, transitions: Sequence[Transition]) -> list[str]:
        self.said += transitions
        return [tell(t) for t in transitions]

    def reads(self, *elements: Element) -> list[str]:
        return self.take(self.engine.evaluate(rows(self.registry, elements)))

    def outside(self, *readings: tuple[str, float]) -> list[str]:
        return self.reads(*[("ps-1", after, {"level_outside": value}) for after, value in readings])

    def inside(self, after: str, **values: float) -> list[str]:
        return self.reads(*[(name.replace("_", "-"), after, {"level_inside": v}) for name, v in values.items()])

    def ticks(self, after: str) -> list[str]:
        return self.take(self.engine.tick(at(after)))

    def reloads(self, rules: list[Rule], after: str) -> list[str]:
        return self.take(self.engine.reload(book(rules), at(after)))

    def devices_change(self) -> list[str]:
        return self.hear(self.engine.devices_changed())

    def loses(self, name: str) -> list[str]:
        put(self.registry, name, status=DeviceStatus.QUARANTINED)
        return self.devices_change()


def book(rules: Sequence[Rule]) -> RuleBook:
    return RuleBook({rule.id: rule for rule in rules}, {})


def tell(t: Transition) -> str:
    """`raised critical 2 of ps-1`: minutes after START."""
    return " ".join([t.edge, *([t.priority] if t.priority else []), f"{(t.at - START) / MINUTE:g} of {t.device}"])


# -- levels


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


# -- groups


def test_so_many_members_of_a_grid_at_once() -> None:
    room = Room([of_group("level_inside > 3", ">=", 2, share=False, tag=None)])
    assert room.inside("0s", ps_1=3.1, ps_3=3.1) == []  # one in the west, one in the east
    assert room.inside("1m", ps_4=3.2) == ["raised 1 of grid:east"]
    assert room.inside("2m", ps_1=3.4, ps_2=3.4) == ["raised 2 of grid:west"]
    assert room.inside("3m", ps_3=1.0) == ["cleared 3 of grid:east"]
    assert [t.element for t in room.said] == [0, 1, 0]
    east = room.said[0]
    assert east.reason == {"when": "many", "members": ["ps-3", "ps-4"], "of": 2, "value": 2, "for": "0s"}
    assert (east.metric, east.first_value, east.peak_value) == (None, 2.0, 2.0)
    assert room.said[2].reason == {**east.reason, "clear": "not (many)", "members": ["ps-4"], "value": 1}


def test_a_share_of_those_that_carry_a_tag_and_its_worst() -> None:
    room = Room([of_group("level_inside > 3", ">", 0.4)])
    assert room.inside("0s", ps_1=3.1) == []
    assert room.inside("1m", ps_2=3.1) == ["raised 1 of group:g7"]
    assert room.inside("2m", ps_3=3.1) == []
    assert room.peaks == [Peak("many", "group:g7", at("1m"), 0.75)]
    assert room.inside("3m", ps_1=1.0) == []
    assert len(room.peaks) == 1
    assert room.inside("4m", ps_2=1.0) == ["cleared 4 of group:g7"]
    assert (room.said[-1].first_value, room.said[-1].peak_value, room.said[-1].reason["value"]) == (0.5, 0.75, 0.25)


def test_the_hold_of_a_group_ripens_by_the_clock_at_its_instant() -> None:
    room = Room([of_group("level_inside > 3", ">=", 2, share=False, hold_us=5 * MINUTE)])
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    assert room.combiner.due() == at("5m")
    assert room.combiner.soonest() == 5 * MINUTE
    assert room.ticks("4m") == []
    assert room.ticks("7m") == ["raised 5 of group:g7"]
    assert (room.said[0].element, room.said[0].since, room.said[0].reason["for"]) == (-1, START, "5m")
    assert room.combiner.due() == FAR


def test_a_group_never_goes_back_in_time() -> None:
    room = Room([of_group("level_inside > 3", ">=", 2, share=False, hold_us=5 * MINUTE)])
    room.inside("10m", ps_1=3.1)
    room.inside("6m", ps_2=3.1)  # late
    assert room.combiner.due() == at("15m")


def test_a_member_is_counted_once() -> None:
    rule = of_group("level_inside > 3", ">=", 2, share=False)
    alone = Combiner(parts_of({"many": rule}), stations(), {"many": {"group:g7": (0, 1, 4, 5)}})
    up = Transition("many#member", "ps-1", None, Edge.RAISED, START, START, None, None, {}, 0)
    assert alone.judge([up, replace(up, element=1)], (), None).transitions == ()


def test_the_hold_of_a_group_ripens_at_a_turn_and_starts_anew_when_too_few_are_left() -> None:
    room = Room([of_group("level_inside > 3", ">=", 2, share=False, hold_us=5 * MINUTE)])
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    assert room.inside("4m", ps_2=1.0) == []
    assert room.inside("4m30s", ps_2=3.1) == []
    assert room.ticks("9m") == []
    assert room.inside("10m", ps_3=3.1) == ["raised 10 of group:g7"]
    assert room.said[0].since == at("4m30s")


def test_members_the_clock_turns_at_one_instant_count_together() -> None:
    room = Room([of_group("absent(level_inside, 10m)", ">=", 0.5)])
    room.inside("0s", ps_1=1.0, ps_2=1.0, ps_3=1.0)
    room.inside("2m", ps_4=1.0)
    assert room.ticks("15m") == ["raised 10 of group:g7"]
    assert room.said[0].reason["members"] == ["ps-1", "ps-2", "ps-3"]
    assert room.peaks == [Peak("many", "group:g7", at("10m"), 1.0)]


def test_grids_that_are_named_take_in_all_below() -> None:
    rule = of_group("level_inside > 3", ">=", 3, share=False, tag=None,
                    applies_to=AppliesTo(grids=frozenset({"town", "west"})))  # fmt: skip
    assert members([rule], stations())["many"] == {"grid:town": (0, 1, 4, 5), "grid:west": (0, 1)}
    room = Room([rule])
    assert room.inside("0s", ps_1=3.1, ps_2=3.1, ps_3=3.1) == ["raised 0 of grid:town"]


def test_a_device_in_no_grid_is_in_no_group() -> None:
    registry = stations()
    put(registry, "ps-1", grid=None)
    assert members([of_group("level_inside > 3", ">", 0, tag=None)], registry)["many"] == {
        "grid:west": (1,), "grid:east": (4, 5),
    }  # fmt: skip


def test_a_group_with_a_clear_of_its_own_and_a_time_it_stands_at_least() -> None:
    clear = Group("g7", parse("level_inside > 3"), False, "<", 1)
    room = Room(
        [of_group("level_inside > 3", ">=", 2, share=False, clear=clear, clear_text="few", keep_us=10 * MINUTE)]
    )
    assert room.inside("0s", ps_1=3.1, ps_2=3.1) == ["raised 0 of group:g7"]
    assert room.inside("1m", ps_1=1.0) == []
    assert room.inside("2m", ps_2=1.0) == []
    assert room.combiner.due() == at("10m")
    assert room.ticks("11m") == ["cleared 10 of group:g7"]
    assert room.said[-1].reason["clear"] == "few"


def test_an_event_of_one_member_counts_at_its_element() -> None:
    rule = of_group('event("person_detected")', ">=", 1, share=False, applies_to=AppliesTo(kind="camera"))
    registry = stations()
    put(registry, "cam", tags=frozenset({"g7"}))
    room = Room([rule], registry)
    assert room.reads(("cam", "0s", {EVENT + "person_detected": 1.0})) == [
        "raised 0 of group:g7", "cleared 0 of group:g7",
    ]  # fmt: skip


def test_rules_of_one_part_pass_as_they_are() -> None:
    plain = Rule("plain", parse("level_outside > 3"), applies_to=AppliesTo(kind="pump_station"))
    told = [Transition("plain", "ps-1", None, Edge.RAISED, START, START, None, None, {}, 0)]
    for rules in ({"plain": plain}, {"plain": plain, "outside": OUTSIDE}):
        peaks = (Peak("plain", "ps-1", START, 4.0),)
        found = Combiner(parts_of(rules), stations(), {}).judge(told, peaks, None)
        assert found.transitions[0] is told[0]
        assert found.peaks == peaks
    room = Room([plain, OUTSIDE])
    room.outside(("0s", 4.5))
    assert [t.rule for t in room.said] == ["plain", "outside"]


def test_judging_changes_nothing_until_it_is_adopted() -> None:
    groups = [of_group("level_outside > 3", ">=", 1, share=False, hold_us=hold) for hold in (0, MINUTE)]
    room = Room([OUTSIDE, groups[0], replace(groups[1], id="later")])
    elements = rows(room.registry, [("ps-1", "0s", {"level_outside": 4.5})])
    once, again = (room.engine.evaluate(elements) for _ in range(2))
    assert (once.transitions, once.peaks) == (again.transitions, again.peaks)
    assert len(once.transitions) == 2
    assert room.combiner.due() == FAR
    room.take(once)
    assert room.combiner.due() == at("1m")
    assert room.engine.tick(at("2m")).transitions == room.engine.tick(at("2m")).transitions != ()


# -- other rules, other devices, another start

MANY = of_group("level_inside > 3", ">=", 0.5, hold_us=5 * MINUTE)


def test_a_reload_keeps_what_an_unchanged_rule_has_learned() -> None:
    room = Room([OUTSIDE, MANY])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    assert room.reloads([replace(OUTSIDE, name_zh="外河"), MANY], "1m") == []
    assert room.combiner.due() == at("5m")
    assert room.outside(("2m", 2)) == ["cleared critical 2 of ps-1"]
    assert room.ticks("6m") == ["raised 5 of group:g7"]


def test_what_stands_of_a_rule_that_is_gone_is_cleared() -> None:
    room = Room([OUTSIDE, replace(MANY, hold_us=0)])
    room.outside(("0s", 4.2), ("1m", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    assert sorted(room.reloads([], "3m")) == ["cleared 3 of group:g7", "cleared critical 3 of ps-1"]
    assert all(t.reason["cleared_by"] == "rule_removed_or_changed" for t in room.said[-2:])
    assert room.reloads([OUTSIDE], "4m") == []
    assert room.outside(("5m", 4.2)) == ["raised critical 5 of ps-1"]


def test_a_rule_whose_meaning_changed_starts_afresh() -> None:
    room = Room([OUTSIDE, replace(MANY, hold_us=0)])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    levels = (replace(OUTSIDE.levels[0], hold_us=0), OUTSIDE.levels[1])
    few = of_group("level_inside > 3", ">", 0.5)
    assert sorted(room.reloads([replace(OUTSIDE, levels=levels), few], "3m")) == [
        "cleared 3 of group:g7", "cleared critical 3 of ps-1",
    ]  # fmt: skip
    assert room.outside(("4m", 4.2)) == ["raised critical 4 of ps-1"]
    assert room.inside("4m", ps_1=3.1, ps_2=3.1, ps_3=3.1) == ["raised 4 of group:g7"]


def test_a_level_of_a_rule_that_is_gone_ends_though_no_part_said_so() -> None:
    before = Combiner(parts_of({"outside": OUTSIDE}), stations(), {})
    up = Transition("outside#1", "ps-1", "level_outside", Edge.RAISED, START, START, 4.2, 4.2, {}, 0)
    before.adopt(before.judge([up], (), None).changes)
    found = Combiner({}, stations(), {}).take_over(before, (), at("1m"), "gone")
    assert [tell(t) for t in found.transitions] == ["cleared critical 1 of ps-1"]
    level = {"priority": "critical", "zh": "保证"}
    assert found.transitions[0].reason == {"when": "level_outside > 4", "cleared_by": "gone", "level": level}


def test_a_member_that_leaves_counts_no_more_and_the_rest_are_fewer() -> None:
    room = Room([replace(MANY, hold_us=0)])
    assert room.inside("0s", ps_1=3.1, ps_2=3.1) == ["raised 0 of group:g7"]
    assert room.loses("ps-4") == []
    assert room.loses("ps-1") == []  # one of two is still half
    put(room.registry, "ps-4", status=DeviceStatus.ACTIVE)
    assert room.devices_change() == []  # who joins is no turn
    assert room.inside("4m", ps_3=1.0, ps_4=1.0) == []
    assert room.loses("ps-2") == ["cleared 0 of group:g7"]
    assert room.said[-1].reason["of"] == 2


def test_a_group_whose_members_are_all_gone_is_cleared() -> None:
    room = Room([replace(MANY, hold_us=0)], stations(2))
    room.inside("0s", ps_1=3.1)
    room.inside("1m", ps_2=3.1)
    put(room.registry, "ps-1", status=DeviceStatus.REJECTED)
    assert room.loses("ps-2") == ["cleared 1 of group:g7"]
    assert room.said[-1].reason == {"when": "many", "cleared_by": "device_not_judged"}


def test_a_device_that_is_gone_ends_its_levels_with_one_edge() -> None:
    room = Room([OUTSIDE])
    room.outside(("0s", 4.2), ("2m", 4.2))
    assert room.loses("ps-1") == ["cleared critical 2 of ps-1"]
    assert room.said[-1].reason["cleared_by"] == "device_not_judged"


def test_a_member_that_moves_counts_where_it_is_now() -> None:
    room = Room([of_group("level_inside > 3", ">=", 2, share=False, tag=None)])
    room.inside("0s", ps_1=3.1, ps_3=3.1)
    put(room.registry, "ps-1", grid="east")
    assert room.devices_change() == ["raised 0 of grid:east"]


def test_a_restart_goes_on_where_it_was() -> None:
    room = Room([OUTSIDE, MANY])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    again = Room([OUTSIDE, MANY], room.registry)
    again.engine.restore(room.engine.snapshot())
    assert again.combiner.snapshot() == room.combiner.snapshot()
    assert again.outside(("1m", 3.5)) == ["changed medium 1 of ps-1"]
    assert again.ticks("6m") == ["raised 5 of group:g7"]
    assert again.inside("7m", ps_1=1.0) == ["cleared 7 of group:g7"]


def test_a_snapshot_is_plain_and_survives_bytes_and_what_has_gone_since() -> None:
    room = Room([OUTSIDE, MANY])
    room.outside(("0s", 4.2))
    room.inside("0s", ps_1=3.1, ps_2=3.1)
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(room.combiner.snapshot()), type=Saved)
    assert saved == room.combiner.snapshot()
    parts, everyone = parts_of({r.id: r for r in room.rules}), members(room.rules, room.registry)
    full = Combiner(parts, room.registry, everyone)
    full.restore(saved, {"outside#1": frozenset({0}), "many#member": frozenset({0, 1})})
    assert (full.snapshot(), full.due()) == (saved, at("5m"))
    less = Combiner(parts, room.registry, {"many": {"group:other": (0, 1)}})
    less.restore(saved, {})
    assert less.due() == FAR
    assert not less.snapshot().rules["outside"].standings["ps-1"].levels
    other = Combiner(parts_of({"outside": replace(OUTSIDE, keep_us=1)}), room.registry, {})
    other.restore(saved, {"outside#1": frozenset({0})})
    assert not other.snapshot().rules["outside"].standings


# -- against a plain second telling

LADDER = Rule("ladder", parse("level_inside > 1"),
              levels=tuple(Level(p, parse(f"level_inside > {k}")) for k, p in
                           enumerate([Priority.LOW, Priority.HIGH, Priority.CRITICAL])))  # fmt: skip
CROWD = of_group("level_inside > 3", ">=", 2, share=False, hold_us=2 * MINUTE, keep_us=3 * MINUTE)
BOOK = {"ladder": LADDER, "many": CROWD}
SHARES = {"many": {"group:a": (0, 1, 4, 5), "group:b": (0, 1, 4)}}
DEVICES = {0: "ps-1", 1: "ps-2", 4: "ps-3", 5: "ps-4"}
Cause = tuple[bool, int, tuple[tuple[str, int], ...]]  # by the clock, minute, parts that turn on devices


@st.composite
def stories(draw: st.DrawFn) -> list[Cause]:
    clock, found = 0, []
    parts = ["ladder#0", "ladder#1", "ladder#2", "many#member"]
    for _ in range(draw(st.integers(1, 25))):
        clock += draw(st.sampled_from([0, 0, 1, 1, 2, 5]))
        by_clock = draw(st.booleans())
        minute = clock - (0 if by_clock else draw(st.sampled_from([0, 0, 2, 4])))
        devices = draw(st.sets(st.sampled_from(sorted(DEVICES)), max_size=4 if by_clock else 1))
        turning = draw(st.sets(st.sampled_from(parts), min_size=1))
        found.append(
            (by_clock, minute, tuple((part, device) for part in parts if part in turning for device in devices))
        )
    return found


def transitions(story: Sequence[Cause]) -> list[tuple[int | None, list[Transition]]]:
    """Each cause as the engine would tell it: (now, transitions); a part rises and falls in turn."""
    up: set[tuple[str, int]] = set()
    found: list[tuple[int | None, list[Transition]]] = []
    for number, (by_clock, minute, turns) in enumerate(story):
        instant = START + minute * MINUTE
        said = []
        for part, device in turns:
            edge = Edge.CLEARED if (part, device) in up else Edge.RAISED
            up ^= {(part, device)}
            value = float(number)
            said.append(Transition(part, DEVICES[device], "level_inside", edge, instant, instant, value, value,
                                   {"when": part}, -1 if by_clock else number))  # fmt: skip
        found.append((instant if by_clock else None, said))
    return found


class Plain:
    """Levels and groups a second time, one cause after the other, from sets alone."""

    def __init__(self) -> None:
        self.up: set[tuple[str, int]] = set()
        self.last: dict[str, int] = {}
        self.since: dict[str, int] = {}
        self.raised: dict[str, int] = {}
        self.said: list[tuple[str, str, str, int]] = []

    def tick(self, now: int) -> None:
        while ripe := sorted((due, s) for s in SHARES["many"] if (due := self._due(s)) is not None and due <= now):
            self._judge(ripe[0][1], ripe[0][0])

    def _due(self, subject: str) -> int | None:
        if subject in self.raised:
            return self.raised[subject] + CROWD.keep_us if self._many(subject) < 2 else None
        return self.since[subject] + CROWD.hold_us if subject in self.since else None

    def _many(self, subject: str) -> int:
        return sum(("many#member", device) in self.up for device in SHARES["many"][subject])

    def cause(self, instant: int, turns: Sequence[tuple[str, int]]) -> None:
        before = {device: self._worst(device) for _, device in turns}
        self.up ^= set(turns)
        for device in dict.fromkeys(device for part, device in turns if part.startswith("ladder")):
            self._climb(DEVICES[device], before[device], self._worst(device), instant)
        moved = {device for part, device in turns if part == "many#member"}
        for subject, inside in SHARES["many"].items():
            if moved & set(inside):
                self._judge(subject, instant)

    def _worst(self, device: int) -> int:
        return max((k for k in range(3) if (f"ladder#{k}", device) in self.up), default=-1)

    def _climb(self, device: str, was: int, now: int, instant: int) -> None:
        self.last[device] = max(self.last.get(device, instant), instant)
        if was != now:
            edge = "raised" if was < 0 else "cleared" if now < 0 else "changed"
            priority = LADDER.levels[was if now < 0 else now].priority
            self.said.append((edge, device, priority, self.last[device]))

    def _judge(self, subject: str, instant: int) -> None:
        instant = self.last[subject] = max(self.last.get(subject, instant), instant)
        many = self._many(subject) >= 2
        if subject in self.raised:
            if not many and instant >= self.raised[subject] + CROWD.keep_us:
                del self.raised[subject], self.since[subject]
                self.said.append(("cleared", subject, "", instant))
        elif not many:
            self.since.pop(subject, None)
        elif instant >= self.since.setdefault(subject, instant) + CROWD.hold_us:
            self.raised[subject] = instant
            self.said.append(("raised", subject, "", instant))


Told = Sequence[tuple[int | None, list[Transition]]]


def play(story: Told, cuts: Sequence[bool], restarts: Sequence[bool]) -> list[Transition]:
    """Elements up to the next cut are one batch; a restart goes through the bytes of a snapshot."""
    hall = Hall()
    batch: list[Transition] = []
    for (now, told), cut, restart in zip(story, cuts, restarts, strict=True):
        if cut or now is not None:
            hall.judge(batch, None)
            batch = []
        if restart and not batch:
            hall.restart()
        if now is not None:
            hall.judge(told, now)
        else:
            batch += told
    hall.judge(batch, None)
    return hall.said


class Hall:
    """A combiner that may be restarted; `up` are the parts that stand."""

    def __init__(self) -> None:
        self.said: list[Transition] = []
        self.up: dict[str, frozenset[int]] = {}
        self.combiner = Combiner(parts_of(BOOK), stations(), SHARES)

    def judge(self, told: Sequence[Transition], now: int | None) -> None:
        found = self.combiner.judge(told, (), now)
        self.combiner.adopt(found.changes)
        self.said += found.transitions
        numbers = {name: number for number, name in DEVICES.items()}
        for t in told:
            self.up[t.rule] = self.up.get(t.rule, frozenset()) ^ {numbers[t.device]}

    def restart(self) -> None:
        blob = msgspec.msgpack.encode(self.combiner.snapshot())
        self.combiner = Combiner(parts_of(BOOK), stations(), SHARES)
        self.combiner.restore(msgspec.msgpack.decode(blob, type=Saved), self.up)


@given(stories(), st.data())
def test_any_cut_and_any_restart_give_what_the_plain_telling_gives(story: list[Cause], data: st.DataObject) -> None:
    told = transitions(story)
    plain = Plain()
    for (by_clock, minute, turns), (now, _) in zip(story, told, strict=True):
        instant = START + minute * MINUTE
        if by_clock:
            plain.tick(instant - 1)
        plain.cause(instant, turns)
        if now is not None:
            plain.tick(now)
    flags = st.lists(st.booleans(), min_size=len(story), max_size=len(story))
    whole = play(told, [True] * len(story), [False] * len(story))
    assert [(t.edge, t.device, t.priority or "", t.at) for t in whole] == plain.said
    assert play(told, data.draw(flags), data.draw(flags)) == whole


@pytest.mark.parametrize("op", ["<", "<=", "==", "!=", ">", ">="])
def test_every_comparison(op: Order) -> None:
    room = Room([of_group("level_inside > 3", op, 1, share=False)])
    found = []
    for n, level in enumerate((3.1, 1.0)):
        room.inside(f"{n + 1}m", ps_1=level)
        found.append(bool(room.said) and room.said[-1].edge is Edge.RAISED)
    assert found == {"<": [False, True], "<=": [True, True], "==": [True, False], "!=": [False, True],
                     ">": [False, False], ">=": [True, False]}[op]  # fmt: skip


def test_the_worst_of_a_group_that_has_too_few_is_the_fewest() -> None:
    room = Room([of_group("level_inside > 3", "<", 3, share=False)])
    assert room.inside("0s", ps_1=3.1, ps_2=3.1) == ["raised 0 of group:g7"]
    room.inside("1m", ps_1=1.0, ps_2=1.0)
    assert [p.peak_value for p in room.peaks] == [0.0]
    assert room.said[0].peak_value == 1.0


def test_a_group_is_judged_when_the_time_it_is_kept_is_over_though_it_still_counts() -> None:
    """What comes late after that clears it at once, and not only when the clock comes by again."""
    room = Room([of_group("level_inside > 3", ">=", 2, share=False, keep_us=10 * MINUTE)])
    assert room.inside("0s", ps_1=3.1, ps_2=3.1) == ["raised 0 of group:g7"]
    assert room.combiner.due() == at("10m")
    assert room.ticks("11m") == []
    assert room.combiner.due() == FAR
    assert room.inside("9m", ps_2=1.0) == ["cleared 10 of group:g7"]

"""The alarm of a group, made of what the engine says of its members."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.instants import MINUTE
from devices.registry import EVENT
from rules.combining import Combiner
from rules.expression import Group, Order
from rules.language import parse
from rules.outcome import FAR, Edge, Peak, Transition
from rules.parts import parts_of
from rules.rule import AppliesTo
from tests.rules.desk import START, at, put
from tests.rules.room import Room, members, of_group, stations


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

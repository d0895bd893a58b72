"""Readings raise alarms; alarms are kept, told and turned into orders in the same commit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.instants import DAY, HOUR, MINUTE, SECOND
from flow.alarms import update_peaks
from flow.desk import acknowledge
from rules.outcome import Peak
from store.records.database import write
from store.records.tables import alarm_history, alarms, occurrences, order_history, order_occurrences, orders, outbox
from store.records.tables import rules as rules_table
from tests.flow.town import AIR, DOOR, ELDER, LEVEL, NOW, OFFICER, PUMP, Town, down, up


def only(rows: list[dict[str, object]]) -> dict[str, object]:
    (row,) = rows
    return row


def everything(town: Town) -> list[list[dict[str, object]]]:
    tables = (alarms, occurrences, alarm_history, orders, order_occurrences, order_history, outbox)
    return [town.rows(table) for table in tables]


def test_a_raise_makes_one_alarm_one_occurrence_one_order_and_two_messages(town: Town) -> None:
    town.raised()
    alarm, occurrence, order = only(town.rows(alarms)), only(town.rows(occurrences)), only(town.rows(orders))
    assert (alarm["state"], alarm["active"], alarm["grid"], alarm["raised_count"]) == ("UNACK", True, "g-1", 1)
    assert (occurrence["raised_at"], occurrence["since"], occurrence["first_value"]) == (NOW, NOW - MINUTE, 3.6)
    assert occurrence["reason"] == {"when": "level_inside > 3.5", "values": {"level_inside": 3.6}}
    assert (order["state"], order["category"], order["close_by"], order["alarm"]) == (
        "filed", "flood.polder_inside", "sensor", alarm["id"],
    )  # fmt: skip
    assert (order["source"], order["reporter"], order["handle_by"]) == ("rule", "service", NOW + 4 * HOUR)
    assert town.messages() == ["alarm:1:occ:1:raised", "order:1:filed"]
    assert [h["act"] for h in town.rows(alarm_history)] == ["raised"]
    assert [(h["act"], h["by"], h["to_state"]) for h in town.rows(order_history)] == [("file", "service", "filed")]


def test_an_alarm_moves_with_its_device(town: Town) -> None:
    town.raised()
    town.registry.put(replace(town.registry.devices[0], grid="g-2"))
    town.later()
    town.cleared()
    assert only(town.rows(alarms))["grid"] == "g-2"


def test_the_rule_as_written_is_kept_beside_its_alarm(town: Town) -> None:
    town.raised()
    assert only(town.rows(rules_table))["text"] == "rule text"


def test_a_clear_ends_the_occurrence_and_leaves_it_to_be_acknowledged(town: Town) -> None:
    town.raised()
    town.later(HOUR)
    town.cleared()
    alarm, occurrence = only(town.rows(alarms)), only(town.rows(occurrences))
    assert (alarm["state"], alarm["active"]) == ("RTNUN", False)
    assert (occurrence["cleared_at"], occurrence["peak_value"]) == (NOW + HOUR, 3.8)


def test_the_alarm_keeps_its_id_over_its_occurrences(town: Town) -> None:
    for _ in range(3):
        town.raised()
        town.later(HOUR)
        town.cleared()
        town.later(HOUR)
    alarm = only(town.rows(alarms))
    assert (alarm["id"], alarm["raised_count"], alarm["occurrence"]) == (1, 3, 3)
    assert [o["alarm"] for o in town.rows(occurrences)] == [1, 1, 1]


def test_raised_again_at_the_same_instant_reopens_the_occurrence_and_tells_nobody_twice(town: Town) -> None:
    town.raised(at=NOW)
    town.cleared(at=NOW)
    town.raised(at=NOW)
    occurrence, alarm = only(town.rows(occurrences)), only(town.rows(alarms))
    assert occurrence["cleared_at"] is None
    assert (alarm["state"], alarm["active"], alarm["raised_count"]) == ("UNACK", True, 1)
    assert town.messages() == ["alarm:1:occ:1:raised", "order:1:filed"]
    assert [h["act"] for h in town.rows(alarm_history)] == ["raised", "cleared", "reopened"]


def test_raised_cleared_and_raised_at_one_instant_in_one_call(town: Town) -> None:
    town.tell(up(at=NOW), down(at=NOW), up(at=NOW))
    assert only(town.rows(occurrences))["cleared_at"] is None
    assert only(town.rows(alarms))["state"] == "UNACK"
    assert len(town.rows(orders)) == 1


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_same_transitions_told_again_change_nothing(town: Town, parts: int) -> None:
    story = [up(at=NOW), down(at=NOW + HOUR), up(at=NOW + 2 * HOUR), up(ELDER, "door-07", NOW + HOUR)]
    size = len(story) // parts
    town.later(3 * HOUR)
    for i in range(0, len(story), size):
        town.tell(*story[i : i + size])
    before = everything(town)
    town.later()
    town.tell(*story)
    assert everything(town) == before
    town.tell(*story[:2])
    assert everything(town) == before


def test_what_is_over_and_acknowledged_stays_so_when_told_again(town: Town) -> None:
    story = [up(at=NOW), down(at=NOW + MINUTE)]
    town.tell(*story)
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    before = everything(town)
    town.tell(*story)
    assert everything(town) == before


def test_a_clear_of_what_never_was_raised_is_nothing(town: Town) -> None:
    town.cleared()
    town.raised()
    town.tell(down(at=NOW - SECOND), down(at=NOW + HOUR), down(at=NOW + HOUR))
    assert [h["act"] for h in town.rows(alarm_history)] == ["raised", "cleared"]
    assert [a["rule"] for a in town.rows(alarms)] == [LEVEL.id]


def test_a_raise_by_an_unknown_rule_is_refused_and_a_clear_by_one_is_not(town: Town) -> None:
    town.raised()
    ghost = type(LEVEL)("ghost", "", "", LEVEL.priority, None)
    town.cleared(rule=ghost)
    with pytest.raises(KeyError):
        town.raised(rule=ghost)


def test_raised_anew_while_standing_supersedes(town: Town) -> None:
    """Its rule was changed and began afresh; nothing else would ever end the older occurrence."""
    town.raised()
    town.later()
    town.raised()
    first, second = town.rows(occurrences)
    assert (first["cleared_at"], second["cleared_at"]) == (NOW + MINUTE, None)
    assert len(town.rows(orders)) == 1
    assert only(town.rows(orders))["state"] == "filed"
    town.later()
    town.cleared()
    assert only(town.rows(orders))["state"] == "checking"


def test_a_silence_that_ended_before_it_was_raised_is_found_by_its_start(town: Town) -> None:
    """A late reading ends a silence at an instant before the silence was told."""
    raised, ended = up(AIR, at=NOW), down(AIR, at=NOW - 5 * MINUTE)
    town.tell(raised)
    town.tell(type(ended)(**{s: getattr(ended, s) for s in ended.__slots__} | {"since": raised.since}))
    assert only(town.rows(occurrences))["cleared_at"] == NOW - 5 * MINUTE


def test_long_over_when_first_seen_is_recorded_and_wakes_nobody(town: Town) -> None:
    town.later(2 * HOUR)
    town.tell(up(at=NOW), down(at=NOW + HOUR))
    assert only(town.rows(occurrences))["retroactive"] is True
    assert town.messages() == []
    assert (only(town.rows(orders))["state"], only(town.rows(alarms))["state"]) == ("checking", "RTNUN")


@pytest.mark.parametrize(
    ("age", "cleared", "retroactive"),
    [(9 * MINUTE, True, False), (11 * MINUTE, True, True), (11 * MINUTE, False, False)],
)
def test_what_is_recent_or_still_stands_is_told(town: Town, age: int, cleared: bool, retroactive: bool) -> None:
    story = [up(at=NOW - age), *([down(at=NOW - MINUTE)] if cleared else [])]
    town.tell(*story)
    assert only(town.rows(occurrences))["retroactive"] is retroactive
    assert bool(town.messages()) is not retroactive


def test_a_piece_of_the_past_found_later_changes_no_state(town: Town) -> None:
    town.raised()
    town.tell(up(at=NOW - 3 * HOUR), down(at=NOW - 2 * HOUR))
    alarm = only(town.rows(alarms))
    assert (alarm["state"], alarm["active"], alarm["occurrence"], alarm["raised_count"]) == ("UNACK", True, 1, 2)
    past = town.rows(occurrences)[1]
    assert (past["cleared_at"], past["retroactive"]) == (NOW - 2 * HOUR, True)
    assert only(town.rows(orders))["state"] == "filed"
    assert len(town.rows(order_occurrences)) == 2
    assert town.messages() == ["alarm:1:occ:1:raised", "order:1:filed"]


def test_two_occurrences_while_the_order_is_open_are_one_order(town: Town) -> None:
    town.raised(rule=PUMP)
    town.later()
    town.cleared(rule=PUMP)
    town.later()
    town.raised(rule=PUMP)
    order = only(town.rows(orders))
    assert (order["state"], order["version"]) == ("filed", 1)
    assert [o["occurrence"] for o in town.rows(order_occurrences)] == [1, 2]
    assert [h["act"] for h in town.rows(order_history)] == ["file", "cleared", "attached"]


def test_an_alarm_that_clears_by_itself_sends_its_order_to_checking(town: Town) -> None:
    town.raised()
    town.later()
    town.cleared()
    order = only(town.rows(orders))
    assert (order["state"], order["version"], order["next_limit_at"]) == ("checking", 2, None)
    assert [h["act"] for h in town.rows(order_history)] == ["file", "self_clear"]


def test_an_elders_order_waits_for_the_visit(town: Town) -> None:
    town.raised(ELDER, "door-07")
    town.later()
    town.cleared(ELDER, "door-07")
    assert only(town.rows(orders))["state"] == "filed"
    assert [h["act"] for h in town.rows(order_history)] == ["file", "cleared"]


def test_raised_again_after_it_cleared_the_order_waits_in_checking_with_the_alarm_standing(town: Town) -> None:
    town.raised()
    town.later()
    town.cleared()
    town.later()
    town.raised()
    assert only(town.rows(orders))["state"] == "checking"
    assert [h["act"] for h in town.rows(order_history)] == ["file", "self_clear", "attached"]


def test_a_notice_is_listed_and_asks_for_nothing(town: Town) -> None:
    town.raised(DOOR, "door-07")
    assert only(town.rows(alarms))["state"] == "ACKED"
    town.later()
    town.cleared(DOOR, "door-07")
    assert only(town.rows(alarms))["state"] == "NORM"
    assert len(town.rows(occurrences)) == 1
    assert (town.rows(orders), town.messages()) == ([], [])


def test_the_services_own_alarms_need_no_rule_in_the_book(town: Town) -> None:
    silence = type(LEVEL)("gw-silence", "", "", LEVEL.priority, None)
    link = type(LEVEL)("gw-link", "", "", LEVEL.priority, None)
    town.raised(silence)
    town.raised(link, "gridwhistle")
    assert [(a["rule"], a["priority"], a["grid"]) for a in town.rows(alarms)] == [
        ("gw-silence", "medium", "g-1"),
        ("gw-link", "high", None),
    ]
    assert town.rows(orders) == []


def test_nothing_that_leaves_names_the_elder(town: Town) -> None:
    town.raised(ELDER, "door-07")
    said = str(town.rows(outbox)) + str(town.told("alarm")) + str(town.told("order")) + str(town.rows(orders))
    assert "door-07" in said
    for secret in ("张", "长江路", "31.2", "120.6"):
        assert secret not in said


def test_the_stream_has_one_row_for_each_alarm_and_order_that_changed(town: Town) -> None:
    town.tell(up(at=NOW), down(at=NOW + SECOND), up(device="ps-02"))
    assert [(b["id"], b["state"]) for b in town.told("alarm")] == [(1, "RTNUN"), (2, "UNACK")]
    assert [(b["id"], b["state"], b["act"]) for b in town.told("order")] == [
        (1, "checking", "self_clear"), (2, "filed", "file"),
    ]  # fmt: skip


def test_peaks_go_to_the_occurrence_they_belong_to(town: Town) -> None:
    town.raised()
    with write(town.records) as tx:
        update_peaks(tx, [Peak(LEVEL.id, "ps-01", NOW, 3.9), Peak(LEVEL.id, "ps-02", NOW, 9.9)])
        update_peaks(tx, [])
    assert only(town.rows(occurrences))["peak_value"] == 3.9


def test_values_no_json_can_hold_do_not_stop_the_commit(town: Town) -> None:
    town.raised(value=float("nan"))
    town.tell(up(device="ps-02", value=float("inf")))
    assert [o["first_value"] for o in town.rows(occurrences)] == [None, None]


def test_five_thousand_transitions_in_one_call(town: Town) -> None:
    story = []
    for i in range(1250):
        at = NOW + i * MINUTE
        story += [up(at=at), down(at=at + SECOND), up(AIR, f"air-{i}", at), down(AIR, f"air-{i}", at + SECOND)]
    town.later(DAY)
    town.tell(*story)
    assert (len(town.rows(occurrences)), len(town.rows(orders)), len(town.rows(alarms))) == (2500, 1, 1251)
    assert len(town.rows(order_occurrences)) == 1250

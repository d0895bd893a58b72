"""Each sentence of docs/architecture.md §4 about rules, as a duty officer would say it; minutes from the start."""

from __future__ import annotations

from rules.declared import Declared, Pause
from tests.rules.desk import START, Desk, at, put, rule, town

HIGH = "level_inside > 3.5"


def test_a_level_over_its_limit_raises_at_once_and_clears_when_it_is_back() -> None:
    desk = Desk(rule("level_inside > attr.inside_limit_level"))
    desk.level(("1m", 3.4), ("2m", 3.6), ("3m", 3.7), ("4m", 3.5))
    assert desk.said == ["raised 2", "cleared 4"]
    first, last = desk.transitions
    assert (first.since, first.first_value, first.peak_value, first.metric) == (at("2m"), 3.6, 3.6, "level_inside")
    assert (last.first_value, last.peak_value, last.element) == (3.6, 3.7, 3)


def test_a_probe_that_trembles_on_the_limit_raises_one_alarm() -> None:
    desk = Desk(rule(HIGH, for_="1m", clear="level_inside <= 3.3"))
    levels = [3.49, 3.51, 3.49, 3.51, 3.52, 3.53, 3.54, 3.40, 3.51, 3.29]
    desk.level(*[(f"{30 * i}s", value) for i, value in enumerate(levels)])
    assert desk.said == ["raised 2.5", "cleared 4.5"]
    assert desk.transitions[0].since == at("1m30s")
    assert desk.transitions[1].peak_value == 3.54


def test_nothing_matures_without_a_reading() -> None:
    desk = Desk(rule(HIGH, for_="2m", max_gap="none"))
    desk.level(("1m", 3.6))
    assert desk.ticks("60m") == []
    desk.level(("61m", 3.6))
    assert desk.said == ["raised 61"]


def test_a_hold_starts_anew_after_a_silence_longer_than_three_intervals() -> None:
    desk = Desk(rule(HIGH, for_="5m"))
    desk.level(("1m", 3.6), ("4m", 3.6), ("7m1s", 3.6), ("8m", 3.6), ("11m", 3.6), ("12m1s", 3.6))
    assert [(t.since, t.at) for t in desk.transitions] == [(at("7m1s"), at("12m1s"))]


def test_a_silence_of_exactly_max_gap_is_no_gap() -> None:
    desk = Desk(rule(HIGH, for_="5m", max_gap="3m"))
    desk.level(("1m", 3.6), ("4m", 3.6), ("7m", 3.6))
    assert desk.said == ["raised 7"]


def test_a_device_falling_silent_never_clears_an_alarm() -> None:
    desk = Desk(rule(HIGH))
    desk.level(("1m", 3.6))
    assert desk.ticks("600m") == []
    desk.level(("601m", 3.6))
    assert desk.said == ["raised 1"]


def test_between_raising_and_clearing_the_last_opinion_stands() -> None:
    desk = Desk(rule(HIGH, clear="level_inside <= 3.3"))
    desk.level(("1m", 3.6), ("2m", 3.4), ("3m", 3.6), ("4m", 3.31), ("5m", 3.3), ("6m", 3.4))
    assert desk.said == ["raised 1", "cleared 5"]


def test_two_packets_of_one_instant_are_two_elements_and_the_rule_sees_both() -> None:
    desk = Desk(rule("level_outside - level_inside > 0.5"))
    desk.reads(("ps-1", "1m", {"level_inside": 3.0}), ("ps-1", "1m", {"level_outside": 3.6}))
    assert desk.said == ["raised 1"]
    assert desk.transitions[0].element == 1


def test_the_instant_of_a_rule_never_goes_back() -> None:
    inside, outside = ("ps-1", "10m", {"level_inside": 3.0}), ("ps-1", "9m", {"level_outside": 4.0})
    for batches in ([[inside], [outside]], [[inside, outside]]):
        desk = Desk(rule("level_inside > 3.5 or level_outside > 3.5"))
        for batch in batches:
            desk.reads(*batch)
        assert desk.said == ["raised 10"]


def test_all_metrics_of_an_element_are_applied_before_a_rule_looks() -> None:
    desk = Desk(rule("level_outside - level_inside > 0.5"))
    desk.reads(
        ("ps-1", "1m", {"level_inside": 3.0, "level_outside": 3.1}),
        ("ps-1", "2m", {"level_outside": 4.0, "level_inside": 4.0}),
    )
    assert desk.said == []


def test_a_value_older_than_three_intervals_is_unknown_and_unknown_does_not_raise() -> None:
    desk = Desk(rule("level_outside - level_inside > 0.5"))
    desk.reads(("ps-1", "1m", {"level_inside": 3.0}), ("ps-1", "4m1s", {"level_outside": 4.0}))
    assert desk.said == []
    desk.reads(("ps-1", "5m", {"level_inside": 3.0}))
    assert desk.said == ["raised 5"]


def test_unknown_neither_clears_a_standing_alarm_nor_resets_a_pending_one() -> None:
    desk = Desk(rule("level_outside - level_inside > 0.5", for_="6m", max_gap="none"))
    desk.reads(("ps-1", "1m", {"level_inside": 3.0, "level_outside": 4.0}))
    desk.reads(("ps-1", "5m", {"level_outside": 2.0}))
    desk.reads(("ps-1", "7m", {"level_inside": 3.0, "level_outside": 4.0}))
    desk.reads(("ps-1", "11m", {"level_outside": 2.0}))
    assert desk.said == ["raised 7"]


def test_true_or_unknown_is_true_and_false_and_unknown_is_false() -> None:
    either = Desk(rule("level_inside > 3.5 or level_outside > 3.5"))
    either.level(("1m", 3.6))
    assert either.said == ["raised 1"]
    both = Desk(
        rule("level_inside > 3.5 and level_outside > 3.5", clear="not (level_inside > 3.5 and pumps_running > 0)")
    )
    both.reads(("ps-1", "1m", {"level_inside": 3.6, "level_outside": 3.6}), ("ps-1", "9m", {"level_inside": 3.0}))
    assert both.said == ["raised 1", "cleared 9"]


def test_a_device_without_the_attribute_has_no_opinion() -> None:
    desk = Desk(rule("level_inside > attr.inside_limit_level"), town())
    desk.level(("1m", 9.0), ("2m", 0.0))
    assert desk.said == []


def test_anything_divided_by_zero_is_unknown() -> None:
    desk = Desk(rule("level_inside / level_outside > 1"))
    desk.reads(("ps-1", "1m", {"level_inside": 3.0, "level_outside": 0.0}))
    assert desk.said == []


def test_mains_lost_is_a_truth_not_a_number() -> None:
    desk = Desk(rule("mains_ok == false"))
    desk.reads(("ps-1", "1m", {"mains_ok": 0.0}), ("ps-1", "2m", {"mains_ok": 1.0}))
    assert desk.said == ["raised 1", "cleared 2"]


def test_an_absence_is_dated_with_the_last_reading_and_clears_with_the_next() -> None:
    desk = Desk(rule("absent(level_inside, 15m)"))
    desk.level(("1m", 3.0))
    assert desk.ticks("15m59s") == []
    desk.ticks("40m")
    desk.level(("41m", 3.0))
    assert desk.said == ["raised 16", "cleared 41"]


def test_a_late_reading_ends_an_absence_and_the_clock_dates_the_next_from_it() -> None:
    desk = Desk(rule("absent(level_inside, 15m)"))
    desk.level(("1m", 3.0))
    desk.ticks("60m")
    desk.level(("30m", 3.0))
    desk.ticks("60m")
    assert desk.said == ["raised 16", "cleared 30", "raised 45"]


def test_a_device_never_heard_is_absent_from_its_first_sight_on() -> None:
    desk = Desk(rule("absent(level_inside, 15m)", applies_to="{kind: pump_station}"))
    desk.ticks("20m")
    assert {(t.device, t.at) for t in desk.transitions} == {("ps-1", at("15m")), ("ps-2", at("15m"))}


def test_after_the_link_came_back_an_absence_gets_one_full_interval_and_keeps_its_date() -> None:
    desk = Desk(rule("absent(level_inside, 15m)"))
    desk.level(("1m", 3.0))
    desk.engine.link(at("30m"))
    assert desk.ticks("44m59s") == []
    desk.ticks("45m")
    assert [t.at for t in desk.transitions if t.device == "ps-1"] == [at("16m")]


def test_the_first_reading_of_a_device_is_no_gap_in_an_absence_that_is_pending() -> None:
    desk = Desk(rule("absent(level_inside, 15m) or level_outside > 3.5", for_="10m"))
    desk.ticks("16m")
    desk.reads(("ps-1", "20m", {"level_outside": 4.0}))
    desk.ticks("40m")
    assert [(t.since, t.at) for t in desk.transitions] == [(at("15m"), at("25m"))]


def test_the_link_coming_back_clears_no_standing_absence() -> None:
    desk = Desk(rule("absent(level_inside, 15m) and mains_ok == true"))
    desk.reads(("ps-1", "1m", {"level_inside": 3.0}), ("ps-1", "15m", {"mains_ok": 1.0}))
    desk.ticks("16m")
    assert desk.said == ["raised 16"]
    desk.engine.link(at("17m"))
    desk.reads(("ps-1", "18m", {"mains_ok": 1.0}))
    assert desk.said == ["raised 16"]


def test_an_elders_door_not_opened_for_a_day_and_opened_again() -> None:
    book = rule('since(event("door_opened")) > 24h', applies_to="{kind: door_sensor}")
    desk = Desk(book)
    desk.event("door_opened", "60m")
    assert desk.ticks("1499m") == []
    desk.ticks("1510m")
    desk.event("door_opened", "1520m")
    assert desk.said == ["raised 1500", "cleared 1520"]


def test_more_than_a_day_and_a_day_are_reached_at_the_same_instant() -> None:
    for comparison in ('since(event("door_opened")) > 24h', '24h <= since(event("door_opened"))'):
        desk = Desk(rule(comparison, applies_to="{kind: door_sensor}"))
        desk.event("door_opened", "1m")
        desk.ticks("1441m")
        assert desk.said == ["raised 1441"]


def test_a_door_never_opened_counts_from_the_first_sight_of_its_sensor() -> None:
    desk = Desk(rule('since(event("door_opened")) > 24h', applies_to="{kind: door_sensor}"))
    desk.ticks("2d")
    assert desk.said == ["raised 1440"]


def test_a_device_of_the_list_that_was_never_seen_is_not_missed() -> None:
    registry = town()
    put(registry, "door", first_seen=0)
    desk = Desk(rule('since(event("door_opened")) > 24h', applies_to="{kind: door_sensor}"), registry)
    assert desk.ticks("2d") == []


def test_three_persons_in_ten_minutes_raise_and_the_window_running_out_clears() -> None:
    desk = Desk(rule('count(event("person_detected"), 10m) >= 3', applies_to="{kind: camera}"))
    for after in ("1m", "4m", "10m59s"):
        desk.event("person_detected", after, "cam")
    desk.ticks("30m")
    assert desk.said == [f"raised {10 + 59 / 60:g}", "cleared 11"]


def test_the_window_of_a_count_is_open_at_its_old_end() -> None:
    desk = Desk(rule('count(event("person_detected"), 10m) >= 2', applies_to="{kind: camera}"))
    for after in ("1m", "11m"):
        desk.event("person_detected", after, "cam")
    assert desk.said == []


def test_an_event_raises_and_clears_at_its_own_element() -> None:
    desk = Desk(rule('event("door_opened")', applies_to="{kind: door_sensor}"))
    desk.reads(("door", "1m", {"event:door_opened": 1.0}), ("door", "2m", {"event:door_closed": 1.0}))
    assert desk.said == ["raised 1", "cleared 1"]
    assert [t.element for t in desk.transitions] == [0, 0]


def test_an_event_with_a_clear_stands_until_it_is_true() -> None:
    book = rule('event("door_opened")', clear="'event(\"door_closed\")'", applies_to="{kind: door_sensor}")
    desk = Desk(book)
    desk.event("door_opened", "1m")
    desk.event("door_opened", "2m")
    desk.event("door_closed", "3m")
    assert desk.said == ["raised 1", "cleared 3"]


def test_a_low_level_has_its_minimum_as_peak_and_news_of_it_comes_while_it_stands() -> None:
    desk = Desk(rule("level_inside < 3.0"))
    desk.level(("1m", 2.9))
    desk.level(("2m", 2.7), ("3m", 2.8))
    assert desk.peaks == {at("1m"): 2.7}
    desk.level(("4m", 3.0))
    assert desk.transitions[-1].peak_value == 2.7


def test_the_reason_tells_the_rule_and_what_it_saw() -> None:
    desk = Desk(rule("level_inside > attr.inside_limit_level", for_="60s"))
    desk.level(("1m", 3.55), ("2m", 3.52))
    assert desk.transitions[0].reason == {
        "when": "level_inside > attr.inside_limit_level",
        "values": {"level_inside": 3.52, "attr.inside_limit_level": 3.5},
        "for": "1m",
    }


def test_start_is_where_the_tests_think_it_is() -> None:
    assert at("0s") == START


def test_an_event_that_is_not_needed_raises_once_and_stands_while_the_rest_is_true() -> None:
    desk = Desk(rule('event("tamper") or online == false', applies_to="{kind: camera}"))
    for minute in range(1, 9):
        desk.reads(("cam", f"{minute}m", {"online": 0}))
    desk.reads(("cam", "9m", {"online": 1}))
    assert desk.said == ["raised 1", "cleared 9"]


def test_a_pause_ends_what_is_kept_and_the_clock_goes_on() -> None:
    desk = Desk(rule("absent(level_inside, 1m)", keep_for="10m"))
    desk.level(("1m", 3.0))
    desk.ticks("3m")
    pause = Pause("ps-1", at("4m"), at("30m"), "检修")
    desk.take(desk.engine.declare(Declared(pauses=(pause,)), at("3m")))
    desk.ticks("4m")
    assert desk.said == ["raised 2", "cleared 4"]
    desk.ticks("40m")
    assert desk.said == ["raised 2", "cleared 4", "raised 31"]


def test_an_absence_counts_from_the_very_end_of_a_pause() -> None:
    desk = Desk(rule("absent(level_inside, 1m)"))
    desk.level(("1m", 3.0))
    desk.take(desk.engine.declare(Declared(pauses=(Pause("ps-1", at("1m30s"), at("10m"), "检修"),)), at("1m")))
    desk.reads(("ps-1", "10m", {"level_outside": 3.0}))
    desk.ticks("10m")
    assert desk.said == []
    desk.ticks("11m")
    assert desk.said == ["raised 11"]

"""The review of a run and the comparison of two: counted here by hand, or by a slower way than the code's."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from devices.instants import DAY, HOUR, MINUTE, SECOND, parse_duration
from rules.backtest import Finding
from rules.comparison import compare
from rules.review import TARGETS, chattering, review
from rules.rule import Priority
from tests.rules.desk import START, at


def alarm(raised: str, stood: str | None = "5m", rule: str = "high", device: str = "ps-1", **more: object) -> Finding:
    begin = at(raised)
    cleared = None if stood is None else begin + parse_duration(stood)
    priority = Priority(str(more.get("priority", "high")))
    return Finding(rule, device, "level", begin, begin, cleared, 1.0, 2.0, ((begin, priority),))


def test_an_empty_run_has_nothing_to_say() -> None:
    found = review([], START, START + DAY)
    assert (found.alarms, found.per_day, found.worst_ten_minutes, found.worst_ten_minutes_at) == (0, 0, 0, None)
    assert (found.worst_rules, found.chattering, found.days) == ((), (), {})
    assert found.as_json()["busiest_day"] is None


def test_alarms_per_day_are_a_mean_and_days_are_those_of_the_site() -> None:
    # START is 08:00 in Shanghai, so sixteen hours later a new day begins there.
    findings = [alarm("1h"), alarm("15h"), alarm("16h"), alarm("40h")]
    found = review(findings, START, START + 2 * DAY, zone="Asia/Shanghai")
    assert found.per_day == 2.0
    assert found.days == {"2026-07-01": 2, "2026-07-02": 1, "2026-07-03": 1}
    assert found.as_json()["busiest_day"] == {"date": "2026-07-01", "alarms": 2}
    assert review(findings[:2], START, START + HOUR).per_day == 2.0  # an hour counts as a day, not as a 24th


def test_the_worst_ten_minutes_slide_and_an_alarm_just_ten_minutes_old_has_left_them() -> None:
    findings = [alarm("0s"), alarm("9m"), alarm("10m", device="ps-2"), alarm("18m", rule="other"), alarm("30m")]
    found = review(findings, START, START + HOUR)
    assert (found.worst_ten_minutes, found.worst_ten_minutes_at) == (3, at("18m"))


def test_three_activations_of_one_alarm_in_a_minute_chatter() -> None:
    burst = [alarm("1h", "5s"), alarm("1h30s", "5s"), alarm("1h1m", "5s")]
    apart = [alarm(t, "5s", device="ps-2") for t in ("1h", "1h30s", "1h61s")]
    mixed = [alarm("2h", rule=rule) for rule in ("a", "b", "c")]
    (only,) = review([*burst, *apart, *mixed, alarm("3h")], START, START + DAY).chattering
    assert (only.rule, only.device, only.activations, only.first_at) == ("high", "ps-1", 3, at("1h"))


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(2, 4))
def test_activations_that_chatter_equal_those_found_by_trying_all(seconds: list[int], times: int) -> None:
    findings = [alarm(f"{second}s") for second in seconds]
    instants = sorted(seconds)
    inside = {
        place
        for group in combinations(range(len(instants)), times)
        if instants[group[-1]] - instants[group[0]] <= 60
        for place in group
    }
    found = chattering(findings, times=times)
    assert sum(each.activations for each in found) == len(inside)


def test_fleeting_is_below_a_minute_and_stale_above_a_day() -> None:
    findings = [alarm("0s", "59s"), alarm("1h", "60s"), alarm("2h", "24h"), alarm("30h", "25h"), alarm("60h", None)]
    assert review(findings, START, at("84h")).stale == 1
    found = review(findings, START, at("90h"))
    assert (found.fleeting, found.stale) == (1, 2)


def test_the_ten_worst_rules_with_their_share() -> None:
    findings = [alarm(f"{n}h", rule=f"r{n % 12}") for n in range(24)] + [alarm("30h", rule="r5")]
    found = review(findings, START, START + 2 * DAY)
    assert len(found.worst_rules) == 10
    assert (found.worst_rules[0].rule, found.worst_rules[0].alarms, found.worst_rules[0].share) == ("r5", 3, 3 / 25)
    assert [share.rule for share in found.worst_rules[1:4]] == ["r0", "r1", "r10"]


def test_a_notice_asks_nothing_of_anybody_and_is_in_no_rate() -> None:
    findings = [alarm("1h", "0s", priority="notice") for _ in range(50)] + [alarm("1h")]
    found = review(findings, START, START + DAY)
    assert (found.alarms, found.notices, found.worst_ten_minutes, found.fleeting) == (1, 50, 1, 0)
    assert found.chattering == ()


def test_the_targets_are_in_the_answer() -> None:
    assert review([], START, START + DAY).as_json()["targets"] == dict(TARGETS)


def test_a_run_compared_with_itself_is_the_same() -> None:
    findings = [alarm("1h"), alarm("2h"), alarm("3h", None, device="ps-2")]
    found = compare(findings, list(reversed(findings)))
    assert (found.same, found.gained, found.lost, found.moved) == (3, (), (), ())


def test_gained_lost_and_moved() -> None:
    stays, goes, later, early = alarm("1h"), alarm("5h"), alarm("10h10m", "1h"), alarm("10h", "1h")
    comes = alarm("20h", rule="other")
    found = compare([stays, goes, early], [stays, later, comes])
    assert (found.same, found.gained, found.lost) == (1, (comes,), (goes,))
    (moved,) = found.moved
    assert (moved.before, moved.after, moved.what) == (early, later, ("since", "raised_at", "cleared_at"))


def test_an_occurrence_of_another_device_or_rule_is_never_a_partner() -> None:
    found = compare([alarm("1h")], [alarm("1h", device="ps-2"), alarm("1h", rule="other")])
    assert (found.same, len(found.gained), len(found.lost), found.moved) == (0, 2, 1, ())


def test_ten_that_became_one_are_one_moved_and_nine_lost() -> None:
    many = [alarm(f"{n}m", "30s") for n in range(10)]
    found = compare(many, [alarm("0s", "10m")])
    assert (found.moved[0].before, found.moved[0].what) == (many[0], ("cleared_at",))
    assert found.lost == tuple(many[1:])


def test_the_nearest_within_the_hour_is_the_same_one_moved() -> None:
    before = [alarm("1h", "1m")]
    assert [m.after.raised_at for m in compare(before, [alarm("2h", "1m"), alarm("1h30m", "1m")]).moved] == [
        at("1h30m")
    ]
    assert len(compare(before, [alarm("2h1m", "1m")]).moved) == 1
    far = compare(before, [alarm("2h2m", "1m")])
    assert (far.moved, len(far.gained), len(far.lost)) == ((), 1, 1)


def test_another_severity_is_told_by_itself() -> None:
    mild, severe = alarm("1h", priority="medium"), alarm("1h", priority="critical")
    assert compare([mild], [severe]).moved[0].what == ("severities",)
    rose = replace(mild, priority=(*mild.priority, (at("2h"), Priority.LOW)))
    assert compare([mild], [rose]).moved[0].what == ("severities",)


times = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=12)


def in_a_row(gaps: list[tuple[int, int]]) -> list[Finding]:
    found, now = [], START
    for gap, stood in gaps:
        now += (gap + 1) * 10 * MINUTE
        found.append(Finding("r", "d", None, now, now, now + stood * 10 * MINUTE - SECOND, None, None))
        now += stood * 10 * MINUTE
    return found


@given(times, times)
def test_every_occurrence_of_both_runs_is_told_exactly_once(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    before, after = in_a_row(one), in_a_row(other)
    found = compare(before, after)
    assert found.same + len(found.moved) + len(found.lost) == len(before)
    assert found.same + len(found.moved) + len(found.gained) == len(after)
    assert found.same == len(
        {(f.raised_at, f.cleared_at) for f in before} & {(f.raised_at, f.cleared_at) for f in after}
    )
    back = compare(after, before)
    assert (back.same, back.gained, back.lost) == (found.same, found.lost, found.gained)

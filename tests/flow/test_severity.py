"""One alarm whose severity rises and falls: who acknowledged less is asked anew, its order follows upwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.instants import HOUR, MINUTE
from flow.desk import acknowledge, shelve, unshelve
from flow.occurring import MOST_CHANGES
from flow.orders import act_on_order
from rules.outcome import Edge, Transition
from rules.rule import Priority
from store.records.tables import alarm_history, alarms, occurrences, order_history, orders, outbox
from tests.flow.town import AIR, CHECKER, DOOR, HANDLER, LEVEL, NOW, OFFICER, Rule, Town, down, up

CRITICAL, HIGH, MEDIUM, LOW, NOTICE = Priority
TABLES = (alarms, occurrences, alarm_history, orders, order_history, outbox)


def raised(priority: Priority = MEDIUM, at: int = NOW, rule: Rule = LEVEL) -> Transition:
    return replace(up(rule, at=at), priority=priority)


def changed(priority: Priority, at: int, rule: Rule = LEVEL) -> Transition:
    reason = {"when": f"level_inside > {priority}", "values": {"level_inside": 4.1}}
    return replace(up(rule, at=at), edge=Edge.CHANGED, since=NOW - MINUTE, priority=priority, reason=reason)


def everything(town: Town) -> list[list[dict[str, object]]]:
    return [town.rows(table) for table in TABLES]


def state(town: Town) -> tuple[str, str]:
    (alarm,) = town.rows(alarms)
    return alarm["state"], alarm["priority"]


def severity(town: Town) -> list[tuple[int, str]]:
    return [(one["at"], one["priority"]) for one in town.rows(occurrences)[0]["severity"]]


def test_a_rise_asks_again_whoever_acknowledged_less(town: Town) -> None:
    town.tell(raised())
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    town.later()
    town.tell(changed(CRITICAL, NOW + MINUTE))
    assert state(town) == ("UNACK", "critical")
    (alarm,) = town.rows(alarms)
    assert (alarm["acknowledged_by"], alarm["active"], alarm["raised_count"]) == (None, True, 1)
    assert severity(town) == [(NOW, "medium"), (NOW + MINUTE, "critical")]
    last = town.rows(alarm_history)[-1]
    assert (last["act"], last["from_state"], last["to_state"], last["why"]) == (
        "worsened", "ACKED", "UNACK", "medium → critical",
    )  # fmt: skip
    told = town.rows(outbox)[-1]
    assert told["key"] == f"alarm:1:occ:1:worsened:{NOW + MINUTE}"
    assert (told["body"]["zh"], told["body"]["priority"]) == (
        "【紧急】圩内高水位：一号泵站（级别上升）", "critical",
    )  # fmt: skip


def test_a_fall_is_history_and_asks_nobody(town: Town) -> None:
    town.tell(raised(CRITICAL))
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    messages = town.messages()
    town.tell(changed(MEDIUM, NOW + MINUTE))
    assert state(town) == ("ACKED", "medium")
    assert town.rows(alarms)[0]["acknowledged_by"] == OFFICER.name
    assert [h["act"] for h in town.rows(alarm_history)] == ["raised", "acknowledged", "eased"]
    assert town.messages() == messages
    assert town.rows(orders)[0]["priority"] == "critical"


def test_its_order_gets_more_urgent_and_never_less_so(town: Town) -> None:
    town.tell(raised(LOW))
    act_on_order(town.records, town.now, OFFICER, order=1, act="dispatch", version=1, assignee=HANDLER.name)
    town.tell(changed(HIGH, NOW + 1), changed(MEDIUM, NOW + 2), changed(HIGH, NOW + 3), changed(CRITICAL, NOW + 4))
    (order,) = town.rows(orders)
    assert (order["priority"], order["state"], order["version"]) == ("critical", "dispatched", 2)
    assert [(h["act"], h["why"]) for h in town.rows(order_history)][2:] == [
        ("worsened", "low → high"), ("worsened", "high → critical"),
    ]  # fmt: skip
    assert town.told("order")[-1]["priority"] == "critical"


def test_a_worse_occurrence_makes_the_open_order_more_urgent_too(town: Town) -> None:
    town.tell(raised(LOW, rule=AIR), raised(LOW), down(at=NOW + 1), raised(CRITICAL, NOW + 2))
    (order,) = town.rows(orders)
    assert order["priority"] == "critical"


@pytest.mark.parametrize("begun", [NOTICE, LOW])
def test_what_began_as_a_notice_gets_its_order_when_it_is_one_no_more(town: Town, begun: Priority) -> None:
    town.tell(raised(begun))
    assert bool(town.rows(orders)) is (begun is not NOTICE)
    town.tell(changed(HIGH, NOW + MINUTE))
    (order,) = town.rows(orders)
    assert order["priority"] == "high"
    assert state(town) == ("UNACK", "high")


def test_what_is_worse_than_a_voided_order_gets_one_of_its_own(town: Town) -> None:
    town.tell(raised(LOW))
    act_on_order(town.records, town.now, OFFICER, order=1, act="void", version=1, reason="误报")
    town.tell(changed(CRITICAL, NOW + MINUTE))
    assert [(o["state"], o["priority"]) for o in town.rows(orders)] == [("void", "low"), ("filed", "critical")]


def test_a_closed_order_is_opened_again_by_what_is_worse(town: Town) -> None:
    """The checker closed it against the standing alarm, which then got worse."""
    town.tell(raised(LOW))
    act_on_order(town.records, town.now, OFFICER, order=1, act="dispatch", version=1, assignee=HANDLER.name)
    for version, (actor, act) in enumerate(
        [(HANDLER, "accept"), (HANDLER, "handle"), (CHECKER, "check"), (CHECKER, "close")], start=2
    ):
        act_on_order(town.records, town.now, actor, order=1, act=act, version=version, reason="已处理")
    town.later(HOUR)
    town.tell(changed(HIGH, NOW + HOUR))
    (order,) = town.rows(orders)
    assert (order["state"], order["priority"]) == ("rework", "high")
    assert "order:1:reopened:v7" in town.messages()


def test_shelved_it_is_followed_and_silent(town: Town) -> None:
    town.tell(raised(MEDIUM))
    shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="检修")
    messages = town.messages()
    town.tell(changed(CRITICAL, NOW + MINUTE))
    assert state(town) == ("SHLVD", "critical")
    assert town.messages() == messages
    town.later()
    unshelve(town.records, town.now, OFFICER, alarm=1)
    assert town.rows(outbox)[-1]["body"]["priority"] == "critical"


def test_a_change_of_what_does_not_stand_is_nothing(town: Town) -> None:
    town.tell(changed(CRITICAL, NOW))
    assert town.rows(alarms) == []
    town.tell(raised(), down(at=NOW + MINUTE), changed(CRITICAL, NOW + 2 * MINUTE))
    assert state(town) == ("RTNUN", "medium")
    assert severity(town) == [(NOW, "medium")]


def test_raised_again_at_one_instant_with_another_severity(town: Town) -> None:
    town.tell(raised(LOW), down(at=NOW), raised(HIGH))
    assert state(town) == ("UNACK", "high")
    assert severity(town) == [(NOW, "low"), (NOW, "high")]


def test_an_alarm_of_one_severity_keeps_no_list(town: Town) -> None:
    town.raised()
    assert town.rows(occurrences)[0]["severity"] is None
    # Its rule got levels while it stood: the list begins with what it was.
    town.tell(changed(LOW, NOW + MINUTE))
    assert severity(town) == [(NOW, "critical"), (NOW + MINUTE, "low")]


def test_one_that_trembles_keeps_the_first_and_the_latest_changes(town: Town) -> None:
    story = [changed((HIGH, LOW)[i % 2], NOW + i) for i in range(3 * MOST_CHANGES)]
    town.tell(raised(LOW), *story)
    kept = severity(town)
    assert len(kept) == MOST_CHANGES
    assert (kept[0], kept[-1]) == ((NOW, "low"), (NOW + len(story) - 1, "low"))
    assert sum(h["act"] == "worsened" for h in town.rows(alarm_history)) == len(story) // 2
    before = everything(town)
    town.tell(raised(LOW), *story)
    assert everything(town) == before


def test_told_long_afterwards_what_got_worse_and_is_over_wakes_nobody(town: Town) -> None:
    town.tell(raised(MEDIUM))
    town.now = NOW + 3 * HOUR
    messages = town.messages()
    town.tell(changed(CRITICAL, NOW + HOUR), down(at=NOW + 2 * HOUR))
    assert town.messages() == messages


STEPS = st.lists(st.tuples(st.sampled_from([CRITICAL, HIGH, LOW]), st.integers(0, 2)), min_size=1, max_size=8)


def story_of(steps: list[tuple[Priority, int]], *, over: bool) -> list[Transition]:
    """As the engine tells it: no change leads where it is already, instants never fall."""
    at, now, story = NOW, MEDIUM, [raised(MEDIUM)]
    for priority, later in steps:
        at += later
        if priority is not now:
            story.append(changed(priority, at))
            now = priority
    return [*story, down(at=at + 1), raised(LOW, at + 2)] if over else story


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, over=st.booleans(), cut=st.integers(1, 9))
def test_told_twice_or_cut_anywhere_it_comes_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Priority, int]], over: bool, cut: int
) -> None:
    story = story_of(steps, over=over)
    whole, parts = (Town(tmp_path_factory.mktemp("town")) for _ in range(2))
    whole.tell(*story)
    parts.tell(*story[:cut])
    parts.tell(*story[cut:])
    once = everything(whole)
    whole.tell(*story)
    assert everything(whole) == once
    ends = [[(a["state"], a["priority"], a["active"]) for a in town.rows(alarms)] for town in (whole, parts)]
    assert ends[0] == ends[1]
    # What comes back at one instant could be the same told again: then the trace alone is shorter.
    if len({(t.at, t.priority) for t in story}) == len(story):
        for table in (alarms, occurrences, orders, alarm_history):
            assert whole.rows(table) == parts.rows(table)
    for town in (whole, parts):
        town.records.dispose()


def test_a_door_that_opens_is_still_a_notice(town: Town) -> None:
    town.raised(DOOR, "door-07")
    assert town.rows(alarms)[0]["state"] == "ACKED"

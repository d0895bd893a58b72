"""What the duty officer does about alarms."""

from __future__ import annotations

import pytest

from alerts.alarms import AlarmState
from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound
from alerts.roles import Actor, Role
from devices.instants import DAY, HOUR, MINUTE
from flow.clock import tick_desk
from flow.desk import acknowledge, acknowledge_many, comment, shelve, unshelve
from flow.orders import act_on_order
from store.records.tables import alarm_history, alarms, orders, outbox
from tests.flow.town import AIR, CHECKER, DOOR, ELDER, HANDLER, NOW, OFFICER, VIEWER, Town


def state(town: Town, number: int = 1) -> str:
    return str(town.rows(alarms)[number - 1]["state"])


def acts(town: Town) -> list[str]:
    return [str(row["act"]) for row in town.rows(alarm_history)]


def test_acknowledging_is_recorded_with_who_and_when(town: Town) -> None:
    town.raised()
    town.later()
    row = acknowledge(town.records, town.now, OFFICER, alarm=1, comment="已通知泵站")
    assert (row.state, row.acknowledged_by, row.acknowledged_at) == (AlarmState.ACKED, "wang", NOW + MINUTE)
    last = town.rows(alarm_history)[-1]
    assert (last["by"], last["act"], last["from_state"], last["to_state"], last["why"], last["occurrence"]) == (
        "wang", "acknowledged", "UNACK", "ACKED", "已通知泵站", 1,
    )  # fmt: skip
    assert town.told("alarm")[-1]["state"] == "ACKED"


def test_what_returned_to_normal_is_acknowledged_to_normal(town: Town) -> None:
    town.raised()
    town.cleared(at=NOW + 1)
    assert acknowledge(town.records, town.now, OFFICER, alarm=1).state is AlarmState.NORM


def test_a_new_occurrence_asks_again(town: Town) -> None:
    town.raised()
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    town.later()
    town.cleared()
    assert state(town) == "NORM"
    town.later()
    town.raised()
    row = town.rows(alarms)[0]
    assert (row["state"], row["acknowledged_by"], row["acknowledged_at"]) == ("UNACK", None, None)


def test_acknowledging_twice_is_a_conflict_and_leaves_no_row(town: Town) -> None:
    town.raised()
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    with pytest.raises(Conflict, match="not_in_this_state"):
        acknowledge(town.records, town.now, CHECKER, alarm=1)
    assert acts(town) == ["raised", "acknowledged"]


def test_acknowledging_what_has_changed_since_it_was_seen_is_a_conflict(town: Town) -> None:
    town.raised()
    with pytest.raises(Conflict, match="version_changed"):
        acknowledge(town.records, town.now, OFFICER, alarm=1, version=7)
    assert acknowledge(town.records, town.now, OFFICER, alarm=1, version=1).version == 2


def test_many_are_acknowledged_each_by_itself(town: Town) -> None:
    town.raised()
    town.raised(device="ps-02")
    town.raised(AIR)
    acknowledge(town.records, town.now, OFFICER, alarm=2)
    outcomes = acknowledge_many(town.records, town.now, OFFICER, alarms=[1, 2, 99, 3, 1])
    assert [(o.alarm, o.state, o.refusal.code if o.refusal else None) for o in outcomes] == [
        (1, "ACKED", None), (2, None, "not_in_this_state"), (99, None, "no_such_alarm"), (3, "ACKED", None),
    ]  # fmt: skip
    assert [state(town, n) for n in (1, 2, 3)] == ["ACKED"] * 3


@pytest.mark.parametrize("actor", [VIEWER, HANDLER, Actor("wall", Role.ADMIN, read_only=True)])
def test_who_may_not_acknowledge_does_not(town: Town, actor: Actor) -> None:
    town.raised()
    with pytest.raises(NotAllowed):
        acknowledge(town.records, town.now, actor, alarm=1)
    with pytest.raises(NotAllowed):
        acknowledge_many(town.records, town.now, actor, alarms=[1])
    assert acts(town) == ["raised"]


def test_an_alarm_that_is_not_there(town: Town) -> None:
    with pytest.raises(NotFound):
        acknowledge(town.records, town.now, OFFICER, alarm=1)


def test_a_comment_changes_nothing_but_the_history(town: Town) -> None:
    town.raised()
    assert comment(town.records, town.now, HANDLER, alarm=1, text=" 已到现场 ").state is AlarmState.UNACK
    assert town.rows(alarm_history)[-1]["why"] == "已到现场"
    with pytest.raises(Invalid, match="empty_comment"):
        comment(town.records, town.now, HANDLER, alarm=1, text=" ")
    with pytest.raises(Invalid, match="text_too_long"):
        comment(town.records, town.now, HANDLER, alarm=1, text="长" * 2001)
    with pytest.raises(NotAllowed):
        comment(town.records, town.now, VIEWER, alarm=1, text="hello")


def test_shelving_silences_until_it_expires_and_then_tells_again_what_still_stands(town: Town) -> None:
    town.raised(AIR)
    row = shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="检修")
    assert (row.state, row.shelved_by, row.shelved_until, row.shelve_reason) == ("SHLVD", "wang", NOW + HOUR, "检修")
    town.later(59 * MINUTE)
    tick_desk(town.records, town.now)
    assert state(town) == "SHLVD"
    town.later(MINUTE)
    tick_desk(town.records, town.now)
    back = town.rows(alarms)[0]
    assert (back["state"], back["shelved_until"], back["shelve_reason"]) == ("UNACK", None, None)
    assert town.messages() == ["alarm:1:occ:1:raised", "alarm:1:occ:1:expired:v3"]
    assert acts(town) == ["raised", "shelved", "expired"]
    tick_desk(town.records, town.now)
    assert acts(town) == ["raised", "shelved", "expired"]


def test_a_shelved_alarm_that_is_over_comes_back_normal_and_silent(town: Town) -> None:
    town.raised(AIR)
    shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="检修")
    town.cleared(AIR, at=NOW + 1)
    assert (state(town), town.rows(alarms)[0]["active"]) == ("SHLVD", False)
    town.later(HOUR)
    tick_desk(town.records, town.now)
    assert (state(town), town.messages()) == ("NORM", ["alarm:1:occ:1:raised"])


def test_what_is_raised_while_shelved_is_kept_silent_and_gets_its_order_at_the_end(town: Town) -> None:
    town.raised()
    act_on_order(town.records, town.now, OFFICER, order=1, act="void", version=1, reason="误报")
    town.cleared(at=NOW + 1)
    shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="传感器检修")
    told = town.messages()
    town.later()
    town.raised()
    assert (state(town), len(town.rows(orders)), town.messages()) == ("SHLVD", 1, told)
    unshelve(town.records, town.now, OFFICER, alarm=1)
    assert (state(town), town.rows(orders)[1]["state"]) == ("UNACK", "filed")
    assert town.messages() == [*told, "alarm:1:occ:2:unshelved:v5", "order:2:filed"]


def test_shelving_does_not_hide_another_device(town: Town) -> None:
    town.raised()
    shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="检修")
    town.raised(device="ps-02")
    assert state(town, 2) == "UNACK"
    assert "alarm:2:occ:2:raised" in town.messages()


def test_a_notice_comes_back_from_the_shelf_asking_for_nothing(town: Town) -> None:
    town.raised(DOOR, "door-07")
    shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="走亲戚")
    unshelve(town.records, town.now, OFFICER, alarm=1)
    assert (state(town), town.messages()) == ("ACKED", [])


def test_shelving_needs_a_reason_an_end_and_the_right(town: Town) -> None:
    town.raised()
    with pytest.raises(Invalid, match="reason_required"):
        shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="")
    with pytest.raises(Invalid, match="bad_expiry"):
        shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + 8 * DAY, reason="检修")
    with pytest.raises(NotAllowed):
        shelve(town.records, town.now, CHECKER, alarm=1, until=NOW + HOUR, reason="检修")
    with pytest.raises(Conflict):
        unshelve(town.records, town.now, OFFICER, alarm=1)
    assert state(town) == "UNACK"


def test_the_message_after_shelving_does_not_name_the_elder(town: Town) -> None:
    town.raised(ELDER, "door-07")
    shelve(town.records, town.now, OFFICER, alarm=1, until=NOW + HOUR, reason="检修")
    unshelve(town.records, town.now, OFFICER, alarm=1)

    assert "张" not in str(town.rows(outbox))

"""What falls due by itself: limits, the archive."""

from __future__ import annotations

import pytest

from devices.instants import DAY, HOUR, MINUTE
from flow.clock import tick_desk
from store.records.database import write
from store.records.tables import order_history, orders, outbox
from tests.flow.test_orders import acts_done, carry
from tests.flow.town import NOW, PUMP, Town


def tick(town: Town, span: int) -> None:
    town.later(span)
    tick_desk(town.records, town.now)


def test_a_limit_that_runs_out_is_told_once(town: Town) -> None:
    town.raised(PUMP)
    carry(town, "dispatch")  # a minute later; five minutes to accept
    tick(town, 5 * MINUTE - 1)
    assert town.rows(orders)[0]["overdue"] is False
    tick(town, 1)
    row = town.rows(orders)[0]
    assert (row["overdue"], row["version"], row["next_limit_at"]) == (True, 2, NOW + 4 * HOUR)
    tick(town, MINUTE)
    overdue = [r for r in town.rows(order_history) if r["act"] == "overdue"]
    assert [(r["why"], r["by"], r["post"]) for r in overdue] == [("accept_by", "service", "service")]
    assert town.messages()[-1] == f"order:1:overdue:accept_by:{NOW + 6 * MINUTE}"
    assert (town.rows(outbox)[-1]["body"]["assignee"], town.told("order")[-1]["act"]) == ("li", "overdue")


def test_each_limit_has_its_own_message_even_after_a_long_absence_of_the_service(town: Town) -> None:
    town.raised(PUMP)
    carry(town, "dispatch")
    tick(town, 2 * DAY)
    assert [r["why"] for r in town.rows(order_history) if r["act"] == "overdue"] == ["accept_by", "handle_by"]
    assert town.rows(orders)[0]["next_limit_at"] is None


def test_the_second_limit_does_not_tell_the_first_again(town: Town) -> None:
    town.raised(PUMP)
    carry(town, "dispatch")
    tick(town, HOUR)
    tick(town, 4 * HOUR)
    assert [r["why"] for r in town.rows(order_history) if r["act"] == "overdue"] == ["accept_by", "handle_by"]


def test_an_act_done_late_is_overdue_no_more_if_no_other_limit_is(town: Town) -> None:
    town.raised(PUMP)
    carry(town, "dispatch")
    tick(town, HOUR)
    carry(town, "accept")
    row = town.rows(orders)[0]
    assert (row["overdue"], row["next_limit_at"]) == (False, town.now + 30 * MINUTE)


def test_a_handled_order_has_no_limit_left(town: Town) -> None:
    town.raised(PUMP)
    carry(town, "dispatch", "accept", "handle")
    tick(town, 10 * DAY)
    assert town.rows(orders)[0]["overdue"] is False


@pytest.mark.parametrize(("span", "state"), [(DAY - 1, "closed"), (DAY, "archived")])
def test_after_the_watch_period_a_closed_order_goes_to_the_archive(town: Town, span: int, state: str) -> None:
    town.raised()
    town.cleared(at=NOW + 1)
    carry(town, "close")
    tick(town, span)
    assert town.rows(orders)[0]["state"] == state
    tick(town, 5 * DAY)
    assert acts_done(town) == ["file", "self_clear", "close", "archive"]
    last = town.rows(order_history)[-1]
    assert (last["by"], last["from_state"], last["to_state"]) == ("service", "closed", "archived")


def test_a_tick_with_nothing_due_takes_no_write_lock(town: Town) -> None:
    town.raised()
    with write(town.records):
        tick_desk(town.records, town.now)  # one that asked for the lock would wait for ours in vain
    assert acts_done(town) == ["file"]

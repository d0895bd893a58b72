"""Work orders in hand: filed, carried through the four steps, refused where the table says no."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound, Refusal
from alerts.roles import Actor
from devices.instants import DAY, HOUR, MINUTE, to_iso
from flow.clock import tick_desk
from flow.orders import OrderView, act_on_order, file_order
from store.records.categories import put_categories
from store.records.database import write
from store.records.tables import order_history, order_occurrences, orders, outbox
from tests.flow.town import (
    ADMIN,
    CHECKER,
    ELDER,
    HANDLER,
    LEVEL,
    NOW,
    OFFICER,
    OTHER_HANDLER,
    PUMP,
    VIEWER,
    Town,
)


def act(town: Town, actor: Actor, name: str, order: int = 1, **words: Any) -> OrderView:
    """At whatever version it has now."""
    version = words.pop("version", None) or int(town.rows(orders)[order - 1]["version"])
    return act_on_order(town.records, town.now, actor, order=order, act=name, version=version, **words)


def carry(town: Town, *acts: str, order: int = 1) -> OrderView | None:
    """The usual person does each of these."""
    usual = {"dispatch": OFFICER, "check": CHECKER, "close": CHECKER, "reject": CHECKER, "archive": OFFICER,
             "verify": OFFICER, "file": OFFICER, "suspend": OFFICER, "void": OFFICER, "send_up": OFFICER}  # fmt: skip
    view = None
    for name in acts:
        town.later()
        assignee = "li" if name == "dispatch" else None
        reason = None if name in {"handle", "check", "accept", "arrive"} else "因为"
        view = act(town, usual.get(name, HANDLER), name, order, assignee=assignee, reason=reason)
    return view


def acts_done(town: Town, order: int = 1) -> list[str]:
    return [str(row["act"]) for row in town.rows(order_history) if row["order"] == order]


def test_an_order_goes_through_the_four_steps_by_three_people(town: Town) -> None:
    town.raised()
    carry(town, "dispatch", "accept", "arrive", "handle", "check")
    town.cleared()
    view = carry(town, "close", "archive")
    assert view is not None
    assert (view.order.state, view.order.step, view.acts) == ("archived", "archive", ())
    rows = [r for r in town.rows(order_history) if r["act"] != "cleared"]
    assert [(r["by"], r["post"], r["act"], r["from_state"], r["to_state"]) for r in rows] == [
        ("service", "service", "file", None, "filed"),
        ("wang", "duty_officer", "dispatch", "filed", "dispatched"),
        ("li", "handler", "accept", "dispatched", "accepted"),
        ("li", "handler", "arrive", "accepted", "on_site"),
        ("li", "handler", "handle", "on_site", "handled"),
        ("chen", "checker", "check", "handled", "checking"),
        ("chen", "checker", "close", "checking", "closed"),
        ("wang", "duty_officer", "archive", "closed", "archived"),
    ]
    assert view.order.version == len(rows)


def test_the_answer_says_what_this_person_may_do_next(town: Town) -> None:
    town.raised()
    assert act(town, OFFICER, "dispatch", assignee="li").acts == ("send_up", "void", "merge", "extend", "comment")
    assert act(town, HANDLER, "accept").acts == ("arrive", "handle", "return", "comment")


def test_dispatch_goes_to_a_handler_who_exists(town: Town) -> None:
    town.raised()
    with pytest.raises(Invalid, match="assignee_required"):
        act(town, OFFICER, "dispatch")
    for nobody in ("chen", "nobody", "li "):
        with pytest.raises(Invalid, match="no_such_handler"):
            act(town, OFFICER, "dispatch", assignee=nobody)
    with pytest.raises(Invalid, match="assignee_only_with_dispatch"):
        act(town, OFFICER, "void", assignee="li", reason="误报")
    view = act(town, OFFICER, "dispatch", assignee="li")
    assert (view.order.assignee, view.order.accept_by) == ("li", NOW + 5 * MINUTE)
    message = town.rows(outbox)[-1]
    assert (message["key"], message["body"]["assignee"]) == ("order:1:dispatched:v2", "li")


def test_another_handler_may_not_accept_it(town: Town) -> None:
    town.raised()
    carry(town, "dispatch")
    with pytest.raises(NotAllowed, match="not_the_assignee"):
        act(town, OTHER_HANDLER, "accept")
    with pytest.raises(NotAllowed):
        act(town, ADMIN, "accept")


def test_an_old_version_is_refused_and_nothing_happens(town: Town) -> None:
    town.raised()
    carry(town, "dispatch")
    with pytest.raises(Conflict, match="version_changed"):
        act(town, HANDLER, "accept", version=1)
    assert acts_done(town) == ["file", "dispatch"]


def test_of_many_who_press_at_once_one_is_heard(town: Town) -> None:
    town.raised()
    outcomes: list[str] = []

    def press(assignee: str) -> None:
        try:
            act_on_order(town.records, town.now, OFFICER, order=1, act="dispatch", version=1, assignee=assignee)
            outcomes.append("done")
        except Refusal as refusal:
            outcomes.append(refusal.code)

    threads = [threading.Thread(target=press, args=(name,)) for name in ("li", "zhao") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", *["version_changed"] * 7]
    assert acts_done(town) == ["file", "dispatch"]


def test_a_move_not_in_the_table_is_a_conflict(town: Town) -> None:
    town.raised()
    with pytest.raises(Conflict, match="not_in_this_state"):
        act(town, CHECKER, "close", reason="x")
    with pytest.raises(NotFound, match="no_such_act"):
        act(town, OFFICER, "delete")
    with pytest.raises(NotFound, match="no_such_order"):
        act_on_order(town.records, town.now, OFFICER, order=9, act="void", version=1, reason="x")


def test_nothing_is_done_to_an_archived_order(town: Town) -> None:
    town.raised()
    town.cleared(at=NOW + 1)
    carry(town, "close", "archive")
    before = town.rows(orders)
    for actor in (OFFICER, CHECKER, HANDLER, ADMIN):
        for name in ("comment", "reopen", "void", "archive", "dispatch", "handle"):
            with pytest.raises((Conflict, NotAllowed)):
                act(town, actor, name, reason="x", assignee="li" if name == "dispatch" else None)
    town.later()
    town.raised()
    assert town.rows(orders)[:1] == before
    assert town.rows(orders)[1]["state"] == "filed"


def test_closing_while_the_alarm_stands_needs_a_reason_on_record(town: Town) -> None:
    town.raised()
    carry(town, "dispatch", "accept", "handle", "check")
    with pytest.raises(Invalid, match="reason_required"):
        act(town, CHECKER, "close")
    assert act(town, CHECKER, "close", reason="水位计故障").order.state == "closed"
    assert town.rows(order_history)[-1]["why"] == "水位计故障"


def test_the_elders_order_is_closed_by_the_visit_whatever_the_door_says(town: Town) -> None:
    town.raised(ELDER, "door-07")
    carry(town, "dispatch", "accept", "arrive", "handle", "check")
    assert act(town, CHECKER, "close").order.state == "closed"


def test_reject_sends_it_back_to_the_same_handler_with_new_limits(town: Town) -> None:
    town.raised()
    carry(town, "dispatch", "accept", "handle", "check")
    town.later(DAY)
    view = act(town, CHECKER, "reject", reason="现场仍有积水")
    assert (view.order.state, view.order.assignee, view.order.closed_at) == ("rework", "li", None)
    assert (view.order.accept_by, view.order.handle_by) == (town.now + 5 * MINUTE, town.now + 4 * HOUR)
    assert town.messages()[-1] == "order:1:reopened:v6"
    carry(town, "accept", "handle", "check")


def test_suspending_stops_the_clock_and_resuming_starts_it(town: Town) -> None:
    town.raised()
    carry(town, "dispatch", "accept")
    before = town.rows(orders)[0]["handle_by"]
    carry(town, "suspend")
    assert town.rows(orders)[0]["next_limit_at"] is None
    town.later(3 * DAY - MINUTE)
    carry(town, "resume")
    row = town.rows(orders)[0]
    assert (row["state"], row["handle_by"]) == ("accepted", before + 3 * DAY)
    with pytest.raises(Conflict):
        act(town, HANDLER, "resume")


def test_extending_moves_the_limit_later_with_a_reason(town: Town) -> None:
    town.raised()
    until = NOW + DAY
    for bad in (None, "tomorrow", NOW + HOUR, NOW + 91 * DAY, True):
        with pytest.raises(Invalid, match="bad_until"):
            act(town, OFFICER, "extend", reason="缺件", detail={"until": bad})
    with pytest.raises(Invalid, match="reason_required"):
        act(town, OFFICER, "extend", detail={"until": until})
    view = act(town, OFFICER, "extend", reason="缺件", detail={"until": to_iso(until)})
    assert (view.order.state, view.order.handle_by, view.order.next_limit_at) == ("filed", until, until)
    assert town.rows(order_history)[-1]["detail"] == {"until": to_iso(until), "from": NOW + 4 * HOUR}


def test_a_returned_order_is_dispatched_anew(town: Town) -> None:
    town.raised()
    carry(town, "dispatch")
    view = act(town, HANDLER, "return", reason="不属本网格")
    assert (view.order.state, view.order.assignee) == ("returned", None)
    assert act(town, OFFICER, "dispatch", assignee="zhao").order.assignee == "zhao"


def test_merged_orders_share_their_occurrences_and_their_clearing(town: Town) -> None:
    """A flood at two stations, one order: it checks itself only when both are normal."""
    town.raised()
    town.raised(device="ps-02")
    for bad in (None, 1, 99, "2"):
        with pytest.raises(Invalid, match="bad_into"):
            act(town, OFFICER, "merge", reason="同一险情", detail={"into": bad})
    view = act(town, OFFICER, "merge", reason="同一险情", detail={"into": 2})
    assert (view.order.state, view.order.merged_into, view.acts) == ("merged", 2, ())
    assert [(r["order"], r["occurrence"]) for r in town.rows(order_occurrences)] == [(1, 1), (2, 1), (2, 2)]
    town.later()
    town.cleared(device="ps-02")
    assert town.rows(orders)[1]["state"] == "filed"
    assert town.rows(order_history)[-1]["why"] == "1 standing"
    town.raised()
    assert len(town.rows(orders)) == 2
    town.later()
    town.cleared()
    assert town.rows(orders)[1]["state"] == "checking"
    carry(town, "close", order=2)
    town.raised()
    assert [row["state"] for row in town.rows(orders)] == ["merged", "rework"]


def test_within_the_watch_period_the_order_comes_back_as_rework(town: Town) -> None:
    town.raised()
    carry(town, "dispatch", "accept", "handle", "check")
    town.cleared()
    carry(town, "close")
    town.later(DAY)
    town.raised()
    (row,) = town.rows(orders)
    assert (row["state"], row["assignee"], row["closed_at"]) == ("rework", "li", None)
    assert (row["accept_by"], row["next_limit_at"]) == (town.now + 5 * MINUTE,) * 2
    assert town.messages()[-1].startswith("order:1:reopened:v")
    assert acts_done(town)[-1] == "reopen"


def test_after_the_watch_period_it_is_a_new_order(town: Town) -> None:
    town.raised()
    town.cleared(at=NOW + 1)
    carry(town, "close")
    town.later(DAY + 1)
    town.raised()
    assert [row["state"] for row in town.rows(orders)] == ["closed", "filed"]
    tick_desk(town.records, town.now)
    assert [row["state"] for row in town.rows(orders)] == ["archived", "filed"]


def test_what_cleared_itself_and_came_back_any_handler_may_accept(town: Town) -> None:
    town.raised()
    town.cleared(at=NOW + 1)
    carry(town, "close")
    town.later()
    town.raised()
    assert act(town, OTHER_HANDLER, "accept").order.assignee == "zhao"
    with pytest.raises(NotAllowed):
        act(town, HANDLER, "arrive")


def test_a_chattering_alarm_does_not_refuse_the_person_at_work(town: Town) -> None:
    town.raised(PUMP)
    carry(town, "dispatch")
    seen = town.rows(orders)[0]["version"]
    for _ in range(3):
        town.later()
        town.cleared(PUMP)
        town.later()
        town.raised(PUMP)
    act(town, HANDLER, "accept", version=seen)
    assert acts_done(town).count("attached") == 3


def test_a_voided_order_stays_void_and_the_next_trouble_is_a_new_one(town: Town) -> None:
    town.raised()
    carry(town, "void")
    town.cleared()
    town.later()
    town.raised()
    assert [row["state"] for row in town.rows(orders)] == ["void", "filed"]


def test_a_report_is_verified_filed_and_carried_like_any_other(town: Town) -> None:
    filed = file_order(
        town.records, town.now, HANDLER, category="resident.report", title=" 路面积水 ", source="resident",
        description="长江路口", grid="g-2", latitude=31.2, longitude=120.6,
    )  # fmt: skip
    order = filed.view.order
    assert (filed.created, order.state, order.title, order.reporter, order.close_by, order.grid_name) == (
        True, "reported", "路面积水", "li", "person", "二网格",
    )  # fmt: skip
    assert filed.view.acts == ("self_handle", "comment")
    view = carry(town, "verify", "file")
    assert view is not None
    assert (view.order.state, view.order.handle_by) == ("filed", town.now + 5 * DAY)
    assert town.messages() == ["order:1:filed"]


def test_a_small_matter_is_handled_by_who_reported_it_and_checked_by_another(town: Town) -> None:
    file_order(town.records, town.now, HANDLER, category="other", title="井盖移位", source="grid_worker")
    view = act(town, HANDLER, "self_handle")
    assert (view.order.state, view.order.handled_by, view.acts) == ("checking", "li", ("comment",))
    assert act(town, CHECKER, "close").order.state == "closed"


def test_the_same_external_id_is_the_same_order(town: Town) -> None:
    def post(title: str) -> tuple[int, bool]:
        filed = file_order(
            town.records, town.now, OFFICER, category="other", title=title, source="hotline", external_id="12345-7"
        )
        return filed.view.order.id, filed.created

    assert post("漏水") == (1, True)
    carry(town, "verify")
    assert post("漏水") == (1, False)
    assert acts_done(town) == ["report", "verify"]


def test_an_order_may_be_filed_by_hand_for_an_alarm_that_has_none(town: Town) -> None:
    rule = type(LEVEL)("gw-silence", "", "", LEVEL.priority, None)
    town.raised(rule)
    words: dict[str, Any] = {"category": "device.fault", "title": "设备失联", "alarm": 1}
    order = file_order(town.records, town.now, OFFICER, **words).view.order
    assert (order.device, order.grid, order.alarm, order.standing) == ("ps-01", "g-1", 1, True)
    with pytest.raises(Conflict, match="order_open"):
        file_order(town.records, town.now, OFFICER, **words)
    with pytest.raises(NotFound, match="no_such_alarm"):
        file_order(town.records, town.now, OFFICER, **words | {"alarm": 9})


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"title": " "}, "bad_title"),
        ({"title": "长" * 201}, "bad_title"),
        ({"description": "长" * 4001}, "text_too_long"),
        ({"source": "rule"}, "bad_source"),
        ({"source": "rumour"}, "bad_source"),
        ({"priority": "urgent"}, "bad_priority"),
        ({"category": "moon.landing"}, "no_such_category"),
        ({"device": "ps-99"}, "no_such_device"),
        ({"grid": "g-99"}, "no_such_grid"),
        ({"external_id": ""}, "bad_external_id"),
    ],
)
def test_a_form_with_a_mistake_is_refused(town: Town, words: dict[str, str], code: str) -> None:
    with pytest.raises(Invalid) as caught:
        file_order(town.records, town.now, OFFICER, **{"category": "other", "title": "漏水", **words})  # type: ignore[arg-type]
    assert caught.value.code == code
    assert town.rows(orders) == []


def test_a_viewer_files_and_does_nothing(town: Town) -> None:
    with pytest.raises(NotAllowed):
        file_order(town.records, town.now, VIEWER, category="other", title="漏水")
    town.raised()
    with pytest.raises(NotAllowed):
        act(town, VIEWER, "comment", reason="hello")


def test_a_comment_says_something_and_detail_is_small_json(town: Town) -> None:
    town.raised()
    with pytest.raises(Invalid, match="reason_required"):
        act(town, OFFICER, "comment")
    assert act(town, OFFICER, "comment", reason="联系中", detail={"照片": ["a.jpg"]}).order.version == 2
    assert town.rows(order_history)[-1]["detail"] == {"照片": ["a.jpg"]}
    with pytest.raises(Invalid, match="bad_detail"):
        act(town, OFFICER, "comment", reason="x", detail={"when": object()})
    with pytest.raises(Invalid, match="bad_detail"):
        act(town, OFFICER, "comment", reason="x", detail={"level": float("nan")})
    with pytest.raises(Invalid, match="text_too_long"):
        act(town, OFFICER, "comment", reason="x", detail={"text": "长" * 20_001})
    with pytest.raises(Invalid, match="text_too_long"):
        act(town, OFFICER, "comment", reason="长" * 2001)


def test_limits_come_from_the_towns_own_catalogue(town: Town) -> None:
    with write(town.records) as tx:
        text = "categories:\n  flood.polder_inside:\n    limits: {handle: 30m}\n"
        put_categories(tx, text, watch_us=HOUR)
    town.raised()
    assert town.rows(orders)[0]["handle_by"] == NOW + 30 * MINUTE
    town.cleared(at=NOW + 1)
    carry(town, "close")
    assert town.rows(orders)[0]["next_limit_at"] == town.now + HOUR

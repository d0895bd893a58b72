"""What pages and the API ask about alarms and orders."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.orders import Step
from alerts.refusals import Invalid
from devices.instants import HOUR, MINUTE
from flow.desk import acknowledge, comment, shelve
from flow.orders import act_on_order, file_order
from rules.rule import Priority
from store.records.alarms import (
    alarm_history,
    count_occurrences,
    counts_standing,
    get_alarm,
    list_alarms,
    list_occurrences,
    standing,
    standing_by_grid,
)
from store.records.categories import catalogue, put_categories
from store.records.database import write
from store.records.orders import (
    chain,
    count_overdue,
    counts_by_state,
    counts_by_step,
    get_order,
    list_handlers,
    list_orders,
    order_history,
)
from store.records.tables import alarms, orders
from tests.flow.town import AIR, CHECKER, DOOR, ELDER, HANDLER, LEVEL, NOW, OFFICER, PUMP, Rule, Town

SILENCE = Rule("gw-silence", "设备失联", "Device silent", Priority.MEDIUM, None)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def test_the_board_is_worst_first_then_unacknowledged_then_oldest(town: Town) -> None:
    for rule, device, at in (
        (AIR, "ps-01", NOW), (LEVEL, "ps-02", NOW + 2), (PUMP, "ps-01", NOW + 3), (LEVEL, "ps-01", NOW + 4),
        (DOOR, "door-07", NOW), (PUMP, "ps-02", NOW + 1), (SILENCE, "ps-02", NOW),
    ):  # fmt: skip
        town.raised(rule, device, at)
    ids = {(row["rule"], row["device"]): int(row["id"]) for row in town.rows(alarms)}
    acknowledge(town.records, town.now, OFFICER, alarm=ids["level-high", "ps-02"])
    town.cleared(PUMP, "ps-02", NOW + 5)
    shelve(town.records, town.now, OFFICER, alarm=ids["gw-silence", "ps-02"], until=NOW + HOUR, reason="检修")
    with town.records.connect() as tx:
        assert [(a.rule, a.device, a.state) for a in standing(tx)] == [
            ("level-high", "ps-01", "UNACK"),
            ("level-high", "ps-02", "ACKED"),
            ("pump-fault", "ps-01", "UNACK"),
            ("pump-fault", "ps-02", "RTNUN"),
            ("air-dusty", "ps-01", "UNACK"),
            ("door-opened", "door-07", "ACKED"),
        ]
        assert [a.rule for a in standing(tx, grid={"g-2"}, limit=1)] == ["level-high"]
        assert "door-opened" not in [a.rule for a in standing(tx, notices=False)]
        assert counts_standing(tx) == {"critical": 2, "high": 2, "medium": 1, "low": 0, "notice": 1}
        by_grid = standing_by_grid(tx)
        assert {grid: (s.count, s.worst) for grid, s in by_grid.items()} == {
            "g-1": (3, "critical"), "g-2": (2, "critical"),
        }  # fmt: skip


def test_a_row_says_what_why_where_and_whom_to_call(town: Town) -> None:
    town.raised()
    with town.records.connect() as tx:
        row = get_alarm(tx, 1)
        assert get_alarm(tx, 2) is None
    assert row is not None
    assert (row.rule_zh, row.rule_en, row.rule_text) == ("圩内高水位", "Polder level high", "rule text")
    assert (row.device_name, row.kind, row.grid_name, row.keeper, row.keeper_phone) == (
        "一号泵站", "pump_station", "一网格", "周工", "0512-1",
    )  # fmt: skip
    assert row.order == 1
    assert row.occurrence is not None
    assert row.occurrence.reason["values"] == {"level_inside": 3.6}


def test_no_row_tells_who_lives_behind_a_door(town: Town) -> None:
    town.raised(ELDER, "door-07")
    with town.records.connect() as tx:
        said = str((standing(tx), list_alarms(tx, limit=9), list_orders(tx, limit=9), chain(tx, 1)))
    for secret in ("张桂英", "长江路", "31.2", "120.6"):
        assert secret not in said


def test_alarms_page_by_page_are_all_alarms_once(town: Town) -> None:
    for i in range(7):
        town.raised(AIR, f"air-{i}")
        town.later(i % 2)  # some change at the same instant
    seen: list[int] = []
    cursor = None
    with town.records.connect() as tx:
        while True:
            page = list_alarms(tx, limit=2, cursor=cursor)
            seen += [a.id for a in page.items]
            cursor = page.next
            if cursor is None:
                break
    assert sorted(seen) == list(range(1, 8))
    assert len(seen) == 7


def test_alarms_are_narrowed_by_state_priority_device_and_grid(town: Town) -> None:
    town.raised()
    town.raised(AIR, "ps-02")
    town.cleared(AIR, "ps-02")
    with town.records.connect() as tx:

        def ids(**filters: object) -> list[int]:
            return [a.id for a in list_alarms(tx, limit=9, **filters).items]  # type: ignore[arg-type]

        assert (ids(state="RTNUN"), ids(priority="critical"), ids(device="ps-02")) == ([2], [1], [2])
        assert (ids(grid={"g-1"}), ids(grid=set()), ids(state="UNACK", device="ps-02")) == ([1], [], [])
        for bad in ({"state": "unack"}, {"priority": "urgent"}, {"cursor": "x"}):
            with pytest.raises(Invalid):
                ids(**bad)


def test_occurrences_are_in_order_of_raising_without_the_services_own(town: Town) -> None:
    town.later(HOUR)
    for rule, at in ((PUMP, NOW + 3), (LEVEL, NOW + 1), (SILENCE, NOW), (AIR, NOW + 3)):
        town.raised(rule, at=at)
    with town.records.connect() as tx:
        first = list_occurrences(tx, limit=2)
        second = list_occurrences(tx, limit=2, cursor=first.next)
        assert [o.rule for o in (*first.items, *second.items)] == ["level-high", "pump-fault", "air-dusty"]
        assert second.next is None
        assert len(list_occurrences(tx, limit=9, include_service=True).items) == 4
        assert [o.raised_at for o in list_occurrences(tx, rule="gw-silence", limit=9).items] == [NOW]
        inside = list_occurrences(tx, start=NOW + 1, end=NOW + 3, limit=9)
        assert [o.rule for o in inside.items] == ["level-high"]
        assert list_occurrences(tx, device="ps-02", limit=9).items == ()
        assert [o.alarm for o in list_occurrences(tx, alarm=1, limit=9).items] == [1]
        assert count_occurrences(tx) == (3, 0, {"pump_station": 3})
        assert count_occurrences(tx, include_service=True)[0] == 4


def test_history_is_oldest_first(town: Town) -> None:
    town.raised()
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    comment(town.records, town.now, HANDLER, alarm=1, text="到场")
    with town.records.connect() as tx:
        assert [(h.by, h.act) for h in alarm_history(tx, 1)] == [
            ("service", "raised"), ("wang", "acknowledged"), ("li", "commented"),
        ]  # fmt: skip
        assert [h.act for h in alarm_history(tx, 1, limit=1)] == ["commented"]


def test_orders_are_listed_newest_first_and_narrowed(town: Town) -> None:
    town.raised()
    town.raised(PUMP)
    file_order(town.records, town.now, HANDLER, category="resident.report", title="积水", grid="g-2")
    act_on_order(town.records, town.now, OFFICER, order=1, act="dispatch", version=1, assignee="li")
    act_on_order(town.records, town.now, OFFICER, order=2, act="void", version=1, reason="误报")
    with town.records.connect() as tx:

        def ids(**filters: object) -> list[int]:
            return [o.id for o in list_orders(tx, **{"limit": 9, **filters}).items]  # type: ignore[arg-type]

        assert ids() == [3, 2, 1]
        assert (ids(state="void"), ids(step="dispatch"), ids(assignee="li")) == ([2], [1], [1])
        assert (ids(category="flood"), ids(category="flood.pump"), ids(category="flo")) == ([2, 1], [2], [])
        assert (ids(open_only=True), ids(alarm=1), ids(grid={"g-2"})) == ([3, 1], [1], [3])
        page = list_orders(tx, limit=2)
        assert [o.id for o in list_orders(tx, limit=2, cursor=page.next).items] == [1]
        for bad in ({"state": "open"}, {"step": "1"}, {"cursor": "'"}):
            with pytest.raises(Invalid):
                ids(**bad)
        assert counts_by_step(tx) == {Step.REPORT: 1, Step.DISPATCH: 1, Step.HANDLE: 0, Step.ARCHIVE: 0}
        assert counts_by_state(tx) == {"dispatched": 1, "void": 1, "reported": 1}
        assert count_overdue(tx) == 0
        assert list_handlers(tx) == [("li", "li"), ("zhao", "zhao")]
        assert get_order(tx, 9) is None


def test_the_chain_goes_from_the_reading_to_the_archive(town: Town) -> None:
    town.raised()
    town.later()
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    town.later()
    town.cleared()
    for actor, act in ((CHECKER, "close"), (OFFICER, "archive")):
        town.later()
        version = int(town.rows(orders)[0]["version"])
        act_on_order(town.records, town.now, actor, order=1, act=act, version=version)
    with town.records.connect() as tx:
        links = chain(tx, 1)
        assert [h.act for h in order_history(tx, 1)] == ["file", "self_clear", "close", "archive"]
    assert [(link.kind, link.act) for link in links] == [
        ("reading", "read"),
        ("occurrence", "raised"),
        ("order", "file"),
        ("alarm", "acknowledged"),
        ("occurrence", "cleared"),
        ("order", "self_clear"),
        ("order", "close"),
        ("order", "archive"),
    ]
    assert links[0].at == NOW - MINUTE
    assert links[0].detail["value"] == 3.6
    assert links[3].by == "wang"
    assert [link.at for link in links] == sorted(link.at for link in links)


def test_what_a_person_writes_into_detail_is_no_link_of_the_chain(town: Town) -> None:
    town.raised()
    detail = {"alarm": "all of them", "occurrence": [1]}
    act_on_order(town.records, town.now, OFFICER, order=1, act="comment", version=1, reason="x", detail=detail)
    with town.records.connect() as tx:
        last = chain(tx, 1)[-1]
    assert (last.act, last.alarm, last.occurrence, last.detail) == ("comment", None, None, detail)


def test_the_catalogue_is_the_towns_while_it_has_one(town: Town) -> None:
    with write(town.records) as tx:
        put_categories(tx, "categories: {flood.pump: {name: {zh: 泵}}}")
        assert (catalogue(tx).of("flood.pump").zh, catalogue(tx).of("flood.mains").zh) == ("泵", "泵站失电")
        put_categories(tx, None)
        assert catalogue(tx).of("flood.pump").zh == "排涝泵故障"

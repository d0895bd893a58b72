"""Alarms and orders over the API: what the desk does, who is told no, what is said about it afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from devices.instants import DAY, HOUR, MINUTE, to_iso
from flow.clock import tick_desk
from tests.api.centre import Centre


@pytest.fixture
def centre(centre: Centre) -> Centre:
    centre.level(3.8)
    return centre


def act(centre: Centre, who: str, act: str, *, order: int = 1, status: int = 200, **body: Any) -> Any:
    version = body.pop("version", None) or centre.get(who, f"/orders/{order}")["version"]
    return centre.post(who, f"/orders/{order}/{act}", {"version": version, **body}, status=status)


def test_an_alarm_tells_why_it_was_raised(centre: Centre) -> None:
    (alarm,) = centre.get("viewer", "/alarms", state="UNACK", priority="critical", device="ps-1", grid="town")["items"]
    assert (alarm["rule"], alarm["state"], alarm["active"], alarm["order"]) == ("high", "UNACK", True, 1)
    assert alarm["occurrence"]["reason"]["values"] == {"level_inside": 3.8}
    assert (alarm["keeper"], alarm["keeper_phone"]) == ("王建国", "13800000001")
    for other in ({"grid": "west"}, {"state": "NORM"}, {"priority": "low"}, {"device": "ps-2"}):
        assert centre.get("viewer", "/alarms", **other)["items"] == []


def test_acknowledging_is_written_down_and_not_done_twice(centre: Centre) -> None:
    alarm = centre.post("officer", "/alarms/1/acknowledge", {"comment": "已看到", "version": 1})
    assert (alarm["state"], alarm["acknowledged_by"], alarm["version"]) == ("ACKED", "officer", 2)
    assert (alarm["history"][-1]["act"], alarm["history"][-1]["why"]) == ("acknowledged", "已看到")
    again = centre.post("officer", "/alarms/1/acknowledge", status=409)
    assert again["type"].endswith("not_in_this_state")


def test_an_alarm_that_moved_on_is_not_acknowledged_blindly(centre: Centre) -> None:
    centre.level(3.0)
    problem = centre.post("officer", "/alarms/1/acknowledge", {"version": 1}, status=409)
    assert problem["type"].endswith("version_changed")


def test_many_at_once_each_on_its_own(centre: Centre) -> None:
    centre.level(3.8, "ps-2")
    centre.post("officer", "/alarms/1/acknowledge")
    outcomes = centre.post("officer", "/alarms/acknowledge", {"ids": [1, 2, 99]})["items"]
    assert [(o["id"], o["state"], o["code"]) for o in outcomes] == [
        (1, None, "not_in_this_state"), (2, "ACKED", None), (99, None, "no_such_alarm"),
    ]  # fmt: skip
    for ids in ([], list(range(1, 502)), [0], ["x"]):
        centre.post("officer", "/alarms/acknowledge", {"ids": ids}, status=422)


def test_shelving_ends_by_itself_and_needs_a_reason(centre: Centre) -> None:
    until = to_iso(centre.now + HOUR)
    for body in ({"until": until}, {"until": until, "reason": "  "}, {"reason": "x"}, {"until": "soon", "reason": "x"},
                 {"until": to_iso(centre.now), "reason": "x"}, {"until": to_iso(centre.now + 8 * DAY), "reason": "x"},
                 ):  # fmt: skip
        centre.post("officer", "/alarms/1/shelve", body, status=422)
    shelved = centre.post("officer", "/alarms/1/shelve", {"until": until, "reason": "检修"})
    assert (shelved["state"], shelved["shelved_until"], shelved["shelve_reason"]) == ("SHLVD", until, "检修")
    back = centre.post("officer", "/alarms/1/unshelve", {"reason": "修好了"})
    assert back["state"] == "UNACK"
    centre.post("officer", "/alarms/1/unshelve", status=409)
    centre.post("officer", "/alarms/1/shelve", {"until": until, "reason": "检修"})
    centre.now += HOUR
    tick_desk(centre.records, centre.now)
    assert centre.get("viewer", "/alarms/1")["state"] == "UNACK"


def test_a_comment_is_for_staff_and_says_something(centre: Centre) -> None:
    centre.post("viewer", "/alarms/1/comment", {"comment": "x"}, status=403)
    for body in ({}, {"comment": ""}, {"comment": " "}, {"comment": "x" * 2001}, None):
        centre.post("handler", "/alarms/1/comment", body, status=422)
    history = centre.post("handler", "/alarms/1/comment", {"comment": "在路上"})["history"]
    assert (history[-1]["by"], history[-1]["why"]) == ("handler", "在路上")


def test_occurrences_are_what_the_backtest_prints(centre: Centre) -> None:
    raised = centre.now
    centre.level(4.0)
    cleared = centre.level(3.0)
    again = centre.level(3.6)
    found = centre.get("viewer", "/occurrences")["items"]
    why = {"when": "level_inside > 3.5", "values": {"level_inside": 3.8}, "for": "0s"}
    assert found[0] == {
        "early": False, "retroactive": False,
        "severities": [{"at": to_iso(raised), "priority": "critical", "reason": why}],
        "id": 1, "alarm": 1, "rule": "high", "device": "ps-1", "metric": "level_inside", "since": to_iso(raised),
        "raised_at": to_iso(raised), "cleared_at": to_iso(cleared), "first_value": 3.8, "peak_value": 4.0,
    }  # fmt: skip
    assert (found[1]["raised_at"], found[1]["cleared_at"]) == (to_iso(again), None)
    only = centre.get("viewer", "/occurrences", **{"from": to_iso(again), "to": to_iso(again + 1)})["items"]
    assert only == found[1:]
    pages = [centre.get("viewer", "/occurrences", limit=1)]
    pages.append(centre.get("viewer", "/occurrences", limit=1, cursor=pages[0]["next"]))
    assert [o for page in pages for o in page["items"]] == found
    assert pages[1]["next"] is None


def test_the_services_own_alarms_are_among_occurrences_only_by_name(centre: Centre) -> None:
    centre.now += DAY
    centre.settler.tick(centre.now)
    assert {o["rule"] for o in centre.get("viewer", "/occurrences")["items"]} == {"high"}
    silent = centre.get("viewer", "/occurrences", rule="gw-silence")["items"]
    assert "ps-1" in {o["device"] for o in silent}
    assert {o["rule"] for o in silent} == {"gw-silence"}


def test_an_order_is_carried_to_the_archive(centre: Centre) -> None:
    centre.level(3.0)
    assert act(centre, "officer", "comment", reason="观察")["acts"] == ["comment"]
    centre.level(3.8)
    (order,) = centre.get("viewer", "/orders", step="archive")["items"]
    assert order["state"] == "checking"
    assert act(centre, "checker", "reject", reason="水位又高")["state"] == "rework"
    assert act(centre, "handler", "accept")["acts"] == ["arrive", "handle", "return", "comment"]
    act(centre, "handler", "arrive")
    done = act(centre, "handler", "handle", detail={"pumps": 4})
    assert (done["state"], done["handled_by"], done["acts"]) == ("handled", "handler", ["comment"])
    act(centre, "checker", "check")
    centre.level(3.0)
    closed = act(centre, "checker", "close")
    assert (closed["state"], closed["acts"]) == ("closed", ["reopen", "comment"])
    centre.now += MINUTE
    assert act(centre, "officer", "archive")["state"] == "archived"
    view = centre.get("viewer", "/orders/1")
    assert view["acts"] == []
    assert [h["act"] for h in view["history"] if h["post"] != "service"] == [
        "comment", "reject", "accept", "arrive", "handle", "check", "close", "archive",
    ]  # fmt: skip
    assert [link["kind"] for link in view["chain"]][:2] == ["reading", "occurrence"]
    assert view["chain"][-1]["act"] == "archive"
    assert {link["kind"] for link in view["chain"]} >= {"reading", "occurrence", "order"}


def test_acts_offered_are_exactly_those_that_work(centre: Centre) -> None:
    for who in ("viewer", "handler", "checker", "officer", "admin", "wall"):
        order = centre.get(who, "/orders/1")
        for tried in ("verify", "file", "self_handle", "accept", "arrive", "handle", "check", "close", "archive",
                      "resume", "self_clear"):  # fmt: skip
            assert tried not in order["acts"]
            answer = centre.ask(
                "POST", f"/api/v1/orders/1/{tried}", token=centre.token(who), json={"version": order["version"]}
            )
            assert answer.status_code in {403, 409}, (who, tried)
    assert centre.get("officer", "/orders/1")["acts"] == ["dispatch", "send_up", "void", "merge", "extend", "comment"]
    assert centre.get("wall", "/orders/1")["acts"] == []


def test_of_two_who_press_at_once_one_is_told(centre: Centre) -> None:
    with centre.served() as url, ThreadPoolExecutor(8) as pool:
        headers = {"Authorization": f"Bearer {centre.token('officer')}"}
        body = {"version": 1, "assignee": "handler"}
        sent = [
            pool.submit(httpx.post, f"{url}/api/v1/orders/1/dispatch", json=body, headers=headers) for _ in range(8)
        ]
        statuses = sorted(answer.result().status_code for answer in sent)
    assert statuses == [200] + [409] * 7
    assert [h["act"] for h in centre.get("officer", "/orders/1")["history"]].count("dispatch") == 1


def test_an_act_needs_the_version_that_was_seen(centre: Centre) -> None:
    act(centre, "officer", "dispatch", assignee="handler")
    problem = act(centre, "handler", "accept", version=1, status=409)
    assert problem["type"].endswith("version_changed")
    centre.post("handler", "/orders/1/accept", {}, status=422)
    centre.post("handler", "/orders/1/accept", {"version": 2, "force": True}, status=422)
    centre.post("handler2", "/orders/1/accept", {"version": 2}, status=403)
    centre.post("officer", "/orders/1/fly", {"version": 2}, status=404)


def test_an_order_filed_by_hand_once_however_often_it_is_sent(centre: Centre) -> None:
    body = {"category": "resident.report", "title": "路灯不亮", "source": "hotline", "external_id": "12345-1",
            "grid": "east", "latitude": 30.9, "longitude": 120.4}  # fmt: skip
    made = centre.post("handler", "/orders", body, status=201)
    assert (made["state"], made["reporter"], made["acts"]) == ("reported", "handler", ["self_handle", "comment"])
    again = centre.post("officer", "/orders", body | {"title": "其他"}, status=200)
    assert (again["id"], again["title"]) == (made["id"], "路灯不亮")
    assert len(centre.get("viewer", "/orders")["items"]) == 2
    for wrong in ({"category": "nothing"}, {"grid": "nowhere"}, {"source": "rule"}, {"title": " "}, {"latitude": 91},
                  {"device": "nothing"}, {"priority": "urgent"}):  # fmt: skip
        centre.post("handler", "/orders", body | {"external_id": "12345-2"} | wrong, status=422)
    centre.post("handler", "/orders", body | {"external_id": "12345-3", "alarm": 1}, status=409)


def test_orders_by_filter_and_page(centre: Centre) -> None:
    for i in range(4):
        centre.post("officer", "/orders", {"category": "resident.report", "title": f"第 {i} 件"}, status=201)
    everything = centre.get("viewer", "/orders")["items"]
    assert [o["id"] for o in everything] == [5, 4, 3, 2, 1]
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = centre.get("viewer", "/orders", limit=2, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        cursor, pages = page["next"], pages + 1
    assert (found, pages) == (everything, 3)
    assert [o["id"] for o in centre.get("viewer", "/orders", state="filed")["items"]] == [1]
    assert [o["id"] for o in centre.get("viewer", "/orders", category="flood")["items"]] == [1]
    assert [o["id"] for o in centre.get("viewer", "/orders", grid="town")["items"]] == [1]
    act(centre, "officer", "dispatch", assignee="handler")
    assert [o["id"] for o in centre.get("viewer", "/orders", assignee="handler")["items"]] == [1]


def test_strangers_are_approved_or_rejected_and_nobody_elses_readings_are_thrown_away(centre: Centre) -> None:
    for device in ("new-1", "new-2"):
        centre.send(device, {"level_inside": 3.9})
    waiting = centre.get("officer", "/devices", status="quarantined")["items"]
    assert [d["id"] for d in waiting] == ["new-1", "new-2"]
    assert centre.post("officer", "/devices/new-1/approve")["status"] == "active"
    assert centre.post("officer", "/devices/new-2/reject")["status"] == "rejected"
    for path in ("/devices/new-1/reject", "/devices/new-1/approve", "/devices/ps-1/reject", "/devices/new-2/reject"):
        centre.post("officer", path, status=409)
    centre.post("officer", "/devices/nowhere/approve", status=404)
    centre.level(3.9, "new-1")
    assert {a["device"] for a in centre.get("viewer", "/alarms")["items"]} == {"ps-1", "new-1"}
    assert centre.post("officer", "/devices/new-2/approve")["status"] == "active"


def test_devices_by_filter_and_page(centre: Centre) -> None:
    everything = centre.get("viewer", "/devices")["items"]
    assert [d["id"] for d in everything] == ["cam-1", "door-1", "ps-1", "ps-2"]
    first = centre.get("viewer", "/devices", limit=3)
    rest = centre.get("viewer", "/devices", limit=3, cursor=first["next"])
    assert (first["items"] + rest["items"], rest["next"]) == (everything, None)
    assert [d["id"] for d in centre.get("viewer", "/devices", kind="pump_station", grid="east")["items"]] == ["ps-1"]
    assert [d["id"] for d in centre.get("viewer", "/devices", grid="town")["items"]] == [d["id"] for d in everything]
    assert centre.get("viewer", "/devices", grid="nowhere")["items"] == []
    view = centre.get("viewer", "/devices/ps-1")
    assert {(m["name"], m["unit"]) for m in view["metrics"]} >= {("level_inside", "m"), ("mains_ok", "bool")}
    assert [(v["metric"], v["value"], v["quality"]) for v in view["latest"]] == [("level_inside", 3.8, "good")]
    grids = {g["id"]: g["parent"] for g in centre.get("viewer", "/grids")["items"]}
    assert grids == {"town": None, "east": "town", "west": "town"}


def test_a_session_over_the_api(centre: Centre) -> None:
    made = centre.ask("POST", "/api/v1/session", json={"username": "checker", "password": "correct horse"}).json()
    assert (made["role"], made["expires_at"]) == ("checker", to_iso(centre.now + 12 * HOUR))
    token = made["token"]
    seen = centre.ask("GET", "/api/v1/session", token=token).json()
    assert (seen["name"], seen["role"], seen["read_only"], seen["kind"]) == ("checker", "checker", False, "api")
    changed = centre.ask("POST", "/api/v1/session/password", token=token, json={"old": "correct horse", "new": "short"})
    assert changed.status_code == 422
    assert centre.ask("DELETE", "/api/v1/session", token=token).status_code == 204
    assert centre.ask("GET", "/api/v1/session", token=token).status_code == 401


def test_a_lockout_over_the_api(centre: Centre) -> None:
    for name in ("checker", "nobody-at-all"):
        answers = [
            centre.ask("POST", "/api/v1/session", json={"username": name, "password": "wrong"}).json() for _ in range(6)
        ]
        assert [a["type"].rsplit(":", 1)[1] for a in answers] == ["wrong_name_or_password"] * 4 + ["locked_out"] * 2
    right = centre.ask("POST", "/api/v1/session", json={"username": "checker", "password": "correct horse"})
    assert right.status_code == 401
    users = {u["name"]: u for u in centre.get("admin", "/users")["items"]}
    assert users["checker"]["locked_until"] == to_iso(centre.now + 15 * MINUTE)
    assert "password" not in str(users)


def test_users_over_the_api(centre: Centre) -> None:
    body = {"name": "周敏", "password": "a long one", "role": "handler", "display_name": "网格员周敏"}
    made = centre.post("admin", "/users", body, status=201)
    assert (made["name"], made["role"], made["disabled"]) == ("周敏", "handler", False)
    centre.post("admin", "/users", body, status=409)
    for wrong in ({"role": "king"}, {"password": "short"}, {"name": "service"}, {"name": ""}, {"extra": 1}):
        centre.post("admin", "/users", body | {"name": "x"} | wrong, status=422)
    first = centre.get("admin", "/users", limit=4)
    rest = centre.get("admin", "/users", limit=4, cursor=first["next"])
    names = [u["name"] for u in first["items"] + rest["items"]]
    assert names == sorted(names)
    assert len(names) == 7
    off = centre.ask("PATCH", "/api/v1/users/周敏", token=centre.token("admin"), json={"disabled": True})
    assert off.json()["disabled"] is True
    last = centre.ask("PATCH", "/api/v1/users/admin", token=centre.token("admin"), json={"role": "viewer"})
    assert (last.status_code, last.json()["type"].endswith("last_admin")) == (409, True)

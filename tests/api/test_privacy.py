"""An elder's door: nobody finds the person in a list, a viewer learns nothing of when it opens, and looking is written
down."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from store.records.tables import audit
from tests.api.centre import PERSON, PRIVATE, Centre

LISTS = ("/devices", "/devices/door-1", "/readings/latest", "/alarms", "/occurrences", "/orders", "/ledger", "/grids")
BELOW_HANDLER = ("viewer", "wall")
ALL = (*BELOW_HANDLER, "handler", "checker", "officer", "admin")


@pytest.fixture
def centre(centre: Centre) -> Centre:
    """The door opened, was tampered with, and a pump station is high: alarms and orders of both."""
    centre.level(3.8)
    centre.door_opens()
    centre.send("door-1", {"open": True, "tamper": True, "battery": 80}, kind="door_sensor")
    return centre


@pytest.mark.parametrize("path", LISTS)
def test_no_list_and_no_device_view_shows_the_person_to_anyone(centre: Centre, path: str) -> None:
    for person in ALL:
        shown = str(centre.get(person, path))
        assert not [word for word in PERSON if word in shown], person


@pytest.mark.parametrize("path", [p for p in LISTS if not p.startswith("/devices")])
def test_below_handler_no_list_says_which_door_or_that_it_opened(centre: Centre, path: str) -> None:
    for person in BELOW_HANDLER:
        shown = str(centre.get(person, path))
        assert not [word for word in PRIVATE if word in shown], person


def test_below_handler_a_door_is_one_alarm_more_in_its_grid(centre: Centre) -> None:
    seen = centre.get("viewer", "/alarms")["items"]
    assert [(a["rule"], a["device"], a["grid"]) for a in seen] == [("tamper", None, "east"), ("high", "ps-1", "east")]
    known = centre.get("handler", "/alarms")["items"]
    assert {(a["rule"], a["device"]) for a in known} == {("tamper", "door-1"), ("opened", "door-1"), ("high", "ps-1")}


def test_below_handler_its_values_are_refused_not_empty(centre: Centre) -> None:
    for person in BELOW_HANDLER:
        for path in (
            "/readings?device=door-1&metric=open",
            "/readings?device=door-1&metric=battery",
            "/alarms?device=door-1",
            "/occurrences?device=door-1",
            "/ledger?device=door-1",
        ):
            answer = centre.ask("GET", f"/api/v1{path}", token=centre.token(person))
            assert answer.status_code == 403, path
            assert answer.json()["type"].endswith("personal_device")
        assert centre.get(person, "/devices/door-1")["latest"] == []
    assert centre.get("handler", "/readings", device="door-1", metric="open")["items"][0]["value"] == 1.0
    assert {v["metric"] for v in centre.get("handler", "/devices/door-1")["latest"]} == {"open", "tamper", "battery"}


def test_below_handler_its_alarm_and_order_have_no_history(centre: Centre) -> None:
    tamper = next(a["id"] for a in centre.get("viewer", "/alarms")["items"] if a["rule"] == "tamper")
    notice = next(a["id"] for a in centre.get("handler", "/alarms")["items"] if a["rule"] == "opened")
    order = next(o["id"] for o in centre.get("viewer", "/orders")["items"] if o["category"] == "elder.door")
    for path in (f"/alarms/{tamper}", f"/orders/{order}"):
        shown = centre.get("viewer", path)
        assert shown["history"] == []
        assert not [word for word in PRIVATE if word in str(shown)]
        assert centre.get("handler", path)["history"] != []
    assert centre.ask("GET", f"/api/v1/alarms/{notice}", token=centre.token("viewer")).status_code == 404


def test_the_person_has_a_page_of_their_own_and_looking_is_recorded(centre: Centre) -> None:
    for person in BELOW_HANDLER:
        assert centre.ask("GET", "/api/v1/devices/door-1/person", token=centre.token(person)).status_code == 403
    assert centre.get("handler", "/devices/door-1/person") == {
        "device": "door-1", "name": "陆阿婆家", "person": "陆阿婆", "address": "隆兴路七号",
        "latitude": 30.91, "longitude": 120.41,
    }  # fmt: skip
    with centre.records.connect() as tx:
        looked = tx.execute(select(audit.c.by, audit.c.subject).where(audit.c.act == "person_seen")).all()
    assert [tuple(row) for row in looked] == [("handler", "door-1")]


def test_what_is_not_personal_is_shown_to_everyone(centre: Centre) -> None:
    pump = centre.get("wall", "/devices/ps-1")
    assert (pump["latitude"], pump["longitude"], pump["name"]) == (30.9, 120.4, "一号泵站")
    assert pump["latest"][0]["value"] == 3.8


def test_below_handler_no_cursor_tells_of_a_row_that_is_not_shown(centre: Centre) -> None:
    for person in BELOW_HANDLER:
        for path, narrowed in (("/occurrences", {"rule": "opened"}), ("/alarms", {"priority": "notice"})):
            centre.door_opens()
            page = centre.get(person, path, limit=1, **narrowed)
            assert page == {"items": [], "next": None}, path
        first = centre.get(person, "/occurrences", limit=1)
        assert ([o["device"] for o in first["items"]], first["next"]) == (["ps-1"], None)
        assert len(centre.get(person, "/alarms", limit=2)["items"]) == 2
        assert centre.get(person, "/alarms", limit=2)["next"] is None
    assert centre.get("handler", "/occurrences", rule="opened", limit=1)["next"] is not None


def test_below_handler_an_elders_order_filed_by_hand_is_one_more_in_its_grid(centre: Centre) -> None:
    wanted = {
        "category": "elder.no_movement", "title": "陆阿婆两天没出门", "description": "隆兴路七号", "grid": "east",
        "latitude": 30.91, "longitude": 120.41, "external_id": "12345-陆阿婆",
    }  # fmt: skip
    order = centre.post("officer", "/orders", wanted, status=201)["id"]
    for person in BELOW_HANDLER:
        for path in ("/orders", f"/orders/{order}"):
            shown = centre.get(person, path)
            assert not [word for word in PRIVATE if word in str(shown)], (person, path)
        assert (shown["title"], shown["grid"], shown["history"]) == ("老人长时间未活动", "east", [])
    assert centre.get("handler", f"/orders/{order}")["latitude"] == 30.91


def test_who_is_at_home_is_in_no_list_of_latest_values(centre: Centre) -> None:
    listed = centre.get("officer", "/readings/latest")["items"]
    assert {v["metric"] for v in listed if v["device"] == "door-1"} == {"tamper", "battery"}
    assert centre.get("officer", "/readings/latest", kind="door_sensor", metric="open")["items"] == []
    asked = centre.get("officer", "/readings/latest", device="door-1", metric="open")["items"]
    assert [v["value"] for v in asked] == [1.0]


def test_below_handler_the_ledgers_total_leaves_personal_devices_out(centre: Centre) -> None:
    seen, known = centre.get("viewer", "/ledger"), centre.get("handler", "/ledger")
    assert seen["total"]["received"] == sum(hour["received"] for hour in seen["items"])
    assert known["total"]["received"] > seen["total"]["received"]


def test_orders_of_one_device(centre: Centre) -> None:
    assert [o["category"] for o in centre.get("viewer", "/orders", device="ps-1")["items"]] == ["flood.polder_inside"]
    assert [o["category"] for o in centre.get("handler", "/orders", device="door-1")["items"]] == ["elder.door"]
    assert centre.get("viewer", "/orders", device="ps-2")["items"] == []
    for person in BELOW_HANDLER:
        answer = centre.ask("GET", "/api/v1/orders?device=door-1", token=centre.token(person))
        assert answer.status_code == 403

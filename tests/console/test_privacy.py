"""What no page tells: who lives behind a door, where, and whether they are at home."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from devices.instants import MINUTE
from store.records.tables import audit
from tests.console.conftest import token_of
from tests.console.test_pages import LISTS, Visitor
from tests.console.township import PERSON, Township


def elders(township: Township) -> None:
    township.tell("door-1", open=True, battery=80.0)
    township.send("door-1", {"event": "door_opened", "id": "e1"}, channel="events")
    township.settle()
    township.tell("door-1", tamper=True)
    township.send("door-1", b'{"open": "perhaps"}')
    township.send("stranger-door", {"open": True}, kind="door_sensor")
    township.settle()


@pytest.mark.parametrize("name", ["guest", "li", "wang", "admin"])
def test_no_list_tells_who_lives_where_or_is_at_home(visitor: Visitor, township: Township, name: str) -> None:
    elders(township)
    client = visitor(name)
    for path in LISTS:
        html = client.get(path).text
        for private in PERSON:
            assert private not in html, f"{path} tells {name}: {private}"
        if path.startswith("/devices"):
            assert not [metric for metric in ("门开", "有人移动", "door_opened") if metric in html], path


def test_a_viewer_gets_counts_not_doors(visitor: Visitor, township: Township) -> None:
    elders(township)
    client = visitor("guest")
    for path in ("/", "/devices", "/map/data", "/wall", "/orders", "/devices?find=door"):
        html = client.get(path).text
        assert "door-1" not in html, path
        assert "door-2" not in html, path
        assert "door_opened" not in html, "a notice would tell when the door opens"


def test_the_wall_shows_a_handler_no_more_than_a_viewer(visitor: Visitor, township: Township) -> None:
    elders(township)
    html = visitor("li").get("/wall").text
    assert "door-1" not in html
    assert "老人关爱告警" in html


def test_a_devices_page_does_not_tell_who_is_at_home(visitor: Visitor, township: Township) -> None:
    elders(township)
    for name in ("guest", "li"):
        html = visitor(name).get("/devices/door-1").text
        for private in (*PERSON, "30.91230", "门开", "有人移动", "door_opened", 'data-metric="open"'):
            assert private not in html, f"{name}: {private}"
    assert "独居八旬" not in visitor("guest").get("/devices/door-1").text
    for metric in ("open", "motion", "tamper", "event:door_opened"):
        assert visitor("wang").get("/devices/door-1/chart", params={"metric": metric}).status_code == 404
    assert visitor("wang").get("/devices/door-1/chart", params={"metric": "battery"}).status_code == 200


def test_a_viewer_learns_nothing_of_when_a_door_moved(visitor: Visitor, township: Township) -> None:
    elders(township)
    client = visitor("guest")
    html = client.get("/devices/door-1").text
    spoke = [label for label in ("05:01", "05:02", "data-since", "80 %", "收到", 'id="chart"') if label in facts(html)]
    assert not spoke
    assert 'data-testid="value-row"' not in html
    for metric in ("battery", "signal", "open"):
        assert client.get("/devices/door-1/chart", params={"metric": metric}).status_code == 403
    assert "80 %" in visitor("li").get("/devices/door-1").text


def test_a_handler_reads_no_time_of_a_door_without_asking_for_the_person(visitor: Visitor, township: Township) -> None:
    township.tell("door-1", battery=80.0)
    heard = facts(visitor("li").get("/devices/door-1").text)
    township.now += 5 * MINUTE
    township.send("door-1", {"event": "door_opened", "id": "e1"}, channel="events")
    township.settle()
    assert f'data-since="{(township.now - 5 * MINUTE) // 1000}"' in heard
    assert f'data-since="{(township.now - 5 * MINUTE) // 1000}"' in facts(visitor("li").get("/devices/door-1").text)


def facts(html: str) -> str:
    """What the page says of the device, without the clock in its bar."""
    return html.partition('<section id="device"')[2].partition("</section>")[0].partition(">")[2]


def test_looking_at_the_person_is_recorded(visitor: Visitor, township: Township) -> None:
    elders(township)
    client = visitor("li")
    csrf = {"csrf": token_of(client, "/devices/door-1")}
    shown = client.post("/devices/door-1/person", data=csrf).text
    assert "陆阿婆" in shown
    assert "隆兴路七号" in shown
    assert "30.91230, 120.43210" in shown
    with township.records.connect() as tx:
        seen = tx.execute(select(audit.c.by, audit.c.subject).where(audit.c.act == "person_seen")).all()
    assert seen == [("li", "door-1")]
    assert client.get("/devices/door-1/person").headers["location"] == "/devices/door-1"
    assert client.post("/devices/ps-1/person", data=csrf).status_code == 404


def test_an_elders_order_says_nothing_to_a_viewer(visitor: Visitor, township: Township) -> None:
    elders(township)
    for path in ("/orders/1", "/orders"):
        html = visitor("guest").get(path).text
        assert "老人关爱工单" in html
        assert "door-1" not in html
        assert "门磁被拆" not in html
    assert visitor("guest").get("/alarms/1").status_code == 404
    assert "door-1" in visitor("li").get("/orders/1").text


def test_packets_of_a_door_are_not_shown(visitor: Visitor, township: Township) -> None:
    elders(township)
    html = visitor("wang").get("/intake").text
    assert "perhaps" not in html
    assert "涉及个人，不在列表显示" in html

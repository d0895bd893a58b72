"""Modes and pauses as the duty desk sees and sets them, and what of a home stays with its own page."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest

from devices.instants import DAY, HOUR, to_datetime
from rules.calendar import Calendar, Site
from tests.console.conftest import token_of
from tests.console.test_pages import FRAGMENT, Visitor, in_english, text_of
from tests.console.township import Township


def local(at: int) -> str:
    """As a browser sends a local time of the site."""
    return (to_datetime(at) + timedelta(hours=8)).strftime("%Y-%m-%dT%H:%M")


def send(client: httpx.Client, path: str, **form: str) -> httpx.Response:
    return client.post(path, data={"csrf": token_of(client, "/modes"), **form})


def shown(client: httpx.Client, test_id: str, path: str = "/modes") -> list[str]:
    html = client.get(path).text
    return [text_of(found).strip() for found in re.findall(rf'data-testid="{test_id}"[^>]*>(.*?)</span>', html, re.S)]


def pause(township: Township, client: httpx.Client, device: str, why: str, **form: str) -> None:
    answer = send(client, "/modes/pause", device=device, why=why, end=local(township.now + DAY), **form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/modes")


def test_a_response_is_declared_shown_on_every_page_and_ended(visitor: Visitor, township: Township) -> None:
    officer = in_english(visitor("wang"))
    assert shown(officer, "mode-response") == ["No response"]
    send(officer, "/modes/response", level="2", ordered_by="王镇长", why="暴雨红色预警")
    assert shown(officer, "mode-response") == ["Response level II"]
    for path in ("/", "/pumps", "/devices/ps-1"):
        assert shown(in_english(visitor("guest")), "response-banner", path) == ["Response level II"]
    page = text_of(officer.get("/modes").text)
    assert "暴雨红色预警 decided by 王镇长 · entered by wang" in page
    assert send(officer, "/modes/response/1/end").status_code == 303
    assert shown(officer, "mode-response") == ["No response"]
    assert shown(officer, "response-banner", "/") == []


def test_a_drill_is_told_from_the_real_thing_and_needs_an_end(visitor: Visitor, township: Township) -> None:
    officer = in_english(visitor("wang"))
    refused = send(officer, "/modes/drill", why="防汛演练")
    assert refused.status_code == 422
    assert "say when it ends" in refused.text
    send(officer, "/modes/drill", why="防汛演练", end=local(township.now + HOUR))
    assert shown(officer, "mode-drill") == ["Drill"]
    assert shown(officer, "drill-banner", "/") == ["Drill"]
    township.now += HOUR
    assert shown(officer, "mode-drill") == ["No drill"]


def test_the_local_time_of_a_form_is_the_sites(visitor: Visitor, township: Township) -> None:
    officer = in_english(visitor("wang"))
    pause(township, officer, "ps-1", "限排")
    (declared,) = township.settler.memory.engine.declared.pauses
    assert declared.end == township.now + DAY


@pytest.mark.parametrize("end", ["tomorrow", "2026-13-01T00:00", "9" * 30])
def test_what_is_no_time_is_refused(visitor: Visitor, end: str) -> None:
    answer = send(visitor("wang"), "/modes/pause", device="ps-1", why="x", end=end)
    assert answer.status_code == 422
    assert "时间格式不对" in answer.text


def test_a_paused_pump_says_so_in_the_list_and_on_its_page_and_can_be_resumed_there(
    visitor: Visitor, township: Township
) -> None:
    officer = in_english(visitor("wang"))
    assert '<input name="device" value="ps-1"' in officer.get("/modes?device=ps-1").text
    pause(township, officer, "ps-1", "限排令")
    assert shown(officer, "paused", "/devices") == ["Pause"]
    page = officer.get("/devices/ps-1").text
    assert "限排令" in page
    answer = send(officer, "/modes/pause/1/end", back="/devices/ps-1")
    assert answer.headers["location"] == "/devices/ps-1"
    assert "限排令" not in officer.get("/devices/ps-1").text
    assert "限排令" in officer.get("/modes").text, "what is over stays in the list"


def test_a_pause_of_some_rules_names_them(visitor: Visitor, township: Township) -> None:
    officer = in_english(visitor("wang"))
    pause(township, officer, "ps-1", "检修", rules="polder-inside-high，mains-lost")
    assert "polder-inside-high, mains-lost" in text_of(officer.get("/modes").text)
    assert shown(officer, "paused", "/devices") == [], "the others are judged"
    refused = send(officer, "/modes/pause", device="ps-1", why="x", end=local(township.now + DAY), rules="nothing")
    assert refused.status_code == 422


def test_the_pause_of_a_home_is_told_to_handlers_and_its_reason_on_its_own_page_only(
    visitor: Visitor, township: Township
) -> None:
    pause(township, visitor("wang"), "door-1", "陆阿婆住院", of_person="true")
    handler = visitor("li")
    html = handler.get("/modes").text
    assert "door-1" in html
    assert "陆阿婆" not in html
    assert "住院" not in html
    assert "住院" in handler.get("/devices/door-1").text
    seen = handler.post("/devices/door-1/person", data={"csrf": token_of(handler, "/devices/door-1")})
    assert "住院" in seen.text
    for path in ("/modes", "/devices", "/devices/door-1", "/", "/wall"):
        page = visitor("guest").get(path).text
        assert "住院" not in page, path
        assert path == "/devices/door-1" or "door-1" not in page, path


def test_a_viewer_sees_no_form_and_may_not_send_one(visitor: Visitor, township: Township) -> None:
    guest = visitor("guest")
    assert "<form" not in guest.get("/modes", headers=FRAGMENT).text
    csrf = re.search(r'name="csrf" value="([^"]+)"', guest.get("/").text)
    assert csrf
    for path, form in (
        ("/modes/response", {"level": "1", "ordered_by": "x", "why": "x"}),
        ("/modes/drill", {"why": "x", "end": local(township.now + HOUR)}),
        ("/modes/pause", {"device": "ps-1", "why": "x", "end": local(township.now + HOUR)}),
    ):
        assert guest.post(path, data={"csrf": csrf[1], **form}).status_code == 403
    assert township.settler.memory.engine.declared.responses == ()


def test_without_the_token_of_the_form_nothing_is_declared(visitor: Visitor) -> None:
    form = {"level": "1", "ordered_by": "x", "why": "x"}
    assert visitor("wang").post("/modes/response", data=form).status_code == 403


def test_the_fragment_says_that_it_is_done(visitor: Visitor) -> None:
    officer = visitor("wang")
    form = {"csrf": token_of(officer, "/modes"), "level": "4", "ordered_by": "王镇长", "why": "台风"}
    answer = officer.post("/modes/response", data=form, headers=FRAGMENT)
    assert answer.status_code == 200
    assert "响应已启动" in answer.text
    assert "Ⅳ级响应" in answer.text
    assert officer.get("/modes/response").headers["location"] == "/modes"


def test_the_calendar_says_what_day_it_is(visitor: Visitor, township: Township) -> None:
    """2026-07-01 is a Wednesday."""
    officer = in_english(visitor("wang"))
    assert shown(officer, "mode-season") == ["The calendar names no flood season"]
    assert shown(officer, "mode-day") == ["A working day · the calendar lacks this year: weekends only"]
    calendar = Calendar(frozenset({to_datetime(township.now + 8 * HOUR).date()}), years=frozenset({2026}),
                        flood_season=((5, 1), (9, 30)))  # fmt: skip
    object.__setattr__(township.installation, "site", lambda: Site("Asia/Shanghai", calendar))
    assert shown(officer, "mode-day") == ["A day off"]
    assert shown(officer, "mode-season") == ["Flood season · until 10-01 00:00"]

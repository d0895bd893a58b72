"""Commands on the page of a device: who sees and sends them, what became of them, and that the page hears of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import httpx
import pytest

from alerts.roles import Actor, Role
from devices.instants import MINUTE, SECOND
from flow.commands import ask, expire
from store.records.commands import CommandRow
from tests.console.conftest import token_of
from tests.console.screen import Screen
from tests.console.test_pages import FRAGMENT, Visitor, in_english, text_of
from tests.console.township import EVIL, Township

OFFICER = Actor("wang", Role.DUTY_OFFICER)


def asked(township: Township, device: str = "ps-1", **how: object) -> CommandRow:
    wanted: dict[str, object] = {"command": "start_pump", "arguments": {"pump": 2}, "lasts": MINUTE, "why": "x"} | how
    here = township.installation
    return ask(here.records, township.now, OFFICER, here.registry, device=device, **wanted)  # type: ignore[arg-type]


def replied(township: Township, row: CommandRow, **body: object) -> None:
    answer = json.dumps({"id": row.id, **body}).encode()
    township.send(row.device, answer, channel="commands/reply")
    township.settle()


def states(client: httpx.Client, path: str = "/devices/ps-1") -> list[tuple[str, str]]:
    return re.findall(r'data-testid="command-row" data-command="(\w+)" data-state="(\w+)"', client.get(path).text)


def send(client: httpx.Client, device: str = "ps-1", **form: str) -> httpx.Response:
    given = {"csrf": token_of(client, f"/devices/{device}"), "command": "start_pump", "why": "水位超限", **form}
    return client.post(f"/devices/{device}/commands", data=given)


def test_an_officer_sends_a_command_and_everyone_sees_what_became_of_it(visitor: Visitor, township: Township) -> None:
    officer = visitor("wang")
    answer = send(officer, arguments="pump=2\nmode=auto\n", expires="10m")
    assert (answer.status_code, answer.headers["location"]) == (303, "/devices/ps-1")
    guest = in_english(visitor("guest"))
    assert states(guest) == [("start_pump", "pending")]
    page = text_of(guest.get("/devices/ps-1").text)
    assert "pump=2 mode=auto" in page
    assert "Waiting for the link" in page
    assert "水位超限 entered by wang" in page


def test_what_a_device_says_is_shown_as_text_and_what_came_too_late_is_marked(
    visitor: Visitor, township: Township
) -> None:
    replied(township, asked(township, command="one"), ok=True, result=EVIL)
    replied(township, asked(township, command="two"), ok=False, error={"code": 7})
    late = asked(township, command="three")
    expire(township.records, township.now + 2 * MINUTE, heard=True)
    replied(township, late, ok=True)
    asked(township, command="four")
    expire(township.records, township.now + 2 * MINUTE, heard=True)
    guest = in_english(visitor("guest"))
    assert states(guest) == [("four", "unsent"), ("three", "expired"), ("two", "failed"), ("one", "replied")]
    html = guest.get("/devices/ps-1").text
    assert EVIL not in html
    assert "onerror=" in text_of(html)
    assert '{"code": 7}' in text_of(html)
    assert text_of(html).count("Answered too late") == 1
    assert text_of(html).count("never sent") == 1


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"command": "Start Pump"}, "指令名应为"),
        ({"why": " "}, "请填写原因"),
        ({"arguments": "pump"}, "参数每行一个"),
        ({"expires": "soon"}, "有效期的写法"),
        ({"expires": "8d"}, "有效期应为"),
    ],
)
def test_what_is_incomplete_is_said_and_not_sent(visitor: Visitor, form: dict[str, str], said: str) -> None:
    officer = visitor("wang")
    answer = send(officer, **form)
    assert answer.status_code == 422
    assert said in answer.text
    assert states(officer) == []


@pytest.mark.parametrize("name", ["guest", "li", "chen"])
def test_only_the_desk_sends(visitor: Visitor, name: str) -> None:
    client = visitor(name)
    assert "command-send" not in client.get("/devices/ps-1").text
    assert send(client).status_code == 403
    assert states(client) == []


def test_what_a_home_was_asked_is_for_handlers_and_above(visitor: Visitor, township: Township) -> None:
    asked(township, "door-1", command="beep")
    assert states(visitor("li"), "/devices/door-1") == [("beep", "pending")]
    guest = visitor("guest")
    assert states(guest, "/devices/door-1") == []
    assert "beep" not in guest.get("/devices/door-1/commands", headers=FRAGMENT).text


@pytest.mark.browser
def test_the_page_hears_of_the_answer_and_keeps_what_is_being_written(
    township: Township, open_screen: Callable[..., Screen]
) -> None:
    screen = open_screen("wang")
    page = screen.page
    screen.open("/devices/ps-1")
    screen.wait_live()
    page.fill("[name=command]", "start_pump")
    page.fill("#command [name=why]", "水位超限")
    page.get_by_test_id("command-send").click()
    page.wait_for_selector("[data-testid=command-row][data-state=pending]")
    page.fill("#command [name=arguments]", "pump=3")
    with township.records.connect() as tx:
        (id_,) = tx.exec_driver_sql("SELECT id FROM commands").scalars()
    township.now += SECOND
    township.send("ps-1", json.dumps({"id": id_, "ok": True}).encode(), channel="commands/reply")
    township.settle()
    page.wait_for_selector("[data-testid=command-row][data-state=replied]")
    assert page.input_value("#command [name=arguments]") == "pump=3"

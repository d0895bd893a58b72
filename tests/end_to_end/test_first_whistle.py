"""The whole spine in a real browser: a reading published over MQTT becomes an alarm on the Board, and its order is
carried through the four steps by three people while a viewer finds nothing to press."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import paho.mqtt.publish as mqtt
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.conftest import CHROMIUM, ROOT
from tests.console.conftest import ARGUMENTS
from tests.console.screen import Screen
from tests.end_to_end.conftest import PASSWORD, Service

pytestmark = [pytest.mark.services, pytest.mark.browser]

QIDU = ROOT / "examples" / "qidu"
PEOPLE = {"duty": "duty_officer", "handler": "handler", "checker": "checker", "viewer": "viewer"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


def test_from_a_reading_to_an_archived_order(make_service: Callable[..., Service], browser: Browser) -> None:
    service = make_service(town=QIDU, rules=QIDU / "rules")
    for name, role in PEOPLE.items():
        service.post("users", name=name, password=PASSWORD, role=role)
    station = next(d["id"] for d in service.all("devices") if d["kind"] == "pump_station")
    screens = {name: Screen(browser, str(service.api.base_url).rstrip("/")) for name in PEOPLE}
    for name, screen in screens.items():
        screen.sign_in(name, PASSWORD)
        screen.open("/")
        screen.wait_live()

    topic = f"gw/v1/qidu/pump_station/{station}/readings"
    mqtt.single(topic, '{"level_inside": 3.62}', qos=1, hostname=service.broker.host, port=service.broker.port)

    # It appears on every Board without a reload, and one press acknowledges it.
    for screen in screens.values():
        expect(screen.alarm("polder-inside-high", station)).to_be_visible()
    duty, handler, checker, viewer = screens.values()
    expect(viewer.page.locator("main button, main [type=submit]").filter(visible=True)).to_have_count(0)
    duty.alarm("polder-inside-high", station).get_by_test_id("acknowledge").click()
    for screen in screens.values():
        expect(screen.alarm("polder-inside-high", station)).to_have_attribute("data-state", "ACKED")

    order = service.all("orders")[0]
    for screen in screens.values():
        screen.open(f"/orders/{order['id']}")
        screen.wait_live()

    def state(name: str) -> None:
        for screen in screens.values():
            expect(screen.get("order-state")).to_have_attribute("data-state", name)
        expect(viewer.get("order-acts")).to_have_count(0)

    state("filed")
    duty.get("order-assignee").select_option("handler")
    duty.tap("order-act-dispatch")
    state("dispatched")
    for act, after in (("accept", "accepted"), ("arrive", "on_site"), ("handle", "handled")):
        handler.tap(f"order-act-{act}")
        state(after)
    mqtt.single(topic, '{"level_inside": 3.10}', qos=1, hostname=service.broker.host, port=service.broker.port)
    checker.tap("order-act-check")
    state("checking")
    checker.get("order-reason-close").fill("水位已回落")
    checker.tap("order-act-close")
    state("closed")
    duty.tap("order-act-archive")
    state("archived")
    for screen in screens.values():
        assert screen.complaints == []
        screen.close()

"""The pages about rules in real Chromium: with the mouse, with the keyboard alone, on a phone, in both languages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.console.screen import SIZES, Screen
from tests.console.test_rules import EARLIER, SPAN, wave
from tests.console.township import Township

pytestmark = pytest.mark.browser
OpenScreen = Callable[..., Screen]
PAGES = (
    "/rules", "/rules/review?days=7", "/rules/try?rule=polder-inside-high", "/alarms/1/why",
    "/rules/mains-lost/why?device=ps-1",
)  # fmt: skip


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_page_fits_and_the_browser_complains_of_nothing(
    township: Township, open_screen: OpenScreen, size: str, language: str
) -> None:
    wave(township, 40)
    screen = open_screen("wang", size=size, language=language)
    for path in PAGES:
        screen.open(path)
        screen.wait_live()
        assert screen.overflow() <= 0, f"{path} is wider than the screen"


def test_why_opens_over_the_board_and_closes_with_the_keyboard_alone(
    township: Township, open_screen: OpenScreen
) -> None:
    township.flood()
    screen = open_screen("wang")
    screen.wait_live()
    link = screen.get("alarm-why").first
    link.focus()
    screen.page.keyboard.press("Enter")
    expect(screen.get("why")).to_contain_text("条件自 05:01:00 起成立，满 1 分钟 后于 05:02:00 触发")
    expect(screen.get("why-dialog")).to_be_visible()
    assert screen.page.url == f"{screen.url}/"
    screen.page.keyboard.press("Escape")
    expect(screen.get("why-dialog")).to_be_hidden()
    expect(link).to_be_focused()
    screen.page.keyboard.press("Enter")
    expect(screen.get("why-dialog")).to_be_visible()
    screen.page.get_by_role("button", name="关闭").click()
    expect(screen.get("why-dialog")).to_be_hidden()


def test_another_instant_is_asked_in_the_same_place(township: Township, open_screen: OpenScreen) -> None:
    wave(township, 60)
    screen = open_screen("wang", size="phone")
    screen.open("/alarms/1")
    screen.wait_live()
    screen.tap("alarm-why")
    expect(screen.get("why-told")).to_have_count(2)
    screen.get("why").locator("[name=at]").fill("2026-07-01T05:05:30")
    screen.tap("why-again")
    expect(screen.get("why-told")).to_have_count(1)
    expect(screen.get("why")).to_contain_text("条件不成立，没有触发")
    expect(screen.get("why-dialog")).to_be_visible()
    assert screen.overflow() <= 0


def test_a_change_is_tried_from_the_list_to_the_chart(township: Township, open_screen: OpenScreen) -> None:
    wave(township)
    screen = open_screen("wang")
    screen.open("/rules")
    screen.page.locator("[data-rule=polder-inside-high]").get_by_test_id("rule-try").click()
    rules = screen.page.locator("textarea[name=rules]")
    rules.fill(EARLIER)
    for name, value in SPAN.items():
        screen.page.fill(f"[name={name}]", value)
    screen.tap("try-run")
    expect(screen.get("trial")).to_have_attribute("data-state", "done")
    expect(screen.get("try-row")).to_have_count(2)
    chart = screen.get("trial-chart")
    expect(chart).to_have_attribute("data-points", "120")
    expect(chart).to_have_attribute("data-spans", "1 1")
    screen.page.select_option("#trial-choice select", "ps-2|level_inside")
    expect(chart).to_have_attribute("data-spans", "0 1")
    expect(rules).to_have_value(EARLIER)
    expect(screen.get("try-difference")).to_contain_text("+  when: level_inside > attr.inside_limit_level - 0.10")
    screen.expect_complaints("422")
    rules.fill(EARLIER.replace("level_inside >", "levl_inside >"))
    screen.tap("try-run")
    expect(screen.get("try-mistakes")).to_contain_text("第 4 行第 11 列")
    expect(rules).to_be_visible()


def test_the_review_draws_the_days(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    screen = open_screen("wang", size="phone")
    screen.open("/rules/review?days=7")
    expect(screen.get("review-chart")).to_have_attribute("data-drawn", "8")
    expect(screen.get("review")).to_contain_text("圩内水位超最高控制水位")
    assert screen.overflow() <= 0

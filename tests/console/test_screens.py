"""The console in real Chromium: it stays live, it works with the mouse, and no browser has anything to complain of."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from alerts.roles import Actor, Role
from devices.instants import DAY, MINUTE
from flow import access, desk
from flow.declare import declare_drill, declare_response, pause
from flow.orders import act_on_order
from store.records.tables import alarms, audit, orders
from tests.console.screen import SIZES, Screen
from tests.console.township import EVIL, Township
from tests.installed import ADMIN

pytestmark = pytest.mark.browser
OpenScreen = Callable[..., Screen]
OFFICER = Actor("wang", Role.DUTY_OFFICER)
PAGES = (
    "/", "/?show=unacknowledged", "/alarms/1", "/pumps", "/orders", "/orders?show=all", "/orders/1",
    "/orders/new", "/devices", "/devices/ps-1", "/devices/door-1", "/devices/cam-1", "/intake", "/map", "/wall",
    "/modes", "/password",
)  # fmt: skip


def a_busy_night(township: Township) -> None:
    """Something of everything, hostile names included."""
    township.flood("ps-1", level=3.62)
    township.flood("ps-3", level=3.55)
    township.tell("ps-2", level_inside=3.31, mains_ok=False, pumps_running=4, pumps_available=4)
    township.tell("air-1", pm2_5=150.0, temperature=27.5)
    township.tell("door-1", open=True, tamper=True, battery=71.0)
    township.send("ps-new", {"level_inside": 3.2}, kind="pump_station")
    township.send("ps-1", b"\xff\xfe" + bytes(range(200)))
    township.send("ps-1", b"x" * 5000)
    township.settle()
    until = township.now + 7 * DAY
    rules = township.settler.book.rules
    registry = township.settler.memory.registry
    for act in (
        lambda tx, now: declare_response(tx, now, OFFICER, level=1, why=EVIL, ordered_by=EVIL),
        lambda tx, now: declare_drill(tx, now, OFFICER, why="防汛演练" * 20, end=until),
        lambda tx, now: pause(tx, now, OFFICER, registry, device="air-1", why=EVIL, end=until, known_rules=rules),
        lambda tx, now: pause(tx, now, OFFICER, registry, device="door-1", why="住院", end=until, of_person=True,
                              known_rules=rules),
    ):  # fmt: skip
        township.settler.declare(act, township.now)


def intruders(township: Township) -> None:
    for n in range(3):
        township.send("cam-1", {"event": "person_detected", "id": str(n)}, channel="events")
    township.settle()


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_page_fits_and_the_browser_complains_of_nothing(
    township: Township, open_screen: OpenScreen, size: str, language: str
) -> None:
    a_busy_night(township)
    screen = open_screen("wang", size=size, language=language)
    for path in PAGES:
        screen.open(path)
        screen.wait_live()
        assert screen.overflow() <= 0, f"{path} is wider than the screen"
        assert EVIL in screen.page.content() or "<img" not in screen.page.content()
    expect(screen.page.locator("html")).to_have_attribute("lang", "zh-CN" if language == "zh" else "en")


def test_the_sign_in_page_fits(open_screen: OpenScreen) -> None:
    screen = open_screen("")
    for size in SIZES:
        screen.resize(size)
        screen.open("/sign-in")
        assert screen.overflow() <= 0
        expect(screen.get("sign-in")).to_be_visible()


def test_the_language_switch(open_screen: OpenScreen) -> None:
    screen = open_screen("wang")
    screen.open("/pumps")
    screen.tap("language")
    expect(screen.page.get_by_role("heading", level=1)).to_have_text("Pump stations")
    assert screen.page.url.endswith("/pumps")


def test_a_new_alarm_appears_without_reload(township: Township, open_screen: OpenScreen) -> None:
    screen = open_screen("wang")
    screen.wait_live()
    expect(screen.get("board-empty")).to_be_visible()
    screen.page.evaluate("window.notReloaded = true")
    township.flood()
    row = screen.alarm("polder-inside-high", "ps-1")
    expect(row).to_be_visible()
    expect(row.get_by_test_id("reason")).to_have_text("圩内水位 3.52 m > 最高控制水位 3.50 m 已 1 分钟")
    expect(screen.get("standing")).to_have_attribute("data-unacknowledged", "1")
    assert screen.page.evaluate("window.notReloaded")


def test_ten_alarms_fit_on_the_desk(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    township.now += 161 * MINUTE
    screen = open_screen("wang")
    screen.open("/")
    rows = [row.bounding_box() for row in screen.get("alarm-row").all()]
    assert rows[0] is not None
    room = SIZES["desk"][1] - rows[0]["y"]
    assert all(row is not None and 10 * row["height"] <= room for row in rows), rows


def test_one_press_acknowledges(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    screen, colleague = open_screen("wang"), open_screen("chen")
    colleague.wait_live()
    row = screen.alarm("polder-inside-high", "ps-1")
    row.get_by_test_id("acknowledge").click()
    expect(row).to_have_attribute("data-state", "ACKED")
    expect(row.get_by_test_id("acknowledge")).to_have_count(0)
    expect(colleague.alarm("polder-inside-high", "ps-1")).to_have_attribute("data-state", "ACKED")
    with township.records.connect() as tx:
        assert tx.execute(select(alarms.c.acknowledged_by)).scalar_one() == "wang"


def test_two_presses_acknowledge_many(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    screen = open_screen("wang")
    expect(screen.get("acknowledge-selected")).to_be_disabled()
    screen.tap("select-all")
    screen.tap("acknowledge-selected")
    expect(screen.get("done")).to_contain_text("已确认")
    expect(screen.get("acknowledge")).to_have_count(0)
    with township.records.connect() as tx:
        assert set(tx.scalars(select(alarms.c.state))) == {"ACKED", "NORM"}, "those a pause ended are normal now"


def test_a_refresh_takes_neither_selection_nor_place(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    screen = open_screen("wang", size="phone")
    screen.wait_live()
    picked = screen.alarm("polder-inside-high", "ps-3").locator("input[name=alarm]")
    picked.check()
    picked.focus()
    screen.page.evaluate("window.scrollTo(0, 200)")
    intruders(township)
    expect(screen.alarm("intruders", "cam-1")).to_have_count(1)
    expect(picked).to_be_checked()
    expect(picked).to_be_focused()
    expect(screen.get("acknowledge-selected")).to_contain_text("1")
    assert screen.page.evaluate("window.scrollY") > 100


def test_a_refresh_takes_nothing_that_was_typed(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    screen = open_screen("wang")
    screen.alarm("polder-inside-high", "ps-1").get_by_test_id("alarm-open").click()
    screen.wait_live()
    text = screen.page.locator("input[name=text]")
    text.fill("正在联系泵站")
    desk.acknowledge(township.records, township.now, Actor("chen", Role.CHECKER), alarm=1)
    expect(screen.get("alarm-page")).to_have_attribute("data-state", "ACKED")
    expect(text).to_have_value("正在联系泵站")
    expect(text).to_be_focused()
    screen.tap("alarm-comment")
    expect(screen.get("alarm-history")).to_contain_text("正在联系泵站")
    expect(text).to_have_value("")
    screen.open("/orders/1")
    screen.wait_live()
    screen.tap("order-more-comment")
    reason = screen.get("order-reason-comment")
    reason.fill("已电话通知")
    act_on_order(township.records, township.now, OFFICER, order=1, act="dispatch", version=1, assignee="li")
    township.hub.poke()
    expect(screen.get("order-state")).to_have_attribute("data-state", "dispatched")
    expect(reason).to_have_value("已电话通知")
    screen.tap("order-act-comment")
    expect(screen.get("chain")).to_contain_text("已电话通知")
    expect(reason).to_be_hidden()


def test_shelving_from_the_alarms_page(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    screen = open_screen("wang")
    screen.open("/alarms/1")
    screen.page.locator("#act-shelve input[name=reason]").fill("检修")
    screen.tap("alarm-shelve")
    expect(screen.get("alarm-page")).to_have_attribute("data-state", "SHLVD")
    screen.tap("alarm-unshelve")
    expect(screen.get("alarm-page")).to_have_attribute("data-state", "UNACK")
    screen.tap("acknowledge")
    expect(screen.get("alarm-page")).to_have_attribute("data-state", "ACKED")


def test_a_refusal_is_told_in_place_in_both_languages(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    screen = open_screen("wang")
    screen.expect_complaints("409")
    screen.wait_live()
    # A colleague is faster, and this page has not heard of it yet.
    screen.page.evaluate("document.querySelector('#board').removeAttribute('hx-get')")
    screen.page.evaluate("htmx.process(document.querySelector('#board'), true)")
    desk.acknowledge(township.records, township.now, Actor("chen", Role.CHECKER), alarm=1)
    screen.tap("acknowledge")
    refusal = screen.get("refusal")
    expect(refusal).to_contain_text("不能执行此操作")
    expect(refusal).to_contain_text("cannot be acknowledged")
    expect(screen.get("alarm-row")).to_be_visible()
    refusal.get_by_role("button").click()
    expect(refusal).to_have_count(0)


def test_a_viewer_finds_no_button(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    screen = open_screen("guest")
    furniture = {"sound", "user-menu", "sign-out"}
    for path in (
        "/",
        "/pumps",
        "/orders",
        "/orders/1",
        "/devices",
        "/devices/ps-1",
        "/devices/door-1",
        "/map",
        "/wall",
    ):
        screen.open(path)
        screen.wait_live()
        forms = screen.page.locator("form[method=post]").evaluate_all("forms => forms.map(form => form.action)")
        assert {form.rpartition("/")[2] for form in forms} <= {"sign-out"}, path
        buttons = screen.page.locator("main button, main [type=submit], main [type=checkbox]")
        named = buttons.evaluate_all("all => all.filter(each => !each.dataset.metric).map(each => each.outerHTML)")
        assert not named, f"{path}: {named}"
        pressed = screen.page.locator("[data-testid]").evaluate_all("all => all.map(each => each.dataset.testid)")
        assert (
            not {t for t in pressed if t.startswith(("acknowledge", "order-act", "device-"))}
            - furniture
            - {"device-row"}
        ), path


def test_an_order_is_carried_to_the_archive_by_three_people(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    wang, li, chen = open_screen("wang"), open_screen("li", size="phone"), open_screen("chen")
    for screen in (wang, li, chen):
        screen.open("/orders/1")
        screen.wait_live()

    def state(name: str) -> None:
        """Everybody sees it, without reloading."""
        for screen in (wang, li, chen):
            expect(screen.get("order-state")).to_have_attribute("data-state", name)

    expect(li.get("order-act-accept")).to_have_count(0)
    wang.get("order-assignee").select_option("li")
    wang.tap("order-act-dispatch")
    state("dispatched")
    for act, after in (("accept", "accepted"), ("arrive", "on_site"), ("handle", "handled")):
        li.tap(f"order-act-{act}")
        state(after)
    chen.tap("order-act-check")
    state("checking")
    chen.get("order-reason-close").fill("现场已核实")
    chen.tap("order-act-close")
    state("closed")
    wang.tap("order-act-archive")
    state("archived")
    expect(wang.get("order-acts")).to_have_count(0)
    expect(wang.get("chain").locator("li")).to_have_count(10)


def test_a_second_press_does_nothing_twice(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    screen = open_screen("wang")
    screen.expect_complaints("409")
    screen.open("/orders/1")
    screen.wait_live()
    screen.get("order-assignee").select_option("li")
    screen.get("order-act-dispatch").dblclick()
    expect(screen.get("order-state")).to_have_attribute("data-state", "dispatched")
    with township.records.connect() as tx:
        assert tx.execute(select(orders.c.version)).scalar_one() == 2


def test_sound_and_title_call_until_somebody_comes(township: Township, open_screen: OpenScreen) -> None:
    screen = open_screen("wang")
    screen.wait_live()
    sound = screen.get("sound")
    expect(sound).to_have_attribute("aria-pressed", "false")
    township.flood()
    expect(screen.alarm("polder-inside-high", "ps-1")).to_be_visible()
    assert screen.page.evaluate("document.body.dataset.beeps") is None, "nothing sounds before it is allowed to"
    sound.click()
    expect(sound).to_have_attribute("aria-pressed", "true")
    expect(screen.page.locator("body")).to_have_attribute("data-beeps", "1")
    township.flood("ps-2")
    expect(screen.page.locator("body")).to_have_attribute("data-beeps", "2")
    expect(screen.page).to_have_title(re.compile("【2】"))
    expect(screen.page).not_to_have_title(re.compile("【2】"))
    for device in ("ps-1", "ps-2"):
        screen.alarm("polder-inside-high", device).get_by_test_id("acknowledge").click()
        expect(screen.alarm("polder-inside-high", device)).to_have_attribute("data-state", "ACKED")
    township.tell("air-1", pm2_5=150.0)
    expect(screen.alarm("pm25-high", "air-1")).to_be_visible()
    expect(screen.page.locator("body")).to_have_attribute("data-beeps", "2")


def test_a_lost_connection_is_told_and_nothing_is_missed_after_it(township: Township, open_screen: OpenScreen) -> None:
    screen = open_screen("wang")
    screen.expect_complaints("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED", "net::ERR", "Failed to fetch")
    screen.wait_live()
    expect(screen.get("connection-banner")).to_be_hidden()
    port = int(township.url.rpartition(":")[2])
    township.stop()
    expect(screen.get("connection-banner")).to_be_visible()
    township.flood()
    township.serve(port)
    expect(screen.get("connection-banner")).to_be_hidden(timeout=20_000)
    expect(screen.alarm("polder-inside-high", "ps-1")).to_be_visible()


def test_many_tabs_share_one_stream(township: Township, open_screen: OpenScreen) -> None:
    """A browser opens six connections to a server: with a stream for each tab the seventh would never load."""
    screen = open_screen("wang")
    tabs = [screen.context.new_page() for _ in range(8)]
    for tab in tabs:
        tab.goto(township.url + "/orders")
        expect(tab.locator("body")).to_have_attribute("data-connection", "live")
    township.flood()
    for tab in tabs:
        expect(tab.get_by_test_id("order-card")).to_have_count(1)
    assert township.hub.clients <= 2


def test_an_ended_session_leads_to_the_sign_in_and_back(township: Township, open_screen: OpenScreen) -> None:
    screen = open_screen("wang")
    screen.expect_complaints("401", "ERR_", "MIME type")
    screen.open("/orders?show=all")
    screen.wait_live()
    access.change_user(township.records, township.now, ADMIN, name="wang", password="another password")
    township.flood()
    # Two refreshes may be told to go there at once: the browser drops the first of the two.
    expect(screen.page).to_have_url(re.compile(r"/sign-in\?to=/orders%3Fshow%3Dall$"))
    screen.page.fill("[name=username]", "wang")
    screen.page.fill("[name=password]", "another password")
    screen.tap("sign-in")
    screen.page.wait_for_url("**/orders?show=all")


def test_hostile_names_are_text(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    screen = open_screen("wang")
    for path in ("/", "/pumps", "/devices", "/devices/ps-3", "/map", "/wall", "/intake"):
        screen.open(path)
        screen.wait_live()
        assert screen.page.locator("img").count() == 0, path
        assert screen.page.title() != "1"
    screen.open("/pumps")
    expect(screen.page.get_by_text(EVIL)).to_be_visible()


def test_the_chart_draws_the_day_and_the_limit(township: Township, open_screen: OpenScreen) -> None:
    for _ in range(30):
        township.tell("ps-1", level_inside=3.3, level_outside=3.4, mains_ok=True)
    screen = open_screen("wang")
    screen.open("/devices/ps-1")
    chart = screen.get("chart")
    expect(chart).to_have_attribute("data-drawn", "level_inside")
    expect(chart).to_have_attribute("data-points", "30")
    expect(chart).to_have_attribute("data-limits", "3.5")
    expect(chart).to_contain_text("圩内水位超最高控制水位 3.5")
    screen.page.locator("button[data-metric=level_outside]").click()
    expect(chart).to_have_attribute("data-drawn", "level_outside")
    expect(chart).to_have_attribute("data-limits", "")
    expect(screen.page.locator("[data-testid=value-row][data-metric=level_inside]")).to_contain_text("3.30 m")


def test_the_map_and_the_wall_are_drawn(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    screen = open_screen("wang", size="wall")
    for path in ("/map", "/wall"):
        screen.open(path)
        expect(screen.get("map")).to_have_attribute("data-drawn", "3")
        expect(screen.get("map")).to_have_attribute("data-devices", "5")
    assert screen.page.evaluate("document.documentElement.scrollHeight") <= 1080, "a wall has nobody to scroll it"
    expect(screen.get("wall-alarms")).to_contain_text("一号泵站")
    expect(screen.page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_wall_signs_in_with_its_token_and_stays_live(township: Township, open_screen: OpenScreen) -> None:
    made = access.make_wall_token(township.records, township.now, ADMIN, label="大厅")
    screen = open_screen("", size="wall")
    screen.open("/sign-in")
    screen.tap("wall-way")
    screen.page.fill("[name=token]", made.token)
    screen.tap("wall-sign-in")
    screen.page.wait_for_url("**/wall")
    assert made.token not in screen.page.url
    screen.wait_live()
    township.flood()
    expect(screen.get("wall-alarms")).to_contain_text("一号泵站")


def test_seeing_the_person_is_a_press_that_is_recorded(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    screen = open_screen("li")
    screen.open("/devices/door-1")
    assert "陆阿婆" not in screen.page.content()
    screen.tap("person-see")
    expect(screen.get("person")).to_contain_text("陆阿婆")
    with township.records.connect() as tx:
        assert tx.execute(select(audit.c.by).where(audit.c.act == "person_seen")).scalars().all() == ["li"]


def test_approving_a_device(township: Township, open_screen: OpenScreen) -> None:
    a_busy_night(township)
    screen = open_screen("wang")
    screen.open("/intake")
    screen.tap("device-approve")
    expect(screen.get("done")).to_contain_text("ps-new 已批准")
    expect(screen.get("quarantined")).to_have_count(0)


def test_ages_and_limits_tick(township: Township, open_screen: OpenScreen) -> None:
    township.flood()
    screen = open_screen("wang")
    age = screen.alarm("polder-inside-high", "ps-1").locator("time.age")
    first = age.inner_text()
    expect(age).not_to_have_text(first)
    assert re.fullmatch(r"\d+ 分 \d+ 秒", age.inner_text())
    act_on_order(township.records, township.now, OFFICER, order=1, act="dispatch", version=1, assignee="li")
    screen.open("/orders/1")
    limit = screen.page.locator("time.left").first
    first = limit.inner_text()
    assert re.fullmatch(r"剩 [45] 分 \d+ 秒", first), "five minutes to sign for a flood order"
    expect(limit).not_to_have_text(first)


def test_the_desk_works_without_scripts(township: Township, open_screen: OpenScreen) -> None:
    """Forms are forms: an old browser, or a script that failed to load, does not keep anybody from acknowledging."""
    township.flood()
    screen = open_screen("wang")
    context = screen.context.browser
    assert context is not None
    plain = context.new_context(java_script_enabled=False, storage_state=screen.context.storage_state())
    page = plain.new_page()
    page.goto(township.url + "/")
    page.get_by_test_id("acknowledge").click()
    expect(page.get_by_test_id("alarm-row")).to_have_attribute("data-state", "ACKED")
    plain.close()

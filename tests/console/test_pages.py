"""What the pages say and what they leave unsaid, asked over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import httpx
from sqlalchemy import select, update

from devices.instants import DAY, HOUR, MINUTE, to_iso
from store.records.database import write
from store.records.tables import alarms, devices, orders
from tests.console.conftest import token_of
from tests.console.township import EVIL, Township

Visitor = Callable[..., httpx.Client]
LISTS = ("/", "/pumps", "/orders", "/orders?show=all", "/devices", "/devices?kind=door_sensor", "/map", "/map/data",
         "/wall", "/intake", "/modes", "/standing", "/devices?find=door", "/?show=shelved")  # fmt: skip
FRAGMENT = {"HX-Request": "true"}


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def row(html: str, test_id: str, device: str) -> str:
    """The table row of a device, tags taken out."""
    found = re.search(rf'<tr[^>]*data-testid="{test_id}"[^>]*data-device="{device}".*?</tr>', html, re.DOTALL)
    assert found, f"no {test_id} of {device}"
    return text_of(found[0])


def in_english(client: httpx.Client) -> httpx.Client:
    client.get("/language/en")
    return client


def test_the_board_says_why(visitor: Visitor, township: Township) -> None:
    township.flood(level=3.52)
    shown = row(visitor("wang").get("/").text, "alarm-row", "ps-1")
    assert "圩内水位超最高控制水位" in shown
    assert "圩内水位 3.52 m > 最高控制水位 3.50 m 已 1 分钟" in shown
    assert "一号泵站" in shown
    assert "东片" in shown
    assert "沈建国" in shown
    assert "未确认" in shown
    assert "#1" in shown


def test_the_keepers_phone_can_be_called(visitor: Visitor, township: Township) -> None:
    township.flood()
    assert 'href="tel:13800002101"' in visitor("wang").get("/").text


def test_worst_first(visitor: Visitor, township: Township) -> None:
    township.tell("air-1", pm2_5=150.0)
    township.tell("ps-2", mains_ok=False)
    township.flood()
    shown = re.findall(r'data-rule="([^"]+)"', visitor("wang").get("/").text)
    assert shown == ["polder-inside-high", "mains-lost", "pm25-high"]


def test_filters_narrow_the_board(visitor: Visitor, township: Township) -> None:
    township.tell("air-1", pm2_5=150.0)
    township.flood("ps-2")
    client = visitor("wang")

    def devices(query: str) -> list[str]:
        return re.findall(r'data-alarm-id="\d+" data-rule="[^"]+" data-device="([^"]+)"', client.get("/?" + query).text)

    assert devices("priority=medium") == ["air-1"]
    assert devices("grid=west") == ["ps-2"]
    assert devices("grid=town") == ["ps-2", "air-1"]
    assert devices("show=shelved") == []
    assert devices("priority=nonsense&show=nonsense") == ["ps-2", "air-1"]


def test_an_empty_board_is_calm(visitor: Visitor) -> None:
    assert "当前没有告警" in visitor("wang").get("/").text


def test_acknowledging_without_scripts(visitor: Visitor, township: Township) -> None:
    township.flood()
    client = visitor("wang")
    answer = client.post("/alarms/1/acknowledge", data={"csrf": token_of(client, "/"), "back": "/?grid=east"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?grid=east")
    assert "wang 已确认" in row(client.get("/").text, "alarm-row", "ps-1")


def test_acknowledging_twice_is_refused_in_place(visitor: Visitor, township: Township) -> None:
    township.flood()
    client = visitor("wang")
    csrf = {"csrf": token_of(client, "/")}
    client.post("/alarms/1/acknowledge", data=csrf, headers=FRAGMENT)
    answer = client.post("/alarms/1/acknowledge", data=csrf, headers=FRAGMENT)
    assert answer.status_code == 409
    assert answer.headers["hx-retarget"] == "#notices"
    assert "不能执行此操作" in answer.text
    assert "cannot be acknowledged" in answer.text
    assert "Traceback" not in answer.text


def test_many_at_once_says_how_many(visitor: Visitor, township: Township) -> None:
    township.flood()
    township.tell("air-1", pm2_5=150.0)
    client = visitor("wang")
    form = {"csrf": token_of(client, "/"), "alarm": ["1", "2", "99"]}
    answer = client.post("/alarms/acknowledge", data=form, headers=FRAGMENT)
    assert answer.status_code == 200
    assert "已确认 2 条，1 条未能确认" in answer.text
    assert client.post("/alarms/acknowledge", data={"csrf": form["csrf"]}, headers=FRAGMENT).status_code == 422


def test_shelving_needs_a_reason_and_can_be_undone(visitor: Visitor, township: Township) -> None:
    township.flood()
    client = visitor("wang")
    csrf = {"csrf": token_of(client, "/")}
    assert client.post("/alarms/1/shelve", data=csrf | {"span": str(HOUR)}, headers=FRAGMENT).status_code == 422
    form = csrf | {"span": str(HOUR), "reason": "传感器检修"}
    assert client.post("/alarms/1/shelve", data=form, headers=FRAGMENT).status_code == 200
    assert "alarm-row" not in client.get("/").text
    shelved = row(client.get("/?show=shelved").text, "alarm-row", "ps-1")
    assert "传感器检修" in shelved
    client.post("/alarms/1/unshelve", data=csrf, headers=FRAGMENT)
    assert "未确认" in row(client.get("/").text, "alarm-row", "ps-1")


def test_an_alarms_page_tells_its_story(visitor: Visitor, township: Township) -> None:
    township.flood()
    client = visitor("wang")
    csrf = {"csrf": token_of(client, "/"), "back": "/alarms/1"}
    assert 'id="alarm"' in client.post("/alarms/1/acknowledge", data=csrf, headers=FRAGMENT).text
    client.post("/alarms/1/comment", data=csrf | {"text": "已联系泵站"}, headers=FRAGMENT)
    township.tell("ps-1", level_inside=3.2)
    shown = text_of(client.get("/alarms/1").text)
    for part in (
        "圩内水位 3.52 m > 最高控制水位 3.50 m",
        "已联系泵站",
        "确认告警 wang",
        "when: level_inside",
        "共 1 次",
    ):
        assert part in shown, part
    assert client.get("/alarms/99").status_code == 404
    assert client.get("/alarms/1/shelve").headers["location"] == "/alarms/1"


def test_viewers_and_walls_may_not_press(visitor: Visitor, township: Township) -> None:
    township.flood()
    client = visitor("guest")
    csrf = {"csrf": token_of(client, "/")}
    for path, form in (
        ("/alarms/1/acknowledge", {}), ("/alarms/acknowledge", {"alarm": "1"}),
        ("/alarms/1/shelve", {"span": str(HOUR), "reason": "x"}), ("/alarms/1/comment", {"text": "x"}),
        ("/orders/1/dispatch", {"version": "1", "assignee": "li"}),
        ("/orders/new", {"title": "x", "category": "other"}),
        ("/devices/door-1/person", {}), ("/devices/ps-1/approve", {}),
    ):  # fmt: skip
        assert client.post(path, data=csrf | form).status_code == 403, path
    assert client.get("/intake").status_code == 403
    assert client.get("/orders/new").status_code == 403
    with township.records.connect() as tx:
        assert tx.execute(select(alarms.c.state)).scalar_one() == "UNACK"
        assert tx.execute(select(orders.c.state)).scalar_one() == "filed"


# --- the wall ---------------------------------------------------------------------------------------------------------
def test_the_wall_counts_no_closed_order_and_says_when_the_system_is_ill(visitor: Visitor, township: Township) -> None:
    township.flood()
    ill = {"broker": {"ok": False, "detail": "[Errno 111]"}, "sql": {"ok": True, "detail": ""}}
    object.__setattr__(township.installation, "health", lambda: ill)
    client = visitor("wang")
    open_orders = re.compile(r'class="n( zero)?">(\d+)</span><span class="t"><b>在办工单')
    for headers in ({}, {"hx-request": "true"}):
        html = client.get("/wall", headers=headers).text
        assert html.count("系统异常") == 1
        assert "消息服务器" in html
        assert [found[1] for found in open_orders.findall(html)] == ["1"]
    with write(township.records) as tx:
        tx.execute(update(orders).values(state="closed"))
    assert [found[1] for found in open_orders.findall(client.get("/wall").text)] == ["0"]


# --- what strangers write ---------------------------------------------------------------------------------------------
def test_names_and_reasons_are_text(visitor: Visitor, township: Township) -> None:
    township.flood("ps-3")
    client = visitor("wang")
    csrf = {"csrf": token_of(client, "/")}
    form = csrf | {"title": EVIL, "category": "other", "source": "hotline", "description": EVIL}
    client.post("/orders/new", data=form)
    client.post("/orders/1/comment", data=csrf | {"version": "1", "reason": EVIL})
    township.send("ps-1", f'{{"level_inside": "{EVIL}"'.encode())
    township.send("ps-1", {EVIL: 3.2})
    township.settle()
    for path in ("/", "/pumps", "/orders", "/orders/1", "/orders/2", "/devices", "/devices/ps-3", "/map", "/wall",
                 "/intake", "/intake?reason=" + EVIL, "/?grid=" + EVIL, "/devices?find=" + EVIL):  # fmt: skip
        html = client.get(path).text
        assert "<img" not in html, path
    assert "&lt;img" in client.get("/").text
    assert "&lt;img" in client.get("/orders/1").text


# --- pumps ------------------------------------------------------------------------------------------------------------
def rise(township: Township, device: str, start: float, per_hour: float) -> None:
    """Two hours of readings a minute apart."""
    township.now += 2 * HOUR
    for minute in range(120, -1, -1):
        level = start + per_hour * (120 - minute) / 60
        township.send(device, {"level_inside": round(level, 4), "pumps_running": 2, "pumps_available": 4,
                               "mains_ok": True, "level_outside": 3.4}, at=township.now - minute * MINUTE)  # fmt: skip
    township.settle()


def test_the_flood_night_table(visitor: Visitor, township: Township) -> None:
    rise(township, "ps-1", 3.20, 0.05)
    shown = row(visitor("wang").get("/pumps").text, "pump-row", "ps-1")
    assert "3.30 m" in shown
    assert "20 厘米" in shown
    assert "+5.0 厘米/时" in shown
    assert re.search(r"到达还需|3 小时 59 分|4 小时 0 分", shown)
    assert re.search(r"3 小时 59 分|4 小时 0 分", shown)
    assert "2 / 4" in shown
    assert "0 秒" in shown


def test_worst_station_first_and_a_silent_one_never_looks_well(visitor: Visitor, township: Township) -> None:
    rise(township, "ps-2", 3.0, 0.0)
    township.flood("ps-1", level=3.6)
    township.now += 10 * MINUTE
    township.flood("ps-3", level=3.0)
    html = visitor("wang").get("/pumps").text
    assert re.findall(r'data-testid="pump-row" data-device="([^"]+)"', html) == ["ps-1", "ps-2", "ps-3"]
    stale = dict(re.findall(r'data-device="([^"]+)" data-stale="(\w+)"', html))
    assert stale == {"ps-1": "yes", "ps-2": "yes", "ps-3": "no"}
    assert "陈旧" in row(html, "pump-row", "ps-2")
    assert "厘米/时" not in row(html, "pump-row", "ps-2")
    assert "已超限" not in row(html, "pump-row", "ps-1"), "it was over; nobody knows what it is now"


def test_a_station_never_heard_says_so(visitor: Visitor) -> None:
    assert "从未上报" in row(visitor("wang").get("/pumps").text, "pump-row", "ps-1")


def test_lost_mains_stand_out(visitor: Visitor, township: Township) -> None:
    township.tell("ps-1", level_inside=3.1, mains_ok=False)
    assert "失电" in row(visitor("wang").get("/pumps").text, "pump-row", "ps-1")


# --- devices, charts --------------------------------------------------------------------------------------------------
def test_a_chart_carries_the_rules_line(visitor: Visitor, township: Township) -> None:
    rise(township, "ps-1", 3.20, 0.05)
    chart = visitor("wang").get("/devices/ps-1/chart?metric=level_inside").json()
    assert len(chart["points"]) == 121
    assert chart["points"][-1] == [township.now // 1000, 3.3, 0]
    assert [(line["value"], line["direction"]) for line in chart["limits"]] == [(3.5, "above")]
    assert chart["limits"][0]["name"] == "圩内水位超最高控制水位"
    assert chart["unit"] == "m"
    assert chart["end"] - chart["start"] == DAY // 1000
    assert visitor("wang").get("/devices/ps-1/chart?metric=nonsense").status_code == 404


def test_a_devices_page_lists_its_last_packets(visitor: Visitor, township: Township) -> None:
    for n in range(12):
        township.tell("ps-1", level_inside=3.0 + n / 100, pumps_running=1)
    township.tell("ps-1", level_inside=15.0)
    html = visitor("wang").get("/devices/ps-1").text
    found = [re.sub(r"<[^>]+>|\s+", " ", part).split() for part in html.split('data-testid="element-row"')[1:]]
    assert len(found) == 10
    assert " ".join(found[0][1:6]) == "05:13:00 圩内水位 15.00 m 可疑"
    assert " ".join(found[1][1:7]) == "05:12:00 圩内水位 3.11 m 运行台数 1"
    assert "3.02" not in html
    assert "Last packets" in in_english(visitor("wang")).get("/devices/ps-1").text


def test_a_devices_page(visitor: Visitor, township: Township) -> None:
    township.flood()
    html = visitor("wang").get("/devices/ps-1").text
    shown = text_of(html)
    assert "3.52 m" in shown
    assert "最高控制水位 3.50 m" in shown
    assert "合计 15 15" in shown, "three packets of five values, all stored"
    assert "30.91000, 120.43000" in shown
    assert visitor("wang").get("/devices/none").status_code == 404


# --- orders -----------------------------------------------------------------------------------------------------------
def acts(client: httpx.Client, order: int) -> set[str]:
    return set(re.findall(r'data-testid="order-act-(\w+)"', client.get(f"/orders/{order}").text))


def do(client: httpx.Client, order: int, act: str, **form: str) -> httpx.Response:
    page = client.get(f"/orders/{order}").text
    found = re.search(r'name="version" value="(\d+)"', page)
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    given = {"csrf": csrf, "version": found[1] if found else "1"} | form
    return client.post(f"/orders/{order}/{act}", data=given, headers=FRAGMENT)


def test_an_order_through_all_steps_by_three_roles(visitor: Visitor, township: Township) -> None:
    township.flood()
    wang, li, chen, guest = (visitor(name) for name in ("wang", "li", "chen", "guest"))
    assert acts(guest, 1) == set()
    assert acts(li, 1) == {"comment"}
    assert acts(wang, 1) == {"dispatch", "send_up", "void", "merge", "extend", "comment"}
    assert do(wang, 1, "dispatch", assignee="li").status_code == 200
    assert acts(li, 1) == {"accept", "return", "comment"}
    for act in ("accept", "arrive", "handle"):
        assert do(li, 1, act).status_code == 200, act
    assert "check" not in acts(li, 1)
    assert do(chen, 1, "check").status_code == 200
    assert acts(chen, 1) == {"close", "reject", "comment"}
    assert do(chen, 1, "close").status_code == 422, "the water still stands: closing against it needs a reason"
    assert do(chen, 1, "close", reason="备用泵已投入").status_code == 200
    assert do(wang, 1, "archive").status_code == 200
    chain = re.findall(r'data-kind="(\w+)" data-act="(\w+)"', wang.get("/orders/1").text)
    assert chain == [
        ("reading", "read"), ("raised", "raised"), ("service", "file"), ("order", "dispatch"), ("order", "accept"),
        ("order", "arrive"), ("order", "handle"), ("order", "check"), ("order", "close"), ("order", "archive"),
    ]  # fmt: skip
    assert "备用泵已投入" in wang.get("/orders/1").text
    assert acts(wang, 1) == set()


def test_an_order_in_english_names_its_rule_in_english(visitor: Visitor, township: Township) -> None:
    township.flood()
    assert "圩内水位超最高控制水位" in visitor("wang").get("/orders/1").text
    html = in_english(visitor("wang")).get("/orders/1").text
    assert "Polder level above its limit" in html
    assert "圩内水位超最高控制水位" not in html


def test_somebody_was_faster(visitor: Visitor, township: Township) -> None:
    township.flood()
    wang = visitor("wang")
    assert do(wang, 1, "dispatch", version="99", assignee="li").status_code == 409
    assert do(visitor("li"), 1, "accept").status_code == 409
    assert do(wang, 1, "nonsense").status_code == 404
    assert do(wang, 99, "dispatch").status_code == 404
    assert do(wang, 1, "dispatch", assignee="nobody").status_code == 422


def test_extending_and_merging(visitor: Visitor, township: Township) -> None:
    township.flood("ps-1")
    township.flood("ps-2")
    wang = visitor("wang")
    assert do(wang, 1, "extend", span=str(2 * HOUR)).status_code == 422, "needs a reason"
    assert do(wang, 1, "extend", span=str(2 * HOUR), reason="等待抢修").status_code == 200
    assert do(wang, 2, "merge", into="x", reason="同一圩区").status_code == 422
    assert do(wang, 2, "merge", into="1", reason="同一圩区").status_code == 200
    assert 'href="/orders/1">#1' in wang.get("/orders/2").text


def test_filing_by_hand_twice_files_once(visitor: Visitor, township: Township) -> None:
    wang = visitor("wang")
    page = wang.get("/orders/new").text
    once = page.partition('name="external_id" value="')[2].partition('"')[0]
    form = {
        "csrf": token_of(wang, "/orders/new"), "external_id": once, "title": "路面积水", "category": "resident.report",
        "source": "hotline", "grid": "east", "priority": "high",
    }  # fmt: skip
    first, second = wang.post("/orders/new", data=form), wang.post("/orders/new", data=form)
    assert first.headers["location"] == second.headers["location"] == "/orders/1"
    answer = wang.post("/orders/new", data=form | {"external_id": "", "title": "  ", "description": "仍在"})
    assert answer.status_code == 422
    assert "仍在" in answer.text, "what was typed is not lost"


def test_an_order_by_hand_is_a_residents_report_unless_said(visitor: Visitor) -> None:
    form = visitor("li").get("/orders/new").text
    assert re.findall(
        r'<option value="([^"]*)" selected>', form.partition('name="category"')[2].partition("</select>")[0]
    ) == ["resident.report"]


def test_filters_of_orders(visitor: Visitor, township: Township) -> None:
    township.flood("ps-1")
    township.flood("ps-2")
    wang, li = visitor("wang"), visitor("li")
    do(wang, 1, "dispatch", assignee="li")
    do(wang, 2, "void", reason="误报")

    def cards(client: httpx.Client, query: str = "") -> set[str]:
        return set(re.findall(r'data-order-id="(\d+)"', client.get("/orders" + query).text))

    assert cards(wang) == {"1"}
    assert cards(wang, "?show=all") == {"1", "2"}
    assert cards(li, "?show=mine") == {"1"}
    assert cards(wang, "?show=mine") == set()
    assert cards(wang, "?show=all&assignee=li") == {"1"}
    assert cards(wang, "?category=flood.mains") == set()


# --- intake -----------------------------------------------------------------------------------------------------------
def test_an_unknown_device_waits_until_somebody_decides(visitor: Visitor, township: Township) -> None:
    township.send("ps-new", {"level_inside": 3.21}, kind="pump_station")
    township.send("cam-new", {"online": True}, kind="camera")
    township.settle()
    wang, li = visitor("wang"), visitor("li")
    html = wang.get("/intake").text
    assert "圩内水位 3.21 m" in row(html, "quarantined", "ps-new")
    assert "device-approve" not in li.get("/intake").text
    csrf = {"csrf": token_of(wang, "/intake")}
    assert "ps-new 已批准" in wang.post("/devices/ps-new/approve", data=csrf, headers=FRAGMENT).text
    assert "cam-new 已拒绝" in wang.post("/devices/cam-new/reject", data=csrf, headers=FRAGMENT).text
    assert 'data-testid="quarantined"' not in wang.get("/intake").text
    assert "ps-new" in wang.get("/devices").text
    assert "cam-new" not in wang.get("/devices").text
    assert wang.post("/devices/none/approve", data=csrf, headers=FRAGMENT).status_code == 404


def test_refused_packets_say_why(visitor: Visitor, township: Township) -> None:
    township.send("ps-1", b"\xff\xfe\x00")
    township.send("ps-1", {"level_in": 3.2})
    township.settle()
    wang = visitor("wang")
    html = text_of(wang.get("/intake").text)
    assert "内容无法解析" in html
    assert "ff fe 00" in html
    assert "未知指标" in html
    assert "level_in" in html
    only = wang.get("/intake?reason=unknown_metric").text
    assert re.findall(r'data-testid="refused-packet" data-reason="(\w+)"', only) == ["unknown_metric"]


# --- map and wall -----------------------------------------------------------------------------------------------------
def test_the_map_colours_by_the_worst_alarm(visitor: Visitor, township: Township) -> None:
    township.flood()
    township.tell("air-1", pm2_5=150.0)
    data = visitor("guest").get("/map/data").json()
    assert {g["name"]: (g["worst"], g["alarms"]) for g in data["grids"]} == {
        "east": ("critical", 2), "west": (None, 0), "north": (None, 0),
    }  # fmt: skip
    assert {d["id"] for d in data["devices"]} == {"ps-1", "ps-2", "ps-3", "air-1", "cam-1"}
    assert {d["id"]: d["worst"] for d in data["devices"] if d["worst"]} == {"ps-1": "critical", "air-1": "medium"}
    table = visitor("guest").get("/map").text
    assert re.search(r'data-grid="town".*?紧急.*?</tr>', table, re.DOTALL), "the town has what its grids have"


def test_a_notice_colours_nothing(visitor: Visitor, township: Township) -> None:
    township.send("door-2", {"event": "door_opened", "id": "e1"}, channel="events")
    township.settle()
    assert not any(g["worst"] for g in visitor("wang").get("/map/data").json()["grids"])


def test_parts_and_pages_are_the_same_thing(visitor: Visitor, township: Township) -> None:
    township.flood()
    client = visitor("wang")
    for path, part in (("/", "board"), ("/alarms/1", "alarm"), ("/pumps", "pumps"),
                       ("/orders", "orders"), ("/orders/1", "order"),
                       ("/devices", "devices"), ("/devices/ps-1", "device"), ("/intake", "intake"),
                       ("/map", "map-table"), ("/wall", "wall-live"), ("/standing", "standing")):  # fmt: skip
        fragment = client.get(path, headers=FRAGMENT).text
        assert "<html" not in fragment, path
        assert re.search(rf'^<\w+[^>]* id="{part}"', fragment.strip()) or f'id="{part}"' in fragment[:200], path


def test_a_threshold_that_changes_on_a_date_shows_what_holds_and_what_is_to_come(
    visitor: Visitor, township: Township
) -> None:
    """The page of a device: 3.5 m now, 3.4 m from an hour on, and then 3.4 m."""
    dated = [{"value": 3.5, "valid_from": to_iso(township.now - DAY)},
             {"value": 3.4, "valid_from": to_iso(township.now + HOUR)}]  # fmt: skip
    with write(township.records) as tx:
        tx.execute(update(devices).where(devices.c.id == "ps-1").values(attributes={"inside_limit_level": dated}))

    def shown() -> str:
        html = in_english(visitor("wang")).get("/devices/ps-1").text
        found = re.search(r'<dd data-attribute="inside_limit_level">.*?</dd>', html, re.DOTALL)
        assert found
        return text_of(found[0]).strip()

    assert shown().startswith("3.50 m 3.40 m from ")
    township.now += HOUR
    assert shown() == "3.40 m"

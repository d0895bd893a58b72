"""Alarms about several devices at once, what they hold back, what is only forecast, and how severe it was when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.instants import MINUTE
from tests.console.test_pages import Visitor, in_english, row, text_of
from tests.console.township import PERSON, TOWN, Township

RULES = """
rules:
  - id: gateway-down
    name: {zh: 网关离线, en: Gateway down}
    when: of_group("gw-7", absent) > 0.5
    priority: high
    order: {category: device.fault}
  - id: doors-dark
    name: {zh: 门磁成片失联, en: Doors silent}
    applies_to: {kind: door_sensor}
    when: in_grid(share(absent) > 0.4)
    priority: low
    order: {category: device.fault}
  - id: east-high
    name: {zh: 片区高水位, en: High in the grid}
    applies_to: {kind: pump_station}
    when: in_grid(count(level_inside > 3.5) >= 1)
  - id: soon-high
    name: {zh: 半小时后超限, en: Over the limit in half an hour}
    applies_to: {kind: pump_station}
    when: forecast(level_inside, 30m) > 4
    priority: high
  - id: outside
    name: {zh: 外河水位, en: River}
    applies_to: {kind: pump_station}
    levels:
      - {priority: medium, when: level_outside > 3.8}
      - {priority: critical, when: level_outside > 4.2}
    order: {category: flood.outside}
"""
DEVICES = """
devices:
  - {id: ps-1, kind: pump_station, name: 一号泵站, grid: east, interval: 60, tags: [gw-7], keeper: 沈建国}
  - {id: ps-2, kind: pump_station, name: 二号泵站, grid: west, interval: 60, tags: [gw-7]}
  - {id: cam-1, kind: camera, name: 圩堤卡口, grid: west, interval: 60, tags: [gw-7]}
  - {id: ps-9, kind: pump_station, name: 九号泵站, grid: north, interval: 60}
  - {id: door-1, kind: door_sensor, name: 陆阿婆家, grid: east, interval: 60, person: 陆阿婆,
     person_address: 隆兴路七号}
  - {id: door-2, kind: door_sensor, name: 钱老伯家, grid: east, interval: 60, person: 钱老伯,
     person_address: 震泽弄三号}
"""


@pytest.fixture
def township(tmp_path: Path) -> Iterator[Township]:
    township = Township(tmp_path, town={**TOWN, "devices.yaml": DEVICES}, rules={"rules.yaml": RULES}).open()
    yield township
    township.close()


def dark(township: Township) -> None:
    """Every device speaks once; then nothing more is heard but the camera and the station that has its own line."""
    for station in ("ps-1", "ps-2"):
        township.send(station, {"level_inside": 3.0})
    for door in ("door-1", "door-2"):
        township.send(door, {"battery": 80})
    for _ in range(5):
        township.send("cam-1", {"online": True})
        township.send("ps-9", {"level_inside": 3.0})
        township.settle()
        township.now += MINUTE
        township.settler.tick(township.now)
    township.hub.poke()


def number(html: str, device: str) -> str:
    """Of the alarm in the Board's row of this device."""
    (found,) = [part for part in html.split("<tr ")[1:] if f'data-device="{device}"' in part]
    return found.partition('data-alarm-id="')[2].partition('"')[0]


def test_one_alarm_for_the_gateway_and_its_devices_folded_below_it(visitor: Visitor, township: Township) -> None:
    dark(township)
    client = visitor("wang")
    html = client.get("/").text
    shown = row(html, "alarm-row", "group:gw-7")
    for said in ("网关离线", "设备组 gw-7", "2/3 台：一号泵站、二号泵站", "抑制 2 条告警", "设备失联 · 一号泵站"):
        assert said in shown
    assert 'data-device="ps-1"' not in html
    assert "group:gw-7" not in text_of(html)
    held = row(client.get("/?show=suppressed").text, "alarm-row", "ps-1")
    assert "由“网关离线”（设备组 gw-7）抑制" in held
    assert "网关离线：设备组 gw-7" in text_of(client.get("/orders").text)
    assert "网关离线 · 设备组 gw-7" in text_of(client.get("/wall").text)
    assert 'data-device="ps-9"' not in html
    for path in ("/devices", "/devices/ps-1"):
        assert "失联" in text_of(client.get(path).text), "held back, it is silent all the same"


def test_in_english_it_is_a_device_group(visitor: Visitor, township: Township) -> None:
    dark(township)
    client = in_english(visitor("wang"))
    shown = row(client.get("/").text, "alarm-row", "group:gw-7")
    for said in ("Gateway down", "Device group gw-7", "2 of 3: 一号泵站, 二号泵站", "Holds back 2 alarms"):
        assert said in shown
    assert "Device group gw-7" in text_of(client.get("/orders").text)


def test_its_page_names_members_and_children_and_theirs_names_it(visitor: Visitor, township: Township) -> None:
    dark(township)
    client = visitor("wang")
    page = client.get(f"/alarms/{number(client.get('/').text, 'group:gw-7')}").text
    assert 'href="/devices/ps-2"' in page
    assert "涉及设备 2 / 3" in text_of(page)
    child = page.partition('data-testid="children"')[2].partition('href="/alarms/')[2].partition('"')[0]
    assert child
    said = text_of(client.get(f"/alarms/{child}").text)
    assert "由“网关离线”（设备组 gw-7）抑制" in said
    assert "gateway-down group:gw-7" not in said
    parent = number(client.get("/").text, "group:gw-7")
    orders = [f"/orders/{n}" for n in (1, 2)]
    assert 'href="/devices/group:' not in "".join(client.get(path).text for path in orders)
    for path in (*orders, f"/alarms/{child}/why", f"/alarms/{parent}/why", "/rules"):
        assert client.get(path).status_code == 200, path


def test_a_grid_is_called_by_its_name(visitor: Visitor, township: Township) -> None:
    township.tell("ps-1", level_inside=3.6)
    shown = row(visitor("wang").get("/").text, "alarm-row", "grid:east")
    assert "网格 东片" in shown
    assert 'href="/devices/grid:' not in visitor("wang").get("/").text
    assert "1/1 台：一号泵站" in shown


def test_doors_of_elders_together_are_as_private_as_one(visitor: Visitor, township: Township) -> None:
    dark(township)
    for path in ("/", "/wall", "/orders", "/?show=suppressed", "/rules/review"):
        html = visitor("guest").get(path).text
        assert not [word for word in ("door-1", "grid:east", "门磁成片失联：", *PERSON) if word in html], path
    assert "老人关爱告警" in visitor("guest").get("/").text
    shown = row(visitor("li").get("/").text, "alarm-row", "grid:east")
    assert "2/2 台：老人门磁 door-1、老人门磁 door-2" in shown
    assert not [word for word in PERSON if word in shown]


def forecast(township: Township) -> None:
    for k in range(35):
        township.tell("ps-1", level_inside=3.0 + 0.02 * k, level_outside=3.0)


def test_a_forecast_is_marked_and_counted_apart(visitor: Visitor, township: Township) -> None:
    forecast(township)
    client = visitor("wang")
    html = client.get("/").text
    (early,) = [part for part in html.split("<tr ")[1:] if "soon-high" in part]
    assert "预见 半小时后超限" in text_of(early)
    assert "全部 1" in text_of(html), "the grid's alarm alone"
    assert "预见 1" in text_of(html)
    assert 'data-loud=""' in client.get("/standing").text
    assert "soon-high" not in client.get("/?show=unacknowledged&priority=medium").text
    page = text_of(client.get("/alarms/" + early.partition('data-alarm-id="')[2].partition('"')[0]).text)
    assert "趋势预测，尚未发生，不计入告警数" in page


def test_how_severe_it_was_when_and_why(visitor: Visitor, township: Township) -> None:
    township.tell("ps-1", level_outside=3.9)
    township.tell("ps-1", level_outside=4.3)
    client = visitor("wang")
    shown = row(client.get("/").text, "alarm-row", "ps-1")
    assert "紧急" in shown
    assert "圩外水位 4.30 m > 4.2" in shown
    page = text_of(client.get("/alarms/1").text)
    assert "级别上升" in page
    assert "一般 → 紧急" in page
    assert "圩外水位 3.90 m > 3.8" in page
    order = text_of(client.get("/orders/1").text)
    assert "级别随告警上升" in order

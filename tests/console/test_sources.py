"""Two sources of one station on the pages: side by side, in one chart, and never as two stations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from devices.instants import HOUR, MINUTE, SECOND
from tests.console.screen import SIZES, Screen
from tests.console.test_pages import Visitor, in_english, row, text_of
from tests.console.township import ATTRIBUTES, TOWN, Township

DEVICES = f"""
devices:
  - {{id: ps-1, kind: pump_station, name: 一号泵站, grid: east, at: [30.91, 120.43], attributes: {ATTRIBUTES}}}
  - {{id: ps-1b, kind: pump_station, name: 水利局遥测, grid: east, at: [30.91, 120.43], attributes: {ATTRIBUTES},
     second_of: ps-1}}
  - {{id: ps-2, kind: pump_station, name: 二号泵站, grid: west, at: [30.91, 120.41], attributes: {ATTRIBUTES}}}
  - {{id: door-1, kind: door_sensor, grid: east, person: 陆阿婆}}
  - {{id: door-1b, kind: door_sensor, grid: east, person: 陆阿婆, second_of: door-1}}
"""


@pytest.fixture
def township(tmp_path: Path) -> Iterator[Township]:
    township = Township(tmp_path, town={**TOWN, "devices.yaml": DEVICES}).open()
    yield township
    township.close()


def a_day(township: Township) -> None:
    """Both rise through a night; the second lags by some centimetres."""
    township.settler.link(township.now)
    for n in range(40):
        township.now += 3 * MINUTE
        level = 3.10 + 0.012 * n
        township.send("ps-1", {"level_inside": level, "mains_ok": True, "pumps_running": 3, "pumps_available": 4})
        late = township.now + 20 * SECOND
        township.send("ps-1b", {"level_inside": round(level - 0.004 * (n % 9), 3), "mains_ok": n % 4 > 0}, at=late)
    township.now += 30 * SECOND
    township.settle()


def line(html: str, metric: str) -> str:
    """The row of one metric, tags taken out."""
    (found,) = [part for part in html.split("<tr ")[1:] if f'data-metric="{metric}"' in part]
    return text_of("<tr " + found.partition("</tr>")[0])


def test_the_page_of_either_shows_both_and_the_difference(visitor: Visitor, township: Township) -> None:
    a_day(township)
    client = visitor("wang")
    html = client.get("/devices/ps-1/sources").text
    assert html == client.get("/devices/ps-1b/sources").text.replace("/devices/ps-1b/sources", "/devices/ps-1/sources")
    level = line(html, "level_inside")
    for said in ("圩内水位", "3.57 m", "3.56 m", "-0.012 m", "0.015 m", "0.032 m", "40"):
        assert said in level, level
    assert "25 % 不一致" in line(html, "mains_ok")
    assert "一号泵站的第二来源" in text_of(client.get("/devices/ps-1b").text)
    assert "第二来源 水利局遥测" in text_of(client.get("/devices/ps-1").text)
    assert 'id="sources"' not in client.get("/devices/ps-2").text
    assert "25 % disagree" in text_of(in_english(client).get("/devices/ps-1/sources").text)


def test_it_is_no_station_of_its_own(visitor: Visitor, township: Township) -> None:
    a_day(township)
    client = visitor("wang")
    html = client.get("/pumps").text
    assert 'data-testid="pump-row" data-device="ps-1b"' not in html
    assert "2 座泵站" in html
    assert "第二来源 3.56 m" in row(html, "pump-row", "ps-1")
    assert "一号泵站的第二来源" in row(client.get("/devices").text, "device-row", "ps-1b")
    points = {d["id"]: d["second"] for d in client.get("/map/data").json()["devices"]}
    assert points == {"ps-1": "", "ps-1b": "一号泵站的第二来源", "ps-2": ""}


def test_the_second_source_stands_where_the_primary_has_gone_quiet(visitor: Visitor, township: Township) -> None:
    a_day(township)
    for _ in range(5):
        township.tell("ps-1b", level_inside=3.61)
    township.settler.tick(township.now)
    client = visitor("wang")
    assert "第二来源 3.61 m" in row(client.get("/pumps").text, "pump-row", "ps-1")
    assert "第二来源 ps-1b 仍在上报：圩内水位 3.61 m、市电正常 是" in text_of(client.get("/").text)
    assert "its second source ps-1b still reports: Inside level 3.61 m" in text_of(in_english(client).get("/").text)
    township.now += HOUR
    township.settler.tick(township.now)
    client.get("/language/zh")
    assert "（ps-1 的第二来源）" in row(client.get("/").text, "alarm-row", "ps-1b")


def test_no_rule_draws_a_limit_over_it(visitor: Visitor, township: Township) -> None:
    a_day(township)
    client = visitor("wang")
    primary = client.get("/devices/ps-1/chart?metric=level_inside").json()
    second = client.get("/devices/ps-1b/chart?metric=level_inside").json()
    assert [limit["value"] for limit in primary["limits"]] == [3.5]
    assert second["limits"] == []
    for one, other in ((primary, second), (second, primary)):
        (beside,) = one["others"]
        assert (beside["label"], beside["dashed"]) == (other["label"], other["dashed"])
        assert beside["points"] == other["points"]


def test_two_sensors_of_one_home_are_for_handlers_and_tell_no_door(visitor: Visitor, township: Township) -> None:
    for door in ("door-1", "door-1b"):
        township.tell(door, open=True, battery=71.0)
    guest = visitor("guest")
    assert guest.get("/devices/door-1/sources").status_code == 403
    assert 'id="sources"' not in guest.get("/devices/door-1").text
    html = visitor("li").get("/devices/door-1/sources").text
    assert 'data-metric="battery"' in html
    assert 'data-metric="open"' not in html


@pytest.mark.browser
@pytest.mark.parametrize("size", list(SIZES))
def test_both_are_drawn_in_one_chart(township: Township, open_screen: Callable[..., Screen], size: str) -> None:
    a_day(township)
    screen = open_screen("wang", size=size)
    for device in ("ps-1", "ps-1b"):
        screen.open(f"/devices/{device}")
        chart = screen.get("chart")
        expect(chart).to_have_attribute("data-points", "40")
        expect(chart).to_have_attribute("data-others", "40")
        expect(screen.get("source-row")).to_have_count(4)
        dashed = chart.locator("svg path[stroke-dasharray]").evaluate_all("paths => paths.length")
        assert dashed >= 1
        for name in ("一号泵站", "水利局遥测"):
            expect(chart.locator("svg text", has_text=name)).to_be_visible()
        assert screen.overflow() <= 0
    screen.open("/pumps")
    expect(screen.get("second-source")).to_have_count(1)
    assert screen.overflow() <= 0
    screen.open("/map")
    expect(screen.page.locator("#map")).to_have_attribute("data-devices", "3")

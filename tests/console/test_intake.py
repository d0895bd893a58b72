"""Reading refused packets again from the Intake page, and the ledger there and on a device's page."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import expect

from devices.batch import Refused
from devices.instants import HOUR, MINUTE
from devices.registry import DeviceStatus
from store.records.database import write
from store.records.refused import add_refused
from tests.console.conftest import token_of
from tests.console.screen import Screen
from tests.console.test_pages import FRAGMENT, text_of
from tests.console.township import Township
from tests.installed import ADMIN

Visitor = Callable[..., httpx.Client]


def wanted_after_all(township: Township) -> None:
    """What a device sent while it was rejected, and its status; it is approved by now."""
    township.send("ps-new", {"level_inside": 3.2}, kind="pump_station")
    township.settle()
    decide(township, DeviceStatus.REJECTED)
    for value in (3.3, 3.4):
        township.now += MINUTE
        township.send("ps-new", {"level_inside": value}, kind="pump_station")
    township.send("ps-new", b"{", kind="pump_station")
    township.send("ps-new", b"online", kind="pump_station", channel="status")
    township.settle()
    decide(township, DeviceStatus.ACTIVE)


def decide(township: Township, status: DeviceStatus) -> None:
    township.settler.set_status("ps-new", status, township.now, ADMIN)
    township.decoder.forget_routes()


def ledger(html: str) -> dict[str, str]:
    """The line of sums, by the heads of its columns."""
    table = html.partition('data-testid="ledger"')[2].partition("</table>")[0]
    heads = re.findall(r"<th[^>]*>(.*?)</th>", table)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table.partition('data-testid="ledger-sum"')[2].partition("</tr>")[0])
    return dict(zip(heads, cells, strict=True))


def test_the_admin_reads_all_of_a_reason_again(visitor: Visitor, township: Township) -> None:
    wanted_after_all(township)
    admin, wang = visitor("admin"), visitor("wang")
    assert "retry-" not in wang.get("/intake?reason=rejected_device").text
    csrf = {"csrf": token_of(admin, "/intake?reason=rejected_device")}
    body = {"reason": "rejected_device", "showing": "rejected_device", **csrf}
    assert admin.post("/intake/retry", data=body | {"csrf": "x"}, headers=FRAGMENT).status_code == 403
    assert wang.post("/intake/retry", data=body | {"csrf": token_of(wang, "/intake")}).status_code == 403
    before = ledger(admin.get("/intake").text)
    assert (before["收到"], before["入库"], before["拒收"]) == ("5", "1", "4")

    answer = admin.post("/intake/retry", data=body, headers=FRAGMENT).text
    assert "已处理 2 条，再次拒收 1 条，无法处理 1 条" in answer
    assert "状态消息只说明当时" in answer
    after = ledger(answer)
    assert (after["收到"], after["入库"], after["拒收"]) == ("5", "3", "2")
    assert "拒收 设备已被拒绝 1 · 内容无法解析 1" in re.sub(r"\s+", " ", text_of(answer))
    assert admin.post("/intake/retry", data=csrf, headers=FRAGMENT).status_code == 422
    assert admin.post("/intake/retry", data=body).headers["location"] == "/intake?reason=rejected_device"


def test_a_line_that_stands_for_many_is_counted_as_many(visitor: Visitor, township: Township) -> None:
    with write(township.records) as tx:
        flood = Refused("", b"", "too_fast", "1,497 messages", count=1497, whole=False)
        add_refused(tx, township.now, [flood, flood, Refused("t", b"x", "malformed", "")])
    html = visitor("admin").get("/intake").text.partition('<div class="chips">')[2].partition("</div>")[0]
    assert re.findall(r'<span class="n">(.*?)</span>', html) == ["2（计 2,994 个）", "1"]


def test_the_ledger_of_a_device_hour_by_hour_in_both_languages(visitor: Visitor, township: Township) -> None:
    for _ in range(3):
        township.tell("ps-1", level_inside=3.1)
        township.send("ps-1", {"level_inside": 900.0})
        township.settle()
        township.now += HOUR
    township.tell("door-1", open=True)
    wang, guest = visitor("wang"), visitor("guest")
    html = wang.get("/devices/ps-1").text
    assert (ledger(html)["收到"], ledger(html)["拒收"], ledger(html)["参与判断"]) == ("6", "3", "3")
    assert "超出传感器量程 3" in text_of(html)
    assert re.findall(r'<td class="nowrap">(\d\d:00)', html) == ["07:00", "06:00", "05:00"]
    wang.cookies.set("gw_language", "en")
    english = wang.get("/devices/ps-1").text
    assert ledger(english)["Received"] == "6"
    assert "Beyond its sensor 3" in text_of(english)
    assert "Nothing was received in the last 24 hours" in wang.get("/devices/ps-3").text
    assert 'data-testid="ledger"' in wang.get("/devices/door-1").text
    assert 'data-testid="ledger"' not in guest.get("/devices/door-1").text
    assert guest.get("/intake/ledger").status_code == 403


@pytest.mark.browser
def test_one_packet_is_read_again_with_a_press(township: Township, open_screen: Callable[..., Screen]) -> None:
    wanted_after_all(township)
    screen = open_screen("admin")
    screen.open("/intake?reason=rejected_device")
    screen.wait_live()
    expect(screen.get("refused-packet")).to_have_count(4)
    expect(screen.get("retry-packet")).to_have_count(3)
    screen.get("retry-packet").last.click()
    expect(screen.get("done")).to_contain_text("已处理 1 条")
    expect(screen.get("refused-packet")).to_have_count(3)
    expect(screen.get("ledger-sum")).to_contain_text("2")
    screen.tap("retry-reason")
    expect(screen.get("done").first).to_contain_text("再次拒收 1 条")
    expect(screen.get("refused-packet")).to_have_count(1)
    expect(screen.get("retry-left")).to_be_visible()
    screen.open("/devices/ps-new")
    expect(screen.get("ledger-sum")).to_be_visible()

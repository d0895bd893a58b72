"""The pages about rules over HTTP: what runs, why it fired or not, the review of a period, trying a change."""

from __future__ import annotations

import html as markup
import math
import re
import time
from collections.abc import Callable

import httpx
import pytest

from devices.documents import Mistake
from devices.instants import DAY, HOUR, MINUTE
from flow.reloading import Reloaded
from flow.trials import Told
from rules.book import load
from tests.console.conftest import token_of
from tests.console.township import START, Township
from tests.installed import ADMIN

Visitor = Callable[..., httpx.Client]
FRAGMENT = {"HX-Request": "true"}
SPAN = {"from": "2026-07-01T05:00", "to": "2026-07-01T08:00"}
EARLIER = """rules:
  - id: polder-inside-high
    applies_to: {kind: pump_station}
    when: level_inside > attr.inside_limit_level - 0.10
    for: 1m
    clear: level_inside <= attr.inside_limit_level - 0.20
    priority: critical
"""


def text_of(html: str) -> str:
    return markup.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))


def wave(township: Township, minutes: int = 120) -> None:
    """Levels every minute that rise and fall: of ps-1 over its limit (3.50), 3.25 to 3.55; of ps-2 up to 3.45."""
    for minute in range(minutes):
        level = 3.40 + 0.15 * math.sin(minute / 20)
        township.now += MINUTE
        township.send("ps-1", {"level_inside": round(level, 3)})
        township.send("ps-2", {"level_inside": round(level - 0.10, 3)})
        township.settle()


def sentences(html: str) -> list[str]:
    found = html.partition('class="sentences">')[2].partition("</ul>")[0]
    return [text_of(line).strip() for line in found.split("</li>") if line.strip()]


def english(client: httpx.Client) -> httpx.Client:
    client.cookies.set("gw_language", "en")
    return client


# --- why --------------------------------------------------------------------------------------------------------------
def test_an_alarm_says_why_in_sentences(visitor: Visitor, township: Township) -> None:
    township.flood()
    wang = visitor("wang")
    for page in ("/", "/alarms/1"):
        assert 'href="/alarms/1/why"' in wang.get(page).text
    html = wang.get("/alarms/1/why", headers=FRAGMENT).text
    assert html.lstrip().startswith('<section id="why"')
    assert sentences(html) == [
        "条件自 05:01:00 起成立，满 1 分钟 后于 05:02:00 触发",
        "条件：圩内水位 3.52 m > 最高控制水位 3.50 m —— 成立",
    ]
    assert re.findall(r'data-testid="why-told" data-state="(\w+)"', html) == ["firing", "firing"]
    assert "3.52 m" in text_of(html.partition("<table")[2])
    whole = english(wang).get("/alarms/1/why").text
    assert "<html" in whole
    assert "True since 05:01:00; after 1 min it was raised at 05:02:00" in text_of(whole)


def test_why_nothing_was_raised(visitor: Visitor, township: Township) -> None:
    wave(township, 30)
    wang = visitor("wang")
    path = "/rules/polder-inside-high/why"
    quiet = wang.get(path, params={"device": "ps-1", "at": "2026-07-01T05:05:30"}).text
    assert sentences(quiet)[0] == "条件不成立，没有触发"
    assert "圩内水位 3.43 m > 最高控制水位 3.50 m —— 不成立" in sentences(quiet)[1]
    pending = wang.get(path, params={"device": "ps-1", "at": "2026-07-01T05:16:40"}).text
    assert re.fullmatch(r"条件自 05:16:00 起成立，已 \d+ 秒，须持续 1 分钟 才触发", sentences(pending)[0])
    township.now += HOUR
    told = sentences(wang.get(path, params={"device": "ps-1"}).text)
    assert any("圩内水位 的最新值已" in line for line in told), told
    elsewhere = sentences(wang.get(path, params={"device": "cam-1"}).text)
    assert elsewhere[0] == "规则没有对该设备作判断"
    assert len(elsewhere) == 2
    assert wang.get(path, params={"device": "nothing"}).status_code == 404
    assert wang.get("/rules/none/why", params={"device": "ps-1"}).status_code == 404
    assert wang.get(path, params={"device": "ps-1", "at": "soon"}).status_code == 422


def test_what_is_an_elders_is_explained_to_nobody_below_handler(visitor: Visitor, township: Township) -> None:
    township.send("door-1", {"event": "door_opened", "id": "e1"}, channel="events")
    township.settle()
    path = "/rules/door-opened/why?device=door-1"
    for name, alarm, rule in (("guest", 404, 403), ("li", 200, 200)):
        client = visitor(name)
        assert client.get("/alarms/1/why").status_code == alarm
        assert client.get(path).status_code == rule
        assert "陆阿婆" not in client.get("/alarms/1/why").text + client.get(path).text
    assert "door-1" not in visitor("guest").get("/rules").text
    row = visitor("guest").get("/rules").text.partition('data-rule="door-opened"')[2].partition("</tr>")[0]
    assert "alarm_state" not in row
    assert "未确认" not in row


def test_a_rule_with_levels_tells_each(visitor: Visitor, township: Township) -> None:
    levels = """rules:
  - id: outside
    applies_to: {kind: pump_station}
    levels:
      - {priority: medium, when: level_outside > attr.outside_warning_level}
      - {priority: critical, when: level_outside > 4.5}
"""
    township.settler.reload(load({"rules.yaml": levels}), township.now)
    township.tell("ps-1", level_outside=3.95)
    html = visitor("wang").get("/rules/outside/why?device=ps-1").text
    told = [
        text_of(line).strip() for line in html.partition('<ul class="parts">')[2].partition("</ul>")[0].split("</li>")
    ]
    assert [line for line in told if line] == [
        "✓ 成立 3 一般 圩外水位 3.95 m > 圩外警戒水位 3.80 m 已触发",
        "✗ 不成立 1 紧急 圩外水位 3.95 m > 4.5 未触发",
    ]


def test_the_pages_say_in_words_that_a_reload_cleared_an_alarm(visitor: Visitor, township: Township) -> None:
    township.flood("ps-1")
    township.settler.reload(load({"rules.yaml": EARLIER}), township.now)
    for page in ("/alarms/1", "/orders/1"):
        assert "规则已修改或删除，从头判断" in visitor("wang").get(page).text
    assert "rule_removed_or_changed" not in visitor("wang").get("/alarms/1").text


# --- what runs --------------------------------------------------------------------------------------------------------
def test_every_rule_is_listed_with_what_stands_of_it(visitor: Visitor, township: Township) -> None:
    township.flood("ps-1")
    township.flood("ps-2")
    html = visitor("guest").get("/rules").text
    rows = re.findall(r'data-testid="rule-row" data-rule="([^"]+)"', html)
    assert rows == list(township.settler.book.rules)
    high = text_of(html.partition('data-rule="polder-inside-high"')[2].partition("</tr>")[0])
    assert "圩内水位 > 最高控制水位 已 1 分钟" in high
    assert "排涝泵站" in high
    assert "未确认 2" in high
    assert "when: level_inside > attr.inside_limit_level" in high
    assert "gw-silence" in html
    assert "rule-try" not in html, "a viewer tries nothing"
    assert "rules-reload" not in html
    found = visitor("wang").get("/rules", params={"q": "PM2.5"}).text
    assert re.findall(r'data-testid="rule-row" data-rule="([^"]+)"', found) == ["pm25-high"]
    assert "没有符合的规则" in visitor("wang").get("/rules", params={"q": "zzz"}).text


# --- the review of a period -------------------------------------------------------------------------------------------
def test_the_review_counts_what_was_raised(visitor: Visitor, township: Township) -> None:
    for level in (3.6, 3.2) * 5:
        township.tell("ps-1", level_inside=level, mains_ok=level > 3.5, after=MINUTE // 6)
    html = visitor("wang").get("/rules/review?days=1").text
    shown = {key: text_of(cells) for key, cells in re.findall(r'data-measure="(\w+)">(.*?)</tr>', html)}
    assert re.search(r"告警次数\s+5 ", shown["alarms"])
    assert re.search(r"抖动.*\s1 .*超出可接受值", shown["chattering"])
    assert re.search(r"短促.*\s4 ", shown["fleeting"]), "the last one stands"
    assert re.findall(r'data-testid="worst-rule" data-rule="([^"]+)"', html) == ["mains-lost"]
    assert re.findall(r'data-testid="chattering" data-rule="([^"]+)"', html) == ["mains-lost"]
    assert "[&#34;2026-07-01&#34;, 5]" in html
    empty = visitor("wang").get("/rules/review", params={"from": "2026-06-01T00:00", "to": "2026-06-02T00:00"}).text
    assert "时段内没有告警" in empty
    assert "review-chart" not in empty
    wrong = visitor("wang").get("/rules/review", params={"from": "2026-06-03T00:00", "to": "2026-06-02T00:00"})
    assert wrong.status_code == 422


def test_a_viewers_review_leaves_elders_out(visitor: Visitor, township: Township) -> None:
    township.tell("door-1", tamper=True)
    assert "door-tamper" in visitor("li").get("/rules/review?days=1").text
    assert "door-tamper" not in visitor("guest").get("/rules/review?days=1").text


# --- trying -----------------------------------------------------------------------------------------------------------
def start(client: httpx.Client, rules: str, **form: str) -> httpx.Response:
    csrf = {"csrf": token_of(client, "/rules/try")}
    return client.post("/rules/try", data=csrf | SPAN | {"rules": rules} | form, headers=FRAGMENT)


def finished(client: httpx.Client, answer: httpx.Response) -> tuple[str, str]:
    """Address and fragment of the trial when it is over."""
    html, path = answer.text, ""
    for _ in range(500):
        state = re.search(r'data-testid="trial" data-state="(\w+)"', html)
        assert state, html
        if state[1] not in {"waiting", "running"}:
            return path, html
        path = polled(html)
        time.sleep(0.02)
        html = client.get(path, headers=FRAGMENT).text
    raise AssertionError(html)


def polled(html: str) -> str:
    found = re.search(r'hx-get="(/rules/try/\w+)"', html)
    assert found, html
    return found[1]


def chip(html: str, name: str) -> int:
    found = re.search(rf'data-testid="try-{name}">.*?class="n">(\d+)<', html)
    assert found, html
    return int(found[1])


def test_a_change_is_tried_against_the_rule_that_runs(visitor: Visitor, township: Township) -> None:
    wave(township)
    wang = visitor("wang")
    form = wang.get("/rules/try?rule=polder-inside-high").text
    assert "for: 1m" in form.partition("<textarea")[2].partition("</textarea>")[0]
    path, html = finished(wang, start(wang, EARLIER))
    assert (chip(html, "same"), chip(html, "gained"), chip(html, "lost"), chip(html, "moved")) == (0, 1, 0, 1)
    assert re.findall(r'data-testid="try-row" data-what="(\w+)"', html) == ["moved", "gained"]
    difference = html.partition('data-testid="try-difference">')[2].partition("</pre>")[0]
    assert "attr.inside_limit_level - 0.10" in difference
    assert "rules.yaml" in html
    for device, new, old in (("ps-2", 1, 0), ("ps-1", 1, 1)):
        chart = wang.get(f"{path}/chart", params={"device": device, "metric": "level_inside"}).json()
        assert (len(chart["points"]), len(chart["new"]), len(chart["old"])) == (120, new, old), device
    assert sorted((limit["which"], limit["value"]) for limit in chart["limits"]) == [("new", 3.4), ("old", 3.5)]
    whole = wang.get(path).text
    assert "<html" in whole
    assert "attr.inside_limit_level - 0.10" in whole.partition("<textarea")[2]
    for bad in ({"device": "ps-3", "metric": "x"}, {"device": "none", "metric": "level_inside"}):
        assert wang.get(f"{path}/chart", params=bad).status_code == 404


def test_no_change_is_no_difference(visitor: Visitor, township: Township) -> None:
    wave(township)
    wang = visitor("wang")
    running = (
        wang.get("/rules/try?rule=polder-inside-high")
        .text.partition("<textarea")[2]
        .partition(">")[2]
        .partition("</textarea>")[0]
    )
    _, html = finished(wang, start(wang, markup.unescape(running), device="ps-1"))
    assert (chip(html, "same"), chip(html, "gained")) == (1, 0)
    assert "没有差别" in html
    assert "try-difference" not in html


def test_mistakes_stand_with_their_line_and_column(visitor: Visitor) -> None:
    wang = visitor("wang")
    answer = start(wang, "rules:\n  - id: x\n    when: levl_inside > 3\n")
    assert answer.status_code == 422
    assert "第 3 行第 11 列" in answer.text
    assert "level_inside" in answer.text
    for form, code in (
        ({"to": "2026-07-01T04:00"}, "empty_span"), ({"from": "2024-07-01T04:00"}, "history_too_long"),
        ({"device": "nothing"}, "no_such_device"), ({"device": "cam-1"}, "nothing_to_try"),
        ({"from": "x"}, "bad_instant"),
    ):  # fmt: skip
        answer = start(wang, EARLIER, **form)
        assert answer.status_code in {404, 422}
        assert f'data-code="{code}"' in answer.text, answer.text


def test_only_the_desk_tries_rules(visitor: Visitor) -> None:
    for name in ("guest", "li", "chen"):
        assert visitor(name).get("/rules/try").status_code == 403
    assert visitor("wang").get("/rules/try/0123456789abcdef").status_code == 404


def test_a_trial_is_given_up(visitor: Visitor, township: Township) -> None:
    def slow(told: Told) -> None:
        while True:
            told(0.1)
            time.sleep(0.01)

    held = township.installation.trials.start(ADMIN, township.installation.wall, "other", slow)
    wang = visitor("wang")
    waiting = start(wang, EARLIER)
    assert 'data-state="waiting"' in waiting.text
    assert start(wang, EARLIER).status_code == 409
    path = polled(waiting.text)
    csrf = {"csrf": token_of(wang, "/rules/try")}
    assert 'data-state="cancelled"' in wang.post(f"{path}/cancel", data=csrf, headers=FRAGMENT).text
    township.installation.trials.cancel("other", held.id, township.now)


@pytest.mark.parametrize("rule", ["", "nothing", "flow-style"])
def test_the_form_opens_with_something_that_loads(visitor: Visitor, township: Township, rule: str) -> None:
    html = visitor("wang").get("/rules/try", params={"rule": rule}).text
    assert "rules:" in html.partition("<textarea")[2]


def test_time_goes_by(township: Township) -> None:
    """The spans above are of the township's clock."""
    assert START % DAY == 21 * HOUR


def test_a_reload_tells_what_is_wrong_between_rules_and_town(
    visitor: Visitor, township: Township, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = Reloaded((), (), (), (), (), (Mistake("pair.yaml", 4, 11, "does not apply to ps-1"),))
    monkeypatch.setattr(township.settler, "reload", lambda *_: warned)
    admin = visitor(ADMIN.name)
    answer = admin.post("/rules/reload", data={"csrf": token_of(admin, "/rules")}, headers=FRAGMENT)
    assert "pair.yaml:4:11: does not apply to ps-1" in answer.text

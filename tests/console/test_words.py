"""Numbers, times and reasons as the desk reads them."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from console.packets import printable, show
from console.pumps import slope_cm_h
from console.reasons import explain, raw_cause
from console.texts import Language
from console.visits import safe_path
from console.words import full_moment, left, length, level, moment, number, quantity, span
from devices.instants import DAY, HOUR, MINUTE, SECOND

ZH, EN = Language.ZH, Language.EN
ZONE = ZoneInfo("Asia/Shanghai")
NOW = 1_782_853_200 * SECOND  # 05:00 in Shanghai, 2026-07-01


@pytest.mark.parametrize(
    ("value", "unit", "zh", "en"),
    [
        (3.5, "m", "3.50 m", "3.50 m"),
        (-0.001, "m", "0.00 m", "0.00 m"),
        (1.0, "bool", "是", "Yes"),
        (0.0, "bool", "否", "No"),
        (4.0, "1", "4", "4"),
        (None, "m", "—", "—"),
        (float("nan"), "m", "—", "—"),
        (115.4, "ug/m3", "115 µg/m³", "115 µg/m³"),
        (8.12, "[pH]", "8.12", "8.12"),
        (2.5e7, "1/L", "2.5e+07 /L", "2.5e+07 /L"),
        (1234.5, "V", "1,234 V", "1,234 V"),
    ],
)
def test_a_value_carries_its_unit(value: float | None, unit: str, zh: str, en: str) -> None:
    assert quantity(value, unit, ZH) == zh
    assert quantity(value, unit, EN) == en


def test_a_number_without_a_scale_has_no_needless_zeros() -> None:
    assert [number(v) for v in (3.0, 2.50, 0.333)] == ["3", "2.5", "0.33"]


@pytest.mark.parametrize(
    ("micros", "zh", "en"),
    [
        (41 * SECOND, "41 秒", "41 s"),
        (3 * MINUTE + 12 * SECOND, "3 分 12 秒", "3 min 12 s"),
        (2 * HOUR + 5 * MINUTE, "2 小时 5 分", "2 h 5 min"),
        (3 * DAY + 4 * HOUR, "3 天 4 小时", "3 d 4 h"),
        (-5, "0 秒", "0 s"),
    ],
)
def test_an_age_is_its_two_largest_units(micros: int, zh: str, en: str) -> None:
    assert (span(micros, ZH), span(micros, EN)) == (zh, en)


def test_a_rules_duration_reads_as_it_was_meant() -> None:
    assert [length(x, ZH) for x in (MINUTE, 90 * SECOND, 24 * HOUR, 48 * HOUR, 3 * DAY)] == [
        "1 分钟", "90 秒", "24 小时", "48 小时", "3 天",
    ]  # fmt: skip
    assert length(115 * MINUTE, EN) == "1 h 55 min"


def test_times_are_the_sites() -> None:
    assert moment(NOW, ZONE, NOW) == "05:00:00"
    assert moment(NOW - 6 * HOUR, ZONE, NOW) == "06-30 23:00"
    assert moment(NOW - 300 * DAY, ZONE, NOW) == "2025-09-04 05:00"
    assert full_moment(NOW, ZONE) == "2026-07-01 05:00:00 +08:00"


def test_a_limit_that_has_run_out_says_by_how_much() -> None:
    assert left(NOW + MINUTE, NOW, EN) == "1 min 0 s left"
    assert left(NOW - MINUTE, NOW, ZH) == "超 1 分 0 秒"


def test_a_bar_stays_in_its_frame() -> None:
    assert level(9.0, 3.5, 3.0, 4.0).fill == 100
    assert level(1.0, 3.5, 3.0, 4.0).fill == 0
    assert level(3.2, 3.5, 3.0, 4.0).line == 50


def why(
    when: str, values: Mapping[str, object] | None = None, *, kind: str = "pump_station", held: str = "0s"
) -> tuple[str, str]:
    """In both languages."""
    reason = {"when": when, "values": values or {}, "for": held}
    zh, en = (explain(kind, "some-rule", reason, language, zone=ZONE, now=NOW) for language in (ZH, EN))
    return zh, en


def test_a_level_just_over_its_limit_does_not_read_as_equal_to_it() -> None:
    values = {"level_inside": 3.503, "attr.inside_limit_level": 3.5}
    zh, _ = why("level_inside > attr.inside_limit_level", values)
    assert zh == "圩内水位 3.503 m > 最高控制水位 3.50 m"


def test_a_reason_names_both_sides_and_how_long_it_held() -> None:
    assert why(
        "level_inside > attr.inside_limit_level",
        {"level_inside": 3.52, "attr.inside_limit_level": 3.5},
        held="1m",
    ) == (
        "圩内水位 3.52 m > 最高控制水位 3.50 m 已 1 分钟",
        "Inside level 3.52 m > Inside limit level 3.50 m for 1 min",
    )


def test_a_reason_over_events_says_what_was_seen() -> None:
    since = why('since(event("door_opened")) > 24h', {'since(event("door_opened"))': "26h"}, kind="door_sensor")
    assert since == ("距上次“开门” 1 天 2 小时 > 24 小时", 'since "Door opened" 1 d 2 h > 24 h')
    counted = {'count(event("person_detected"), 10m)': 3}
    assert why('count(event("person_detected"), 10m) >= 3', counted, kind="camera") == (
        "10 分钟内“发现人员”次数 3 ≥ 3",
        'count of "Person detected" in 10 min 3 ≥ 3',
    )
    assert why("absent(level_inside, 15m)") == ("圩内水位已 15 分钟无数据", "no Inside level for 15 min")


@pytest.mark.parametrize(
    ("when", "values", "zh", "en"),
    [
        ("avg(level_inside, 30m) > 3.4", {"avg(level_inside, 30m)": 3.46}, "圩内水位 30 分钟平均 3.46 m > 3.4",
         "mean of Inside level over 30 min 3.46 m > 3.4"),
        ("count(level_inside, 10m) < 3", {"count(level_inside, 10m)": 2}, "10 分钟内圩内水位次数 2 < 3",
         "count of Inside level in 10 min 2 < 3"),
        ("rate(level_inside, 1h) > 0.1 / 3600", {"rate(level_inside, 1h)": 3.2e-5},
         "圩内水位 1 小时变化率 3.2e-05 m/s > 0.1 / 3,600", "rate of Inside level over 1 h 3.2e-05 m/s > 0.1 / 3,600"),
        ("flat(level_inside, 2h, 0.001)", {}, "圩内水位 2 小时内变化不超过 0.001 m",
         "Inside level moved by no more than 0.001 m in 2 h"),
        ("spike(level_inside, 0.3)", {}, "圩内水位 突变超过 0.300 m", "Inside level jumped by more than 0.300 m"),
        ("out_of_range(level_inside)", {}, "圩内水位 超出合理范围", "Inside level is outside what is plausible"),
        ("forecast(level_inside, 30m) > attr.inside_limit_level",
         {"forecast(level_inside, 30m)": 3.61, "attr.inside_limit_level": 3.5},
         "圩内水位 30 分钟后预计 3.61 m > 最高控制水位 3.50 m",
         "Inside level expected in 30 min 3.61 m > Inside limit level 3.50 m"),
        ('between("22:00", "06:00") and weekday("sat", "sun")', {}, "时间在 22:00–06:00 且 今天是周六、周日",
         "the time is between 22:00 and 06:00 and it is Saturday, Sunday"),
        ('mode("flood_season") and not holiday()', {}, "汛期 且 非 今天休息", "flood season and not it is a day off"),
        ("in_grid(count(level_inside > 3.5) >= 3)", {}, "网格内 圩内水位 > 3.5 的设备数 ≥ 3",
         "in the grid devices with Inside level > 3.5 ≥ 3"),
        ('of_group("gateway-7", absent) > 0.5', {}, "gateway-7 组内 失联 的设备比例 > 0.5",
         "of the group gateway-7 the share with silent > 0.5"),
        ("level_inside > by_response(3.5, 3.4, 3.3, 3.2, 3.1)", {"level_inside": 3.6},
         "圩内水位 3.60 m > 按响应等级 3.5, 3.4, 3.3, 3.2, 3.1", None),
    ],
    ids=lambda given: given[:24] if isinstance(given, str) else "",
)  # fmt: skip
def test_every_function_of_the_language_has_words(
    when: str, values: Mapping[str, object], zh: str, en: str | None
) -> None:
    told = why(when, values)
    assert told[0] == zh
    assert en is None or told[1] == en


def test_logic_and_brackets_stay_readable() -> None:
    zh, _ = why("not (mains_ok == true) and pumps_running < 1", {"mains_ok": False, "pumps_running": 0})
    assert zh == "非 (市电正常 = 是) 且 运行台数 0 < 1"


@pytest.mark.parametrize("when", ["", "???", "level_inside >", "f(x", "attr.", '"', "1h30m", "level\n> 3", "(((("])
def test_a_condition_nobody_understands_is_shown_and_breaks_nothing(when: str) -> None:
    for shown in why(when):
        assert bool(shown.strip()) == bool(when)


def test_the_services_own_alarms_have_reasons() -> None:
    def own(rule: str, reason: dict[str, object]) -> str:
        return explain("pump_station", rule, reason, ZH, zone=ZONE, now=NOW)

    silent = own("gw-silence", {"last_seen": "2026-06-30T20:57:00Z", "limit": "3m"})
    assert silent == "已超过 3 分钟 没有收到数据，最后一次 04:57:00"
    assert own("gw-clock", {"seconds_off": 28800.0}) == "设备时钟快 8 小时 0 分"
    assert own("gw-range", {"values": {"level_inside": 99.0}}) == "圩内水位 99.00 m 超出传感器量程"
    cut = {"why": "[Errno 111] Connection refused", "minutes": 1.5}
    assert own("gw-link", cut) == "与消息服务器的连接断开 已 1 分 30 秒"
    assert own("gw-backlog", {"why": "x", "minutes": 0.0}) == "收到的数据来不及处理"
    assert raw_cause("gw-link", cut) == "[Errno 111] Connection refused"


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/%2f/evil.example",
        "/\t/evil.example", "/%5cevil.example", "evil", "", None, "/sign-in", "/sign-out", "/" + "a" * 600,
        "/%09/evil.example",
    ],
)  # fmt: skip
def test_a_sign_in_leads_nowhere_else(to: str | None) -> None:
    assert safe_path(to) == "/"


def test_a_sign_in_leads_back_to_the_page_that_was_wanted() -> None:
    assert safe_path("/orders?show=mine") == "/orders?show=mine"


def test_a_packet_is_shown_as_text_only_where_it_is_text() -> None:
    assert show(b'{"level": 3}') == ('{"level": 3}', False)
    assert show("水位".encode()) == ("水位", False)
    assert show(b"\xff\x00A") == ("ff 00 41", True)
    assert show("right\u202eleft".encode())[1], "a direction mark could make a topic read backwards"
    assert show(b"") == ("", False)
    assert show(("水" * 500).encode()) == ("水" * 200, False), "a character cut in two is no reason for hexadecimal"
    assert printable("a\u202eb\x00") == "a\\u202eb\\u0000"


def test_the_rate_is_that_of_the_last_hour_in_centimetres() -> None:
    at = np.arange(0, 60, dtype=np.int64) * MINUTE
    rising = slope_cm_h(at, 3.0 + 0.05 * at / HOUR)
    assert rising is not None
    assert abs(rising - 5.0) < 1e-9
    assert slope_cm_h(at[:5], np.ones(5)) is None, "five minutes are waves, not a trend"
    assert slope_cm_h(at[:0], np.ones(0)) is None

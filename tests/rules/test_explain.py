"""Why, and why not: the answer names what decided."""

from __future__ import annotations

from typing import Any

from devices.registry import DeviceStatus, Registry
from rules.declared import Declared, Pause
from rules.engine import Engine
from rules.explain import examine
from tests.rules.desk import Element, at, put, rows, rule, town


def asked(text: str, elements: list[Element], when: str, *, device: str = "ps-1", **more: str) -> dict[str, Any]:
    registry = town(inside_limit_level=3.5)
    engine = fed(Engine(rule(text, **more), registry), registry, elements)
    return examine(engine, "r", device, at(when))


def fed(engine: Engine, registry: Registry, elements: list[Element]) -> Engine:
    for element in elements:
        engine.adopt(engine.evaluate(rows(registry, [element])))
    return engine


def codes(told: dict[str, Any]) -> list[str]:
    return [why["code"] for why in told["why"]]


def levels(*values: float, step: int = 1) -> list[Element]:
    return [("ps-1", f"{k * step}m", {"level_inside": value}) for k, value in enumerate(values, 1)]


def test_a_standing_alarm_says_since_when_and_what_it_saw() -> None:
    told = asked("level_inside > attr.inside_limit_level", levels(3.4, 3.6, 3.7), "3m", for_="1m")
    assert (told["state"], told["when"], told["since"], told["raised_at"]) == (
        "firing", True, "2026-07-01T00:02:00Z", "2026-07-01T00:03:00Z",
    )  # fmt: skip
    assert told["parts"] == [
        {"text": "level_inside > attr.inside_limit_level", "value": True, "depth": 0},
        {"text": "level_inside", "value": 3.7, "depth": 1},
        {"text": "attr.inside_limit_level", "value": 3.5, "depth": 1},
    ]
    assert codes(told) == ["firing"]


def test_a_pending_alarm_says_what_it_waits_for() -> None:
    told = asked("level_inside > 3", levels(4, 4), "2m", for_="5m")
    assert (told["state"], told["held"], told["for"]) == ("pending", "1m", "5m")
    assert "2026-07-01T00:06:00Z" in told["why"][0]["en"]


def test_a_false_condition_names_the_part_that_fails() -> None:
    told = asked('level_inside > 3 and pumps_running < 1 and between("22:00", "06:00")',
                 [("ps-1", "1m", {"level_inside": 4, "pumps_running": 2})], "1m")  # fmt: skip
    assert [w["en"] for w in told["why"] if w["code"] == "false_part"] == [
        "false: pumps_running < 1 (pumps_running = 2)", 'false: between("22:00", "06:00") [schedule]',
    ]  # fmt: skip


def test_an_unknown_condition_says_what_is_not_known() -> None:
    old = asked("level_inside > level_outside", levels(4), "10m")
    assert (old["when"], codes(old)) == (None, ["unknown", "too_old", "never_seen"])
    assert codes(asked("level_inside > attr.dyke_level", levels(4), "1m"))[:2] == ["unknown", "no_attribute"]
    assert "unknown_window" in codes(asked("rate(level_inside, 10m) > 0", levels(4), "1m"))


def test_a_silence_is_told_to_begin_the_hold_anew() -> None:
    assert "gap_reset" in codes(asked("level_inside > 3", levels(4), "10m", for_="5m", max_age="1h"))


def test_a_repeating_rule_tells_how_many_it_has() -> None:
    told = asked("level_inside > 3", levels(4, 2, 4), "3m", repeat="3 of 5")
    assert told["why"][0] == {
        "code": "repeat", "zh": "最近 3 次判断中 2 次成立，需要 5 次中 3 次",
        "en": "2 of the last 3 judgements were true, 3 of 5 are needed",
    }  # fmt: skip


def test_a_kept_alarm_says_until_when() -> None:
    assert "kept" in codes(asked("level_inside > 3", levels(4, 2), "2m", keep_for="10m"))


def test_a_pause_is_named_with_its_end_and_reason() -> None:
    registry = town()
    engine = Engine(
        rule("level_inside > 3"), registry, declared=Declared(pauses=(Pause("ps-1", at("0s"), at("1h"), "限排"),))
    )
    told: dict[str, Any] = examine(fed(engine, registry, levels(4)), "r", "ps-1", at("1m"))
    assert told["why"][0]["en"] == "paused until 2026-07-01T01:00:00Z: 限排"


def test_a_rule_that_does_not_apply_says_why() -> None:
    assert codes(asked("level_inside > 3", [], "1m", device="door")) == ["other_kind", "not_named"]
    assert codes(asked("level_inside > 3", [], "1m", device="nobody")) == ["no_such_device"]
    registry = town()
    put(registry, "ps-1", status=DeviceStatus.QUARANTINED)
    assert codes(examine(Engine(rule("level_inside > 3"), registry), "r", "ps-1", at("1m"))) == ["not_active"]


def test_a_group_counts_its_members() -> None:
    registry = town()
    book = rule("in_grid(count(level_inside > 3) >= 2)", applies_to="{kind: pump_station}")
    engine = Engine(book, registry, grid_tree={"west": frozenset({"west"})})
    told: dict[str, Any] = examine(fed(engine, registry, levels(4)), "r", "grid:west", at("1m"))
    assert (told["state"], told["when"]) == ("normal", False)
    assert told["why"][0]["en"].startswith("1 of 2 members meet it")


def test_looking_changes_nothing() -> None:
    registry = town()
    engine = fed(Engine(rule("avg(level_inside, 5m) > 3", for_="2m"), registry), registry, levels(4, 4))
    before = engine.snapshot()
    examine(engine, "r", "ps-1", at("9m"))
    assert engine.snapshot() == before

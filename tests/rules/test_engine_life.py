"""What happens around the engine: devices come and go, rules are edited, the service stops and starts."""

from __future__ import annotations

import pytest

from devices.registry import Device, DeviceStatus, Registry
from rules import binding
from rules.book import RuleBook, load
from rules.engine import Engine
from tests.rules.desk import START, Desk, at, put, rows, rule, town


def two(first: str = "3.5", **second: str) -> RuleBook:
    fields = {"when": "level_outside > 4", **second}
    lines = "".join(f"    {key}: {value}\n" for key, value in fields.items())
    return load(
        {"a.yaml": f"rules:\n  - id: inside\n    when: level_inside > {first}\n    for: 2m\n  - id: outside\n{lines}"}
    )


def test_judging_changes_nothing_until_it_is_adopted() -> None:
    desk = Desk(rule("level_inside > 3.5", for_="1m"))
    desk.level(("1m", 3.6))
    before = desk.engine.snapshot()
    batch = rows(desk.registry, [("ps-1", "2m", {"level_inside": 3.7})])
    first, second = desk.engine.evaluate(batch), desk.engine.evaluate(batch)
    desk.engine.tick(at("9h"))
    assert desk.engine.snapshot() == before
    assert first.transitions == second.transitions != ()


def test_quarantined_and_rejected_devices_are_not_judged() -> None:
    registry = town()
    put(registry, "ps-1", status=DeviceStatus.QUARANTINED)
    desk = Desk(rule("level_inside > 3.5"), registry)
    desk.level(("1m", 9.0))
    put(registry, "ps-1", status=DeviceStatus.ACTIVE)
    desk.engine.devices_changed()
    desk.level(("2m", 9.0))
    assert desk.said == ["raised 2"]


def test_a_rejected_device_takes_its_standing_alarm_with_it() -> None:
    desk = Desk(rule("level_inside > 3.5"))
    desk.level(("1m", 9.0), ("2m", 9.5))
    put(desk.registry, "ps-1", status=DeviceStatus.REJECTED)
    (ended,) = desk.engine.devices_changed()
    assert (ended.edge, ended.at, ended.peak_value) == ("cleared", at("2m"), 9.5)
    assert desk.engine.devices_changed() == ()


def test_a_new_device_and_a_new_metric_are_judged_from_their_first_reading() -> None:
    desk = Desk(rule("level_inside > 3.5 or level_outside > 3.5", applies_to="{kind: pump_station}"))
    desk.level(("1m", 3.0))
    desk.registry.put(Device(len(desk.registry.devices), "ps-9", "qidu", "pump_station", first_seen=START))
    desk.reads(("ps-9", "1m", {"level_outside": 4.0}), ("ps-1", "2m", {"level_outside": 4.0}))
    assert [(t.device, t.at) for t in desk.transitions] == [("ps-9", at("1m")), ("ps-1", at("2m"))]


def test_a_series_that_is_numbered_while_another_is_bound_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder has a thread of its own: here it meets the series of ps-2 in the midst of binding that of ps-1."""
    desk, columns = Desk(rule("level_inside > 3.5", applies_to="{kind: pump_station}")), binding.columns
    numbers = {device.id: device.number for device in desk.registry.devices}

    def interrupted(registry: Registry, known: binding.Columns | None = None) -> binding.Columns:
        table = columns(registry, known)
        registry.series(numbers["ps-2"], "level_inside")
        return table

    monkeypatch.setattr(binding, "columns", interrupted)
    desk.reads(("ps-1", "1m", {"level_inside": 4.0}))
    monkeypatch.undo()
    desk.reads(("ps-2", "2m", {"level_inside": 4.0}))
    assert [t.device for t in desk.transitions] == ["ps-1", "ps-2"]


def test_another_limit_of_the_device_counts_from_the_next_reading() -> None:
    desk = Desk(rule("level_inside > attr.inside_limit_level"))
    desk.level(("1m", 3.4))
    put(desk.registry, "ps-1", attributes={"inside_limit_level": 3.3})
    desk.engine.devices_changed()
    desk.level(("2m", 3.4))
    assert desk.said == ["raised 2"]


@pytest.mark.parametrize(
    ("to", "devices"),
    [
        ("{kind: pump_station}", {"ps-1", "ps-2"}),
        ("{kind: river_gauge}", set()),
        ("{devices: [ps-2, nobody]}", {"ps-2"}),
        ("{grids: [town]}", {"ps-1", "ps-2"}),
        ("{grids: [west]}", {"ps-1"}),
        ("{grids: [west, east]}", {"ps-1", "ps-2"}),
        ("{tags: [wet]}", {"ps-1", "ps-2"}),
        ("{tags: [wet, old]}", {"ps-2"}),
        ("{kind: pump_station, grids: [east], tags: [wet]}", {"ps-2"}),
        ("{kind: pump_station, devices: []}", set()),
    ],
)
def test_all_that_a_rule_names_must_match(to: str, devices: set[str]) -> None:
    registry = town()
    put(registry, "ps-1", grid="west", tags=frozenset({"wet"}))
    put(registry, "ps-2", grid="east", tags=frozenset({"wet", "old"}))
    tree = {"town": frozenset({"town", "west", "east"}), "west": frozenset({"west"}), "east": frozenset({"east"})}
    kind = "" if to != "{kind: river_gauge}" else "level"
    engine = Engine(rule(kind + " > 3" if kind else "level_inside > 3", applies_to=to), registry, grid_tree=tree)
    batch = rows(registry, [(name, "1m", {"level_inside": 4.0}) for name in ("ps-1", "ps-2")])
    assert {t.device for t in engine.evaluate(batch).transitions} == devices


def test_a_reload_keeps_what_unchanged_rules_have_learned() -> None:
    desk = Desk(two())
    desk.reads(("ps-1", "1m", {"level_inside": 3.6, "level_outside": 4.1}))
    desk.take(desk.engine.reload(two(priority="low"), at("2m")))
    desk.level(("3m", 3.6))
    assert [(t.rule, t.edge) for t in desk.transitions] == [("outside", "raised"), ("inside", "raised")]


def test_a_reload_clears_what_stands_of_a_changed_or_removed_rule() -> None:
    desk = Desk(two())
    desk.reads(("ps-1", "1m", {"level_outside": 4.1}))
    outcome = desk.engine.reload(two(when="level_outside > 5"), at("2m"))
    assert desk.engine.book.rules["outside"].when_text == "level_outside > 4"
    (ended,) = desk.take(outcome)
    assert (ended.rule, ended.edge, ended.at) == ("outside", "cleared", at("2m"))
    desk.reads(("ps-1", "3m", {"level_outside": 4.5}))
    assert desk.said == ["raised 1", "cleared 2"]
    assert desk.take(desk.engine.reload(load({}), at("4m"))) == []


def test_a_changed_rule_starts_afresh_after_a_restart_and_others_go_on() -> None:
    desk = Desk(two())
    desk.reads(("ps-1", "1m", {"level_inside": 3.6, "level_outside": 4.1}))
    blob = desk.engine.snapshot()
    desk.engine = Engine(two(when="level_outside > 4.05"), desk.registry)
    desk.engine.restore(blob)
    desk.reads(("ps-1", "3m", {"level_inside": 3.6, "level_outside": 4.1}))
    assert [(t.rule, t.at, t.since) for t in desk.transitions[1:]] == [
        ("inside", at("3m"), at("1m")),
        ("outside", at("3m"), at("3m")),
    ]


def test_a_snapshot_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        Desk(two()).engine.restore(b"\x93nonsense")


def test_transitions_come_in_the_order_of_their_elements() -> None:
    desk = Desk(
        load({"a.yaml": "rules:\n  - {id: b, when: level_inside > 3}\n  - {id: a, when: level_inside + 0 > 3}\n"})
    )
    desk.reads(
        ("ps-2", "1m", {"level_inside": 4.0}),
        ("ps-1", "1m", {"level_inside": 4.0}),
        ("ps-2", "2m", {"level_inside": 1.0}),
    )
    assert [(t.element, t.rule) for t in desk.transitions] == [
        (0, "b"),
        (0, "a"),
        (1, "b"),
        (1, "a"),
        (2, "b"),
        (2, "a"),
    ]


def test_rules_of_one_shape_share_a_kernel_whatever_their_limits() -> None:
    text = "".join(f"  - {{id: r{i}, when: level_inside > {i}, for: {i}s, max_gap: none}}\n" for i in range(1, 5))
    desk = Desk(load({"a.yaml": "rules:\n" + text + "  - {id: o, when: level_outside > attr.inside_limit_level}\n"}))
    assert len(desk.engine._bound.binding.kernels) == 1
    desk.reads(*[("ps-1", f"{s}s", {"level_inside": 3.5, "level_outside": 3.6}) for s in range(1, 6)])
    assert {(t.rule, t.at) for t in desk.transitions} == {
        ("r1", at("2s")), ("r2", at("3s")), ("r3", at("4s")), ("o", at("1s")),
    }  # fmt: skip


@pytest.mark.parametrize("restarted", [False, True])
def test_a_device_approved_later_takes_nothing_from_its_neighbours(restarted: bool) -> None:
    desk = Desk(rule("level_inside > 3.5", applies_to="{kind: pump_station}"))
    put(desk.registry, "ps-1", status=DeviceStatus.QUARANTINED)
    desk.engine.devices_changed()
    desk.reads(("ps-2", "1m", {"level_inside": 4.0}))
    blob = desk.engine.snapshot()
    put(desk.registry, "ps-1", status=DeviceStatus.ACTIVE)
    if restarted:
        desk.engine = Engine(desk.engine.book, desk.registry)
        desk.engine.restore(blob)
    desk.engine.devices_changed()
    desk.reads(("ps-1", "2m", {"level_inside": 4.0}), ("ps-2", "2m", {"level_inside": 3.0}))
    assert [(t.device, t.edge) for t in desk.transitions] == [
        ("ps-2", "raised"),
        ("ps-1", "raised"),
        ("ps-2", "cleared"),
    ]

"""Which alarms the alarm of several devices holds back, and of which devices: as the engine counts its members."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Device, DeviceStatus, Registry
from rules.binding import columns, matching
from rules.book import load
from rules.groups import members_of
from rules.parts import parts_of
from rules.rule import Rule
from rules.suppression import covers_every_member, kind_of_members, membership, suppressed_rules

TREE: Mapping[str, frozenset[str]] = {
    "town": frozenset({"town", "east", "west"}), "east": frozenset({"east"}), "west": frozenset({"west"}),
}  # fmt: skip


def under(grid: str) -> frozenset[str]:
    return TREE.get(grid, frozenset({grid}))


def rules_of(*entries: str) -> Mapping[str, Rule]:
    return load({"rules.yaml": "rules:\n" + "\n".join(f"  - {{{entry}}}" for entry in entries)}).rules


GATEWAY = "id: down, when: 'of_group(\"gw-7\", absent) > 0.5', name: {zh: 网关离线, en: Gateway down}"
SILENT = "id: level-silent, when: 'absent(level_inside, 15m)', applies_to: {kind: pump_station}, name: {zh: 断, en: s}"
EITHER = (
    "id: odd, when: 'level_inside > 4 or absent(flow, 1h)', applies_to: {kind: pump_station}, name: {zh: 异, en: o}"
)
HIGH = "id: high, when: level_inside > 3.5, applies_to: {kind: pump_station}, name: {zh: 高, en: high}"
MANY = "id: many, when: in_grid(count(level_inside > 3.5) >= 2), name: {zh: 多, en: many}"


def test_without_a_word_it_holds_back_silences_and_absences_of_single_devices() -> None:
    rules = rules_of(GATEWAY, SILENT, EITHER, HIGH, MANY)
    assert suppressed_rules(rules, rules["down"]) == {"gw-silence", "level-silent"}


@pytest.mark.parametrize(
    ("when", "held_back"),
    [
        ("absent(level_inside, 15m)", True),
        ("absent(level_inside, 15m) and absent(flow, 15m)", True),
        ("absent(level_inside, 15m) or absent(flow, 15m)", True),
        ('absent(level_inside, 15m) and mode("flood_season")', True),
        ('(absent(level_inside, 15m) or absent(flow, 1h)) and not mode("drill")', True),
        # A living device could raise these.
        ("absent(level_inside, 15m) or flow > 3", False),
        ("absent(level_inside, 15m) and flow > 3 or flow > 4", False),
        ("not absent(level_inside, 15m)", False),
        ("flow > 3 and not absent(level_inside, 15m)", False),
        ("flow > 3 and not (absent(level_inside, 13h) and absent(flow, 13h))", False),
        ("flow > 3", False),
    ],
)
def test_it_holds_back_what_is_true_because_of_absence(when: str, held_back: bool) -> None:
    """Not what only asks whether the device is alive: "nobody has opened, and the sensor lives" is the elder."""
    rules = rules_of(GATEWAY, f"id: one, when: '{when}', applies_to: {{kind: pump_station}}, name: {{zh: 一, en: o}}")
    assert suppressed_rules(rules, rules["down"]) == {"gw-silence"} | ({"one"} if held_back else set())


def test_of_levels_each_must_be_an_absence() -> None:
    def graded(worse: str) -> Mapping[str, Rule]:
        levels = f"[{{priority: low, when: 'absent(flow, 1h)'}}, {{priority: high, when: '{worse}'}}]"
        return rules_of(
            GATEWAY, f"id: g, levels: {levels}, applies_to: {{kind: pump_station}}, name: {{zh: 一, en: o}}"
        )

    late, high = graded("absent(flow, 2h)"), graded("absent(flow, 2h) or flow > 3")
    assert "g" in suppressed_rules(late, late["down"])
    assert "g" not in suppressed_rules(high, high["down"])


@pytest.mark.parametrize(
    ("when", "held_back"),
    [
        ("in_grid(share(absent) > 0.5)", {"gw-silence", "level-silent", "flow-silent"}),
        # A member may be alive in its other metrics: those are not explained.
        ("in_grid(count(absent(level_inside, 10m)) >= 2)", {"gw-silence", "level-silent"}),
        ("in_grid(count(not absent(level_inside, 10m)) >= 2)", set()),
        ("in_grid(count(absent(level_inside, 10m) or level_inside > 3.5) >= 2)", set()),
        ("in_grid(count(level_inside > 3.5) >= 2)", set()),
        ("in_grid(share(absent) < 0.5)", set()),
    ],
)
def test_only_an_absence_explains_an_absence(when: str, held_back: set[str]) -> None:
    """A station that falls silent in a flood does not follow from the flood: its silence is told."""
    flow = SILENT.replace("level", "flow").replace("flow_inside", "flow")
    rules = rules_of(
        f"id: group, when: '{when}', applies_to: {{kind: pump_station}}, name: {{zh: 组, en: g}}", SILENT, flow
    )
    assert suppressed_rules(rules, rules["group"]) == held_back
    assert not covers_every_member(rules["group"])


def test_it_may_name_others_or_none() -> None:
    rules = rules_of(GATEWAY.replace("name:", "suppresses: [high], name:"), SILENT, HIGH)
    assert suppressed_rules(rules, rules["down"]) == {"high"}
    assert covers_every_member(rules["down"])
    none = rules_of(GATEWAY.replace("name:", "suppresses: [], name:"), SILENT)
    assert suppressed_rules(none, none["down"]) == frozenset()


def test_a_rule_about_one_device_holds_nothing_back() -> None:
    rules = rules_of(SILENT, HIGH)
    assert suppressed_rules(rules, rules["high"]) == frozenset()


APPLIES = ("", "applies_to: {kind: pump_station}", "applies_to: {grids: [town]}", "applies_to: {grids: [west, east]}",
           "applies_to: {tags: [a]}", "applies_to: {devices: [d-0, d-1]}")  # fmt: skip
WHEN = ('of_group("gw-7", absent) > 0.5', "in_grid(share(absent) > 0.5)", "in_grid(count(level_inside > 3.5) >= 2)")


@st.composite
def towns(draw: st.DrawFn) -> Registry:
    registry = Registry()
    for number in range(draw(st.integers(1, 6))):
        registry.add(
            Device(
                number, f"d-{number}", "qidu", draw(st.sampled_from(["pump_station", "door_sensor", "camera"])),
                grid=draw(st.sampled_from([None, "east", "west", "town", "far"])),
                status=draw(st.sampled_from([DeviceStatus.ACTIVE, DeviceStatus.ACTIVE, DeviceStatus.REJECTED])),
                tags=draw(st.frozensets(st.sampled_from(["gw-7", "a", "b"]))),
            )
        )  # fmt: skip
    return registry


@given(town=towns(), when=st.sampled_from(WHEN), applies=st.sampled_from(APPLIES))
def test_members_are_those_the_engine_counts(town: Registry, when: str, applies: str) -> None:
    entry = f"id: down, when: '{when}', name: {{zh: 组, en: group}}" + (f", {applies}" if applies else "")
    rule = rules_of(entry)["down"]
    (part,) = parts_of({rule.id: rule}).values()
    counted = members_of(rule, matching(part.rule, columns(town), TREE).tolist(), town, TREE)
    for subject in {*counted, "grid:east", "grid:west", "grid:town", "group:gw-7"}:
        if subject.startswith("group:") is when.startswith("of_group") and subject in counted:
            belongs = membership(rule, subject, under)
            assert tuple(d.number for d in town.devices if belongs(d)) == counted[subject]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [(("pump_station", "pump_station"), "pump_station"), (("pump_station", "camera"), ""), ((), ""),
     (("camera", "door_sensor", "pump_station"), "door_sensor")],
)  # fmt: skip
def test_a_group_is_personal_if_any_member_is(kinds: tuple[str, ...], expected: str) -> None:
    registry = Registry()
    for number, kind in enumerate(kinds):
        registry.add(Device(number, f"d-{number}", "qidu", kind, tags=frozenset({"gw-7"})))
    rule = rules_of(GATEWAY)["down"]
    assert kind_of_members(membership(rule, "group:gw-7", under), registry) == expected

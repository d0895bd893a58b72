"""A gateway that is down is one alarm: what only follows from it is held back, and comes back where it outlasts it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from alerts.refusals import Conflict
from devices.instants import HOUR, MINUTE
from devices.registry import Device, DeviceStatus
from flow.alarms import review_suppression
from flow.clock import tick_desk
from flow.desk import acknowledge, shelve
from rules.book import RuleBook, load
from rules.outcome import Edge, Transition
from store.records.database import write
from store.records.devices import add_devices
from store.records.tables import alarm_history, alarms, occurrences, order_history, orders, outbox
from tests.flow.town import NOW, OFFICER, Town

RULES = """
rules:
  - id: gateway-down
    name: {zh: 网关离线, en: Gateway down}
    when: of_group("gw-7", absent) > 0.5
    priority: high
    order: {category: device.fault}
  - id: grid-dark
    name: {zh: 片区失联, en: Grid silent}
    when: in_grid(share(absent) > 0.8)
    priority: critical
  - id: level-silent
    name: {zh: 水位无数据, en: No level}
    applies_to: {kind: pump_station}
    when: absent(level_inside, 15m)
    order: {category: device.fault}
  - id: level-high
    name: {zh: 高, en: high}
    applies_to: {kind: pump_station}
    when: level_inside > 3.5
    order: {category: flood.polder_inside}
"""
GATEWAY, GRID = ("gateway-down", "group:gw-7"), ("grid-dark", "grid:g-1")
TABLES = (alarms, occurrences, alarm_history, orders, order_history, outbox)


def book(text: str = RULES) -> RuleBook:
    return load({"rules.yaml": text})


@pytest.fixture
def town(town: Town) -> Town:
    town.book = book()
    tag = frozenset({"gw-7"})
    for device in (
        Device(3, "m-1", "qidu", "pump_station", "闸一", "g-1", tags=tag),
        Device(4, "m-2", "qidu", "pump_station", "闸二", "g-1", tags=tag),
        Device(5, "m-3", "qidu", "pump_station", "闸三", "g-2", tags=tag),
    ):
        town.registry.put(device)
        with write(town.records) as tx:
            add_devices(tx, [device])
    return town


def up(rule: str, device: str, at: int = NOW, element: int = -1) -> Transition:
    reason = {"when": rule, "members": ["m-1", "m-2"], "of": 3} if ":" in device else {"when": rule}
    return Transition(rule, device, None, Edge.RAISED, at, at - MINUTE, None, None, reason, element)


def down(rule: str, device: str, at: int, element: int = -1) -> Transition:
    return replace(up(rule, device, at, element), edge=Edge.CLEARED)


def states(town: Town) -> dict[tuple[str, str], str]:
    return {(a["rule"], a["device"]): a["state"] for a in town.rows(alarms)}


def acts(town: Town, rule: str, device: str) -> list[tuple[str, str | None]]:
    (alarm,) = [a["id"] for a in town.rows(alarms) if (a["rule"], a["device"]) == (rule, device)]
    return [(h["act"], h["why"]) for h in town.rows(alarm_history) if h["alarm"] == alarm]


def test_what_follows_from_it_is_held_back_and_names_it(town: Town) -> None:
    town.tell(up(*GATEWAY))
    town.later()
    town.tell(up("gw-silence", "m-1", NOW + MINUTE), up("level-silent", "m-2", NOW + MINUTE))
    assert states(town) == {GATEWAY: "UNACK", ("gw-silence", "m-1"): "DSUPR", ("level-silent", "m-2"): "DSUPR"}
    assert acts(town, "gw-silence", "m-1") == [("suppressed", "gateway-down group:gw-7"), ("raised", None)]
    assert [a["suppressed_by"] for a in town.rows(alarms)] == [None, 1, 1]
    assert [o["title"] for o in town.rows(orders)] == ["网关离线：设备组 gw-7"]
    assert town.messages() == ["alarm:1:occ:1:raised", "order:1:filed"]
    said = town.rows(outbox)[0]["body"]
    assert (said["zh"], said["en"]) == ("【重要】网关离线：设备组 gw-7", "[high] Gateway down: device group gw-7")


def test_what_does_not_follow_from_it_is_an_alarm_as_ever(town: Town) -> None:
    town.tell(up(*GATEWAY), up("level-high", "m-1"), up("gw-silence", "ps-01"), up("gw-clock", "m-1"))
    assert {state for pair, state in states(town).items()} == {"UNACK"}


def test_its_end_brings_back_what_outlasts_it_and_only_then_its_order(town: Town) -> None:
    town.tell(up(*GATEWAY), up("level-silent", "m-1"), up("level-silent", "m-2"))
    town.later()
    town.tell(down("level-silent", "m-2", NOW + MINUTE), down(*GATEWAY, NOW + MINUTE))
    assert states(town) == {GATEWAY: "RTNUN", ("level-silent", "m-1"): "UNACK", ("level-silent", "m-2"): "NORM"}
    assert acts(town, "level-silent", "m-1")[-1] == ("unsuppressed", None)
    assert [(o["device"], o["state"]) for o in town.rows(orders)] == [("group:gw-7", "checking"), ("m-1", "filed")]
    assert town.messages()[2:] == [f"alarm:2:occ:2:unsuppressed:{NOW + MINUTE}", "order:2:filed"]
    assert "抑制解除" in town.rows(outbox)[2]["body"]["zh"]
    assert [a["suppressed_by"] for a in town.rows(alarms)] == [None, None, None]


def test_what_ends_with_its_cause_was_never_anybodys_business(town: Town) -> None:
    """The last device of the gateway is heard: its silence and the gateway's alarm end at one element."""
    town.tell(up(*GATEWAY), up("gw-silence", "m-1"))
    told = len(town.messages())
    town.later()
    town.tell(down(*GATEWAY, NOW + MINUTE, element=7), down("gw-silence", "m-1", NOW + MINUTE, element=7))
    assert states(town)["gw-silence", "m-1"] == "NORM"
    assert len(town.messages()) == told


def test_what_stood_before_it_goes_under_it_and_keeps_its_order(town: Town) -> None:
    town.tell(up("level-silent", "m-1"))
    acknowledge(town.records, town.now, OFFICER, alarm=1)
    town.tell(up(*GATEWAY, NOW + 1))
    assert states(town)["level-silent", "m-1"] == "DSUPR"
    assert acts(town, "level-silent", "m-1")[-1] == ("suppressed", "gateway-down group:gw-7")
    with pytest.raises(Conflict):
        acknowledge(town.records, town.now, OFFICER, alarm=1)
    town.later()
    town.tell(down(*GATEWAY, NOW + MINUTE))
    assert states(town)["level-silent", "m-1"] == "UNACK"
    assert [o["device"] for o in town.rows(orders)] == ["m-1", "group:gw-7"]
    assert [h["act"] for h in town.rows(order_history) if h["order"] == 1] == ["file"]


def test_what_cleared_under_it_and_comes_again_stays_under_it(town: Town) -> None:
    town.tell(up(*GATEWAY), up("gw-silence", "m-1"))
    town.tell(down("gw-silence", "m-1", NOW + 1), up("gw-silence", "m-1", NOW + 2))
    assert states(town)["gw-silence", "m-1"] == "DSUPR"
    assert [a for a, _ in acts(town, "gw-silence", "m-1")] == ["suppressed", "raised", "cleared", "raised"]
    assert len(town.messages()) == 2


def test_under_two_it_comes_back_after_both(town: Town) -> None:
    town.tell(up(*GATEWAY), up(*GRID), up("gw-silence", "m-1"), up("gw-silence", "m-3"))
    assert acts(town, "gw-silence", "m-1")[0] == ("suppressed", "gateway-down group:gw-7")
    town.tell(down(*GATEWAY, NOW + 1))
    assert acts(town, "gw-silence", "m-1")[-1] == ("suppressed", "grid-dark grid:g-1")
    assert (states(town)["gw-silence", "m-1"], states(town)["gw-silence", "m-3"]) == ("DSUPR", "UNACK")
    town.tell(down(*GRID, NOW + 2))
    assert states(town)["gw-silence", "m-1"] == "UNACK"


def test_of_one_element_or_tick_the_cause_is_told_first(town: Town) -> None:
    town.tell(up("level-silent", "m-1"), up(*GATEWAY))
    assert acts(town, "level-silent", "m-1") == [("suppressed", "gateway-down group:gw-7"), ("raised", None)]
    assert [o["device"] for o in town.rows(orders)] == ["group:gw-7"]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_how_the_stream_is_cut_changes_no_order(town: Town, cut: int) -> None:
    """Elements apart, as in batches: what came before its cause had its order already."""
    story = [up("level-silent", "m-1", element=1), up(*GATEWAY, NOW + 1, element=2),
             up("level-silent", "m-2", NOW + 2, element=3), down(*GATEWAY, NOW + 3, element=4)]  # fmt: skip
    town.tell(*story[:cut])
    town.tell(*story[cut:])
    assert {(o["device"], o["state"]) for o in town.rows(orders)} == {
        ("m-1", "filed"), ("group:gw-7", "checking"), ("m-2", "filed"),
    }  # fmt: skip
    second = next(a["id"] for a in town.rows(alarms) if a["device"] == "m-2")
    told = [m for m in town.messages() if m.startswith(f"alarm:{second}:")]
    assert told == [f"alarm:{second}:occ:3:unsuppressed:{NOW + 3}"]


def test_what_outlasts_it_by_a_moment_wakes_nobody(town: Town) -> None:
    town.tell(up(*GATEWAY), up("gw-silence", "m-1"))
    told = len(town.messages())
    town.tell(down(*GATEWAY, NOW + 1, element=1), down("gw-silence", "m-1", NOW + 2, element=2))
    assert (states(town)["gw-silence", "m-1"], len(town.messages())) == ("RTNUN", told)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_told_again_nothing_changes(town: Town, order: tuple[int, ...]) -> None:
    story = [up(*GATEWAY), up("gw-silence", "m-1", NOW + 1), up("level-silent", "m-2", NOW + 2)]
    town.tell(*(story[i] for i in order))
    town.tell(down(*GATEWAY, NOW + 3))
    before = [town.rows(table) for table in TABLES]
    town.later()
    town.tell(*(story[i] for i in order), down(*GATEWAY, NOW + 3))
    assert [town.rows(table) for table in TABLES] == before


def test_shelved_by_a_person_it_stays_shelved_and_returns_under_its_cause(town: Town) -> None:
    town.tell(up("gw-silence", "m-1"))
    shelve(town.records, town.now, OFFICER, alarm=1, until=town.now + HOUR, reason="检修")
    town.tell(up(*GATEWAY, NOW + 1))
    assert states(town)["gw-silence", "m-1"] == "SHLVD"
    told = town.messages()
    town.later(2 * HOUR)
    tick_desk(town.records, town.now)
    assert states(town)["gw-silence", "m-1"] == "DSUPR"
    assert acts(town, "gw-silence", "m-1")[-2:] == [("expired", None), ("suppressed", "gateway-down group:gw-7")]
    assert [m for m in town.messages() if m.startswith("alarm:1:")] == [m for m in told if m.startswith("alarm:1:")]
    town.tell(down(*GATEWAY, town.now))
    assert states(town)["gw-silence", "m-1"] == "UNACK"


def test_shelved_over_its_causes_end_it_is_only_shelved(town: Town) -> None:
    town.tell(up("gw-silence", "m-1"))
    shelve(town.records, town.now, OFFICER, alarm=1, until=town.now + HOUR, reason="检修")
    town.tell(up(*GATEWAY, NOW + 1), down(*GATEWAY, NOW + 2))
    assert town.rows(alarms)[0]["suppressed_by"] is None
    town.later(2 * HOUR)
    tick_desk(town.records, town.now)
    assert states(town)["gw-silence", "m-1"] == "UNACK"


def look_again(town: Town) -> None:
    with write(town.records) as tx:
        review_suppression(tx, now=town.now, registry=town.registry, rulebook=town.book, counting=town.counting)


def test_a_device_that_leaves_the_group_is_its_own_alarm_again(town: Town) -> None:
    town.tell(up(*GATEWAY), up("gw-silence", "m-1"), up("gw-silence", "m-2"))
    look_again(town)
    assert states(town)["gw-silence", "m-1"] == "DSUPR"
    device = town.registry.get("m-1")
    assert device is not None
    town.registry.put(replace(device, tags=frozenset()))
    look_again(town)
    assert (states(town)["gw-silence", "m-1"], states(town)["gw-silence", "m-2"]) == ("UNACK", "DSUPR")


def test_by_default_only_who_is_absent_is_held_back(town: Town) -> None:
    town.alive = frozenset({3})
    town.tell(up("level-silent", "m-2", NOW - 1), up(*GATEWAY), up("level-silent", "m-1"), up("gw-silence", "m-3"))
    assert states(town)["level-silent", "m-1"] == "UNACK"
    assert (states(town)["level-silent", "m-2"], states(town)["gw-silence", "m-3"]) == ("DSUPR", "DSUPR")
    town.alive = frozenset({3, 4})
    look_again(town)
    assert (states(town)["level-silent", "m-2"], states(town)["gw-silence", "m-3"]) == ("UNACK", "DSUPR")


def test_what_a_rule_names_is_held_back_of_every_member(town: Town) -> None:
    town.book = book(RULES.replace("priority: high", "suppresses: [level-high]\n    priority: high"))
    town.alive = frozenset({3})
    town.tell(up(*GATEWAY), up("level-high", "m-1"), up("level-silent", "m-2"))
    assert (states(town)["level-high", "m-1"], states(town)["level-silent", "m-2"]) == ("DSUPR", "UNACK")


def test_a_rule_that_is_gone_or_means_to_hold_back_less_lets_go(town: Town) -> None:
    town.tell(up(*GATEWAY), up("gw-silence", "m-1"))
    town.book = book(RULES.replace("priority: high", "suppresses: [level-silent]\n    priority: high"))
    look_again(town)
    assert states(town)["gw-silence", "m-1"] == "UNACK"
    town.tell(up("level-silent", "m-1", NOW + 1))
    assert states(town)["level-silent", "m-1"] == "DSUPR"
    town.book = book(RULES[: RULES.index("  - id: gateway-down")] + RULES[RULES.index("  - id: grid-dark") :])
    town.tell(down(*GATEWAY, NOW + 2))
    assert states(town)["level-silent", "m-1"] == "UNACK"


def test_a_rejected_device_is_no_member(town: Town) -> None:
    device = town.registry.get("m-1")
    assert device is not None
    town.registry.put(replace(device, status=DeviceStatus.REJECTED))
    town.tell(up(*GATEWAY), up("gw-silence", "m-1"))
    assert states(town)["gw-silence", "m-1"] == "UNACK"


def test_a_grid_is_its_own_devices(town: Town) -> None:
    town.tell(up(*GRID), up("gw-silence", "ps-01"), up("gw-silence", "ps-02"))
    assert (states(town)["gw-silence", "ps-01"], states(town)["gw-silence", "ps-02"]) == ("DSUPR", "UNACK")
    alarm = town.rows(alarms)[0]
    assert (alarm["grid"], alarm["device"]) == ("g-1", "grid:g-1")
    # An elder's door is among them.
    assert alarm["kind"] == "door_sensor"
    assert town.rows(outbox)[0]["body"]["zh"] == "【紧急】片区失联：网格 一网格"

"""Readings in, alarms out: a gateway that falls silent, with the real engine, over a restart and a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from devices.instants import MINUTE
from store.records.tables import alarms, outbox
from tests.flow.centre import SmallCentre

RULES = """
rules:
  - id: gateway-down
    name: {zh: 网关离线, en: Gateway down}
    applies_to: {kind: pump_station}
    when: of_group("gw-7", absent) > 0.5
    clear: of_group("gw-7", absent) == 0
    priority: high
    order: {category: device.fault}
"""
TOWN = {
    "town.yaml": "site: qidu\nname: {zh: 七都, en: Qidu}\n",
    "devices.yaml": "devices:\n" + "".join(
        f"  - {{id: ps-{i}, kind: pump_station, interval: 60, tags: [gw-7]}}\n" for i in range(1, 4)
    ),
}  # fmt: skip


@pytest.fixture
def centre(tmp_path: Path) -> SmallCentre:
    return SmallCentre(tmp_path / "data", rules=RULES, town=TOWN).start()


def fall_silent(centre: SmallCentre) -> None:
    for i in (1, 2, 3):
        centre.level(centre.now, 3.0, device=f"ps-{i}")
    tick(centre, 5)


def tick(centre: SmallCentre, minutes: int) -> None:
    for _ in range(minutes):
        centre.now += MINUTE
        centre.settler.tick(centre.now)


def told(centre: SmallCentre) -> list[str]:
    with centre.records.connect() as tx:
        return list(tx.execute(select(outbox.c.key).order_by(outbox.c.id)).scalars())


HELD_BACK = {("gw-silence", f"ps-{i}"): "DSUPR" for i in (1, 2, 3)}


@pytest.mark.parametrize("crash", [False, True])
def test_one_alarm_one_order_one_message_also_after_a_restart(centre: SmallCentre, crash: bool) -> None:
    fall_silent(centre)
    down = {("gateway-down", "group:gw-7"): "UNACK"}
    assert centre.states() == down | HELD_BACK
    assert centre.orders() == [("device.fault", "filed")]
    assert told(centre) == ["alarm:1:occ:1:raised", "order:1:filed"]
    centre.stop(crash=crash)
    centre.start()
    assert centre.states() == down | HELD_BACK
    tick(centre, 10)
    assert centre.states() == down | HELD_BACK
    for i in (1, 2, 3):
        centre.level(centre.now, 3.0, device=f"ps-{i}")
    assert set(centre.states().values()) == {"NORM", "RTNUN"}
    assert len(told(centre)) == 2
    centre.stop()


def test_a_device_that_stays_silent_when_the_gateway_is_back_is_an_alarm_then(centre: SmallCentre) -> None:
    centre.rules = RULES.replace('    clear: of_group("gw-7", absent) == 0\n', "")
    centre.stop()
    centre.start()
    fall_silent(centre)
    for i in (1, 2):
        centre.level(centre.now, 3.0, device=f"ps-{i}")
    assert centre.states()["gw-silence", "ps-3"] == "UNACK"
    assert told(centre)[-1].startswith("alarm:")
    with centre.records.connect() as tx:
        assert tx.execute(select(alarms.c.suppressed_by).distinct()).scalars().all() == [None]
    centre.stop()


def test_a_rule_that_is_taken_out_while_the_service_is_down_lets_go(centre: SmallCentre) -> None:
    fall_silent(centre)
    centre.stop()
    centre.rules = "rules: []\n"
    centre.start()
    assert {state for (rule, _), state in centre.states().items() if rule == "gw-silence"} == {"UNACK"}
    centre.stop()


def test_a_device_that_loses_the_tag_is_let_go_at_the_next_start(centre: SmallCentre) -> None:
    fall_silent(centre)
    centre.stop()
    centre.town = {**TOWN, "devices.yaml": TOWN["devices.yaml"].replace("tags: [gw-7]", "tags: [other]", 1)}
    centre.start()
    assert centre.states()["gw-silence", "ps-1"] == "UNACK"
    assert centre.states()["gw-silence", "ps-2"] == "DSUPR"
    centre.stop()

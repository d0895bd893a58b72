"""Pauses, levels of response and another rule book, over the API of a real service that is killed in between."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from devices.instants import HOUR, to_iso
from gridwhistle.clock import wall
from tests.conftest import Broker
from tests.end_to_end.conftest import Service, wait_for

pytestmark = pytest.mark.services

RULES = """
rules:
  - {id: high, applies_to: {kind: pump_station}, when: "level_inside > by_response(3.5, 3.4, 3.3, 3.2, 3.1)",
     max_gap: none}
  - {id: idle, when: level_inside > 99 and holiday()}
"""
TOWN = {
    "town.yaml": "site: qidu\nname: {zh: 七都, en: Qidu}\n",
    "devices.yaml": """
devices:
  - id: ps-1
    kind: pump_station
    attributes: {limit: [{value: 3.5, valid_from: 2020-01-01T00:00:00+08:00}]}
  - {id: door-1, kind: door_sensor, person: 陆阿婆, person_address: 隆兴路七号}
""",
    "calendar.yaml": "years: {2020: {}}\n",
}


@pytest.fixture
def service(make_service: Callable[..., Service], tmp_path: Path) -> Service:
    town = tmp_path / "town"
    town.mkdir()
    for name, text in TOWN.items():
        (town / name).write_text(text)
    (tmp_path / "rules.yaml").write_text(RULES)
    return make_service(rules=tmp_path / "rules.yaml", town=town)


@pytest.fixture
def tell(service: Service, broker: Broker) -> Callable[[float], None]:
    """One level of the station, and wait until it is settled."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)

    def send(level: float) -> None:
        before = service.ledger()["received"]
        client.connect(broker.host, broker.port)
        client.loop_start()
        body = json.dumps({"at": time.time_ns() // 1_000_000, "level_inside": level})
        client.publish("gw/v1/qidu/pump_station/ps-1/readings", body, qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
        service.wait_received(before + 1)

    return send


def standing(service: Service) -> list[Any]:
    return [o for o in service.all("occurrences", rule="high") if o["cleared_at"] is None]


def test_a_paused_pump_stays_quiet_through_a_crash_and_speaks_when_it_is_back(
    service: Service, tell: Callable[[float], None]
) -> None:
    tell(3.8)
    wait_for(lambda: len(standing(service)) == 1, 10)
    pause = service.post("pauses", device="ps-1", why="限排", end=to_iso(wall() + HOUR))
    assert standing(service) == []
    tell(3.9)
    service.kill()
    service.start()
    tell(3.95)
    assert standing(service) == []
    assert [p["id"] for p in service.all("pauses", standing=True)] == [pause["id"]]
    service.post(f"pauses/{pause['id']}/end")
    tell(3.9)
    wait_for(lambda: len(standing(service)) == 1, 10)


def test_a_level_of_response_lowers_the_threshold_until_it_is_ended(
    service: Service, tell: Callable[[float], None]
) -> None:
    tell(3.25)
    assert standing(service) == []
    declared = service.post("declarations/response", level=2, why="暴雨红色预警", ordered_by="王镇长")
    tell(3.25)
    wait_for(lambda: len(standing(service)) == 1, 10)
    service.post(f"declarations/response/{declared['id']}/end")
    tell(3.25)
    wait_for(lambda: standing(service) == [], 10)


def test_rules_are_read_anew_all_or_none_and_the_calendar_is_named_once(
    service: Service, tell: Callable[[float], None], tmp_path: Path
) -> None:
    year = to_iso(wall() + 8 * HOUR)[:4]
    assert (service.folder / "service.log").read_text().count(f"calendar.yaml 没有 {year} 年") == 1
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES.replace("by_response(3.5", "by_response(3.0").replace("> 99", ">> 99"))
    refused = service.api.post("/api/v1/rules/reload")
    assert refused.status_code == 422
    (mistake,) = refused.json()["mistakes"]
    assert (mistake["file"], mistake["line"], mistake["column"]) == ("rules.yaml", 5, 36)
    tell(3.2)
    assert standing(service) == [], "the rules that ran still run"
    rules.write_text(RULES.replace("by_response(3.5", "by_response(3.0"))
    answer = service.post("rules/reload")
    assert answer == {
        "unchanged": ["idle"], "changed": ["high"], "removed": [], "added": [], "afresh": ["high"], "warnings": [],
    }  # fmt: skip
    tell(3.2)
    wait_for(lambda: len(standing(service)) == 1, 10)
    rules.write_text(RULES)
    assert service.process
    service.process.send_signal(signal.SIGHUP)
    wait_for(lambda: standing(service) == [], 10)
    assert [r["id"] for r in service.all("rules")] == ["high", "idle"]

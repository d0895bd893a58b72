"""Alarms about several devices, held-back and forecast ones over the API: complete for machines, as private as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from devices.instants import MINUTE, to_iso
from flow.stream import Event
from store.records.tables import stream
from tests.api.centre import PRIVATE, Centre

RULES = """
rules:
  - id: doors-dark
    name: {zh: 门磁失联, en: Doors silent}
    applies_to: {kind: door_sensor}
    when: of_group("独居八旬", absent) > 0.5
    order: {category: device.fault}
  - id: east-dark
    name: {zh: 泵站失联, en: Stations silent}
    applies_to: {kind: pump_station}
    when: in_grid(share(absent) > 0.5)
    order: {category: device.fault}
  - id: soon
    name: {zh: 将超限, en: Soon over}
    applies_to: {kind: pump_station}
    when: forecast(level_inside, 30m) > 4
  - id: outside
    name: {zh: 外河, en: River}
    applies_to: {kind: pump_station}
    levels:
      - {priority: low, when: level_outside > 3.8}
      - {priority: critical, when: level_outside > 4.2}
"""


@pytest.fixture
def centre(tmp_path: Path, peopled: Path) -> Iterator[Centre]:
    centre = Centre(tmp_path, peopled, rules={"rules.yaml": RULES}).start()
    yield centre
    centre.stop()


def dark(centre: Centre) -> None:
    centre.send("ps-1", {"level_inside": 3.0})
    centre.send("door-1", {"battery": 80}, kind="door_sensor")
    for _ in range(60):
        centre.now += 60 * MINUTE
        centre.settler.tick(centre.now)


def find(items: list[dict[str, Any]], rule: str) -> dict[str, Any]:
    (found,) = [item for item in items if item["rule"] == rule]
    return found


def test_it_names_subject_members_and_what_it_holds_back(centre: Centre) -> None:
    dark(centre)
    items = centre.get("viewer", "/alarms")["items"]
    (parent,) = [a for a in items if a["device"] == "grid:east" and a["rule"] == "east-dark"]
    assert (parent["device_name"], parent["grid"], parent["kind"], parent["suppresses"]) == (
        "东片", "east", "pump_station", 1,
    )  # fmt: skip
    assert (parent["occurrence"]["reason"]["members"], parent["occurrence"]["reason"]["of"]) == (["ps-1"], 1)
    (child,) = [a for a in items if a["device"] == "ps-1"]
    assert (child["state"], child["active"], child["order"]) == ("DSUPR", True, None)
    assert child["suppressed_by"] == {
        "alarm": parent["id"], "rule": "east-dark", "rule_zh": "泵站失联", "rule_en": "Stations silent",
        "device": "grid:east", "device_name": "东片",
    }  # fmt: skip
    history = centre.get("viewer", f"/alarms/{child['id']}")["history"]
    assert [(act["act"], act["why"]) for act in history] == [("suppressed", "east-dark grid:east"), ("raised", None)]
    assert [a["id"] for a in centre.get("viewer", "/alarms", state="DSUPR", device="ps-1")["items"]] == [child["id"]]
    assert centre.get("viewer", "/alarms", device="grid:east")["items"] == [parent]
    for alarm in (parent, child):
        assert centre.get("viewer", f"/alarms/{alarm['id']}/explain")
    order = centre.get("viewer", f"/orders/{parent['order']}")
    assert (order["device"], order["device_name"], order["grid"]) == ("grid:east", "东片", "east")


def test_doors_together_are_as_private_as_one(centre: Centre) -> None:
    dark(centre)
    seen = find(centre.get("viewer", "/alarms")["items"], "doors-dark")
    assert (seen["device"], seen["device_name"], seen["occurrence"], seen["suppressed_by"]) == (None, "", None, None)
    assert centre.get("viewer", "/alarms", device="group:独居八旬")["items"] == []
    assert centre.get("viewer", f"/alarms/{seen['id']}")["history"] == []
    for path in ("/alarms", "/occurrences", "/orders", f"/alarms/{seen['id']}", f"/orders/{seen['order']}"):
        answer = centre.get("viewer", path)
        for item in (answer, *answer.get("items", ())):
            item.pop("rule_text", None)  # a rule is no secret, and this one names a tag
        said = str(answer)
        assert not [word for word in PRIVATE if word in said], path
    explained = centre.ask("GET", f"/api/v1/alarms/{seen['id']}/explain", token=centre.token("viewer"))
    assert not [word for word in PRIVATE if word in explained.text], explained.text
    known = find(centre.get("handler", "/alarms")["items"], "doors-dark")
    assert (known["device"], known["device_name"], known["kind"]) == ("group:独居八旬", "独居八旬", "door_sensor")
    assert [a["id"] for a in centre.get("handler", "/alarms", device="group:独居八旬")["items"]] == [seen["id"]]


def test_the_stream_hides_them_too(centre: Centre) -> None:
    dark(centre)
    with centre.records.connect() as tx:
        events = [Event(row.id, row.kind, row.body) for row in tx.execute(select(stream).order_by(stream.c.id))]
    shown = [body for event in events if (body := centre.hub.shown(event, personal=False)) is not None]
    assert not [body for body in shown if "独居八旬" in str(body) or "door-1" in str(body)]
    assert {body.get("device") for body in shown if body.get("rule") == "east-dark"} == {"grid:east", "grid:west"}
    everything = [centre.hub.shown(event, personal=True) for event in events]
    assert [body for body in everything if body and body.get("device") == "group:独居八旬"]


def test_a_forecast_says_so(centre: Centre) -> None:
    for k in range(35):
        centre.now += MINUTE
        centre.send("ps-1", {"at": centre.now // 1000, "level_inside": 3.0 + 0.02 * k})
    assert find(centre.get("viewer", "/alarms")["items"], "soon")["early"] is True
    assert centre.get("viewer", "/occurrences", rule="soon")["items"][0]["early"] is True


def test_how_severe_it_was_when(centre: Centre) -> None:
    at = []
    for level in (3.9, 4.3):
        centre.now += MINUTE
        at.append(to_iso(centre.now))
        centre.send("ps-1", {"at": centre.now // 1000, "level_outside": level})
    alarm = find(centre.get("viewer", "/alarms")["items"], "outside")
    assert (alarm["priority"], alarm["early"]) == ("critical", False)
    severities = centre.get("viewer", "/occurrences", rule="outside")["items"][0]["severities"]
    assert [(s["at"], s["priority"]) for s in severities] == [(at[0], "low"), (at[1], "critical")]
    assert severities[1]["reason"]["values"] == {"level_outside": 4.3}
    assert alarm["occurrence"]["severities"] == severities

"""A second source of a station: stored, watched over, and never judged, however the town changes over a restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from devices.instants import DAY, MINUTE, SECOND, to_iso
from store.records.tables import alarm_history, events, holes, occurrences
from tests.flow.centre import START, SmallCentre

RULES = """
rules:
  - id: high
    applies_to: {kind: pump_station}
    when: level_inside > 3.5
    priority: critical
  - id: many-high
    applies_to: {kind: pump_station}
    when: in_grid(count(level_inside > 3.5) >= 1)
  - id: tagged
    when: of_group("flood", absent) > 0.4
  - id: opened
    applies_to: {kind: door_sensor}
    when: event("door_opened")
    priority: notice
"""
GRIDS = json.dumps({
    "features": [{"geometry": None, "properties": {"id": name, "name": name}} for name in ("east", "west")]
})  # fmt: skip


def town(first: str = "", second: str = ", second_of: ps-1", more: str = "") -> dict[str, str]:
    devices = f"""
devices:
  - {{id: ps-1, kind: pump_station, interval: 60, grid: east, tags: [flood]{first}}}
  - {{id: ps-2, kind: pump_station, interval: 60, grid: west, tags: [flood]{second}}}
  - {{id: door-1, kind: door_sensor}}
  - {{id: door-2, kind: door_sensor, second_of: door-1}}
{more}"""
    return {"town.yaml": "site: qidu\nname: {zh: 七都}\n", "grids.geojson": GRIDS, "devices.yaml": devices}


PRIMARY_FIRST = town()
SECOND_FIRST = town(first=", second_of: ps-2", second="")


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Callable[..., SmallCentre]]:
    opened: list[SmallCentre] = []

    def make(files: dict[str, str] = PRIMARY_FIRST) -> SmallCentre:
        opened.append(SmallCentre(tmp_path / "c", RULES, town=files).start())
        return opened[-1]

    yield make
    opened[-1].stop()


def both(centre: SmallCentre, at: int, value: float) -> None:
    for device in ("ps-1", "ps-2"):
        centre.level(at, value, device)


def ends(centre: SmallCentre) -> list[tuple[str, str | None]]:
    with centre.records.connect() as tx:
        return [(r.act, r.why) for r in tx.execute(select(alarm_history).where(alarm_history.c.act == "cleared"))]


def reasons(centre: SmallCentre) -> dict[str, dict[str, Any]]:
    """Of the silences."""
    with centre.records.connect() as tx:
        rows = tx.execute(select(occurrences).where(occurrences.c.rule == "gw-silence"))
        return {row.device: row.reason for row in rows}


def raised(centre: SmallCentre) -> set[tuple[str, str]]:
    return {(rule, device) for rule, device, _, _ in centre.occurrences()}


def test_it_is_stored_and_no_rule_judges_it_alone_or_as_a_member(centre: Callable[..., SmallCentre]) -> None:
    c = centre()
    c.level(START, 4.0, "ps-2")
    assert raised(c) == set()
    assert c.stored("ps-2", "level_inside")[START].value == 4.0
    c.level(START + SECOND, 4.0, "ps-1")
    assert raised(c) == {("high", "ps-1"), ("many-high", "grid:east")}
    assert c.ledger()["stored"] == 2


def test_its_door_opens_nothing_and_the_events_it_sends_itself_are_kept(centre: Callable[..., SmallCentre]) -> None:
    c = centre()
    for n, is_open in enumerate((False, True)):
        for door in ("door-1", "door-2"):
            c.send(door, {"at": (START + n * SECOND) // 1000, "open": is_open}, kind="door_sensor")
        c.settle()
    c.send("door-2", {"at": (START + MINUTE) // 1000, "event": "door_opened"}, channel="events", kind="door_sensor")
    c.settle()
    with c.records.connect() as tx:
        found = [(e.device, e.key == "derived") for e in tx.execute(select(events).order_by(events.c.id))]
    numbers = {d.number: d.id for d in c.settler.memory.registry.devices}
    assert [(numbers[device], derived) for device, derived in found] == [("door-1", True), ("door-2", False)]
    assert raised(c) == {("opened", "door-1")}


def test_its_silence_is_told_and_counts_in_no_group(centre: Callable[..., SmallCentre]) -> None:
    c = centre()
    c.settler.link(START)
    both(c, START, 3.0)
    for n in range(1, 20):
        c.now = START + n * MINUTE
        c.level(c.now, 3.0, "ps-1")
        c.settler.tick(c.now)
    assert raised(c) == {("gw-silence", "ps-2")}


def test_the_silence_of_the_primary_says_what_the_second_source_still_tells(
    centre: Callable[..., SmallCentre],
) -> None:
    c = centre()
    c.settler.link(START)
    both(c, START, 3.0)
    c.send("door-1", {"at": START // 1000, "open": False}, kind="door_sensor")
    for n in range(1, 20):
        c.now = START + n * MINUTE
        c.send("ps-2", {"at": c.now // 1000, "level_inside": 3.0 + n / 100, "mains_ok": True})
        c.send("door-2", {"at": c.now // 1000, "open": False}, kind="door_sensor")
        c.settle()
        c.settler.tick(c.now)
    fell_silent = START + 3 * MINUTE
    assert reasons(c)["ps-1"]["second_sources"] == [
        {"device": "ps-2", "last_seen": to_iso(fell_silent), "values": {"level_inside": 3.03, "mains_ok": 1.0}}
    ]
    c.now = START + 10 * DAY
    c.settler.tick(c.now)
    assert reasons(c)["ps-2"]["second_of"] == "ps-1"
    assert "second_sources" not in reasons(c)["ps-2"], "the primary stands in for nobody"
    assert "second_sources" not in reasons(c)["door-1"], "both fell silent at once"


def test_what_a_second_sensor_of_a_home_measured_is_in_no_reason(centre: Callable[..., SmallCentre]) -> None:
    c = centre()
    c.settler.link(START)
    c.send("door-1", {"at": START // 1000, "open": False}, kind="door_sensor")
    c.settle()
    c.now = START + 3 * DAY
    c.send("door-2", {"at": c.now // 1000, "open": True}, kind="door_sensor")
    c.settle()
    c.settler.tick(c.now)
    assert reasons(c)["door-1"]["second_sources"] == [{"device": "door-2", "last_seen": to_iso(c.now), "values": {}}]


def test_its_gaps_leave_no_holes(centre: Callable[..., SmallCentre]) -> None:
    c = centre()
    for at in (START, START + MINUTE, START + 2 * MINUTE, START + 30 * MINUTE):
        both(c, at, 3.0)
    with c.records.connect() as tx:
        found = {row.device for row in tx.execute(select(holes))}
    assert [c.settler.memory.registry.devices[n].id for n in found] == ["ps-1"]


@pytest.mark.parametrize("crash", [False, True])
def test_made_the_second_source_what_stood_of_it_ends_and_says_why(
    centre: Callable[..., SmallCentre], crash: bool
) -> None:
    c = centre()
    both(c, START, 4.0)
    c.stop(crash=crash)
    c = centre(SECOND_FIRST)
    assert [(rule, device, cleared) for rule, device, _, cleared in c.occurrences()] == [
        ("high", "ps-1", START), ("many-high", "grid:east", START),
    ]  # fmt: skip
    assert ends(c) == [("cleared", "device_not_judged")] * 2
    c.level(START + MINUTE, 4.0, "ps-1")
    assert len(c.occurrences()) == 2
    c.level(START + MINUTE, 4.0, "ps-2")
    assert raised(c) >= {("high", "ps-2"), ("many-high", "grid:west")}
    c.stop(crash=crash)
    c = centre(SECOND_FIRST)
    assert len(c.occurrences()) == 4, "the same town once more changes nothing"
    assert len(ends(c)) == 2


def test_what_a_town_does_not_change_goes_on_standing(centre: Callable[..., SmallCentre]) -> None:
    c = centre()
    both(c, START, 4.0)
    c.stop(crash=True)
    c = centre(town(more="  - {id: ps-3, kind: pump_station, grid: east}\n"))
    assert [cleared for *_, cleared in c.occurrences()] == [None, None]
    c.level(START + MINUTE, 3.0, "ps-1")
    assert [cleared for *_, cleared in c.occurrences()] == [START + MINUTE] * 2


def test_an_alarm_of_a_group_ends_where_the_town_has_no_member_of_it_any_more(
    centre: Callable[..., SmallCentre],
) -> None:
    """The rule stays the same and the devices have left what it applies to: nothing else would ever end it."""
    c = centre()
    c.settler.link(START)
    both(c, START, 3.0)
    c.now = START + 40 * MINUTE
    c.settler.tick(c.now)
    assert [cleared for rule, *_, cleared in c.occurrences() if rule == "tagged"] == [None]
    c.stop()
    c = centre({**PRIMARY_FIRST, "devices.yaml": PRIMARY_FIRST["devices.yaml"].replace("tags: [flood]", "tags: []")})
    assert [cleared is None for rule, *_, cleared in c.occurrences() if rule == "tagged"] == [False]


def test_another_interval_and_another_kind_are_taken_at_the_restart(centre: Callable[..., SmallCentre]) -> None:
    c = centre()
    both(c, START, 3.0)
    c.stop()
    more = "  - {id: ps-1, kind: pump_station, interval: 3600}\n"
    c = centre({**PRIMARY_FIRST, "devices.yaml": "devices:\n" + more})
    for at in (MINUTE, 30 * MINUTE):
        c.level(START + at, 3.0, "ps-1")
    with c.records.connect() as tx:
        assert tx.execute(select(holes)).all() == [], "half an hour is no hole of a device that reports hourly"
    c.stop()
    c = centre({**PRIMARY_FIRST, "devices.yaml": "devices:\n  - {id: ps-1, kind: door_sensor}\n"})
    newest = c.settler.memory.newest
    assert len(newest.possible_low) == len(newest.measured_at)
    assert (newest.possible_low[0], newest.possible_high[0]) == (-float("inf"), float("inf"))

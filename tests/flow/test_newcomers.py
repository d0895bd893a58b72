"""Devices and series that the decoder numbers while the settling thread looks at the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.registry import Device, Registry
from flow.memory import Memory
from rules.book import load
from rules.engine import Engine
from tests.flow.centre import START, SmallCentre

SILENT = """
rules:
  - id: dead
    name: {zh: 网关失联}
    when: of_group("gw", absent) > 0.5
    priority: notice
"""


class Growing(list[Any]):
    """Somebody adds to it once, when it has just been read through."""

    def __init__(self, items: list[Any], more: Any) -> None:
        super().__init__(items)
        self._more = more

    def __iter__(self) -> Iterator[Any]:
        for place in range(len(self)):
            yield self[place]
        more, self._more = self._more, lambda: None
        more()


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for name in ("a", "b"):
        registry.series(
            registry.add(Device(0, name, "qidu", "pump_station", tags=frozenset({"gw"}))).number, "level_inside"
        )
    return registry


def test_a_device_that_comes_while_others_are_looked_at_is_met_the_next_time(registry: Registry) -> None:
    memory = Memory(registry, Engine(load({"rules.yaml": SILENT}), registry))
    registry.devices = Growing(registry.devices, lambda: registry.add(Device(0, "c", "qidu", "pump_station")))
    memory.devices_changed()
    known = len(memory.active)
    assert known == len(memory.judged) == len(memory.presence.last_seen) == len(memory.numbering.last) == 2
    memory.presence.tick(1)
    memory.devices_changed()
    assert len(memory.active) == len(memory.judged) == len(memory.presence.last_seen) == 3


def test_a_door_that_comes_while_there_is_made_room_has_its_events(registry: Registry) -> None:
    memory = Memory(registry, Engine(load({"rules.yaml": SILENT}), registry))
    memory.devices_changed()
    doors = [registry.add(Device(0, name, "qidu", "door_sensor")).number for name in ("door-1", "door-2")]
    registry.series(doors[0], "open")
    number, asked = registry.series, iter([True])

    def interrupted(device: int, metric: str) -> int:
        if next(asked, False):
            number(doors[1], "open")
        return number(device, metric)

    registry.series = interrupted  # type: ignore[method-assign]
    memory.devices_changed()
    opens = [n for n, metric in enumerate(registry.series_metric) if metric == "open"]
    assert sorted(memory.door_series) == opens
    assert np.flatnonzero(memory.is_open).tolist() == opens
    assert len(memory.newest.measured_at) == len(registry.series_device)


def test_a_device_that_reports_first_while_the_agenda_is_made_does_not_end_it(registry: Registry) -> None:
    engine = Engine(load({"rules.yaml": SILENT}), registry)
    found = registry.series_devices

    def interrupted() -> Any:
        owner = found()
        if len(registry.devices) < 9:
            registry.series(
                registry.add(Device(0, f"x-{len(registry.devices)}", "qidu", "pump_station")).number, "flow"
            )
        return owner

    registry.series_devices = interrupted  # type: ignore[method-assign]
    engine.link(1)
    assert engine.tick(2).transitions == ()


def test_a_device_that_comes_while_newcomers_are_met_is_saved_with_its_series(tmp_path: Path) -> None:
    """Its series alone would be of a device that the database does not have, and the commit would fail."""
    centre = SmallCentre(tmp_path / "data").start()
    registry = centre.settler.memory.registry

    def another() -> None:
        registry.series(registry.add(Device(0, "new-2", "qidu", "pump_station")).number, "level_inside")

    try:
        centre.send("new-1", {"at": START // 1000, "level_inside": 3.0})
        registry.devices = Growing(registry.devices, another)
        centre.settle()
        assert centre.ledger()["stored"] == 1
        centre.send("new-2", {"at": START // 1000, "level_inside": 3.0})
        centre.settle()
        assert centre.ledger()["stored"] == 2
    finally:
        centre.stop()

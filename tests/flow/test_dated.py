"""A threshold with a date, from the town's file to the alarm: what held at the reading decides, restarts or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from devices.instants import HOUR, MINUTE, to_iso
from store.records.tables import occurrences
from tests.flow.centre import START, TOWN, SmallCentre

RULES = """
rules:
  - {id: over, applies_to: {kind: pump_station}, when: level_inside > attr.limit and level_inside < 9}
"""


@pytest.fixture
def centre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallCentre]:
    devices = f"""
devices:
  - id: ps-1
    kind: pump_station
    interval: 60
    attributes:
      limit: [{{value: 3.5, valid_from: "{to_iso(START)}"}}, {{value: 3.4, valid_from: "{to_iso(START + HOUR)}"}}]
"""
    monkeypatch.setitem(TOWN, "devices.yaml", devices)
    centre = SmallCentre(tmp_path / "data", rules=RULES)
    centre.start()
    yield centre
    centre.stop()


def test_each_reading_is_judged_by_the_threshold_of_its_own_instant(centre: SmallCentre) -> None:
    centre.now = START + 2 * HOUR
    centre.level(START - MINUTE, 8.0)
    centre.level(START + HOUR - MINUTE, 3.45)
    assert centre.occurrences() == []
    centre.level(START + HOUR, 3.45)
    assert centre.occurrences() == [("over", "ps-1", START + HOUR, None)]
    with centre.records.connect() as tx:
        (reason,) = tx.execute(select(occurrences.c.reason)).scalars()
    assert reason["values"]["attr.limit"] == 3.4


def test_it_survives_a_restart(centre: SmallCentre) -> None:
    centre.level(START, 3.45)
    centre.stop(crash=True)
    centre.start()
    centre.level(START + HOUR, 3.45)
    assert centre.occurrences() == [("over", "ps-1", START + HOUR, None)]

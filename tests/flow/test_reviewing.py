"""What counts as the desk's load when a period is reviewed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from devices.instants import DAY, HOUR, MINUTE
from flow.installation import Installation
from flow.reviewing import review_recorded
from rules.book import load
from tests.flow.test_suppression import GRID, RULES, down, up
from tests.flow.town import NOW, Town

SILENT = ("level-silent", "ps-01")


@pytest.fixture
def town(town: Town) -> Town:
    town.book = load({"rules.yaml": RULES})
    return town


def counted(town: Town) -> int:
    here: Any = SimpleNamespace(records=town.records, now=lambda: town.now, zone=ZoneInfo("Asia/Shanghai"))
    return review_recorded(cast(Installation, here), NOW - DAY, NOW + DAY).alarms


def test_what_is_held_back_from_its_raise_to_its_end_is_no_load(town: Town) -> None:
    town.tell(up(*GRID))
    town.later()
    town.tell(up(*SILENT, at=town.now))
    assert counted(town) == 1, "the cause alone"
    town.later()
    town.tell(down(*SILENT, at=town.now), down(*GRID, at=town.now))
    assert counted(town) == 1


def test_what_outlasts_its_cause_or_stood_before_it_is_load(town: Town) -> None:
    town.tell(up(*SILENT))
    town.later()
    town.tell(up(*GRID, at=town.now))
    assert counted(town) == 2
    town.later()
    town.tell(down(*SILENT, at=town.now))
    town.later()
    town.tell(up(*SILENT, at=town.now))
    assert counted(town) == 2
    town.later()
    town.tell(down(*GRID, at=town.now))
    assert counted(town) == 3, "it came back when its cause was over"


def test_what_is_found_later_is_no_load(town: Town) -> None:
    town.tell(up("level-high", "ps-01", NOW))
    town.tell(up("level-high", "ps-02", NOW - 3 * HOUR), down("level-high", "ps-02", NOW - 3 * HOUR + MINUTE))
    assert counted(town) == 1

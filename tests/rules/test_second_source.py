"""A second source of a station is judged by no rule, wherever rules are applied, and whoever asks is told why."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from alerts.categories import BUILT_IN
from devices.documents import DocumentError
from devices.instants import MINUTE
from devices.registry import Device, Registry
from devices.town import read_town
from gridwhistle.across import across
from rules.backtest import Backtest
from rules.book import RuleBook, load
from rules.engine import Engine
from rules.explain import examine
from rules.outcome import Rows
from rules.suppression import membership
from tests.rules.test_scenario import happens, played

RULES = """
rules:
  - {id: high, applies_to: {kind: pump_station}, when: level_inside > 3.5}
  - {id: named, applies_to: {devices: [ps-2]}, when: level_inside > 3.5}
  - {id: many, applies_to: {kind: pump_station}, when: in_grid(count(level_inside > 3.5) >= 1)}
  - {id: share, when: 'of_group("flood", absent) > 0.4'}
"""


def a_book() -> RuleBook:
    return load({"rules.yaml": RULES})


def a_station(second: str | None = "ps-1") -> Registry:
    registry = Registry()
    for name, first in (("ps-1", None), ("ps-2", second)):
        device = Device(0, name, "s", "pump_station", grid="east", tags=frozenset({"flood"}), second_of=first)
        registry.series(registry.add(device).number, "level_inside")
    return registry


def both_high(at: Iterable[int] = (0, 1)) -> Rows:
    instants = [10**15 + n * MINUTE for n in at for _ in range(2)]
    series = np.tile(np.array([0, 1], np.int32), len(instants) // 2)
    element = np.arange(len(instants), dtype=np.int32)
    return Rows(series, np.array(instants, np.int64), np.full(len(instants), 4.0), element, series)


def test_the_engine_and_the_backtest_judge_the_primary_alone() -> None:
    engine = Engine(a_book(), a_station(), grid_tree={"east": frozenset({"east"})})
    found = engine.evaluate(both_high()).transitions
    assert {(t.rule, t.device) for t in found} == {("high", "ps-1"), ("many", "grid:east")}
    run = Backtest(a_book(), a_station(), grid_tree={"east": frozenset({"east"})})
    run.feed(both_high())
    assert {(f.rule, f.device) for f in run.findings()} == {("high", "ps-1"), ("many", "grid:east")}


@pytest.mark.parametrize("rule", ["high", "named"])
def test_explain_says_whose_second_source_it_is(rule: str) -> None:
    told = examine(Engine(a_book(), a_station()), rule, "ps-2", 10**15)
    assert told["state"] == "not_judged"
    assert told["why"] == [{
        "code": "second_source",
        "zh": "它是 ps-1 的第二来源：入库、比对，不参与判断",
        "en": "it is the second source of ps-1: stored and compared, never judged",
    }]  # fmt: skip


def test_what_holds_back_the_alarms_of_a_group_leaves_its_own_alone() -> None:
    registry = a_station()
    belongs = membership(a_book().rules["share"], "group:flood", lambda grid: frozenset({grid}))
    assert [belongs(device) for device in registry.devices] == [True, False]


STORY = """
name: 双源
rules:
  - {id: high, applies_to: {kind: pump_station}, when: level_inside > 3.5}
devices:
  - {kind: pump_station, id: ps-1}
  - {kind: pump_station, id: ps-2, second_of: %s}
every: 1m
series: {ps-1: {level_inside: [3.0, 3.0]}, ps-2: {level_inside: [4.0, 4.0]}}
"""


def test_a_scenario_plays_it_as_the_service_does() -> None:
    assert happens(STORY % "ps-1") == []
    assert happens(STORY.replace(", second_of: %s", "")) == ["0s raised high ps-2"]


def test_a_scenario_tells_the_same_mistakes_as_a_town() -> None:
    with pytest.raises(DocumentError) as caught:
        played(STORY % "ps-l" + "expect: []\n")
    (mistake,) = caught.value.mistakes
    assert (mistake.line, mistake.message) == (7, "second_of: there is no device 'ps-l'; nearest: ps-1")


def test_check_counts_it_among_no_rule_s_devices() -> None:
    entries = "devices:\n  - {id: ps-1, kind: pump_station, grid: east, tags: [flood]}\n"
    entries += "  - {id: ps-2, kind: pump_station, grid: east, tags: [flood], second_of: ps-1}\n"
    grids = '{"features": [{"properties": {"id": "east", "name": "东片"}, "geometry": null}]}'
    town = read_town({"town.yaml": "site: s\nname: {zh: 镇}\n", "grids.geojson": grids, "devices.yaml": entries})
    book = a_book()
    assert [m.message for m, _ in across(book, book.files, town, BUILT_IN)] == [
        "named: applies to no device of the town"
    ]

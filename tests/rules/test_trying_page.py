"""docs/trying-rules.md: every scenario on it passes, and its numbers are those of the code."""

from __future__ import annotations

import pytest

from devices.instants import MINUTE
from rules.comparison import NEAR
from rules.review import CHATTER_TIMES, CHATTER_WITHIN, FLEETING_BELOW, RATE_WINDOW, STALE_ABOVE, TARGETS
from rules.scenario import play
from rules.scenario_file import parse_scenarios
from rules.scenario_models import DeclaredEntry, DeviceEntry, ScenarioEntry
from rules.suggest import REPORTS
from tests.docs.pages import blocks, read, table_under

PAGE = read("docs/trying-rules.md")


@pytest.mark.parametrize("sample", [block.text for block in blocks(PAGE, "yaml")])
def test_a_scenario_of_the_page_passes(sample: str) -> None:
    for scenario in parse_scenarios(sample, "docs/trying-rules.md", lambda _: {}):
        assert play(scenario).ok, scenario.name


def test_every_key_is_on_the_page() -> None:
    table = table_under(PAGE, "| key | meaning | without it |")
    keys = " ".join(row[0] for row in table)
    for name in ScenarioEntry.model_fields:
        assert f"`{name}`" in keys, name
    (device,) = (row[1] for row in table if "`device`" in row[0])
    assert all(f"`{name}`" in device for name in DeviceEntry.model_fields)
    (declared,) = (row[1] for row in table if "`declared`" in row[0])
    assert all(f"`{name}: " in declared for name in DeclaredEntry.model_fields)


def test_the_measures_of_the_page_are_those_of_the_review() -> None:
    assert (RATE_WINDOW, CHATTER_TIMES, CHATTER_WITHIN) == (10 * MINUTE, 3, MINUTE)
    assert (FLEETING_BELOW, STALE_ABOVE, NEAR) == (MINUTE, 24 * 60 * MINUTE, 60 * MINUTE)
    assert REPORTS == 10
    rows = table_under(PAGE, "| measure | what is counted | very likely acceptable |")
    told = [row[2].removeprefix("at most ").removeprefix("fewer than ").removesuffix(" %") for row in rows]
    names = ("per_day", "worst_ten_minutes", "chattering", "fleeting", "stale", "worst_rules")
    assert [float(number) for number in told] == [TARGETS[n] * (100 if n == "worst_rules" else 1) for n in names]

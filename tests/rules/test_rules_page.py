"""docs/rules.md: every sample is played and gives just what it says, and what the page says about limits is so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from devices.instants import DAY
from rules.entries import MAX_LEVELS, MAX_REPEAT, MAX_RULES, RuleEntry
from rules.history import MOST_SAMPLES
from rules.language import FUNCTIONS, MAX_AHEAD, MAX_DEPTH, MAX_DURATION, MAX_LENGTH, MAX_WINDOW, MAX_WINDOWS
from rules.scenario import Status, play
from rules.scenario_file import parse_scenarios
from rules.scenario_models import Common, ScenarioEntry
from rules.trend import LEAST_FIT, LEAST_PART, LEAST_POINTS, MOST_POINTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
# A function stands in a heading; what is said of it goes to the next heading.
SECTIONS = re.findall(r"^##+ (.*`.*)\n((?:(?!^##).*\n)*)", PAGE, re.MULTILINE)


def _read(path: str) -> Mapping[str, str]:
    raise AssertionError(f"a sample of the page stands by itself, this one reads {path}")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.partition("\n")[0])
def test_a_sample_gives_the_alarms_it_says_and_no_others(sample: str) -> None:
    for scenario in parse_scenarios(sample, "docs/rules.md", _read):
        played = play(scenario)
        told = [
            f"{line.status} {edge.rule} {edge.edge} {(line.at - scenario.start) / 60e6:g}m"
            for line in played.lines if line.status is not Status.MATCHED
            for edge in (line.expected or line.happened,) if edge is not None
        ]  # fmt: skip
        assert told == []
        assert {line.happened.rule for line in played.lines if line.happened is not None} == set(scenario.book.rules)
        assert all(rule.id not in (rule.name_zh, rule.name_en) for rule in scenario.book.rules.values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_how_it_behaves_and_is_shown(name: str) -> None:
    texts = [text for heading, text in SECTIONS if re.search(rf"`[^`]*\b{name}\(", heading)]
    assert texts, "has no section"
    for word in ("Missing data", "Irregular sampling", "Window edges", "Restart"):
        assert all(f"\n- {word}" in text for text in texts), word
    assert any(re.search(rf"(when|clear): .*\b{name}\(", sample) for sample in SAMPLES), "is in no sample"


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    for told in (
        f"at most {MAX_LENGTH:,} characters, {MAX_DEPTH} operations inside one another and {MAX_WINDOWS} functions",
        f"a window is at most {MAX_WINDOW // DAY} days, a forecast looks at most {MAX_AHEAD // DAY} days ahead",
        f"a duration is at most {MAX_DURATION // DAY} days, a rule has at most {MAX_LEVELS} levels",
        f"`repeat` at most {MAX_REPEAT} readings, a book {MAX_RULES:,} rules",
        f"Of one series at most {MOST_SAMPLES:,} samples are looked back on",
        f"More than {MOST_POINTS} values are thinned to {MOST_POINTS}",
    ):
        assert told in PAGE, told
    words = {3: "three", 5: "five"}
    assert f"fewer than {words[LEAST_POINTS]} values in the window" in PAGE
    assert (LEAST_PART, LEAST_FIT) == (0.5, 0.5)
    assert "explains at least half" in PAGE
    assert "span less than half of it" in PAGE


def test_every_key_of_a_rule_and_of_a_scenario_is_in_its_table() -> None:
    for model, ends in ((RuleEntry, "## Conditions"), (ScenarioEntry, "Times are durations")):
        table = PAGE.partition(ends)[0].rpartition("| --- |")[2]
        keys = {field.alias or name for name, field in model.model_fields.items()} - set(Common.model_fields)
        missing = {key for key in keys if f"`{key}`" not in table and f"| `{key}`" not in table}
        assert not missing

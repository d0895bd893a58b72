"""docs/rules.md: every sample loads, and what the page says about limits is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devices.instants import DAY
from rules.book import load
from rules.language import FUNCTIONS, MAX_DEPTH, MAX_DURATION, MAX_LENGTH, MAX_WINDOW

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_of_the_page_is_a_rule_file(sample: str) -> None:
    assert load({"docs/rules.md": sample}).rules


def test_every_function_has_a_section_and_a_sample() -> None:
    for name in FUNCTIONS:
        assert re.search(rf"^## `{name}\(", PAGE, re.MULTILINE), name
        assert any(f"{name}(" in sample for sample in SAMPLES), name


def test_the_limits_of_the_page_are_those_of_the_language() -> None:
    told = f"at most {MAX_LENGTH:,} characters and {MAX_DEPTH} operations"
    assert told in PAGE
    assert f"a window is at most {MAX_WINDOW // DAY} days, a duration at most {MAX_DURATION // DAY}." in PAGE

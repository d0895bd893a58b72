"""Levels above different datums are neither compared nor subtracted."""

from __future__ import annotations

import pytest

from rules.book import load
from rules.datum import datum_slips, has_own_datum, mixes_datums
from rules.rule import Rule

SAME = {"datum": "吴淞", "outside_warning_level": 3.8}
# The gauge outside was levelled anew, the limits and the gauge inside were not.
NEW_OUTSIDE = {"datum": "吴淞", "level_outside_datum": "1985"}


def rule(when: str, clear: str | None = None) -> Rule:
    lines = f"rules:\n  - id: a\n    when: '{when}'\n" + (f"    clear: '{clear}'\n" if clear else "")
    return load({"a.yaml": lines}).rules["a"]


@pytest.mark.parametrize(
    "when",
    [
        "level_outside - level_inside > 0.3",
        "level_outside > level_inside",
        "level_outside > attr.outside_warning_level",
        "level_inside > 3 and not level_outside > attr.dyke_level - 0.5",
        "avg(level_outside, 10m) > level_inside",
        "forecast(level_outside, 1h) > attr.outside_warning_level",
        "(level_outside + level_inside) / 2 > 3",
        "level_outside * 2 > level_inside",
        "level_outside > by_response(attr.outside_warning_level, 3, 3, 3, 3)",
        "in_grid(count(level_outside > level_inside) > 2)",
        "max(level_outside, 1h) - min(level_inside, 1h) > 1",
    ],
)
def test_two_datums_do_not_meet(when: str) -> None:
    assert mixes_datums(rule(when), NEW_OUTSIDE)
    assert not mixes_datums(rule(when), SAME)
    assert datum_slips(rule(when), SAME) == []


@pytest.mark.parametrize(
    "when",
    [
        "level_outside > 4.2 and level_inside > 3",
        "level_outside - 0.2 > 3",
        "level_outside > attr.another",  # nobody says that it is a level
        "delta(level_outside, 1h) > 0.1 and level_inside > attr.inside_limit_level",
        "delta(level_outside, 1h) > delta(level_inside, 1h)",
        "rate(level_outside, 1h) > 0 and level_outside > 2",
        "level_inside - attr.inside_limit_level > 0.1 or flat(level_outside, 1h, 0)",
        "gate_height > 0.1 and level_outside > 3",
    ],
)
def test_what_is_no_level_or_stays_apart_is_fine(when: str) -> None:
    assert not mixes_datums(rule(when), NEW_OUTSIDE)


def test_a_difference_is_above_no_datum() -> None:
    both = {"datum": "吴淞", "level_outside_datum": "1985", "outside_warning_level_datum": "1985"}
    assert not mixes_datums(rule("level_outside - attr.outside_warning_level > level_inside - attr.dyke_level"), both)


def test_a_limit_may_have_the_datum_of_its_gauge() -> None:
    assert not mixes_datums(rule("level_outside > attr.mark"), {"level_outside_datum": "1985", "mark_datum": "1985"})
    assert mixes_datums(rule("level_outside > attr.mark"), {"level_outside_datum": "1985", "mark_datum": "吴淞"})
    assert not mixes_datums(rule("level_outside > level_inside"), {"level_outside_datum": "1985"}), (
        "the other is unknown"
    )
    assert has_own_datum({"a_datum": "x"})
    assert not has_own_datum(SAME)


def test_clear_and_levels_count_too_and_the_slip_says_what_meets() -> None:
    told = datum_slips(rule("level_outside > 4", "level_outside < level_inside"), NEW_OUTSIDE)
    assert told == ["level_outside < level_inside: level_outside is above 1985, level_inside is above 吴淞"]
    text = "rules:\n  - {id: a, levels: [{priority: low, when: level_outside > attr.outside_warning_level}]}\n"
    assert mixes_datums(load({"a.yaml": text}).rules["a"], NEW_OUTSIDE)

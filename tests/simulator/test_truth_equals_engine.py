"""What the simulator says must be raised is what the rules raise: two tellings of the same rules, one township."""

from __future__ import annotations

import pytest

from devices.instants import MINUTE
from simulator.reports import CLOCK_STEP
from simulator.truth import compare
from simulator.watches import RULES
from tests.simulator.township import Judge, rulebook, stretch, truth, world

# Long runs are judged in larger batches: the finding may not depend on it.
SELDOM = 4 * MINUTE


def test_every_shipped_rule_has_its_second_telling() -> None:
    assert frozenset(rulebook().rules) == RULES


@pytest.mark.parametrize(
    ("scenario", "hours", "seed", "step"),
    [
        ("showcase", 1, 1, CLOCK_STEP),
        ("showcase", 1, 2, CLOCK_STEP),
        ("flood", 28, 1, SELDOM),
        ("ordinary", 30, 1, SELDOM),
        ("calm", 12, 1, SELDOM),
        ("silent-elder", 40, 1, SELDOM),
        ("bloom", 30, 1, SELDOM),
    ],
)
def test_truth_is_what_the_engine_finds(scenario: str, hours: float, seed: int, step: int) -> None:
    of = world(scenario, seed=seed)
    judge = Judge(of.town, of.start)
    for item in stretch(of, hours, step):
        if isinstance(item, int):
            judge.clock(item)
        else:
            judge.hear(item)
    expected, until = truth(of, hours, step)
    found = compare(expected, judge.raised, until=until)
    assert (found["missed"], found["false"]) == ([], [])
    assert found["expected"] == found["matched"]
    # Not only within an interval: to the microsecond, and cleared at the same instants.
    assert sorted((e.rule, e.device, e.raised_at) for e in expected) == sorted(judge.raised)
    assert sorted((e.rule, e.device, e.cleared_at) for e in expected if e.cleared_at) == sorted(judge.cleared)

"""The rules benchmark runs, agrees with the oracle, and prints what the issue and the README name."""

from __future__ import annotations

import json

import pytest

from benchmarks import rules
from benchmarks.river import METRICS, River, batches, make_registry, plain_rules
from rules.engine import Engine


def test_a_quick_run_prints_one_object_with_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    rules.main(["--json", "--quick"])
    out, progress = capsys.readouterr()
    found = json.loads(out)
    assert found["plain"]["evaluations_per_s"] > 0
    assert found["plain"]["vs_oracle"] > 0
    assert found["plain"]["transitions_per_million"] > 10
    assert {(n, b) for n, rates in found["plain"]["by_rules_and_batch"].items() for b in rates} == {
        (n, b) for n in ("100", "1000") for b in ("100", "1000", "10000")
    }
    assert found["windowed"]["evaluations_per_s"] > 0
    assert len(found["windowed"]["by_function"]) == 10
    assert found["backtest"]["findings"] > 0
    assert {"restore_s", "snapshot_s", "bind_s"} <= found["state"].keys()
    assert all(value > 0 for value in found["memory"].values())
    assert "oracle" in progress
    assert found["machine"]["cores"] >= 1


def test_for_people_it_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    rules.main(["--quick", "--only", "backtest"])
    out, _ = capsys.readouterr()
    assert "backtest / readings: 20,000" in out


def test_each_reading_meets_five_rules_that_share_one_kernel() -> None:
    book, devices = plain_rules(5, 4), make_registry(1_000, groups=4)
    assert len(book.rules) == 100
    engine = Engine(book, devices)
    (kernel,) = engine._bound.binding.kernels
    assert len(kernel) == 5 * 1_000


def test_the_river_goes_on_and_its_elements_are_whole() -> None:
    river = River(50, 0.01)
    first, then = river.rows(120), river.rows(10)
    assert (len(first), len(then)) == (150, 50)
    assert first.at.max() < then.at.min()
    parts = list(batches(first, 100))
    assert [len(part) for part in parts] == [100, 50]
    assert parts[0].element[-1] != parts[1].element[0]
    assert [int((first.element == n).sum()) for n in range(3)] == [len(METRICS)] * 3


def test_a_difference_to_the_oracle_is_not_passed_over() -> None:
    with pytest.raises(AssertionError, match="differ"):
        rules.agree([], [("r", "m-0", "raised", 0)], 1)

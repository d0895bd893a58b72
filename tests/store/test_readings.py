"""What every time-series store must do; each backend runs the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from store.readings import Fn, Point, ReadingStore
from store.readings.duckdb import DuckDBReadings
from tests.store.opened import columns

Open = Callable[[], ReadingStore]


@pytest.fixture(params=["duckdb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[ReadingStore] = []

    def open_again() -> ReadingStore:
        for store in opened:
            store.close()
        opened[:] = [DuckDBReadings(tmp_path / "readings.duckdb")]
        return opened[0]

    yield open_again
    for store in opened:
        store.close()


def test_what_is_appended_is_read_back_in_order_of_time(open_store: Open) -> None:
    store = open_store()
    store.append(1, [columns((7, 30, 3.0), (7, 10, 1.0), (8, 10, 9.0)), columns((7, 20, 2.0))])
    points = store.range(7, 10, 31, 100)
    assert points.measured_at.tolist() == [10, 20, 30]
    assert points.value.tolist() == [1.0, 2.0, 3.0]
    assert store.range(7, 10, 30, 1).value.tolist() == [1.0]
    assert store.latest() == {7: Point(30, 3.0, 0), 8: Point(10, 9.0, 0)}
    assert store.latest([8, 99]) == {8: Point(10, 9.0, 0)}
    assert store.series() == {7: 3, 8: 1}


def test_several_series_are_read_as_one_in_order_of_time(open_store: Open) -> None:
    store = open_store()
    store.append(1, [columns((7, 30, 3.0), (9, 10, 5.0), (7, 10, 1.0), (8, 10, 9.0)), columns((7, 20, 2.0))])
    found = store.slice([9, 7], 10, 30, 100)
    rows = zip(found.measured_at.tolist(), found.series.tolist(), found.value.tolist(), strict=True)
    assert list(rows) == [(10, 7, 1.0), (10, 9, 5.0), (20, 7, 2.0)]
    assert store.slice([9, 7], 10, 30, 2).measured_at.tolist() == [10, 10]
    assert len(store.slice([], 0, 99, 9)) == len(store.slice([99], 0, 99, 9)) == 0


def test_a_number_already_applied_changes_nothing_even_after_a_restart(open_store: Open) -> None:
    store = open_store()
    store.append(5, [columns((1, 10, 1.0))])
    store.append(5, [columns((1, 20, 2.0))])
    store = open_store()
    store.append(4, [columns((1, 30, 3.0))])
    assert store.applied() == 5
    assert store.series() == {1: 1}


def test_the_later_arrival_replaces_the_value_of_an_instant(open_store: Open) -> None:
    store = open_store()
    store.append(1, [columns((1, 10, 1.0), (1, 11, 1.5))])
    store.append(2, [columns((1, 10, 2.0), (2, 5, 7.0), (1, 10, 3.0), (2, 5, 8.0), replaces=(0, 2, 3))])
    assert store.range(1, 0, 99, 9).value.tolist() == [3.0, 1.5]
    assert store.range(2, 0, 99, 9).value.tolist() == [8.0]


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (Fn.AVG, [2.0, 10.0]),
        (Fn.MIN, [1.0, 10.0]),
        (Fn.MAX, [3.0, 10.0]),
        (Fn.SUM, [4.0, 10.0]),
        (Fn.COUNT, [2.0, 1.0]),
        (Fn.LAST, [1.0, 10.0]),
    ],
)
def test_a_bucket_folds_what_was_measured_in_it(open_store: Open, fn: Fn, expected: list[float]) -> None:
    store = open_store()
    store.append(1, [columns((1, 100, 3.0), (1, 159, 1.0), (1, 200, 10.0), (1, 300, 99.0), (2, 100, 5.0))])
    at, value = store.aggregate(1, 100, 300, 100, fn)
    assert at.tolist() == [100, 200]
    assert value.tolist() == expected


def test_finding_says_which_instants_are_stored(open_store: Open) -> None:
    store = open_store()
    store.append(1, [columns((1, 10, 1.0), (2, 20, 2.0))])
    position, value = store.find(np.array([2, 1, 1], np.int32), np.array([20, 11, 10], np.int64))
    assert position.tolist() == [0, 2]
    assert value.tolist() == [2.0, 1.0]
    position, value = store.find(np.empty(0, np.int32), np.empty(0, np.int64))
    assert not len(position)


def test_values_come_back_to_the_last_bit(open_store: Open) -> None:
    store = open_store()
    values = [0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308]
    store.append(1, [columns(*((1, i, v) for i, v in enumerate(values)))])
    assert store.range(1, 0, 99, 9).value.tobytes() == np.array(values).tobytes()

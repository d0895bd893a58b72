"""The readings store is away: the journal takes everything, and what could not be told apart is put right after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devices.batch import F64, I32, I64
from devices.instants import MINUTE
from store.readings import Columns, StoreUnavailable
from store.readings.duckdb import DuckDBReadings
from tests.flow.centre import START, SmallCentre


class Away(DuckDBReadings):
    """A real store whose disk can be pulled out."""

    away = False
    trips = 0

    def append(self, number: int, batches: Sequence[Columns]) -> None:
        if self.trips:
            self.trips -= 1
            raise IndexError("a mistake of ours")
        if self.away:
            raise StoreUnavailable("away")
        super().append(number, batches)

    def find(self, series: I32, measured_at: I64) -> tuple[I64, F64]:
        if self.away:
            raise StoreUnavailable("away")
        return super().find(series, measured_at)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    centre = SmallCentre(tmp_path / "data", store=Away).start()
    yield centre
    centre.stop()


def test_readings_alarms_and_orders_go_on_and_the_store_catches_up(centre: SmallCentre) -> None:
    store = centre.readings
    assert isinstance(store, Away)
    store.away = True
    centre.level(START, 3.4)
    centre.level(START + MINUTE, 3.6)
    assert [rule for rule, *_ in centre.occurrences()] == ["high"]
    assert not centre.settler.appender.drain(0.3)
    assert centre.settler.appender.trouble == "away"
    store.away = False
    assert [p.value for p in centre.stored("ps-1", "level_inside").values()] == [3.4, 3.6]
    assert centre.settler.appender.trouble is None


def test_a_repeat_that_could_not_be_looked_up_is_counted_right_in_the_end(centre: SmallCentre) -> None:
    store = centre.readings
    assert isinstance(store, Away)
    for minute in range(3):
        centre.level(START + minute * MINUTE, 3.0 + minute / 10)
    centre.settler.appender.drain(5)
    store.away = True
    centre.level(START, 3.0)  # the same again
    centre.level(START + MINUTE, 9.9)  # another value of the same instant
    centre.level(START - MINUTE, 2.9)  # new, only late
    assert centre.ledger() == {"received": 6, "stored": 6, "late": 3, "flagged": 1}
    store.away = False
    assert [p.value for p in centre.stored("ps-1", "level_inside").values()] == [2.9, 3.0, 9.9, 3.2]
    assert centre.ledger() == {"received": 6, "stored": 4, "duplicate": 1, "replaced": 1, "late": 1}
    assert sum(centre.readings.series().values()) == 4


def test_a_mistake_in_the_store_does_not_end_the_moving(centre: SmallCentre) -> None:
    store = centre.readings
    assert isinstance(store, Away)
    store.trips = 1
    centre.level(START, 3.4)
    assert [p.value for p in centre.stored("ps-1", "level_inside").values()] == [3.4]
    assert centre.settler.appender.trouble is None

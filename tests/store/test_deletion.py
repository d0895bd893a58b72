"""Deleting readings, what it leaves, and that every one that went is told exactly once."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np

from devices.instants import DAY, HOUR, MINUTE, SECOND
from store.readings import Fn, Roll
from store.readings.layout import RAW, Reading
from tests.store.opened import Opened
from tests.store.test_upkeep import SERIES, Stored, asked, check_all, counted, fill

FIRST = 20_000 * DAY


def delete(opened: Opened, *spans: tuple[int, int, int]) -> int:
    columns = np.array(spans, np.int64).reshape(-1, 3)
    return opened.store.delete(columns[:, 0].astype(np.int32), columns[:, 1].copy(), columns[:, 2].copy())


def without(stored: Stored, *spans: tuple[int, int, int]) -> Stored:
    return {
        (s, at): value for (s, at), value in stored.items()
        if not any(s == series and start <= at < end for series, start, end in spans)
    }  # fmt: skip


def test_deleting_takes_only_what_was_measured_in_the_span_and_says_how_many(opened: Opened) -> None:
    stored = fill(opened, [20_000, 20_001])
    spans: tuple[tuple[int, int, int], ...] = (
        (1, 0, FIRST + 6 * HOUR),
        (2, FIRST + HOUR, FIRST + 2 * HOUR),
        (2, FIRST + DAY, FIRST + DAY + HOUR),
    )
    assert delete(opened, *spans) == 6 * 6 + 6 + 6
    check_all(opened, without(stored, *spans), rolled=True)
    assert delete(opened, *spans) == 0
    opened.keep_up(20_003 * DAY)
    spans = (*spans, (3, 0, FIRST + DAY + MINUTE))
    assert delete(opened, spans[-1]) == 145
    check_all(opened, without(stored, *spans), rolled=True)


def test_a_day_without_readings_has_no_table(opened: Opened) -> None:
    fill(opened, [20_000, 20_001])
    opened.keep_up(20_003 * DAY)
    delete(opened, *((s, 0, FIRST + DAY) for s in range(SERIES)))
    with opened.store._file.reading() as now:
        assert [part.number for part in now.parts(RAW)] == [20_001]


def test_what_went_is_told_by_number_until_it_is_acknowledged(opened: Opened) -> None:
    fill(opened, [20_000])
    delete(opened, (0, 0, FIRST + HOUR), (1, 0, FIRST + HOUR))
    delete(opened, (1, FIRST + HOUR, FIRST + 3 * HOUR))
    store = opened.again()
    told = store.deletions()
    assert [(d.series, d.count) for d in told] == [(0, 6), (1, 6), (1, 12)]
    numbers = [d.number for d in told]
    assert numbers[0] == numbers[1] < numbers[2]
    assert store.deletions(numbers[0]) == told[2:]
    store.acknowledge(numbers[0])
    assert opened.again().deletions() == told[2:]
    opened.store.acknowledge(numbers[2])
    delete(opened, (1, 0, FIRST + DAY))
    assert opened.store.deletions()[0].number > numbers[2]  # no number is given twice


def test_minutes_and_hours_stay_when_readings_go(opened: Opened) -> None:
    stored = fill(opened, [20_000, 20_001], every=20 * SECOND)
    opened.keep_up(20_003 * DAY)
    delete(opened, (1, 0, FIRST + DAY))
    for opened_again in (False, True):
        if opened_again:
            opened.again()
        for every in (MINUTE, 5 * MINUTE, HOUR, DAY):
            for fn in Fn:
                span = (1, FIRST, FIRST + 2 * DAY, every, fn)
                assert asked(opened, *span) == counted(stored, *span)
        # Finer than what is left: a point a minute.
        assert len(asked(opened, 1, FIRST, FIRST + HOUR, SECOND, Fn.AVG)) == 60
        assert opened.store.first(1, 0, FIRST + 2 * DAY) == FIRST
    opened.store.forget(Roll.MINUTES, FIRST + DAY)
    hours = (1, FIRST, FIRST + 2 * DAY, HOUR, Fn.AVG)
    assert asked(opened, *hours) == counted(stored, *hours)
    by_minute = asked(opened, 1, FIRST, FIRST + DAY, MINUTE, Fn.COUNT)
    assert by_minute == [(FIRST + hour * HOUR, 180.0) for hour in range(24)]
    # However a span is cut, as pages cut it, nothing that is left is lost or doubled.
    for every, step in ((MINUTE, 50 * MINUTE), (SECOND, 10_007 * SECOND), (7 * SECOND, 700 * SECOND)):
        pieces = [
            n
            for start in range(FIRST, FIRST + 2 * DAY, step)
            for _, n in asked(opened, 1, start, min(start + step, FIRST + 2 * DAY), every, Fn.COUNT)
        ]
        assert sum(pieces) == 2 * 24 * 180
    assert opened.store.first(1, FIRST + HOUR, FIRST + HOUR + MINUTE) == FIRST + HOUR
    # Of another series, whose readings are there, nothing is coarser than asked.
    minutes = (2, FIRST, FIRST + 2 * DAY, MINUTE, Fn.LAST)
    assert asked(opened, *minutes) == counted(stored, *minutes)
    opened.store.forget(Roll.HOURS, FIRST + DAY, [1])
    assert asked(opened, 1, FIRST, FIRST + DAY, HOUR, Fn.AVG) == []
    assert asked(opened, 2, FIRST, FIRST + DAY, HOUR, Fn.AVG) != []


def test_what_comes_late_for_a_time_that_is_deleted_changes_no_hour(opened: Opened) -> None:
    stored = fill(opened, [20_000])
    opened.keep_up(20_002 * DAY)
    delete(opened, (1, 0, FIRST + DAY))
    opened.put((1, FIRST + 90 * SECOND, 1_000.0))
    opened.keep_up(20_002 * DAY)
    day = (1, FIRST, FIRST + DAY, HOUR, Fn.MAX)
    assert asked(opened, *day) == counted(stored, *day)
    assert delete(opened, (1, 0, FIRST + DAY)) == 1


def test_a_part_that_is_being_written_anew_loses_what_is_deleted_and_what_is_replaced(opened: Opened) -> None:
    stored = fill(opened, [20_000])
    now, upkeep = 20_002 * DAY, opened.store.maintenance
    while upkeep.fold(now) or upkeep.carry(now):
        pass
    assert upkeep.compact(now)
    upkeep.step(now)  # all series are in the new table; the next piece puts it in place
    stored[2, FIRST] = 77.0
    opened.put((2, FIRST, 77.0), replaces=(0,))
    upkeep.step(now)
    assert opened.store._file.building is None
    check_all(opened, stored)
    opened.keep_up(now)
    opened.put(*((1, FIRST + second * SECOND, 1.0) for second in range(1, 99)))
    stored |= {(1, FIRST + second * SECOND): 1.0 for second in range(1, 99)}
    while opened.store._file.building is None:
        assert upkeep.step(now)
    upkeep.step(now)
    delete(opened, (3, 0, FIRST + HOUR))
    opened.keep_up(now)
    check_all(opened, without(stored, (3, 0, FIRST + HOUR)), rolled=True)


def test_what_upkeep_carries_on_meanwhile_is_deleted_all_the_same(opened: Opened) -> None:
    """A device is rejected in the settling thread while the maintenance thread makes a day's table."""
    stored = fill(opened, [20_000])
    keeping, turns = opened.store._file.keeping, [True]

    def carried_first() -> AbstractContextManager[Reading]:
        if len(turns) == 2:  # after the series are marked, before what has arrived is looked at
            opened.store._file.keeping = keeping  # type: ignore[method-assign]
            opened.keep_up(20_002 * DAY)
        turns.append(True)
        return keeping()

    opened.store._file.keeping = carried_first  # type: ignore[assignment, method-assign]
    assert delete(opened, (1, 0, FIRST + DAY)) == 144
    check_all(opened, without(stored, (1, 0, FIRST + DAY)), rolled=True)


def test_a_part_that_goes_just_before_it_is_written_anew_stops_no_upkeep(opened: Opened) -> None:
    fill(opened, [20_000])
    upkeep, file, now = opened.store.maintenance, opened.store._file, 20_002 * DAY
    while upkeep.fold(now) or upkeep.carry(now):
        pass
    keeping = file.keeping

    def gone_first() -> AbstractContextManager[Reading]:
        file.keeping = keeping  # type: ignore[method-assign]
        delete(opened, *((s, 0, FIRST + DAY) for s in range(SERIES)))
        return keeping()

    file.keeping = gone_first  # type: ignore[assignment, method-assign]
    upkeep.compact(now)
    opened.keep_up(now)
    assert opened.store.series() == {}


def test_series_that_come_while_others_are_deleted_have_room(opened: Opened) -> None:
    fill(opened, [20_000])
    file, keeping = opened.store._file, opened.store._file.keeping

    def grown_first() -> AbstractContextManager[Reading]:
        file.keeping = keeping  # type: ignore[method-assign]
        opened.put((500, FIRST, 1.0))
        return keeping()

    file.keeping = grown_first  # type: ignore[assignment, method-assign]
    delete(opened, (1, 0, FIRST + DAY))
    assert len(file.since) == len(file.known) > 500
    assert file.since_of(1) == FIRST + DAY

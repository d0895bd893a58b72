"""Whatever upkeep has done or not, in whatever order: what is asked is answered as plain counting answers it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.instants import DAY, HOUR, MINUTE, SECOND
from store.readings import Fn, Point, layout
from store.readings import upkeep as pieces
from store.readings.layout import MINUTES, RAW
from tests.store.opened import Opened, columns

SOAK = os.environ.get("GRIDWHISTLE_SOAK") == "1"
NOON = 20_000 * DAY + 12 * HOUR
SERIES = 4
Stored = dict[tuple[int, int], float]


def counted(stored: Stored, series: int, start: int, end: int, every: int, fn: Fn) -> list[tuple[int, float]]:
    """`aggregate`, by the book."""
    buckets: dict[int, list[float]] = {}
    for (s, at), value in sorted(stored.items()):
        if s == series and start <= at < end:
            buckets.setdefault(at // every * every, []).append(value)
    fold: dict[Fn, Callable[[list[float]], float]] = {
        Fn.AVG: lambda v: sum(v) / len(v), Fn.MIN: min, Fn.MAX: max, Fn.SUM: sum, Fn.COUNT: len,
        Fn.LAST: lambda v: v[-1],
    }  # fmt: skip
    return [(at, float(fold[fn](values))) for at, values in sorted(buckets.items())]


def asked(opened: Opened, series: int, start: int, end: int, every: int, fn: Fn) -> list[tuple[int, float]]:
    at, value = opened.store.aggregate(series, start, end, every, fn)
    return list(zip(at.tolist(), value.tolist(), strict=True))


def latest(stored: Stored) -> dict[int, Point]:
    return {s: Point(at, value, 0) for (s, at), value in sorted(stored.items())}


def test_what_the_store_has_cached_is_given_back_after_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "WAL_BYTES", 1)
    monkeypatch.setattr(layout, "_RESTING", "2MB")
    with Opened(tmp_path / "readings.duckdb") as opened:
        opened.store.append(1, [columns(*((n % 50, NOON + n * SECOND, n / 8) for n in range(300_000)))])
        file = opened.store._file
        with file.reading() as now:
            now.ask("select max(value + measured_at) as most from arrived")
        used, limit = held_by(file)
        assert used > 2_000_000
        file.resting_due = 0
        file.checkpoint()
        opened.put((1, NOON, 1.0))
        file.checkpoint()
        left, limit_then = held_by(file)
        assert left < 2_500_000
        assert limit_then == limit


def held_by(file: layout.File) -> tuple[int, str]:
    """Bytes of blocks that DuckDB holds, and how much memory it may take."""
    with file.reading() as now:
        used = now.one("select sum(memory_usage_bytes)::bigint from duckdb_memory() where tag = 'BASE_TABLE'")
        limit = now.ask("select current_setting('memory_limit') as said")["said"][0]
    return used, str(limit)


# Around noon, three days back and a day ahead, and long ago; eighths add up exactly in any order.
instants = st.one_of(
    st.integers(0, 6 * 60 * 6).map(lambda n: NOON - 3 * HOUR + n * 10 * SECOND),
    st.integers(-72, 24).map(lambda n: NOON + n * HOUR + 5 * SECOND),
    st.integers(0, 5).map(lambda n: n * 1_000 * DAY + HOUR),
)
rows = st.tuples(st.integers(0, SERIES - 1), instants, st.integers(-80, 80).map(lambda n: n / 8))
steps = st.one_of(
    st.lists(rows, min_size=1, max_size=25),
    st.sampled_from(
        ["fold", "fold", "mend", "carry", "carry", "compact", "step", "step", "later", "tomorrow", "reopen"]
    ),
)
questions = st.tuples(
    st.integers(0, SERIES), instants, instants, st.sampled_from([7 * SECOND, MINUTE, 5 * MINUTE, HOUR, 3 * HOUR, DAY]),
    st.sampled_from(Fn),
)  # fmt: skip


@settings(max_examples=2_000 if SOAK else 15, deadline=None)
@given(st.lists(steps, max_size=25), st.lists(questions, min_size=8, max_size=8))
def test_answers_are_those_of_plain_counting(
    done: list[str | list[tuple[int, int, float]]], questions: list[tuple[int, int, int, int, Fn]]
) -> None:
    stored: Stored = {}
    now, whole = NOON, pieces.SLICE
    pieces.SLICE = 6  # several pieces of everything
    try:
        with TemporaryDirectory() as folder, Opened(Path(folder) / "readings.duckdb") as opened:
            for step in done:
                upkeep = opened.store.maintenance
                match step:
                    case list():
                        append(opened, stored, step)
                    case "later" | "tomorrow":
                        now += HOUR if step == "later" else DAY
                    case "reopen":
                        opened.again()
                    case "mend":
                        upkeep.mend(now)
                    case _:
                        getattr(upkeep, step)(now)
            for question in questions:
                series, one, other, every, fn = question
                start, end = min(one, other), max(one, other) + 1
                assert asked(opened, series, start, end, every, fn) == counted(stored, series, start, end, every, fn)
            check_all(opened, stored)
    finally:
        pieces.SLICE = whole


def append(opened: Opened, stored: Stored, rows: list[tuple[int, int, float]]) -> None:
    replaces = []
    for place, (series, at, value) in enumerate(rows):
        if (series, at) in stored:
            replaces.append(place)
        stored[series, at] = value
    opened.put(*rows, replaces=tuple(replaces))


def check_all(opened: Opened, stored: Stored, *, rolled: bool = False) -> None:
    """`rolled`: there may be roll-ups of readings that are deleted."""
    store = opened.store
    found = store.slice(range(SERIES), 0, 1 << 62, 10_000)
    by_time = sorted((at, s, v) for (s, at), v in stored.items())
    assert list(zip(found.measured_at.tolist(), found.series.tolist(), found.value.tolist(), strict=True)) == by_time
    assert store.latest() == latest(stored)
    assert sum(store.series().values()) == len(stored)
    keys = list(stored)
    series, at = np.array([k[0] for k in keys], np.int32), np.array([k[1] for k in keys], np.int64)
    position, value = store.find(series, at)
    assert position.tolist() == list(range(len(keys)))
    assert value.tolist() == list(stored.values())
    for s in range(SERIES):
        first = min((a for k, a in keys if k == s), default=None)
        assert rolled or store.first(s, 0, 1 << 62) == first
        assert store.range(s, 0, 1 << 62, 1).measured_at.tolist() == ([] if first is None else [first])


def fill(opened: Opened, days: Iterable[int], every: int = 10 * MINUTE) -> Stored:
    stored: Stored = {
        (s, day * DAY + at): (at // every * 7 + s) % 41 / 8 for day in days for at in range(0, DAY, every)
        for s in range(SERIES)
    }  # fmt: skip
    opened.put(*((s, at, value) for (s, at), value in stored.items()))
    return stored


def test_a_day_that_is_over_lies_in_order_and_nothing_is_left_in_what_arrived(opened: Opened) -> None:
    fill(opened, [20_000, 20_001])
    opened.keep_up(20_002 * DAY)  # the last hour of the second day is not over yet
    with opened.store._file.reading() as now:
        assert [(p.number, p.loose) for p in now.parts(RAW)] == [(20_000, 0), (20_001, 6 * 23 * SERIES)]
        assert now.one("select count(*) from arrived") == 6 * SERIES
        name = now.parts(RAW)[0].name
        first = now.ask(f"select series, measured_at from {name}")
    order = list(zip(first["series"].tolist(), first["measured_at"].tolist(), strict=True))
    assert order == sorted(order)


def test_a_late_reading_of_a_day_that_is_in_order_is_there_at_once_and_in_the_hours_too(opened: Opened) -> None:
    stored = fill(opened, [20_000])
    opened.keep_up(20_002 * DAY)
    for late in ((1, 20_000 * DAY + 90 * SECOND, 99.0), (1, 20_000 * DAY, -5.0)):
        stored[late[0], late[1]] = late[2]
        opened.put(late, replaces=(0,))
        for _ in range(3):
            for fn in Fn:
                span = (1, 20_000 * DAY, 20_001 * DAY, HOUR, fn)
                assert asked(opened, *span) == counted(stored, *span)
            opened.keep_up(20_002 * DAY)
    check_all(opened, stored)


def test_one_hour_is_read_from_the_hours_and_one_minute_from_the_minutes(opened: Opened) -> None:
    """Seen by changing them."""
    fill(opened, [20_000])
    opened.keep_up(20_002 * DAY)
    day = (2, 20_000 * DAY, 20_001 * DAY)
    with opened.store._file.keeping() as held:
        held.cursor.execute(f"update {held.parts(MINUTES)[0].name} set last = 1000 where series = 2")
    assert max(asked(opened, *day, HOUR, Fn.MAX))[1] < 100
    assert {value for _, value in asked(opened, *day, MINUTE, Fn.MAX)} == {1000.0}
    # Half an hour at both ends: of the hours only the whole ones.
    assert asked(opened, 2, day[1] + HOUR // 2, day[2], HOUR, Fn.COUNT)[0][1] == 3.0


def test_a_device_whose_clock_is_anywhere_makes_no_table_a_day(opened: Opened) -> None:
    rows = [(0, day * 370 * DAY, 1.0) for day in range(200)]
    opened.put(*rows)
    opened.keep_up(20_000 * DAY)
    with opened.store._file.reading() as now:
        assert len(now.parts(RAW)) < 6
        assert len(now.parts(MINUTES)) < 6
    assert opened.store.range(0, 0, 1 << 62, 9_999).measured_at.tolist() == [at for _, at, _ in rows]


def test_the_disk_is_given_back(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "WAL_BYTES", 0)
    sizes = []
    for day in range(20_000, 20_010):
        fill(opened, [day], every=MINUTE)
        opened.keep_up(day * DAY + DAY + 2 * HOUR)
        everything = np.arange(SERIES, dtype=np.int32)
        opened.store.delete(everything, np.zeros(SERIES, np.int64), np.full(SERIES, day * DAY, np.int64))
        sizes.append(opened.path.stat().st_size)
    assert max(sizes[6:]) <= 1.5 * max(sizes[3:6])

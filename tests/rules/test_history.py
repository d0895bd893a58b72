"""The pool of samples: whatever comes, grows, moves and is forgotten, each series has what a plain list would have."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from devices.instants import MINUTE
from rules import history as pool
from rules.history import History, first_after, stretches
from rules.windows import fold, open_windows

SPANS = (0, 1, 5 * MINUTE, 60 * MINUTE)

Sample = tuple[int, float]


def kept(spans: tuple[int, ...] = SPANS) -> History:
    history = History()
    history.keep(np.array(spans, np.int64))
    return history


def give(history: History, batch: list[tuple[int, int, float]], *, adopt: bool = True) -> None:
    """Rows (series, minute, value)."""
    series = np.array([s for s, _, _ in batch], np.int64)
    at = np.array([m * MINUTE for _, m, _ in batch], np.int64)
    history.stage(series, at, np.array([v for _, _, v in batch], np.float64))
    if adopt:
        history.adopt(*np.unique(series, return_counts=True))


def samples(history: History, series: int) -> list[Sample]:
    at, value = history.samples(np.array([series]))
    return list(zip((at // MINUTE).tolist(), value.tolist(), strict=True))


def test_a_batch_is_seen_when_it_is_adopted_and_not_before() -> None:
    history = kept()
    give(history, [(2, 1, 1.0)])
    give(history, [(2, 2, 2.0), (2, 3, 3.0)], adopt=False)
    assert samples(history, 2) == [(1, 1.0)]
    give(history, [(2, 2, 9.0)])
    assert samples(history, 2) == [(1, 1.0), (2, 9.0)]


def test_a_series_that_nobody_looks_back_on_is_not_kept() -> None:
    history = kept()
    give(history, [(0, 1, 1.0), (3, 1, 1.0)])
    assert samples(history, 0) == []
    history.keep(np.array((0, 0, 0, 0), np.int64))
    assert samples(history, 3) == []


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(0, 9)), min_size=1, max_size=40),
        max_size=25,
    )
)
def test_what_a_window_can_reach_is_always_there(batches: list[list[tuple[int, int, int]]]) -> None:
    history, plain = kept(), {series: list[Sample]() for series in range(4)}
    now = dict.fromkeys(range(4), 0)
    for batch in batches:
        rows = []
        for series, step, value in batch:
            now[series] += step
            rows.append((series, now[series], float(value)))
            plain[series].append((now[series], float(value)))
        give(history, rows)
    for series in range(1, 4):
        reach = [s for s in plain[series] if s[0] * MINUTE > now[series] * MINUTE - SPANS[series]]
        wanted = plain[series][-max(len(reach) + 1, 2) :]  # and the one before; two in any case
        assert samples(history, series)[-len(wanted) :] == wanted


def test_the_pool_stays_small_while_series_come_and_go() -> None:
    """A thousand series, each for a while: the stretches of those that are gone are used again."""
    history = History()
    for turn in range(200):
        span = np.zeros(1_000, np.int64)
        span[turn * 5 : turn * 5 + 5] = 60 * MINUTE
        history.keep(span)
        give(history, [(turn * 5 + k, minute, 1.0) for minute in range(1, 60) for k in range(5)])
    assert len(history.at) < 20_000


def test_one_series_never_holds_more_than_the_most() -> None:
    history = kept((365 * 24 * 60 * MINUTE,))
    count = 3 * pool.MOST_SAMPLES
    series, at = np.zeros(count, np.int64), np.arange(count, dtype=np.int64)
    for part in np.array_split(np.arange(count), 30):
        history.stage(series[part], at[part], np.ones(len(part)))
        history.adopt(*np.unique(series[part], return_counts=True))
    assert history.sizes()[0] <= 2 * pool.MOST_SAMPLES
    assert history.samples(np.array([0]))[0][-1] == count - 1


@given(st.lists(st.lists(st.integers(0, 30), max_size=12).map(sorted), min_size=1, max_size=8), st.integers(-1, 31))
def test_first_after_is_a_search_in_every_stretch(lists: list[list[int]], limit: int) -> None:
    at = np.array([x for one in lists for x in one] or [0], np.int64)
    sizes = np.array([len(one) for one in lists], np.int64)
    stop = np.cumsum(sizes)
    found = first_after(at, stop - sizes, stop, np.full(len(lists), limit))
    assert (found - (stop - sizes)).tolist() == [sum(x <= limit for x in one) for one in lists]
    assert stretches(stop - sizes, stop).tolist() == list(range(int(stop[-1])))


def test_tenths_add_up_as_a_rain_gauge_counts_them() -> None:
    history = kept((60 * MINUTE,))
    give(history, [(0, minute, 0.1) for minute in range(1, 51)])
    start, stop = history.start[:1], history.end[:1]
    now, span = np.array([50 * MINUTE]), np.array([60 * MINUTE])
    windows = open_windows(history, start, stop, now, span, span)
    assert fold("sum", windows)[0] == 5.0
    assert fold("avg", windows)[0] == 0.1

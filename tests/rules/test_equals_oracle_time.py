"""Schedules, modes, response levels and dated attributes: the engine says what the plain one says.

Around a night in London in which an hour is skipped, one in which it comes twice, and a holiday in Shanghai.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from devices.instants import MINUTE, from_iso
from devices.registry import Dated, Registry
from rules.calendar import Calendar, Site
from rules.declared import Declared, Response, Span
from tests.rules.desk import put, town
from tests.rules.oracle_runs import (
    CUTS,
    MANY,
    Happening,
    Town,
    Values,
    assert_same_as_oracle,
    assert_same_in_backtest,
    assert_same_with_restarts,
    book,
    streams,
)

_STEP = 20 * MINUTE
_CALENDAR = Calendar(
    holidays=frozenset({date(2026, 3, 30), date(2026, 10, 1), date(2026, 10, 2)}),
    workdays=frozenset({date(2026, 3, 28), date(2026, 10, 25)}),
    years=frozenset({2026}),
    flood_season=((3, 30), (10, 1)),
)
_CONDITIONS = [
    'level_inside > 3.5 and between("22:00", "06:00")',
    'level_inside > 3.5 and not between("01:30", "02:30") ; for 40m',
    'between("06:00", "22:00") and level_inside > 3.25 ; clear level_inside < 3.25 or between("21:00", "24:00")',
    'weekday("sat", "sun") and level_inside > 3.3 ; max_age none',
    "holiday() and level_inside > 3.3 ; clear not holiday()",
    'not holiday() and weekday("mon-fri") and level_inside > 3.3 ; for 1h',
    'mode("flood_season") and level_inside > 3.3 ; max_age none ; clear level_inside < 3.2',
    'mode("drill") and level_inside > 3.3',
    '(level_inside > 3.5) == mode("drill") ; max_age none',
    'mode("response_3") and level_inside > 3.125 ; for 20m',
    'mode("response_2") or level_inside > 3.5 ; for 30m ; clear level_inside < 3.25 and not mode("response")',
    "level_inside > by_response(3.625, 3.5, 3.375, attr.limit, 3.125)",
    "level_inside - by_response(0, 0.125, 0.25, 0.375, 0.5) > attr.dated ; for 20m",
    "level_inside > attr.dated ; clear level_inside <= attr.dated - 0.25",
    'absent(level_inside, 2h) and between("22:00", "06:00")',
    'absent(level_inside, 90m) or weekday("sun") and level_inside > 3.5',
    'avg(level_inside, 2h) > 3.3 and between("00:30", "02:10") ; max_age none',
    'count(level_inside, 1h) < 2 and mode("response") ; max_age none',
    "level_inside > 3.3 ; only_in [drill] ; for 20m",
    "level_inside > 3.3 ; only_in [flood_season, response_3] ; clear level_inside < 3.125",
    "absent(level_inside, 1h) ; only_in [response]",
]
_BOOK = book(pump_station=_CONDITIONS)
_LEVEL = st.sampled_from([3.0, 3.125, 3.25, 3.375, 3.5, 3.625, 4.0])
_STATION: Values = st.one_of(
    st.fixed_dictionaries({"level_inside": _LEVEL}), st.fixed_dictionaries({"level_outside": _LEVEL})
)


@dataclass(frozen=True)
class _Night:
    zone: str
    start: int


_NIGHTS = [
    _Night("Europe/London", from_iso("2026-03-28T19:00:00Z")),
    _Night("Europe/London", from_iso("2026-10-24T19:00:00Z")),
    _Night("Asia/Shanghai", from_iso("2026-09-30T10:00:00Z")),
    _Night("Asia/Shanghai", from_iso("2026-03-29T10:00:00Z")),
]


@cache
def _town(night: _Night) -> Town:
    return Town(_BOOK, _registry(night.start), Site(night.zone, _CALENDAR))


def _registry(start: int) -> Registry:
    devices = town(limit=3.25)
    dated = (Dated(3.5, start + 8 * _STEP), Dated(3.25, start + 30 * _STEP))
    for name, attributes in (("ps-1", {"limit": 3.25, "dated": dated}), ("ps-2", {"dated": 3.375})):
        put(devices, name, interval_s=1800.0, first_seen=start, attributes=attributes)
    return devices


def _declarations(start: int) -> st.SearchStrategy[Declared]:
    at = st.integers(-2, 100).map(lambda step: start + step * _STEP // 2)
    end = st.one_of(st.none(), at)
    drills = st.lists(st.builds(Span, at, end), max_size=2).map(tuple)
    responses = st.lists(st.builds(Response, st.integers(1, 4), at, end), max_size=3).map(tuple)
    return st.builds(Declared, responses, drills)


_STREAMS: st.SearchStrategy[tuple[_Night, list[Happening]]] = st.sampled_from(_NIGHTS).flatmap(
    lambda night: st.tuples(
        st.just(night),
        streams(
            {"ps-1": _STATION, "ps-2": _STATION},
            others=_declarations(night.start), unit=_STEP, start=night.start, steps=(0, 1, 1, 1, 2, 3, 5, 40),
        ),
    )
)  # fmt: skip


@MANY
@given(_STREAMS, CUTS)
def test_schedules_equal_the_oracle(stream: tuple[_Night, list[Happening]], cuts: set[int]) -> None:
    assert_same_as_oracle(stream[1], cuts, _town(stream[0]))


@MANY
@given(_STREAMS, CUTS, CUTS)
def test_schedules_survive_a_restart(stream: tuple[_Night, list[Happening]], cuts: set[int], others: set[int]) -> None:
    assert_same_with_restarts(stream[1], cuts, others, _town(stream[0]))


@MANY
@given(_STREAMS, CUTS, st.sampled_from([2, 5, 64]))
def test_schedules_in_a_backtest(stream: tuple[_Night, list[Happening]], cuts: set[int], stretch: int) -> None:
    assert_same_in_backtest(stream[1], cuts, stretch, _town(stream[0]))

"""The vectorised engine says what the plain one says, however the stream is cut, repeated, delayed or interrupted."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Registry
from tests.rules.desk import put, town
from tests.rules.oracle_groups import Told
from tests.rules.oracle_runs import (
    CUTS,
    MANY,
    Element,
    Happening,
    Live,
    Town,
    Values,
    assert_same_as_oracle,
    assert_same_in_backtest,
    assert_same_with_restarts,
    book,
    ordered,
    streams,
)

_PUMP = [
    "level_inside > 3.5",
    "level_inside < 3.3 ; for 30s",
    "level_inside > attr.limit ; clear level_inside <= attr.limit - 0.2 ; for 1m",
    "level_inside > attr.limit ; clear level_inside <= attr.limit - 0.2 ; for 1m ; max_gap none",
    "level_inside > attr.nowhere or level_outside > 3.5 ; for 1m ; max_gap 45s",
    "level_outside - level_inside > 0.2",
    "0.2 < level_outside - level_inside ; clear level_inside > level_outside ; max_age 30s",
    "level_inside / pumps_running > 3 ; for 15s ; max_age none",
    "level_inside > 3.3 and not (level_outside <= 3.3) and mains_ok ; for 45s ; max_gap 30s",
    "mains_ok == false or (mains_ok == (pumps_running > 0)) != true",
    "level_inside == 3.5 ; clear level_inside != 3.5 and level_inside != 3.6",
    "absent(level_inside, 1m)",
    "absent(level_inside, 1m) and mains_ok == true ; for 30s",
    "absent(level_inside, 1m) or level_outside > 3.5 ; clear level_outside < 3.5 ; for 1m ; max_age 2m",
    "absent(level_inside, 1m) and not absent(level_outside, 45s)",
    "-level_inside * 2 <= -7",
    "level_inside > 3.5 ; applies_to {grids: [west], tags: [wet]}",
]
_DOOR = [
    'event("door_opened")',
    'event("door_opened") and battery < 50',
    'event("door_opened") ; clear event("door_closed")',
    'event("door_opened") ; clear since(event("door_opened")) > 1m',
    'since(event("door_opened")) > 2m',
    'since(event("door_opened")) >= attr.limit * 30s and battery > 20 ; for 45s',
    '90s > since(event("door_closed")) ; for 1m',
    'count(event("door_opened"), 2m) >= 3',
    'count(event("door_opened"), 1m) > count(event("door_closed"), 45s) ; for 30s',
    'count(event("door_opened"), 90s) >= 2 or open == true ; clear absent(open, 1m)',
    "open and not motion ; for 1m ; max_gap 1m",
]


def registry() -> Registry:
    devices = town(limit=3.4)
    put(devices, "ps-1", interval_s=20.0, tags=frozenset({"wet", "old"}))
    put(devices, "ps-2", attributes={"limit": "3.4"}, tags=frozenset({"old"}))
    put(devices, "door", interval_s=60.0)
    return devices


_ALL = Town(book(pump_station=_PUMP, door_sensor=_DOOR), registry())
_LEVEL = st.sampled_from([3.0, 3.2, 3.3, 3.4, 3.5, 3.6, 4.0])
_BIT = st.sampled_from([0.0, 1.0])
_STATION: Values = st.fixed_dictionaries(
    {}, optional={"level_inside": _LEVEL, "level_outside": _LEVEL, "mains_ok": _BIT, "pumps_running": _BIT}
)
_BATTERY = st.sampled_from([10.0, 40.0, 90.0])
_SENSOR: Values = st.one_of(
    st.fixed_dictionaries({}, optional={"open": _BIT, "motion": _BIT, "battery": _BATTERY}),
    st.sampled_from([{"event:door_opened": 1.0}, {"event:door_closed": 1.0}]),
)
_STREAMS = streams({"ps-1": _STATION, "door": _SENSOR, "ps-2": _STATION})


@MANY
@given(_STREAMS, CUTS)
def test_engine_equals_oracle(stream: list[Happening], cuts: set[int]) -> None:
    assert_same_as_oracle(stream, cuts, _ALL)


@MANY
@given(_STREAMS, CUTS, CUTS)
def test_other_batch_boundaries_and_restarts_change_nothing(
    stream: list[Happening], cuts: set[int], others: set[int]
) -> None:
    assert_same_with_restarts(stream, cuts, others, _ALL)


@MANY
@given(_STREAMS, st.data())
def test_everything_twice_or_an_old_copy_late_changes_no_alarm(stream: list[Happening], data: st.DataObject) -> None:
    once, twice = Live(_ALL), Live(_ALL)
    once.run(stream, [])
    again: list[Happening] = []
    for what in stream:
        again.append(what)
        again += [what] if isinstance(what, Element) else []
        past = [e for e in again if isinstance(e, Element)]
        late: int = data.draw(st.integers(0, 2 * len(past)))
        again += past[late : late + 1]
    twice.run(again, data.draw(st.lists(st.integers(0, 150), max_size=8)))
    assert [_alarm(t) for t in ordered(once.told)] == [_alarm(t) for t in ordered(twice.told)]


def _alarm(told: Told) -> Told:
    """Whichever element brought it."""
    return replace(told, element=-1)


@MANY
@given(_STREAMS, CUTS, st.sampled_from([2, 5, 64]))
def test_a_backtest_finds_what_a_clock_ticking_at_every_reading_would(
    stream: list[Happening], cuts: set[int], stretch: int
) -> None:
    assert_same_in_backtest(stream, cuts, stretch, _ALL)

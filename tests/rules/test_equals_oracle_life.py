"""Repeats, what is kept, levels and pauses: the engine says what the plain one says."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Registry
from rules.book import RuleBook
from rules.declared import Declared, Pause
from rules.rule import Level, Priority
from tests.rules.desk import START, put, town
from tests.rules.oracle_runs import (
    CUTS,
    MANY,
    STEP,
    Declare,
    Element,
    Happening,
    Tick,
    Town,
    Values,
    assert_same_as_oracle,
    assert_same_in_backtest,
    assert_same_with_restarts,
    book,
    streams,
)

_PUMP = [
    "level_inside > 3.3 ; repeat 2 of 3",
    "level_inside > 3.3 ; repeat 3 of 5 ; for 30s ; max_gap none",
    "level_inside > 3.3 or level_outside > 3.3 ; repeat 1 of 2 ; clear level_inside < 3.2 ; max_gap 30s",
    "level_inside > 3.3 and level_outside > 3.1 ; repeat 2 of 2 ; max_age 30s ; keep_for 1m",
    "avg(level_inside, 45s) > 3.3 ; repeat 2 of 4",
    "level_inside > 3.3 ; keep_for 1m",
    "level_inside > 3.3 ; keep_for 90s ; for 30s ; clear level_inside <= 3.3",
    "absent(level_inside, 45s) and level_outside > 3.1 ; max_age 3m ; for 30s",
    "level_inside > 3.3 ; for 45s",
    "level_inside > 3.3 ; for 1m ; max_gap none ; clear level_inside < 3.1",
    "avg(level_inside, 1m) > 3.3 ; for 15s",
    "flat(level_inside, 30s, 0.3)",
]
_DOOR = [
    'event("door_opened")',
    'since(event("door_opened")) > 2m',
    'count(event("door_opened"), 1m) >= 2 ; clear since(event("door_opened")) > 45s',
    "open == true ; repeat 2 of 3",
]
# What the clock judges and what is kept: without pauses, see _streams.
_KEPT_PUMP = ["absent(level_inside, 1m) ; keep_for 2m"]
_KEPT_DOOR = [
    'event("door_opened") ; keep_for 1m',
    'event("door_opened") and battery < 50 ; keep_for 45s',
    'event("door_opened") ; clear event("door_closed") ; keep_for 30s',
    'since(event("door_opened")) > 90s ; for 30s ; keep_for 1m',
    'count(event("door_opened"), 2m) >= 3 ; keep_for 3m',
]
# From the mildest to the worst, of each rule.
_LEVELS = [
    ["level_inside > 3.3 ; for 30s", "level_inside > 3.5"],
    ["level_inside > 3.2", "level_inside > 3.3 ; for 45s ; clear level_inside < 3.1", "level_inside >= 4 ; for 15s"],
    ["level_inside < 3.5 ; clear level_inside > 3.5", "level_inside < 3.2 or level_outside > 3.3"],
    ["absent(level_inside, 45s)", "absent(level_inside, 2m)"],
    ["avg(level_inside, 1m) > 3.2", "max(level_inside, 30s) >= 3.5 ; for 15s"],
    ["level_inside > 3.3 ; repeat 2 of 3", "level_inside > 3.5"],
    ["level_inside > 3.3 ; keep_for 1m", "level_inside > 3.5"],
]
_PRIORITIES = [Priority.LOW, Priority.HIGH, Priority.CRITICAL]


def _with_levels() -> RuleBook:
    """One rule for each of _LEVELS, made of rules of the levels' conditions; repeat and keep_for are of the first."""
    found = {}
    for number, texts in enumerate(_LEVELS):
        parts = list(book(pump_station=texts).rules.values())
        levels = tuple(
            Level(priority, part.when, part.hold_us, part.clear)
            for part, priority in zip(parts, _PRIORITIES, strict=False)
        )
        found[f"l{number}"] = replace(parts[0], id=f"l{number}", levels=levels, hold_us=0, clear=None)
    return RuleBook(found, {})


def _registry() -> Registry:
    devices = town()
    put(devices, "ps-1", interval_s=20.0)
    put(devices, "door", interval_s=60.0)
    return devices


_PLAIN = Town(book(pump_station=_PUMP, door_sensor=_DOOR), _registry())
_KEPT = Town(book(pump_station=_KEPT_PUMP, door_sensor=_KEPT_DOOR), _registry())
_RISING = Town(_with_levels(), _registry())
_LEVEL = st.sampled_from([3.0, 3.125, 3.25, 3.375, 3.5, 3.625, 4.0])
_STATION: Values = st.one_of(
    st.fixed_dictionaries({"level_inside": _LEVEL}),
    st.fixed_dictionaries({}, optional={"level_inside": _LEVEL, "level_outside": _LEVEL}),
)
_SENSOR: Values = st.sampled_from(
    [{"event:door_opened": 1.0}, {"event:door_opened": 1.0}, {"event:door_closed": 1.0}, {"open": 1.0}, {"open": 0.0},
     {"battery": 40.0}, {"event:door_opened": 1.0, "battery": 90.0}]
)  # fmt: skip


def _pauses(rules: list[str]) -> st.SearchStrategy[Declared]:
    at = st.integers(-2, 120).map(lambda step: START + step * STEP)
    span = st.integers(0, 20).map(lambda step: step * STEP)
    some = st.one_of(st.none(), st.sets(st.sampled_from(rules), min_size=1).map(frozenset))
    device = st.sampled_from(["ps-1", "ps-1", "ps-2", "door"])
    pause = st.builds(lambda d, start, long, r: Pause(d, start, start + long, "限排", r), device, at, span, some)
    return st.lists(pause, max_size=4).map(lambda pauses: Declared(pauses=tuple(pauses)))


def _streams(town: Town) -> st.SearchStrategy[list[Happening]]:
    devices = {"ps-1": _STATION, "door": _SENSOR, "ps-2": _STATION}
    if town is _RISING:
        del devices["door"]
    return streams(devices, others=_pauses(list(town.book.rules)))


@MANY
@given(_streams(_PLAIN), CUTS)
def test_repeats_what_is_kept_and_pauses_equal_the_oracle(stream: list[Happening], cuts: set[int]) -> None:
    assert_same_as_oracle(stream, cuts, _PLAIN)


@MANY
@given(_streams(_KEPT), CUTS, CUTS)
def test_what_the_clock_judges_and_is_kept_equals_the_oracle(
    stream: list[Happening], cuts: set[int], others: set[int]
) -> None:
    assert_same_as_oracle(stream, cuts, _KEPT)
    assert_same_with_restarts(stream, cuts, others, _KEPT)


@MANY
@given(_streams(_RISING), CUTS)
def test_levels_equal_the_oracle(stream: list[Happening], cuts: set[int]) -> None:
    assert_same_as_oracle(stream, cuts, _RISING)


@MANY
@given(_streams(_PLAIN), _streams(_RISING), CUTS, CUTS)
def test_they_survive_a_restart(
    stream: list[Happening], rising: list[Happening], cuts: set[int], others: set[int]
) -> None:
    assert_same_with_restarts(stream, cuts, others, _PLAIN)
    assert_same_with_restarts(rising, cuts, others, _RISING)


@MANY
@given(_streams(_PLAIN), _streams(_RISING), CUTS, st.sampled_from([2, 5, 64]))
def test_they_are_found_in_a_backtest(
    stream: list[Happening], rising: list[Happening], cuts: set[int], stretch: int
) -> None:
    assert_same_in_backtest(stream, cuts, stretch, _PLAIN)
    assert_same_in_backtest(rising, cuts, stretch, _RISING)


def test_a_pause_that_is_taken_back_hides_no_silence() -> None:
    """What stood is ended by the pause; the reading after it still comes after too long a silence."""
    at = START + 7 * STEP
    pause = Declared(pauses=(Pause("ps-1", START, at + STEP, "限排", None),))
    high = [Element("ps-1", START + step * STEP, (("level_inside", 3.375),)) for step in (1, 2)]
    low = Element("ps-1", at, (("level_inside", 3.0),))
    for judged in (_PLAIN, _RISING):
        assert_same_as_oracle([*high, Tick(at), Declare(pause, at), Declare(Declared(), at), low], [], judged)

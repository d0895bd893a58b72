"""Windows, faults and forecasts: the engine says what the plain one says.

Values lie on a grid of eighths, so that every sum is exact and both engines mean the same number; limits of slopes,
deviations and forecasts lie off every value they can have, because those are rounded on the way.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Registry
from tests.rules.desk import START, put, town
from tests.rules.oracle_runs import (
    CUTS,
    MANY,
    STEP,
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

_WINDOWS = [
    "avg(level_inside, 1m) > 3.5",
    "avg(level_inside, 1m) > 3.5 ; for 30s ; clear avg(level_inside, 2m) <= 3.375",
    "avg(level_inside, 1m) > avg(level_outside, 2m) ; max_age 2m",
    "min(level_inside, 45s) >= 3.5 or max(level_outside, 1m) < 3.25",
    "max(level_inside, 2m) - min(level_inside, 2m) > 0.5 ; for 1m",
    "sum(level_inside, 1m) > attr.total ; max_age none",
    "sum(level_inside, 90s) > 10 and level_outside > 3.25 ; max_age none",
    "count(level_inside, 1m) >= 3",
    "count(level_inside, 1m) < 2 and level_outside > 3.25",
    "count(level_inside, 1m) == 0 and absent(level_outside, 45s)",
    "stddev(level_inside, 90s) > 0.3001 ; clear stddev(level_inside, 30s) < 0.1001",
    "median(level_inside, 1m) >= 3.5",
    "median(level_inside, 30s) > avg(level_inside, 2m)",
    "delta(level_inside, 1m) > 0.25",
    "delta(level_inside, 90s) < -0.25 ; max_age 30s ; max_gap 30s",
    "rate(level_inside, 1m) > 0.0041",
    "rate(level_inside, 2m) * 3600 > 10.003 ; for 15s",
    "increase(pumps_running, 1m) >= 3",
    "increase(pumps_running, 1m) > 4 ; max_gap 15s",
    "increase(pumps_running, 90s) > 2 ; max_gap none ; max_age none",
    "avg(level_inside, 2m) > 3.4 and absent(level_outside, 1m) ; max_age 5m",
    "absent(level_outside, 45s) and (increase(pumps_running, 2m) > 1 or delta(level_inside, 2m) > 0.2) ; max_age 9m",
]
_FAULTS = [
    "flat(level_inside, 1m, 0.125)",
    "flat(level_inside, 45s, 0) ; max_gap 30s ; for 15s",
    "not flat(level_inside, 30s, 0.25) ; max_gap none ; max_age none",
    "flat(level_inside, 30s, 0.5) and absent(level_outside, 1m) ; max_age 3m",
    "flat(level_inside, 30s, 0.25) and level_outside > 3.3 ; max_age none",
    "spike(level_inside, 0.25)",
    "spike(level_inside, 0.5) ; max_gap 30s",
    "spike(level_inside, 0.25) or spike(level_outside, 0.25) ; max_gap none ; max_age 30s",
    "out_of_range(level_inside) ; for 30s",
    "out_of_range(level_inside) or not out_of_range(level_outside) and level_outside < 3.25",
]
_FORECASTS = [
    "forecast(level_inside, 1m) > 3.6001",
    "forecast(level_inside, 2m, 90s) > attr.limit and level_outside > 3.2",
    "forecast(level_inside, 3m, 75s) < 3.2003 ; max_age 45s ; clear level_inside > 3.3",
    "forecast(level_inside, 10m, 3m) - level_inside > 0.5007 ; for 30s",
    "forecast(level_inside, 5m, 4m) > 3.7001 and absent(level_outside, 1m) ; max_age 2m",
]


def _town(*conditions: str) -> Town:
    return Town(book(pump_station=conditions), _registry())


def _registry() -> Registry:
    devices = town(limit=3.4003, total=10.5)
    put(devices, "ps-1", interval_s=20.0)
    put(devices, "ps-2", attributes={"total": 7.0})
    return devices


_ALL = _town(*_WINDOWS, *_FAULTS, *_FORECASTS)
_TRENDS = _town(*_FORECASTS, *_WINDOWS[:3], *_FAULTS[:4])
_LEVEL = st.sampled_from([3.0, 3.125, 3.25, 3.375, 3.5, 3.5, 3.625, 4.0, 8.125, -0.125])
_OTHER = st.sampled_from([3.125, 3.25, 3.375, 8.5])
_NUMBER = st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0])
_STATION: Values = st.one_of(
    st.fixed_dictionaries({"level_inside": _LEVEL}),
    st.fixed_dictionaries({}, optional={"level_inside": _LEVEL, "level_outside": _OTHER, "pumps_running": _NUMBER}),
)
_STREAMS = streams({"ps-1": _STATION, "ps-2": _STATION})
# Steady enough for trends: a reading every 15 s with a few missing.
_STEADY = streams(
    {
        "ps-1": st.fixed_dictionaries(
            {"level_inside": st.sampled_from([3.0, 3.25, 3.375, 3.5, 3.625, 3.75, 4.0])},
            optional={"level_outside": _OTHER},
        )
    },
    steps=(0, 1, 1, 1, 1, 1, 2),
)


@MANY
@given(_STREAMS, CUTS)
def test_windows_equal_the_oracle(stream: list[Happening], cuts: set[int]) -> None:
    assert_same_as_oracle(stream, cuts, _ALL)


@MANY
@given(_STEADY, CUTS)
def test_trends_equal_the_oracle(stream: list[Happening], cuts: set[int]) -> None:
    assert_same_as_oracle(stream, cuts, _TRENDS)


@MANY
@given(_STREAMS, CUTS, CUTS)
def test_windows_survive_a_restart_at_any_point(stream: list[Happening], cuts: set[int], others: set[int]) -> None:
    assert_same_with_restarts(stream, cuts, others, _ALL)


@MANY
@given(_STREAMS, CUTS, st.sampled_from([2, 5, 64]))
def test_windows_in_a_backtest(stream: list[Happening], cuts: set[int], stretch: int) -> None:
    assert_same_in_backtest(stream, cuts, stretch, _ALL)


@MANY
@given(st.data(), st.integers(60, 150), CUTS)
def test_a_forecast_over_more_samples_than_it_looks_at(data: st.DataObject, count: int, cuts: set[int]) -> None:
    """One drawn pattern, repeated over a slope, so that long series stay cheap to draw."""
    steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 2]), min_size=7, max_size=7))
    bumps = data.draw(st.lists(st.integers(-3, 3), min_size=11, max_size=11))
    climb = data.draw(st.sampled_from([-1, 0, 1, 2]))
    clock, stream = START, list[Happening]()
    for place in range(count):
        clock += STEP * steps[place % 7]
        level = 3.0 + (bumps[place % 11] + climb * (place // 8)) / 64
        stream.append(Element("ps-1", clock, (("level_inside", level),)))
        if place % 13 == 0:
            stream.append(Tick(clock))
    assert_same_as_oracle(stream, {cut * 3 for cut in cuts}, _LONG)


_LONG = _town(
    "forecast(level_inside, 1h, 20m) > 3.3001",
    "forecast(level_inside, 1h, 30m) < 3.1003 ; clear forecast(level_inside, 10m, 30m) > 3.2003",
    "forecast(level_inside, 2h, 17m) > 3.5001 ; for 2m",
    "median(level_inside, 20m) > 3.25",
    "flat(level_inside, 15m, 0.125)",
    "stddev(level_inside, 30m) > 0.0501",
    "sum(level_inside, 1d) > 200",
)

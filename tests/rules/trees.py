"""Trees as the parser can make them, for tests: their types need not fit."""

from __future__ import annotations

from hypothesis import strategies as st

from devices.instants import DAY, MINUTE
from rules.calls import COMPARISONS, OVER_SAMPLES
from rules.expression import (
    MODES,
    Absent,
    And,
    Arithmetic,
    Attribute,
    Between,
    ByResponse,
    Compare,
    Count,
    DeviceAbsent,
    Duration,
    Event,
    Expression,
    Flat,
    Forecast,
    Group,
    Holiday,
    Metric,
    Mode,
    Negate,
    Not,
    Number,
    Or,
    OutOfRange,
    Since,
    Spike,
    Truth,
    Weekday,
    Window,
)
from rules.tokens import MAX_AHEAD, MAX_DURATION, MAX_WINDOW

# A metric may be named as a function is, but not as a word of the language; `event` is what count(…) counts.
NAMES = st.sampled_from(["level", "flow", "avg", "count", "between", "mains_ok", "Level_2", "_x"])
ATTRIBUTES = st.sampled_from(["limit", "dyke_level", "a1"])
TEXTS = st.text(st.characters(exclude_characters="\n\"'", exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["it's", 'a "b"', "gateway-7"]
)
NUMBERS = st.floats(0, 1e300) | st.integers(0, 10).map(float)
WINDOWS = st.integers(1, MAX_WINDOW) | st.sampled_from([MINUTE, DAY])
TIMES = st.integers(0, 24 * 60 - 1).map(lambda minutes: minutes * MINUTE)

LEAVES: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Number, NUMBERS),
    st.builds(Duration, st.integers(0, MAX_DURATION)),
    st.builds(Truth, st.booleans()),
    st.builds(Metric, NAMES),
    st.builds(Attribute, ATTRIBUTES),
    st.builds(Absent, NAMES, WINDOWS),
    st.builds(Event, TEXTS),
    st.builds(Since, TEXTS),
    st.builds(Count, TEXTS, WINDOWS),
    st.builds(Window, st.sampled_from([*OVER_SAMPLES, "count"]), NAMES, WINDOWS),
    st.builds(Flat, NAMES, WINDOWS, NUMBERS),
    st.builds(Spike, NAMES, NUMBERS),
    st.builds(OutOfRange, NAMES),
    st.builds(Forecast, NAMES, st.integers(1, MAX_AHEAD), WINDOWS),
    st.builds(Between, TIMES, TIMES),
    st.builds(Weekday, st.frozensets(st.integers(0, 6), min_size=1)),
    st.just(Holiday()),
    st.builds(Mode, st.sampled_from(MODES)),
    st.just(DeviceAbsent()),
)


def _joined(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    shares = st.sampled_from([0.0, 0.5, 1.0])
    counts = st.integers(0, 100).map(float)
    orders = st.sampled_from(COMPARISONS)
    return st.one_of(
        st.builds(Negate, inner),
        st.builds(Not, inner),
        st.builds(And, inner, inner),
        st.builds(Or, inner, inner),
        st.builds(Arithmetic, st.sampled_from("+-*/"), inner, inner),
        # A comparison of a comparison is written with parentheses.
        st.builds(Compare, orders, inner, inner),
        st.builds(ByResponse, inner, inner, inner, inner, inner),
        st.builds(Group, st.none(), inner, st.just(False), orders, counts),
        st.builds(Group, st.none() | TEXTS.filter(str.strip), inner, st.just(True), orders, shares),
    )


TREES: st.SearchStrategy[Expression] = st.recursive(LEAVES, _joined, max_leaves=14)

"""Whatever is written where an instant or a duration belongs is a number of microseconds or a ValueError."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from api.shapes import read_duration, read_instant
from devices.instants import DAY, MAX_INSTANT, MILLISECOND, MIN_INSTANT, to_iso

texts = st.text(max_size=40) | st.text("0123456789-:+.TZ hms", max_size=40)
others = st.none() | st.booleans() | st.floats() | st.lists(st.integers(), max_size=2)


@given(texts | others)
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59.999999-23:59")
@example("9" * 17)
@example("²")
@example(True)
def test_an_instant(value: object) -> None:
    try:
        instant = read_instant(value)
    except ValueError:
        return
    assert isinstance(instant, int)
    assert MIN_INSTANT <= instant <= MAX_INSTANT


@given(st.integers(0, MAX_INSTANT // MILLISECOND))
def test_an_instant_is_the_same_however_it_is_written(ms: int) -> None:
    assert read_instant(ms) == read_instant(str(ms)) == read_instant(to_iso(ms * MILLISECOND)) == ms * MILLISECOND


@given(texts | others | st.integers())
@example("9" * 400 + "s")
@example("1" * 30 + "d")
@example("٣s")
def test_a_duration(value: object) -> None:
    try:
        span = read_duration(value)
    except ValueError:
        return
    assert isinstance(span, int)
    assert span >= 0


def test_a_day() -> None:
    assert read_duration("1d") == read_duration("24h") == DAY

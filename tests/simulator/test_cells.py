"""Times of a recorded file, parsed a column at a time: the quick way says what the careful one says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cells import Clock, numbers
from simulator.mapping import TimeSource

ZONES = ("UTC", "Asia/Shanghai", "Europe/Paris", None)
texts = st.builds(
    "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}".format,
    st.sampled_from([1969, 1970, 2000, 2024, 9999]), st.integers(0, 13), st.integers(0, 32), st.sampled_from("T /"),
    st.integers(0, 24), st.integers(0, 60), st.integers(0, 60),
)  # fmt: skip
usual = st.datetimes().map(lambda moment: moment.replace(microsecond=0).isoformat())
suffixes = st.sampled_from(["", "Z", "+08:00", "-03:30", "+24:00", "z", "+0800", ".5Z", "Ж"])


@given(st.lists(usual, max_size=5), st.lists(texts, max_size=2), suffixes, suffixes, st.sampled_from(ZONES))
def test_a_column_of_times_is_read_as_each_of_its_cells_would_be(
    moments: list[str], odd: list[str], suffix: str, other: str, zone: str | None
) -> None:
    column = [f"{text}{suffix}" for text in moments] + [f"{text}{other}" for text in odd]
    source = TimeSource(column="t", zone=zone)
    at, ambiguous, reasons = Clock(source).instants([column])
    one_by_one = [Clock(source).instants([[text, "none"]]) for text in column]  # `none` forbids the quick way
    for k, (alone, doubtful, why) in enumerate(one_by_one):
        assert reasons.get(k) == why.get(0)
        if k not in reasons:
            assert (at[k], ambiguous[k]) == (alone[0], doubtful[0])


@pytest.mark.parametrize("bad", ["1_000", "nan", "inf", "-inf", "1,5", "", "x", "1e999"])
def test_a_column_with_a_cell_that_is_no_number_is_not_swept(bad: str) -> None:
    assert numbers(["1.5", bad]) is None
    found = numbers(["1.5", " -2e3 "])
    assert found is not None
    assert found.tolist() == [1.5, -2000.0]

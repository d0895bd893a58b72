"""What people declare: overlapping levels, drills, pauses, and when the next of it begins or ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.declared import Declared, Pause, Response, Span
from rules.outcome import FAR, NEVER


def test_of_two_levels_at_once_the_more_severe_holds() -> None:
    declared = Declared((Response(4, 10, 50), Response(2, 20, 30), Response(3, 25, None)))
    at = np.array([NEVER, 9, 10, 19, 20, 29, 30, 49, 50, FAR], np.int64)
    assert declared.level_at(at).tolist() == [0, 0, 4, 4, 2, 2, 3, 3, 3, 3]
    assert declared.next_change(at).tolist() == [10, 10, 20, 20, 25, 30, 50, 50, FAR, FAR]


def test_a_drill_is_no_response_and_an_open_one_goes_on() -> None:
    declared = Declared(drills=(Span(10, 20), Span(20, 30), Span(40)))
    at = np.array([9, 10, 20, 30, 40, 10**15], np.int64)
    assert declared.drill_at(at).tolist() == [False, True, True, False, True, True]
    assert not declared.level_at(at).any()
    assert declared.next_change(np.array([0, 40])).tolist() == [10, FAR]


def test_nothing_declared_is_nothing() -> None:
    at = np.array([NEVER, 0, FAR], np.int64)
    assert Declared().level_at(at).tolist() == [0, 0, 0]
    assert Declared().drill_at(at).tolist() == [False] * 3
    assert Declared().next_change(at).tolist() == [FAR] * 3
    assert Declared().paused("ps-1") == ()


def test_the_pauses_of_a_device_come_in_their_order() -> None:
    late, early = Pause("ps-1", 30, 40, "检修"), Pause("ps-1", 10, 20, "限排", frozenset({"high"}))
    declared = Declared(pauses=(late, Pause("ps-2", 0, 99, "x"), early, Pause("ps-1", 50, 50, "none")))
    assert declared.paused("ps-1") == (early, late)
    assert declared.paused("ps-3") == ()


def test_levels_are_one_to_four() -> None:
    for level in (0, 5):
        with pytest.raises(ValueError, match="1 to 4"):
            Response(level, 0, 1)


spans = st.tuples(st.integers(0, 40), st.none() | st.integers(0, 40))


@given(st.lists(st.tuples(st.integers(1, 4), spans), max_size=6), st.lists(spans, max_size=4))
def test_at_every_instant_it_is_what_a_person_reads_off_the_list(
    responses: list[tuple[int, tuple[int, int | None]]], drills: list[tuple[int, int | None]]
) -> None:
    declared = Declared(tuple(Response(level, *span) for level, span in responses), tuple(Span(*s) for s in drills))
    at = np.arange(-1, 45)

    def on(span: tuple[int, int | None], t: int) -> bool:
        return span[0] <= t and (span[1] is None or t < span[1])

    levels = [min([level for level, span in responses if on(span, t)], default=0) for t in at.tolist()]
    assert declared.level_at(at).tolist() == levels
    assert declared.drill_at(at).tolist() == [any(on(s, t) for s in drills) for t in at.tolist()]
    marks = sorted({m for s in [*drills, *(span for _, span in responses)] for m in s if m is not None})
    assert declared.next_change(at).tolist() == [min([m for m in marks if m > t], default=FAR) for t in at.tolist()]

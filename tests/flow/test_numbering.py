"""Gaps in the numbers that devices give their messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.batch import NO_SEQ
from devices.instants import MINUTE
from flow.numbering import MOST_MISSING, MOST_RANGES, WINDOW, Numbering, unpack
from tests.flow.centre import START, SmallCentre


def tell(known: Numbering, *numbers: int, newer: bool = True) -> tuple[int, int]:
    """Missing and found in one batch of one device; through the form of the journal."""
    gaps = known.look(
        np.zeros(len(numbers), np.int32), np.array(numbers, np.int64), np.full(len(numbers), newer, np.bool_)
    )
    known.adopt(unpack(gaps.packed()))
    return sum(c[1] for c in gaps.counted), sum(c[2] for c in gaps.counted)


@pytest.fixture
def known() -> Numbering:
    known = Numbering()
    known.grow(1)
    return known


def test_a_jump_is_a_gap_and_what_comes_late_fills_it_once(known: Numbering) -> None:
    assert tell(known, 100, 101, 102) == (0, 0)
    assert tell(known, 106) == (3, 0)
    assert tell(known, 104, newer=False) == (0, 1)
    assert tell(known, 104, newer=False) == (0, 0)
    assert tell(known, 103, 105, 107) == (0, 2)
    assert known.missing == {0: []}


def test_what_comes_again_is_no_gap(known: Numbering) -> None:
    assert tell(known, 100, 100, 101) == (0, 0)
    assert tell(known, 100, 101, newer=False) == (0, 0)
    assert tell(known, 102) == (0, 0)


@pytest.mark.parametrize("first", [0, 1, 500 - WINDOW - 1])
def test_a_restart_of_the_counting_is_no_gap(known: Numbering, first: int) -> None:
    assert tell(known, 500) == (0, 0)
    assert tell(known, first, first + 1) == (0, 0)
    assert tell(known, first + 3) == (1, 0)


def test_an_old_number_of_an_old_message_is_no_restart(known: Numbering) -> None:
    assert tell(known, 500) == (0, 0)
    assert tell(known, 1, newer=False) == (0, 0)
    assert tell(known, 501) == (0, 0)


def test_a_jump_beyond_all_reason_is_another_way_of_counting(known: Numbering) -> None:
    assert tell(known, 7) == (0, 0)
    assert tell(known, 8 + MOST_MISSING) == (0, 0)
    assert tell(known, 8 + 2 * MOST_MISSING) == (MOST_MISSING - 1, 0)


def test_the_newest_missing_ranges_are_kept(known: Numbering) -> None:
    assert tell(known, *range(0, 4 * MOST_RANGES, 2)) == (2 * MOST_RANGES - 1, 0)
    assert len(known.missing[0]) == MOST_RANGES
    assert tell(known, 1, newer=False) == (0, 0)
    assert tell(known, 4 * MOST_RANGES - 3, newer=False) == (0, 1)


SENT = st.lists(st.tuples(st.integers(0, 2), st.one_of(st.just(NO_SEQ), st.integers(2, 40))), max_size=60)


@given(SENT, st.integers(1, 60))
def test_how_the_stream_is_cut_changes_nothing(sent: list[tuple[int, int]], size: int) -> None:
    counted: dict[int, list[int]] = {}
    known = Numbering()
    known.grow(3)
    for start in range(0, len(sent), size):
        part = sent[start : start + size]
        device, seq = np.array([d for d, _ in part], np.int32), np.array([n for _, n in part], np.int64)
        gaps = known.look(device, seq, np.ones(len(part), np.bool_))
        known.adopt(unpack(gaps.packed()))
        for owner, missing, found in gaps.counted:
            counted[owner] = [a + b for a, b in zip(counted.get(owner, [0, 0]), (missing, found), strict=True)]
    plain: dict[int, list[int]] = {}
    for owner in {d for d, _ in sent}:
        last, missed, told = NO_SEQ, set[int](), [0, 0]
        for number in (n for d, n in sent if d == owner and n != NO_SEQ):
            if last == NO_SEQ or number > last:
                missed |= set(range(last + 1, number)) if last != NO_SEQ else set()
                told[0] += number - last - 1 if last != NO_SEQ else 0
                last = number
            elif number in missed:
                missed.remove(number)
                told[1] += 1
        if any(told):
            plain[owner] = told
    assert counted == plain


def test_gaps_stand_in_the_ledger_and_are_known_after_a_crash(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data").start()

    def send(minute: int, seq: int) -> None:
        centre.now = max(centre.now, START + minute * MINUTE)
        centre.send("ps-1", {"at": (START + minute * MINUTE) // 1000, "seq": seq, "level_inside": 3.0})
        centre.settle()

    send(1, 7)
    centre.settler.snapshot()
    send(5, 11)
    centre.stop(crash=True)
    centre.start()
    send(5, 11)
    send(3, 9)
    assert centre.ledger() == {"received": 4, "stored": 3, "duplicate": 1, "late": 1, "gaps": 3, "gaps_filled": 1}
    centre.settler.snapshot()
    centre.stop(crash=True)
    centre.start()
    send(4, 10)
    send(6, 12)
    assert (centre.ledger()["gaps"], centre.ledger()["gaps_filled"]) == (3, 2)
    centre.stop()

"""Values of two sources paired by the nearest instant, against the plainest way of saying it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Device, Registry
from flow.second_sources import sources_of
from flow.sources import pair

INSTANTS = st.lists(st.integers(0, 60), unique=True, max_size=20).map(sorted)


def plainly(first: list[int], second: list[int], within: int) -> list[tuple[int, int]]:
    """Each of the fewer beside the nearest of the other, the earlier of two as near."""
    if len(second) < len(first):
        return [(here, there) for there, here in plainly(second, first, within)]
    found = []
    for place, at in enumerate(first):
        nearest = min(range(len(second)), key=lambda other: (abs(second[other] - at), second[other]), default=None)
        if nearest is not None and abs(second[nearest] - at) <= within:
            found.append((place, nearest))
    return found


@given(INSTANTS, INSTANTS, st.integers(0, 20))
def test_pairs_are_those_of_the_plain_way(first: list[int], second: list[int], within: int) -> None:
    here, there = pair(np.array(first, np.int64), np.array(second, np.int64), within)
    assert list(zip(here.tolist(), there.tolist(), strict=True)) == plainly(first, second, within)


@given(INSTANTS, INSTANTS, st.integers(0, 20))
def test_no_pair_is_further_apart_than_allowed_and_none_of_the_fewer_stands_twice(
    first: list[int], second: list[int], within: int
) -> None:
    here, there = pair(np.array(first, np.int64), np.array(second, np.int64), within)
    assert all(abs(first[a] - second[b]) <= within for a, b in zip(here.tolist(), there.tolist(), strict=True))
    fewer = here if len(first) <= len(second) else there
    assert len(set(fewer.tolist())) == len(fewer)


@pytest.mark.parametrize("asked", ["a", "b", "c"])
def test_each_source_of_a_station_finds_them_all(asked: str) -> None:
    registry = Registry()
    for name, first in (("c", "a"), ("a", None), ("b", "a"), ("d", None)):
        registry.add(Device(0, name, "s", "camera", second_of=first))
    device = registry.get(asked)
    assert device is not None
    primary, seconds = sources_of(registry, device)
    assert (primary.id, [d.id for d in seconds]) == ("a", ["b", "c"])


def test_a_second_source_whose_primary_nobody_knows_has_no_other() -> None:
    registry = Registry()
    orphan = registry.add(Device(0, "b", "s", "camera", second_of="gone"))
    assert sources_of(registry, orphan) == (orphan, ())

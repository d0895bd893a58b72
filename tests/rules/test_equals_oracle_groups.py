"""Rules about several devices: the engine says what the plain one says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devices.registry import Device, Registry
from rules.declared import Declared, Pause, Span
from tests.rules.desk import START
from tests.rules.oracle_runs import (
    CUTS,
    MANY,
    STEP,
    Happening,
    Town,
    Values,
    assert_same_as_oracle,
    assert_same_in_backtest,
    assert_same_with_restarts,
    book,
    streams,
)

_PUMP = [
    "in_grid(count(level_inside > 3.3) >= 2)",
    "in_grid(count(level_inside > 3.3) >= 2) ; for 45s",
    "in_grid(share(level_inside > 3.3 and level_outside > 3.1) > 0.5) ; keep_for 1m",
    "in_grid(share(level_inside > attr.limit) >= 0.5) ; clear in_grid(share(level_inside > attr.limit) == 0) ; for 30s",
    "in_grid(count(level_inside > 3.3) == 1)",
    "in_grid(count(not (level_inside > 3.3)) < 2)",
    "in_grid(count(absent(level_inside, 1m)) >= 2) ; for 30s",
    "in_grid(count(avg(level_inside, 1m) > 3.3) >= 2) ; only_in [drill]",
    "in_grid(share(level_inside > 3.3) > 0.5) ; applies_to {grids: [town, west]}",
    "in_grid(count(absent) >= 2)",
    'of_group("g7", level_inside > 3.3) > 0.5 ; for 15s',
    'of_group("g7", absent) >= 0.5 ; for 30s',
]
_ANY = [
    'of_group("g7", absent) > 0.5 ; applies_to {}',
    'of_group("g7", absent and mode("drill")) > 0.3 ; applies_to {}',
    "in_grid(count(absent) >= 3) ; applies_to {grids: [town]} ; for 1m",
]
_TREE = {"town": frozenset({"town", "west", "east"}), "west": frozenset({"west"})}


def _registry() -> Registry:
    """Three stations in the west, one in the east, one nowhere; a camera and the first three hang on one gateway."""
    registry = Registry()
    for number, (name, kind, grid, tags, first_seen) in enumerate([
        ("a", "pump_station", "west", {"g7"}, START), ("b", "pump_station", "west", {"g7"}, START),
        ("c", "pump_station", "west", {"g7"}, 0), ("d", "pump_station", "east", set(), START + 3 * STEP),
        ("e", "pump_station", None, set(), START), ("cam", "camera", "east", {"g7"}, START),
    ]):  # fmt: skip
        interval = 20.0 if number % 2 else 30.0
        registry.put(Device(number, name, "qidu", kind, grid=grid, tags=frozenset(tags), first_seen=first_seen,
                            interval_s=interval, attributes={"limit": 3.25}))  # fmt: skip
    return registry


_ALL = Town(book(pump_station=_PUMP, camera=_ANY), _registry(), grid_tree=_TREE)
_LEVEL = st.sampled_from([3.0, 3.25, 3.375, 3.5, 4.0])
_STATION: Values = st.one_of(
    st.fixed_dictionaries({"level_inside": _LEVEL}),
    st.fixed_dictionaries({}, optional={"level_inside": _LEVEL, "level_outside": _LEVEL, "mains_ok": st.just(1.0)}),
)
_CAMERA: Values = st.sampled_from([{"online": 1.0}, {"event:tamper": 1.0}])


def _declarations() -> st.SearchStrategy[Declared]:
    at = st.integers(-2, 120).map(lambda step: START + step * STEP)
    span = st.integers(0, 20).map(lambda step: step * STEP)
    some = st.one_of(st.none(), st.sets(st.sampled_from(list(_ALL.book.rules)), min_size=1).map(frozenset))
    device = st.sampled_from(["a", "b", "c", "d", "cam"])
    pause = st.builds(lambda d, start, long, r: Pause(d, start, start + long, "限排", r), device, at, span, some)
    drills = st.lists(st.builds(Span, at, st.one_of(st.none(), at)), max_size=2).map(tuple)
    return st.builds(Declared, st.just(()), drills, st.lists(pause, max_size=4).map(tuple))


_STREAMS = streams(
    {"a": _STATION, "b": _STATION, "c": _STATION, "d": _STATION, "e": _STATION, "cam": _CAMERA},
    others=_declarations(), steps=(0, 0, 1, 1, 1, 2, 3, 9),
)  # fmt: skip


@MANY
@given(_STREAMS, CUTS)
def test_groups_equal_the_oracle(stream: list[Happening], cuts: set[int]) -> None:
    assert_same_as_oracle(stream, cuts, _ALL)


@MANY
@given(_STREAMS, CUTS, CUTS)
def test_groups_survive_a_restart(stream: list[Happening], cuts: set[int], others: set[int]) -> None:
    assert_same_with_restarts(stream, cuts, others, _ALL)


@MANY
@given(_STREAMS, CUTS, st.sampled_from([2, 5, 64]))
def test_groups_in_a_backtest(stream: list[Happening], cuts: set[int], stretch: int) -> None:
    assert_same_in_backtest(stream, cuts, stretch, _ALL)

"""History with what was declared, with levels and groups: cut into chunks as one likes, and as live as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.instants import MINUTE
from devices.registry import Device, Registry
from rules.backtest import Backtest, Finding, backtest
from rules.book import load
from rules.calendar import Calendar, Site
from rules.declared import Declared, Pause, Response, Span
from rules.engine import Engine
from rules.outcome import Edge, Rows
from rules.rule import Priority
from tests.rules.desk import START, at

BOOK = load({"b.yaml": """
rules:
  - {id: high, applies_to: {kind: pump_station}, when: level_inside > 3.5, for: 2m, clear: level_inside <= 3.3}
  - {id: by-level, applies_to: {kind: pump_station}, when: "level_inside > by_response(3.6, 3.6, 3.2, 3.2, 3.2)"}
  - {id: gone, applies_to: {kind: pump_station}, when: "absent(level_inside, 6m)"}
  - {id: drill, applies_to: {kind: pump_station}, when: level_inside > 3.0, only_in: [drill]}
  - {id: night, applies_to: {kind: pump_station}, when: 'between("22:00", "06:00") and level_inside > 3.4'}
  - {id: both, applies_to: {kind: pump_station}, when: in_grid(count(level_inside > 3.4) >= 2), for: 3m}
  - id: steps
    applies_to: {kind: pump_station}
    levels: [{priority: low, when: level_inside > 3.1}, {priority: high, when: level_inside > 3.5, for: 2m}]
"""})  # fmt: skip
TREE = {"g": frozenset({"g"})}
SITE = Site("Asia/Shanghai", Calendar())


def town() -> Registry:
    registry = Registry()
    for number, name in enumerate(("ps-1", "ps-2")):
        registry.put(Device(number, name, "t", "pump_station", grid="g", first_seen=START))
        registry.series(number, "level_inside")
    return registry


def rows(elements: list[tuple[int, int, float]]) -> Rows:
    """(device, minutes after START, level), one element each."""
    device = np.array([d for d, _, _ in elements], np.int32)
    return Rows(
        device, START + np.array([m for _, m, _ in elements], np.int64) * MINUTE,
        np.array([v for _, _, v in elements], np.float64), np.arange(len(elements), dtype=np.int32), device,
    )  # fmt: skip


def live(elements: list[tuple[int, int, float]], declared: Declared) -> list[tuple[str, str, str, int]]:
    """A service whose clock ticks every minute and hears of each declaration when it begins."""
    engine = Engine(BOOK, town(), grid_tree=TREE, site=SITE)
    found: list[tuple[str, str, str, int]] = []
    last: dict[int, int] = {}
    beginnings = {each.start for kind in (declared.responses, declared.drills, declared.pauses) for each in kind}
    end = max((m for _, m, _ in elements), default=0)

    def take(outcome: object) -> None:
        engine.adopt(outcome)  # type: ignore[arg-type]
        found.extend((t.rule, t.device, str(t.edge), t.at) for t in outcome.transitions)  # type: ignore[attr-defined]

    clock = 0
    for now in [*sorted({m for _, m, _ in elements} | set(range(end + 1)))]:
        instant = START + now * MINUTE
        if instant in beginnings:
            take(engine.tick(instant - 1))
            known = [[e for e in kind if e.start <= instant]
                     for kind in (declared.responses, declared.drills, declared.pauses)]  # fmt: skip
            take(engine.declare(Declared(tuple(known[0]), tuple(known[1]), tuple(known[2])), instant))  # type: ignore[arg-type]
        take(engine.tick(instant))
        for element in elements[clock:]:
            if element[1] > now:
                break
            clock += 1
            if element[1] > last.get(element[0], -1):
                last[element[0]] = element[1]
                take(engine.evaluate(rows([element])))
    return found


times = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8), st.sampled_from([3.0, 3.15, 3.3, 3.45, 3.55, 3.7])), max_size=25
)
spans = st.tuples(st.integers(0, 60), st.integers(1, 40))


@settings(deadline=None)
@given(times, st.lists(spans, max_size=2), st.lists(spans, max_size=2), st.lists(spans, max_size=2), st.data())
def test_a_backtest_hears_of_each_declaration_when_it_begins(
    steps: list[tuple[int, int, float]], responses: list[tuple[int, int]], drills: list[tuple[int, int]],
    pauses: list[tuple[int, int]], data: st.DataObject,
) -> None:  # fmt: skip
    minute, elements = 0, []
    for device, step, value in steps:
        minute += step
        elements.append((device, minute, value))
    instant = [START + m * MINUTE for m in range(200)]
    declared = Declared(
        tuple(Response(3, instant[a], instant[a + b]) for a, b in responses),
        tuple(Span(instant[a], instant[a + b]) for a, b in drills),
        tuple(Pause("ps-1", instant[a], instant[a + b], "限排") for a, b in pauses),
    )
    run = Backtest(BOOK, town(), grid_tree=TREE, site=SITE, declared=declared)
    found = []
    cuts = sorted(data.draw(st.sets(st.integers(0, len(elements)), max_size=4)))
    for begin, end in zip([0, *cuts], [*cuts, len(elements)], strict=True):
        found += run.feed(rows(elements[begin:end]))
    found += run.clock(instant[minute])
    assert sorted((t.rule, t.device, str(t.edge), t.at) for t in found) == sorted(live(elements, declared))
    assert sum(f.cleared_at is None for f in run.findings()) == sum(
        {Edge.RAISED: 1, Edge.CLEARED: -1, Edge.CHANGED: 0}[t.edge] for t in found
    )


def findings(*levels: float, **more: object) -> dict[tuple[str, str], Finding]:
    elements = [(0, n, value) for n, value in enumerate(levels)]
    found = backtest(BOOK, town(), [rows(elements)], grid_tree=TREE, site=SITE, **more)  # type: ignore[arg-type]
    return {(f.rule, f.device): f for f in found}


def test_a_finding_tells_how_severe_it_was_from_when_on() -> None:
    steps = findings(3.0, 3.2, 3.6, 3.6, 3.6, 3.2, 3.0)["steps", "ps-1"]
    assert steps.priority == ((at("1m"), Priority.LOW), (at("4m"), Priority.HIGH), (at("5m"), Priority.LOW))
    assert (steps.raised_at, steps.cleared_at, steps.peak_value) == (at("1m"), at("6m"), 3.6)
    high = findings(3.6, 3.6, 3.6)["high", "ps-1"]
    assert high.priority == ((at("2m"), Priority.MEDIUM),)


def test_a_group_is_a_finding_of_its_grid() -> None:
    elements = [(n % 2, n // 2, 3.6) for n in range(12)]
    found = backtest(BOOK, town(), [rows(elements)], grid_tree=TREE, site=SITE)
    (group,) = (f for f in found if f.rule == "both")
    assert (group.device, group.raised_at) == ("grid:g", at("3m"))


@pytest.mark.parametrize("minutes", [2, 3])
def test_a_pause_ends_what_stands_when_it_begins_without_a_reading(minutes: int) -> None:
    pause = Pause("ps-1", at(f"{minutes}m") + 1, at("1h"), "住院")
    run = Backtest(BOOK, town(), site=SITE, declared=Declared(pauses=(pause,)))
    run.feed(rows([(0, 0, 3.7), (0, 1, 3.7)]))
    assert [f.cleared_at for f in run.findings() if f.rule == "by-level"] == [None]
    run.clock(at("10m"))
    assert [f.cleared_at for f in run.findings() if f.rule == "by-level"] == [pause.start]


def test_what_comes_due_when_a_pause_begins_is_not_raised() -> None:
    for begins, raised in (("6m", 0), ("7m", 1)):
        run = Backtest(BOOK, town(), site=SITE, declared=Declared(pauses=(Pause("ps-1", at(begins), at("1h"), "停"),)))
        run.feed(rows([(0, 0, 3.0)]))
        found = run.clock(at("10m"))
        assert sum(t.rule == "gone" and t.device == "ps-1" and t.edge is Edge.RAISED for t in found) == raised


def test_rows_that_are_not_newer_are_counted() -> None:
    run = Backtest(BOOK, town(), site=SITE)
    run.feed(rows([(0, 1, 3.0), (0, 1, 3.0), (0, 0, 3.0), (1, 0, 3.0)]))
    run.feed(rows([(0, 1, 3.0), (0, 2, 3.0)]))
    assert run.skipped == 3

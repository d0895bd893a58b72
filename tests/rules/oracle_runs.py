"""One stream of happenings through both engines: random, late, repeated, in batches, interrupted, declared anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

import rules.backtest
from devices.batch import I64
from devices.registry import Registry
from rules.book import RuleBook, load
from rules.calendar import Site
from rules.declared import Declared
from rules.engine import Engine, Outcome, Rows
from tests.rules.desk import START
from tests.rules.oracle import Oracle
from tests.rules.oracle_groups import Told
from tests.rules.oracle_machine import Edge

STEP = 15_000_000
# Thirty of the hundred that are usual: each is a whole stream.
MANY = settings(
    max_examples=settings().max_examples * 3 // 10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=set(Phase) - {Phase.explain},
)
CUTS = st.sets(st.integers(0, 50))


@dataclass(frozen=True)
class Element:
    device: str
    at: int
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Tick:
    now: int


@dataclass(frozen=True)
class Link:
    at: int


@dataclass(frozen=True)
class Declare:
    declared: Declared
    now: int


Happening = Element | Tick | Link | Declare
Stream = Sequence[Happening]
Values = st.SearchStrategy[dict[str, float]]


@dataclass(frozen=True)
class Town:
    """What both engines are given besides the stream. `registry` is made anew for each run: it grows."""

    book: RuleBook
    registry: Registry
    site: Site = field(default_factory=Site)
    grid_tree: dict[str, frozenset[str]] = field(default_factory=dict)

    def again(self) -> Registry:
        fresh = Registry()
        for device in self.registry.devices:
            fresh.put(device)
        return fresh


def book(**conditions: Sequence[str]) -> RuleBook:
    """Rules of each kind of device, written "<when> ; for 1m ; clear <condition> ; max_gap none"."""
    lines: list[str] = []
    for kind, texts in conditions.items():
        for text in texts:
            when, *rest = (part.strip() for part in text.split(" ; "))
            keys = {"applies_to": f"{{kind: {kind}}}", "when": when, **dict(part.split(" ", 1) for part in rest)}
            told = ", ".join(f"{k}: {json.dumps(v) if k in ('when', 'clear') else v}" for k, v in keys.items())
            lines.append(f"  - {{id: r{len(lines)}, {told}}}")
    return load({"all.yaml": "rules:\n" + "\n".join(lines)})


@st.composite
def streams(
    draw: st.DrawFn, values: dict[str, Values], *, length: int = 50, others: st.SearchStrategy[Declared] | None = None,
    steps: Sequence[int] = (0, 0, 1, 1, 1, 2, 3, 5, 13), unit: int = STEP, start: int = START,
) -> list[Happening]:  # fmt: skip
    """A stream in which time mostly moves on by a few steps, stands still, jumps, and now and then goes back."""
    found: list[Happening] = []
    clock = start
    kinds = [*values, *values, "tick", "link", *(["declare"] if others is not None else [])]
    for _ in range(draw(st.integers(1, length))):
        clock += unit * draw(st.sampled_from(steps))
        what = draw(st.sampled_from(kinds))
        if what == "tick":
            found.append(Tick(clock + draw(st.integers(0, unit))))
        elif what == "link":
            found.append(Link(clock))
        elif what == "declare" and others is not None:
            found.append(Declare(draw(others), clock))
        else:
            late = unit * draw(st.sampled_from([0, 0, 0, 0, 1, 4]))
            brought = draw(values[what])
            if brought:
                found.append(Element(what, clock - late, tuple(brought.items())))
    return found


class Filter:
    """The rows the settle path hands on: only those newer than the last of their series."""

    def __init__(self, devices: Registry) -> None:
        self._devices = devices
        self._last: dict[int, int] = {}

    def rows(self, elements: Sequence[tuple[int, Element]]) -> Rows:
        columns: list[tuple[int, int, float, int, int]] = []
        for number, element in elements:
            device = self._devices.get(element.device)
            assert device is not None
            for name, value in element.values:
                series = self._devices.series(device.number, name)
                if element.at > self._last.get(series, -1):
                    self._last[series] = element.at
                    columns.append((series, element.at, value, number, device.number))
        table: list[I64] = [np.array([row[i] for row in columns]) for i in range(5)]
        return Rows(
            table[0].astype(np.int32),
            table[1].astype(np.int64),
            table[2].astype(np.float64),
            table[3].astype(np.int32),
            table[4].astype(np.int32),
        )


class Live:
    """The engine as the service runs it: batches, ticks, declarations, adopting each outcome."""

    def __init__(self, town: Town) -> None:
        self.town, self.devices = town, town.again()
        self.engine = self._engine()
        self.filter = Filter(self.devices)
        self.told: list[Told] = []
        self.standing: dict[tuple[str, str], float | None] = {}

    def _engine(self) -> Engine:
        return Engine(self.town.book, self.devices, grid_tree=self.town.grid_tree, site=self.town.site)

    def take(self, outcome: Outcome) -> None:
        self.engine.adopt(outcome)
        for t in outcome.transitions:
            edge: Edge = "raised" if t.edge == "raised" else "cleared" if t.edge == "cleared" else "changed"
            priority = None if t.priority is None else str(t.priority)
            told = Told(t.rule, t.device, edge, t.at, t.since, t.first_value, t.peak_value, t.element, priority)
            self.told.append(told)
            if t.edge == "cleared":
                del self.standing[t.rule, t.device]
            else:
                self.standing[t.rule, t.device] = t.peak_value
        for peak in outcome.peaks:
            self.standing[peak.rule, peak.device] = peak.peak_value

    def run(self, stream: Stream, cuts: Iterable[int], restarts: bool = False) -> None:
        waiting: list[tuple[int, Element]] = []
        for number, what in enumerate(stream):
            if number in cuts or not isinstance(what, Element):
                self._flush(waiting)
                if restarts and number in cuts:
                    self._restart()
            if isinstance(what, Element):
                waiting.append((number, what))
            elif isinstance(what, Tick):
                self.take(self.engine.tick(what.now))
            elif isinstance(what, Declare):
                self.take(self.engine.declare(what.declared, what.now))
            else:
                self.engine.link(what.at)
        self._flush(waiting)

    def _flush(self, waiting: list[tuple[int, Element]]) -> None:
        self.take(self.engine.evaluate(self.filter.rows(waiting)))
        waiting.clear()

    def _restart(self) -> None:
        blob = self.engine.snapshot()
        self.engine = self._engine()
        self.engine.restore(blob)
        assert self.engine.snapshot() == blob


def ticking(stream: Stream) -> list[Happening]:
    """The elements alone, and the clock of the data: a tick before each that is later than all before."""
    found: list[Happening] = []
    clock = 0
    for what in stream:
        if isinstance(what, Element):
            if what.at > clock:
                clock = what.at
                found.append(Tick(clock))
            found.append(what)
    return found


def by_oracle(stream: Stream, town: Town) -> tuple[list[Told], dict[tuple[str, str], float | None]]:
    oracle = Oracle(town.book, town.registry.devices, town.site.zone, town.site.calendar, town.grid_tree)
    told: list[Told] = []
    for number, what in enumerate(stream):
        if isinstance(what, Element):
            told += oracle.element(number, what.device, what.at, dict(what.values))
        elif isinstance(what, Tick):
            told += oracle.tick(what.now)
        elif isinstance(what, Declare):
            told += oracle.declare(what.declared, what.now)
        else:
            oracle.link(what.at)
    return told, oracle.standing


def ordered(told: Iterable[Told]) -> list[Told]:
    """Each alarm's own order; one may be told before the other."""
    return sorted(told, key=lambda t: (t.rule, t.subject))


def assert_same_as_oracle(stream: Stream, cuts: Iterable[int], town: Town) -> None:
    told, standing = by_oracle(stream, town)
    live = Live(town)
    live.run(stream, sorted(cuts))
    assert ordered(live.told) == ordered(told)
    assert live.standing == standing


def assert_same_with_restarts(stream: Stream, cuts: Iterable[int], others: Iterable[int], town: Town) -> None:
    one, other = Live(town), Live(town)
    one.run(stream, sorted(cuts))
    other.run(stream, sorted(others), restarts=True)
    assert ordered(one.told) == ordered(other.told)
    assert one.standing == other.standing


def assert_same_in_backtest(stream: Stream, cuts: Iterable[int], stretch: int, town: Town) -> None:
    """A backtest finds what a clock that ticks at every reading would."""
    live = Live(town)
    live.run(ticking(stream), [])
    elements = [(n, what) for n, what in enumerate(stream) if isinstance(what, Element)]
    edges = [0, *sorted(cut for cut in cuts if cut < len(elements)), len(elements)]
    keep = Filter(live.devices)
    chunks = [keep.rows(elements[a:b]) for a, b in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules.backtest, "_STRETCH", stretch)
        found = rules.backtest.backtest(town.book, live.devices, chunks, grid_tree=town.grid_tree, site=town.site)
    raised = {(t.rule, t.subject, t.at) for t in live.told if t.edge == "raised"}
    cleared = {(t.rule, t.subject, t.at, t.peak) for t in live.told if t.edge == "cleared"}
    assert {(f.rule, f.device, f.raised_at) for f in found} == raised
    assert {(f.rule, f.device, f.cleared_at, f.peak_value) for f in found if f.cleared_at is not None} <= cleared
    assert {(f.rule, f.device): f.peak_value for f in found if f.cleared_at is None} == live.standing

"""The vectorised engine says what the plain one says, however the stream is cut, repeated, delayed or interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rules.backtest
from devices.batch import I64
from devices.registry import Registry
from rules.book import RuleBook, load
from rules.engine import Engine, Outcome, Rows
from tests.rules.desk import START, put, town
from tests.rules.oracle import Oracle, Told

STEP = 15_000_000
_PUMP = [
    "when: level_inside > 3.5",
    "when: level_inside < 3.3, for: 30s",
    "when: level_inside > attr.limit, clear: level_inside <= attr.limit - 0.2, for: 1m",
    "when: level_inside > attr.limit, clear: level_inside <= attr.limit - 0.2, for: 1m, max_gap: none",
    "when: level_inside > attr.nowhere or level_outside > 3.5, for: 1m, max_gap: 45s",
    "when: level_outside - level_inside > 0.2",
    "when: 0.2 < level_outside - level_inside, clear: level_inside > level_outside, max_age: 30s",
    "when: level_inside / pumps_running > 3, for: 15s, max_age: none",
    "when: level_inside > 3.3 and not (level_outside <= 3.3) and mains_ok, for: 45s, max_gap: 30s",
    "when: mains_ok == false or (mains_ok == (pumps_running > 0)) != true",
    "when: level_inside == 3.5, clear: level_inside != 3.5 and level_inside != 3.6",
    "when: 'absent(level_inside, 1m)'",
    "when: 'absent(level_inside, 1m) and mains_ok == true', for: 30s",
    "when: 'absent(level_inside, 1m) or level_outside > 3.5', clear: level_outside < 3.5, for: 1m, max_age: 2m",
    "when: 'absent(level_inside, 1m) and not absent(level_outside, 45s)'",
    "when: -level_inside * 2 <= -7",
]
_DOOR = [
    "when: 'event(\"door_opened\")'",
    "when: 'event(\"door_opened\") and battery < 50'",
    "when: 'event(\"door_opened\")', clear: 'event(\"door_closed\")'",
    "when: 'event(\"door_opened\")', clear: 'since(event(\"door_opened\")) > 1m'",
    "when: 'since(event(\"door_opened\")) > 2m'",
    "when: 'since(event(\"door_opened\")) >= attr.limit * 30s and battery > 20', for: 45s",
    "when: '90s > since(event(\"door_closed\"))', for: 1m",
    "when: 'count(event(\"door_opened\"), 2m) >= 3'",
    'when: \'count(event("door_opened"), 1m) > count(event("door_closed"), 45s)\', for: 30s',
    "when: 'count(event(\"door_opened\"), 90s) >= 2 or open == true', clear: 'absent(open, 1m)'",
    "when: open and not motion, for: 1m, max_gap: 1m",
]


def _book() -> RuleBook:
    lines = [f"  - {{id: p{i}, applies_to: {{kind: pump_station}}, {text}}}" for i, text in enumerate(_PUMP)]
    lines += [f"  - {{id: d{i}, applies_to: {{kind: door_sensor}}, {text}}}" for i, text in enumerate(_DOOR)]
    lines.append("  - {id: west, applies_to: {grids: [west], tags: [wet]}, when: level_inside > 3.5 }")
    return load({"all.yaml": "rules:\n" + "\n".join(lines)})


ALL = _book()


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


Happening = Element | Tick | Link
_LEVEL = st.sampled_from([3.0, 3.2, 3.3, 3.4, 3.5, 3.6, 4.0])
_BIT = st.sampled_from([0.0, 1.0])
_VALUES = {
    "ps": st.fixed_dictionaries(
        {}, optional={"level_inside": _LEVEL, "level_outside": _LEVEL, "mains_ok": _BIT, "pumps_running": _BIT}
    ),
    "door": st.one_of(
        st.fixed_dictionaries(
            {}, optional={"open": _BIT, "motion": _BIT, "battery": st.sampled_from([10.0, 40.0, 90.0])}
        ),
        st.sampled_from([{"event:door_opened": 1.0}, {"event:door_closed": 1.0}]),
    ),
}


@st.composite
def happenings(draw: st.DrawFn) -> list[Happening]:
    """A stream in which time mostly moves on by a few steps, stands still, jumps, and now and then goes back."""
    found: list[Happening] = []
    clock = START
    for _ in range(draw(st.integers(1, 50))):
        clock += STEP * draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3, 5, 13]))
        what = draw(st.sampled_from(["ps-1", "ps-1", "ps-1", "ps-2", "door", "door", "tick", "link"]))
        if what == "tick":
            found.append(Tick(clock + draw(st.integers(0, STEP))))
        elif what == "link":
            found.append(Link(clock))
        else:
            late = STEP * draw(st.sampled_from([0, 0, 0, 0, 1, 4]))
            values = draw(_VALUES["door" if what == "door" else "ps"])
            if values:
                found.append(Element(what, clock - late, tuple(values.items())))
    return found


def registry() -> Registry:
    devices = town(limit=3.4)
    put(devices, "ps-1", interval_s=20.0, tags=frozenset({"wet", "old"}))
    put(devices, "ps-2", attributes={"limit": "3.4"}, tags=frozenset({"old"}))
    put(devices, "door", interval_s=60.0)
    return devices


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
    """The engine as the service runs it: batches, ticks, adopting each outcome."""

    def __init__(self, book: RuleBook, devices: Registry) -> None:
        self.devices = devices
        self.engine = Engine(book, devices)
        self.filter = Filter(devices)
        self.told: list[Told] = []
        self.standing: dict[tuple[str, str], float | None] = {}

    def take(self, outcome: Outcome) -> None:
        self.engine.adopt(outcome)
        for t in outcome.transitions:
            self.told.append((t.rule, t.device, str(t.edge), t.at, t.since, t.first_value, t.peak_value, t.element))
            if t.edge == "raised":
                self.standing[(t.rule, t.device)] = t.peak_value
            else:
                del self.standing[(t.rule, t.device)]
        for peak in outcome.peaks:
            self.standing[(peak.rule, peak.device)] = peak.peak_value

    def run(self, stream: Sequence[Happening], cuts: Sequence[int], restarts: bool = False) -> None:
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
            else:
                self.engine.link(what.at)
        self._flush(waiting)

    def _flush(self, waiting: list[tuple[int, Element]]) -> None:
        self.take(self.engine.evaluate(self.filter.rows(waiting)))
        waiting.clear()

    def _restart(self) -> None:
        blob = self.engine.snapshot()
        self.engine = Engine(self.engine.book, self.devices)
        self.engine.restore(blob)
        assert self.engine.snapshot() == blob


def ticking(stream: Sequence[Happening]) -> list[Happening]:
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


def by_oracle(
    stream: Sequence[Happening], book: RuleBook = ALL
) -> tuple[list[Told], dict[tuple[str, str], float | None]]:
    oracle = Oracle(book, registry().devices)
    told: list[Told] = []
    for number, what in enumerate(stream):
        if isinstance(what, Element):
            told += oracle.element(number, what.device, what.at, dict(what.values))
        elif isinstance(what, Tick):
            told += oracle.tick(what.now)
        else:
            oracle.link(what.at)
    return told, {(p.rule.id, p.device.id): p.peak for p in oracle.pairs if p.phase == "firing"}


def ordered(told: list[Told]) -> list[Told]:
    """Each pair's own order; pairs may be told one before the other."""
    return sorted(told, key=lambda t: (t[0], t[1]))


_MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=set(Phase) - {Phase.explain}
)


@_MANY
@given(happenings(), st.sets(st.integers(0, 50)))
def test_engine_equals_oracle(stream: list[Happening], cuts: set[int]) -> None:
    told, standing = by_oracle(stream)
    live = Live(ALL, registry())
    live.run(stream, sorted(cuts))
    assert ordered(live.told) == ordered(told)
    assert live.standing == standing


@_MANY
@given(happenings(), st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_other_batch_boundaries_and_restarts_change_nothing(
    stream: list[Happening], cuts: set[int], others: set[int]
) -> None:
    one, other = Live(ALL, registry()), Live(ALL, registry())
    one.run(stream, sorted(cuts))
    other.run(stream, sorted(others), restarts=True)
    assert ordered(one.told) == ordered(other.told)
    assert one.standing == other.standing


@_MANY
@given(happenings(), st.data())
def test_everything_twice_or_an_old_copy_late_changes_no_alarm(stream: list[Happening], data: st.DataObject) -> None:
    once, twice = Live(ALL, registry()), Live(ALL, registry())
    once.run(stream, [])
    again: list[Happening] = []
    for what in stream:
        again.append(what)
        again += [what] if isinstance(what, Element) else []
        past = [e for e in again if isinstance(e, Element)]
        late: int = data.draw(st.integers(0, 2 * len(past)))
        again += past[late : late + 1]
    twice.run(again, data.draw(st.lists(st.integers(0, 150), max_size=8)))
    assert [t[:-1] for t in ordered(once.told)] == [t[:-1] for t in ordered(twice.told)]


@_MANY
@given(happenings(), st.sets(st.integers(0, 50)), st.sampled_from([2, 5, 64]))
def test_a_backtest_finds_what_a_clock_ticking_at_every_reading_would(
    stream: list[Happening], cuts: set[int], stretch: int
) -> None:
    devices = registry()
    live = Live(ALL, devices)
    live.run(ticking(stream), [])
    elements = [(n, what) for n, what in enumerate(stream) if isinstance(what, Element)]
    edges = [0, *sorted(cut for cut in cuts if cut < len(elements)), len(elements)]
    keep = Filter(devices)
    chunks = [keep.rows(elements[a:b]) for a, b in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules.backtest, "_STRETCH", stretch)
        found = rules.backtest.backtest(ALL, devices, chunks)
    raised = {(t[0], t[1], t[3]) for t in live.told if t[2] == "raised"}
    cleared = {(t[0], t[1], t[3], t[6]) for t in live.told if t[2] == "cleared"}
    assert {(f.rule, f.device, f.raised_at) for f in found} == raised
    assert {(f.rule, f.device, f.cleared_at, f.peak_value) for f in found if f.cleared_at is not None} <= cleared
    assert {(f.rule, f.device): f.peak_value for f in found if f.cleared_at is None} == live.standing


@pytest.mark.parametrize("book", [ALL], ids=["all"])
def test_the_book_of_this_test_has_every_construct(book: RuleBook) -> None:
    assert len(book.rules) == len(_PUMP) + len(_DOOR) + 1
    assert book.timed

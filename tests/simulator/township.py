"""The shipped township offline: its files, its rules, and its scenarios run straight through the rule engine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from devices.instants import HOUR
from devices.kinds import KINDS
from devices.presence import Presence
from devices.registry import EVENT, Device, Registry
from devices.town import Town, read_town
from rules.book import RuleBook, load
from rules.engine import Edge, Engine, Rows, Transition
from simulator.reports import CLOCK_STEP, messages
from simulator.scenarios import SCENARIOS, world_of
from simulator.truth import Expectation, Recorder
from simulator.world import Sample, World

QIDU = Path(__file__).resolve().parents[2] / "examples" / "qidu"


@cache
def qidu() -> Town:
    return read_town({path.name: path.read_text(encoding="utf-8") for path in QIDU.iterdir() if path.is_file()})


@cache
def rulebook() -> RuleBook:
    return load({path.name: path.read_text(encoding="utf-8") for path in sorted((QIDU / "rules").glob("*.yaml"))})


def world(scenario: str, *, seed: int = 1, start: int | None = None) -> World:
    return world_of(SCENARIOS[scenario], qidu(), seed=seed, start=start)


def stretch(of: World, hours: float, clock_step: int = CLOCK_STEP) -> Iterator[Sample | int]:
    """The messages up to and with the data clock that ends the stretch."""
    end = of.start + round(hours * HOUR)
    for item in messages(of, clock_step=clock_step):
        yield item
        if isinstance(item, int) and item >= end:
            return


def truth(of: World, hours: float, clock_step: int = CLOCK_STEP) -> tuple[list[Expectation], int]:
    """The expectations of a world's first hours, and the instant they end at."""
    return _truth(of.scenario, of.seed, of.start, hours, clock_step)


@cache
def _truth(scenario: str, seed: int, start: int, hours: float, clock_step: int) -> tuple[list[Expectation], int]:
    of = world(scenario, seed=seed, start=start)
    recorder = Recorder(of.town)
    for item in stretch(of, hours, clock_step):
        if isinstance(item, int):
            recorder.clock(item)
        else:
            recorder.message(item)
    return recorder.finished(recorder.now), recorder.now


class Judge:
    """The engine and presence over the messages of a township: the rows between two clocks are one batch."""

    def __init__(self, town: Town, start: int) -> None:
        self.registry = registry_of(town, start)
        self.engine = Engine(rulebook(), self.registry, grid_tree={grid: town.under(grid) for grid in town.grids})
        self.presence = Presence()
        self.presence.devices_changed(self.registry.devices)
        self.raised: list[tuple[str, str, int]] = []
        self.cleared: list[tuple[str, str, int]] = []
        self._rows: list[tuple[int, int, float, int, int]] = []
        self._newest: dict[int, int] = {}
        self._elements = 0

    def hear(self, sample: Sample) -> None:
        device = self.registry.get(sample.device)
        assert device is not None
        body = {EVENT + str(sample.body["event"]): 1.0} if sample.channel == "events" else sample.body
        for metric, value in body.items():
            series = self.registry.series(device.number, metric)
            if sample.at > self._newest.get(series, 0):
                self._newest[series] = sample.at
                self._rows.append((series, sample.at, float(value), self._elements, device.number))
        self._elements += 1

    def clock(self, now: int) -> None:
        table = np.array(self._rows, dtype=[("s", "i4"), ("t", "i8"), ("v", "f8"), ("e", "i4"), ("d", "i4")])
        self._rows.clear()
        rows = Rows(table["s"].copy(), table["t"].copy(), table["v"].copy(), table["e"].copy(), table["d"].copy())
        outcome = self.engine.evaluate(rows)
        self.engine.adopt(outcome)
        self._take(outcome.transitions)
        heard = self.presence.hear(rows.device, rows.at, rows.element)
        self.presence.adopt(heard)
        outcome = self.engine.tick(now)
        self.engine.adopt(outcome)
        self._take(outcome.transitions)
        silent = self.presence.tick(now)
        self.presence.adopt(silent)
        for s in (*heard.silences, *silent.silences):
            name = self.registry.devices[s.device].id
            (self.raised if s.ended is None else self.cleared).append(("gw-silence", name, s.ended or s.since))

    def _take(self, transitions: tuple[Transition, ...]) -> None:
        for t in transitions:
            (self.raised if t.edge is Edge.RAISED else self.cleared).append((t.rule, t.device, t.at))


def registry_of(town: Town, start: int) -> Registry:
    registry = Registry()
    for number, d in enumerate(town.devices.values()):
        registry.put(
            Device(
                number, d.id, town.site, d.kind, d.name, d.grid, attributes=dict(d.attributes), tags=d.tags,
                interval_s=d.interval or KINDS[d.kind].interval_s, silent_after_s=d.silent_after, first_seen=start,
            )
        )  # fmt: skip
    return registry

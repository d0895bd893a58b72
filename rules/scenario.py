"""A story about a few devices and the alarms it must raise, run through the engine that runs live.

What is expected must happen at its very instant and nothing else may: an edge nobody expected is a difference too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

import numpy as np

from devices.kinds import KINDS
from devices.registry import EVENT, Device, Registry
from rules.backtest import Backtest
from rules.book import RuleBook
from rules.calendar import Site
from rules.declared import Declared
from rules.explain import examine
from rules.outcome import Edge, Rows, Transition
from rules.rule import Priority

OPEN = "open"
DOOR_EVENTS = ("door_closed", "door_opened")


@dataclass(frozen=True, slots=True)
class Sample:
    """One element: what a device measured `at` an instant, or an event ("event:<name>": 1), come in `arrives`."""

    device: str
    at: int
    arrives: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Expected:
    """`device` and `priority` None: any. `line` is where it stands in its file."""

    rule: str
    edge: Edge
    at: int
    device: str | None = None
    priority: Priority | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`samples` in order of arrival; `devices` numbered from 0, first seen at `start`; the clock goes on to `end`."""

    name: str
    file: str
    line: int
    start: int
    end: int
    book: RuleBook
    devices: tuple[Device, ...]
    samples: tuple[Sample, ...]
    expect: tuple[Expected, ...]
    grid_tree: Mapping[str, frozenset[str]]
    site: Site
    declared: Declared


class Status(StrEnum):
    MATCHED = "matched"
    MISSING = "missing"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Line:
    """One edge: `expected` is None where nobody did, `happened` None where nothing did."""

    at: int
    expected: Expected | None
    happened: Transition | None

    @property
    def status(self) -> Status:
        if self.expected is None:
            return Status.UNEXPECTED
        return Status.MISSING if self.happened is None else Status.MATCHED


@dataclass(frozen=True, slots=True)
class Played:
    """`lines` in order of time. `impossible` values no sensor can measure and `stale` ones that were not newer than the
    last of their series were left out, as the service leaves them out."""

    scenario: Scenario
    lines: tuple[Line, ...]
    impossible: int
    stale: int

    @property
    def ok(self) -> bool:
        return all(line.status is Status.MATCHED for line in self.lines)


def play(scenario: Scenario) -> Played:
    """Run it and compare: the clock ticks at every instant the data or the rules need, and on to the end."""
    stage = _Stage(scenario)
    found = stage.run(scenario.end)
    return Played(scenario, tuple(_compare(scenario, found)), stage.impossible, stage.history.skipped)


def why_missing(scenario: Scenario, line: Line) -> list[tuple[str, str]]:
    """Why what was expected did not happen, Chinese and English, as the rule stood at that instant; empty where its
    device is not known."""
    wanted = line.expected
    device = _only_subject(scenario, wanted) if wanted is not None else None
    if wanted is None or device is None:
        return []
    stage = _Stage(scenario)
    stage.run(wanted.at)
    told = examine(stage.history.engine_of(wanted.rule), wanted.rule, device, wanted.at)["why"]
    return [(str(each["zh"]), str(each["en"])) for each in told] if isinstance(told, list) else []


def _only_subject(scenario: Scenario, wanted: Expected) -> str | None:
    if wanted.device is not None or len(scenario.devices) != 1 or scenario.book.rules[wanted.rule].group is not None:
        return wanted.device
    return scenario.devices[0].id


class _Stage:
    """A scenario's devices and samples before an engine that knows nothing yet."""

    def __init__(self, scenario: Scenario) -> None:
        self.registry = Registry()
        for device in scenario.devices:
            self.registry.put(device)
        possible, self.impossible = _possible(scenario, self.registry)
        self.samples = _with_doors(possible, self.registry)
        for sample in self.samples:
            for name in sample.values:
                self.registry.series(_number(self.registry, sample.device), name)
        self.history = Backtest(
            scenario.book, self.registry, grid_tree=scenario.grid_tree, site=scenario.site, declared=scenario.declared
        )

    def run(self, until: int) -> list[Transition]:
        """What comes as it is measured can be judged at once; before what comes late the clock has gone on."""
        found: list[Transition] = []
        come = ((n, sample) for n, sample in enumerate(self.samples) if sample.arrives <= until)
        for late, group in groupby(come, key=lambda each: each[1].arrives > each[1].at):
            for part in [[each] for each in group] if late else [list(group)]:
                found += self.history.clock(part[0][1].arrives)
                found += self.history.feed(_rows(part, self.registry))
        return [*found, *self.history.clock(until)]


def _number(registry: Registry, device: str) -> int:
    found = registry.get(device)
    assert found is not None
    return found.number


def _possible(scenario: Scenario, registry: Registry) -> tuple[list[Sample], int]:
    kept, impossible = [], 0
    for sample in scenario.samples:
        device = registry.get(sample.device)
        assert device is not None
        metrics = KINDS[device.kind].metrics
        values = {}
        for name, value in sample.values.items():
            low, high = metrics[name].physical if name in metrics else (0.0, 1.0)
            if low <= value <= high:
                values[name] = value
        impossible += len(sample.values) - len(values)
        if values:
            kept.append(replace(sample, values=values))
    return kept, impossible


def _with_doors(samples: Sequence[Sample], registry: Registry) -> list[Sample]:
    """A door that never says that it opened or closed does so by changes of `open`; its first report is no change."""
    speaks = {s.device for s in samples if any(EVENT + event in s.values for event in DOOR_EVENTS)}
    last: dict[str, tuple[int, float]] = {}
    found = []
    for sample in samples:
        device = registry.get(sample.device)
        value = sample.values.get(OPEN) if device is not None and device.kind == "door_sensor" else None
        before = last.get(sample.device)
        if value is None or (before is not None and sample.at <= before[0]):
            found.append(sample)
            continue
        last[sample.device] = sample.at, value
        moved = before is not None and before[1] != value and sample.device not in speaks
        event = {EVENT + DOOR_EVENTS[bool(value)]: 1.0} if moved else {}
        found.append(replace(sample, values={**sample.values, **event}))
    return found


def _rows(part: Sequence[tuple[int, Sample]], registry: Registry) -> Rows:
    columns = [
        (registry.series(device, name), sample.at, value, element, device)
        for element, sample in part
        for device in [_number(registry, sample.device)]
        for name, value in sample.values.items()
    ]
    series, at, value, element, device = zip(*columns, strict=True)
    return Rows(
        np.array(series, np.int32),
        np.array(at, np.int64),
        np.array(value, np.float64),
        np.array(element, np.int32),
        np.array(device, np.int32),
    )


def _compare(scenario: Scenario, found: Sequence[Transition]) -> list[Line]:
    """By time, then as the rules stand in their files. What names its device or priority chooses first."""
    places = {rule: place for place, rule in enumerate(scenario.book.rules)}
    happened = sorted(found, key=lambda t: (t.at, places[t.rule]))
    answers: dict[int, Expected] = {}
    missing = []
    for wanted in sorted(scenario.expect, key=lambda e: (e.device is None) + (e.priority is None)):
        meeting = (k for k, t in enumerate(happened) if k not in answers and _meets(scenario, t, wanted))
        place = next(meeting, None)
        if place is None:
            missing.append(Line(wanted.at, wanted, None))
        else:
            answers[place] = wanted
    lines = [Line(t.at, answers.get(place), t) for place, t in enumerate(happened)]
    return sorted([*lines, *missing], key=lambda line: line.at)


def _meets(scenario: Scenario, happened: Transition, wanted: Expected) -> bool:
    return (
        (happened.rule, happened.edge, happened.at) == (wanted.rule, wanted.edge, wanted.at)
        and wanted.device in (None, happened.device)
        and wanted.priority in (None, priority_of(scenario, happened))
    )


def priority_of(scenario: Scenario, transition: Transition) -> Priority:
    return transition.priority or scenario.book.rules[transition.rule].priority

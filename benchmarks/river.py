"""Devices, rules and readings for the rules benchmark: what a town would send, made before anything is timed.

Most readings are quiet. Now and then a series leaves its usual range for some readings, so that holds begin, alarms are
raised and cleared; how often is `leaving`, the part of quiet readings after which that happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from devices.batch import F64
from devices.instants import MINUTE, SECOND, format_duration
from devices.registry import Device, Registry
from rules.book import RuleBook
from rules.language import parse
from rules.outcome import Rows
from rules.rule import AppliesTo, Priority, Rule

KIND = "water_monitor"
METRICS = ("dissolved_oxygen", "cod_mn", "ammonia_nitrogen", "total_phosphorus", "turbidity")
# 2026-07-01T00:00:00Z
START = 1_782_864_000_000_000
INTERVAL = MINUTE
# Usual values are below USUAL, unusual ones above by up to this; the limits of the rules lie between.
USUAL, UNUSUAL = 2.0, 2.0
_LASTS = 10
WINDOWED = ("avg", "max", "delta", "rate", "sum")
ALL_WINDOWED = (*WINDOWED, "min", "median", "stddev", "count", "increase")


def make_registry(series: int, *, groups: int = 1) -> Registry:
    """Devices of five metrics each, all series numbered, dealt out to the groups in turn (as tags g0, g1, …)."""
    found = Registry()
    for number in range(series // len(METRICS)):
        tags = frozenset({f"g{number % groups}"})
        found.add(Device(number, f"m-{number}", "bench", KIND, tags=tags, interval_s=INTERVAL / SECOND))
        for metric in METRICS:
            found.series(number, metric)
    return found


def plain_rules(a_metric: int, groups: int) -> RuleBook:
    """Thresholds with a hold and a band, all of one shape: so many for each metric, in each group."""
    rules = {}
    for group in range(groups):
        for metric in METRICS:
            for n in range(a_metric):
                limit = USUAL + UNUSUAL * (n + 1) / (a_metric + 1)
                name = f"{metric}-{group}-{n}"
                rules[name] = rule(
                    name, f"{metric} > {limit}", f"{metric} < {limit - 0.2}", hold_us=n * MINUTE, tag=f"g{group}"
                )
    return RuleBook(rules, {})


def windowed_rules(functions: Sequence[str], window_us: int) -> RuleBook:
    """For each metric one rule of each function (of a function named again, another limit), with limits that unusual
    values pass now and then."""
    samples = window_us // INTERVAL
    limits = {"avg": 2.2, "max": 3.5, "min": 2.1, "median": 2.2, "sum": 2.2 * samples, "count": samples - 0.5,
              "delta": 1.5, "rate": 3.0 / (window_us / SECOND), "stddev": 0.7, "increase": 2.0 * samples}  # fmt: skip
    rules = {}
    for metric in METRICS:
        for n, function in enumerate(functions):
            name, limit = f"{metric}-{function}-{n}", limits[function] * (1 + n / 20)
            call = f"{function}({metric}, {format_duration(window_us)})"
            rules[name] = rule(name, f"{call} > {limit:g}", f"{call} < {0.9 * limit:g}", hold_us=MINUTE, tag="g0")
    return RuleBook(rules, {})


def bystanders(registry: Registry, count: int) -> dict[str, Rule]:
    """So many rules of four shapes, each for ten devices of their own, which never send anything; adds the devices."""
    shapes = ("{m} > {x}", "{m} < 0.{x}", "{m} > {x} and cod_mn > 1", "absent({m}, {x}m)")
    rules = {}
    for group in range(-(-count // 50)):
        for n in range(10):
            device = Device(0, f"by-{group}-{n}", "bench", KIND, tags=frozenset({f"by-{group}"}))
            number = registry.add(device).number
            for metric in METRICS:
                registry.series(number, metric)
        for n in range(min(50, count - 50 * group)):
            name, text = f"by-{group}-{n}", shapes[n % len(shapes)].format(m=METRICS[n % len(METRICS)], x=n + 1)
            rules[name] = rule(name, text, None, hold_us=0, tag=f"by-{group}")
    return rules


def rule(name: str, when: str, clear: str | None, *, hold_us: int, tag: str) -> Rule:
    return Rule(name, parse(when), name, name, AppliesTo(tags=frozenset({tag})),
                None if clear is None else parse(clear), hold_us, priority=Priority.HIGH, when_text=when,
                clear_text=clear or "")  # fmt: skip


@dataclass
class River:
    """Readings of the first `series` series of a registry: every device in turn, a packet of its five metrics, a round
    each INTERVAL. One river is one history: what it gives goes on from what it gave."""

    series: int
    leaving: float
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(20260701))
    round: int = 0
    _left: F64 = field(default_factory=lambda: np.empty(0))
    _height: F64 = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self._left, self._height = np.zeros(self.series), np.zeros(self.series)

    def rows(self, count: int) -> Rows:
        """At least so many rows, in whole rounds."""
        rounds = -(-count // self.series)
        devices = np.arange(self.series) // len(METRICS)
        phase = devices * INTERVAL // (devices[-1] + 1)
        values = np.concatenate([self._values() for _ in range(rounds)])
        at = np.concatenate([START + (self.round + n) * INTERVAL + phase for n in range(rounds)])
        self.round += rounds
        element = (np.arange(len(values)) // len(METRICS)).astype(np.int32)
        series = np.tile(np.arange(self.series, dtype=np.int32), rounds)
        return Rows(series, at, values, element, np.tile(devices.astype(np.int32), rounds))

    def _values(self) -> F64:
        leaving = (self._left == 0) & (self.random.random(self.series) < self.leaving)
        self._left = np.maximum(self._left - 1, 0)
        self._left[leaving] = self.random.integers(1, 2 * _LASTS, int(leaving.sum()))
        self._height[leaving] = self.random.uniform(0, UNUSUAL, int(leaving.sum()))
        quiet = self.random.uniform(0.5 * USUAL, USUAL, self.series)
        return np.where(self._left > 0, USUAL + self._height + self.random.uniform(-0.1, 0.1, self.series), quiet)


def batches(rows: Rows, size: int) -> Iterator[Rows]:
    """Views of so many rows each; whole elements where the size is a multiple of five."""
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        yield Rows(rows.series[part], rows.at[part], rows.value[part], rows.element[part], rows.device[part])

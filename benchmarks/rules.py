"""How fast the rules engine judges: `python -m benchmarks.rules --json`.

One core, one process: readings are made before the clock starts, rates are the medians of the windows, ratios are of
one run. An evaluation is one rule judged for one reading; adopting the outcome is part of it. The oracle is the plain
engine of the tests, one for each of a few devices with the rules that apply to it alone, on the readings of the same
windows; both must tell the same transitions. `--quick` shrinks everything: it shows that the benchmark runs, not how
fast anything is. Prints one JSON object with --json, else lines to read; progress on standard error.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import Machine, versions
from benchmarks.river import (
    ALL_WINDOWED,
    INTERVAL,
    METRICS,
    WINDOWED,
    River,
    batches,
    bystanders,
    make_registry,
    plain_rules,
    windowed_rules,
)
from devices.instants import HOUR, MINUTE
from devices.registry import Registry
from rules.backtest import backtest
from rules.book import RuleBook
from rules.engine import Engine
from rules.outcome import Rows, Transition
from tests.rules.oracle import Oracle

RULES_A_READING = 5
RULES_A_GROUP = RULES_A_READING * len(METRICS)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """`readings` are those of one window by size of the batch; the 12 h window has fewer series, for each of them holds
    720 samples. `leaving` as in River: in full size every series is unusual about twice a week."""

    series: int
    leaving: float
    readings: dict[int, int]
    windows: int
    oracle_devices: int
    long_series: int
    long_hours: int
    bystanders: tuple[int, ...]
    history: int
    state_series: int


FULL = Sizes(50_000, 0.0002, {100: 100_000, 1_000: 500_000, 10_000: 1_000_000}, 5, 100, 1_000, 12,
             (0, 100, 1_000, 5_000), 10_000_000, 100_000)  # fmt: skip
QUICK = Sizes(1_000, 0.01, {100: 1_000, 1_000: 2_000, 10_000: 10_000}, 1, 4, 50, 1, (0, 10), 20_000, 500)


class Bench:
    """An engine and the river it drinks from. `told` are the transitions of the timed windows."""

    def __init__(self, book: RuleBook, registry: Registry, series: int, leaving: float) -> None:
        begun = time.perf_counter()
        self.engine = Engine(book, registry)
        self.bind_s = time.perf_counter() - begun
        self.river = River(series, leaving)
        self.told: list[Transition] = []
        self.evaluations = 0

    def warm(self, readings: int) -> Rows:
        """Judged without a look at the clock: every series has been seen, its windows are full."""
        rows = self.river.rows(readings)
        self._judge(rows, 50_000)
        return rows

    def window(self, readings: int, batch: int) -> tuple[float, Rows]:
        """Readings a second."""
        rows = self.river.rows(readings)
        gc.collect()
        begun = time.perf_counter()
        self.told += self._judge(rows, batch)
        spent = time.perf_counter() - begun
        self.evaluations += len(rows) * RULES_A_READING
        return len(rows) / spent, rows

    def _judge(self, rows: Rows, batch: int) -> list[Transition]:
        told: list[Transition] = []
        for part in batches(rows, batch):
            outcome = self.engine.evaluate(part)
            self.engine.adopt(outcome)
            told += outcome.transitions
        return told

    @property
    def per_million(self) -> float:
        """Transitions in a million evaluations: how lively the readings are."""
        return round(1e6 * len(self.told) / max(self.evaluations, 1), 1)


class Plain:
    """The oracle over the same readings, of the first devices only."""

    def __init__(self, book: RuleBook, registry: Registry, devices: int) -> None:
        self._oracles = []
        for device in registry.devices[:devices]:
            rules = {name: r for name, r in book.rules.items() if (r.applies_to.tags or frozenset()) <= device.tags}
            self._oracles.append(Oracle(RuleBook(rules, {}), [device]))
        self._last = devices * len(METRICS)

    def judge(self, rows: Rows) -> tuple[float, list[tuple[str, str, str, int]]]:
        """Evaluations a second, and its transitions as (rule, device, edge, at)."""
        elements = self._elements(rows)
        gc.collect()
        begun = time.perf_counter()
        told = [self._oracles[number].element(n, device, at, values)
                for n, (number, device, at, values) in enumerate(elements)]  # fmt: skip
        spent = time.perf_counter() - begun
        found = sorted((t.rule, t.subject, str(t.edge), t.at) for each in told for t in each)
        return len(elements) * RULES_A_GROUP / spent, found

    def _elements(self, rows: Rows) -> list[tuple[int, str, int, dict[str, float]]]:
        mine = rows.series < self._last
        values = rows.value[mine].reshape(-1, len(METRICS)).tolist()
        devices, instants = rows.device[mine][:: len(METRICS)].tolist(), rows.at[mine][:: len(METRICS)].tolist()
        return [
            (number, f"m-{number}", at, dict(zip(METRICS, each, strict=True)))
            for number, at, each in zip(devices, instants, values, strict=True)
        ]


def plain(sizes: Sizes, say: Say) -> dict[str, Any]:
    """Thresholds with hold and band: rates by number of rules and size of batch; the oracle at the largest batch."""
    by_rules: dict[str, dict[str, int]] = {}
    found: dict[str, Any] = {}
    for rules in (100, 1_000):
        groups = rules // RULES_A_GROUP
        book, registry = plain_rules(RULES_A_READING, groups), make_registry(sizes.series, groups=groups)
        bench = Bench(book, registry, sizes.series, sizes.leaving)
        oracle = Plain(book, registry, sizes.oracle_devices) if rules == 100 else None
        first = bench.warm(2 * sizes.series)
        if oracle is not None:
            oracle.judge(first)
        rates: dict[str, int] = {}
        for batch, readings in sizes.readings.items():
            speeds, plain_speeds = [], []
            for _ in range(sizes.windows):
                told = len(bench.told)
                speed, rows = bench.window(readings, batch)
                speeds.append(RULES_A_READING * speed)
                if oracle is not None:
                    plain_speed, expected = oracle.judge(rows)
                    plain_speeds.append(plain_speed)
                    agree(bench.told[told:], expected, sizes.oracle_devices)
            rates[str(batch)] = round(statistics.median(speeds))
            say(f"plain, {rules} rules, batches of {batch:,}: {rates[str(batch)]:,} evaluations/s")
            if oracle is not None:
                found["oracle_evaluations_per_s"] = round(statistics.median(plain_speeds))
                found["vs_oracle"] = round(rates[str(batch)] / found["oracle_evaluations_per_s"], 1)
        by_rules[str(rules)] = rates
        found |= {"transitions_per_million": bench.per_million, "bind_s": round(bench.bind_s, 3)}
    say(f"plain, the oracle: {found['oracle_evaluations_per_s']:,} evaluations/s, {found['vs_oracle']} times slower")
    slowest = min(rates["10000"] for rates in by_rules.values())
    return {"evaluations_per_s": slowest, **found, "by_rules_and_batch": by_rules}


def agree(told: Sequence[Transition], expected: Sequence[tuple[str, str, str, int]], devices: int) -> None:
    mine = sorted((t.rule, t.device, str(t.edge), t.at) for t in told if int(t.device.removeprefix("m-")) < devices)
    assert mine == list(expected), f"the engine and the oracle differ: {len(mine)} and {len(expected)} transitions"


def windowed(sizes: Sizes, say: Say) -> dict[str, Any]:
    """Five functions a reading over 10 min at a reading a minute; each function alone; then a window of hours."""
    registry = make_registry(sizes.series)
    rates = {}
    for functions in (WINDOWED, *((name,) * RULES_A_READING for name in ALL_WINDOWED)):
        bench = Bench(windowed_rules(functions, 10 * MINUTE), registry, sizes.series, sizes.leaving)
        bench.warm(11 * sizes.series)
        readings = sizes.readings[10_000] // (1 if functions is WINDOWED else 5)
        speeds = [bench.window(readings, 10_000)[0] for _ in range(sizes.windows)]
        name = "all five" if functions is WINDOWED else functions[0]
        rates[name] = round(RULES_A_READING * statistics.median(speeds))
        say(f"windowed, {name}: {rates[name]:,} evaluations/s, {bench.per_million} transitions in a million")
    long_registry, hours = make_registry(sizes.long_series), sizes.long_hours
    long = Bench(windowed_rules(WINDOWED, hours * HOUR), long_registry, sizes.long_series, sizes.leaving)
    long.warm(sizes.long_series * (hours * HOUR // INTERVAL + 1))
    speeds = [long.window(sizes.readings[10_000] // 10, 10_000)[0] for _ in range(sizes.windows)]
    rate = round(RULES_A_READING * statistics.median(speeds))
    say(f"windowed, {hours} h of {hours * HOUR // INTERVAL} samples: {rate:,} evaluations/s")
    return {
        "evaluations_per_s": rates.pop("all five"),
        "functions": list(WINDOWED),
        "window_s": 600,
        "by_function": rates,
        "long": {"window_s": hours * 3600, "series": sizes.long_series, "evaluations_per_s": rate},
    }


def not_applying(sizes: Sizes, say: Say) -> dict[str, float]:
    """Microseconds a reading, by how many rules there are that apply to other devices only."""
    found = {}
    for others in sizes.bystanders:
        registry = make_registry(sizes.series)
        book = plain_rules(RULES_A_READING, 1)
        rules = {**book.rules, **bystanders(registry, others)}
        bench = Bench(RuleBook(rules, {}), registry, sizes.series, sizes.leaving)
        bench.warm(2 * sizes.series)
        speeds = [bench.window(sizes.readings[10_000], 10_000)[0] for _ in range(sizes.windows)]
        found[str(others)] = round(1e6 / statistics.median(speeds), 3)
        say(f"beside {others:,} rules that do not apply: {found[str(others)]} µs a reading")
    return found


def history(sizes: Sizes, say: Say) -> dict[str, Any]:
    """A backtest of 100 plain rules, rows given as arrays; making them is not timed."""
    registry, river = make_registry(sizes.series, groups=4), River(sizes.series, sizes.leaving)
    chunks = [river.rows(sizes.history // 10) for _ in range(10)]
    readings = sum(map(len, chunks))
    gc.collect()
    begun = time.perf_counter()
    findings = backtest(plain_rules(RULES_A_READING, 4), registry, chunks)
    spent = time.perf_counter() - begun
    say(f"backtest of {readings:,} readings: {spent:.1f} s, {len(findings):,} findings")
    return {"readings": readings, "rules": 100, "seconds": round(spent, 2), "findings": len(findings)}


def memory(sizes: Sizes, say: Say) -> dict[str, float]:
    """Bytes, as the allocator counts them: of a plain pair (one rule on one series) and of a sample that is kept."""
    series, samples, found = sizes.series // 5, 60, {}
    registry, pairs = make_registry(series), series * RULES_A_READING
    found["plain_bytes_per_series_per_rule"] = _kept(plain_rules(RULES_A_READING, 1), registry, series, 1) / pairs
    book = windowed_rules(WINDOWED, samples * MINUTE)
    first = _kept(book, registry, series, 1)
    found["windowed_bytes_per_series_per_rule"] = first / pairs
    found["windowed_bytes_per_sample"] = (_kept(book, registry, series, 3 * samples) - first) / (series * (samples - 1))
    for name, value in found.items():
        found[name] = round(value, 1)
        say(f"memory: {name.replace('_', ' ')} {found[name]}")
    return found


def _kept(book: RuleBook, registry: Registry, series: int, rounds: int) -> int:
    gc.collect()
    tracemalloc.start()
    engine, river = Engine(book, registry), River(series, 0.0)
    for _ in range(rounds):
        engine.adopt(engine.evaluate(river.rows(series)))
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return kept


def state(sizes: Sizes, say: Say) -> dict[str, Any]:
    """Snapshot and restore of 20 plain rules for every series, half of an hour of readings in."""
    registry, book = make_registry(sizes.state_series), plain_rules(20, 1)
    bench = Bench(book, registry, sizes.state_series, sizes.leaving)
    bench.warm(5 * sizes.state_series)
    begun = time.perf_counter()
    blob = bench.engine.snapshot()
    written = time.perf_counter()
    fresh = Engine(book, registry)
    bound = time.perf_counter()
    fresh.restore(blob)
    restored = time.perf_counter()
    assert fresh.snapshot() == blob
    found = {
        "series": sizes.state_series,
        "rules_a_series": 20,
        "bytes": len(blob),
        "snapshot_s": round(written - begun, 2),
        "bind_s": round(bound - written, 2),
        "restore_s": round(restored - bound, 2),
    }
    say(f"state of {sizes.state_series:,} series x 20 rules: {found}")
    return found


SECTIONS: dict[str, Callable[[Sizes, Say], dict[str, Any]]] = {
    "plain": plain,
    "windowed": windowed,
    "us_per_reading_beside_rules_that_do_not_apply": not_applying,
    "backtest": history,
    "memory": memory,
    "state": state,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section (may be given again)")
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    machine = Machine()
    result: dict[str, Any] = {"quick": options.quick}
    for name, section in SECTIONS.items():
        if not options.only or name in options.only:
            result[name] = section(sizes, lambda text: print(text, file=sys.stderr, flush=True))
    result["series"], result["rules_a_reading"], result["windows"] = sizes.series, RULES_A_READING, sizes.windows
    result["machine"], result["versions"] = machine.describe(), versions(("numpy", "msgspec"))
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(lines(result)))


def lines(found: object, path: str = "") -> list[str]:
    """One line for each number, for people."""
    if isinstance(found, dict):
        return [line for key, value in found.items() for line in lines(value, f"{path} / {key}" if path else str(key))]
    shown = f"{found:,}" if isinstance(found, (int, float)) and not isinstance(found, bool) else str(found)
    return [f"{path}: {shown}"]


if __name__ == "__main__":
    main()

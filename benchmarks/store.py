"""What the readings store costs, and that it does not grow with what is stored: `python -m benchmarks.store --json`.

A file is filled with 15,000 series of one reading a minute, as the appender would have written it, and asked at 1, 10
and 100 million rows: as appended, after upkeep of the hours, and after the closed days are written anew. Then upkeep,
retention and checkpoints run while one thread commits journal entries to SQLite and another appends 15,000 rows a
second. Medians; prints one JSON object on standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import Machine, versions
from devices.instants import DAY, HOUR, MINUTE, SECOND
from store.readings import Columns, Fn
from store.readings.duckdb import DuckDBReadings
from store.records.database import migrate, open_records, write
from store.records.journal import EntryKind, append_entry

SERIES = 15_000
# A day that begins at midnight UTC, so that the newest readings lie in a day that is not over.
FIRST = 20_000 * DAY
SIZES = (1_000_000, 10_000_000, 100_000_000)
RATE = 15_000
ROUNDS = 5


def fill(store: DuckDBReadings, after: int, rows: int) -> None:
    """Rows number `after` to `rows`, in the order in which they would have arrived."""
    with store._file.keeping() as held:
        if not after:
            held.cursor.execute(f"insert into known select range from range({SERIES})")
            store._file.grow(SERIES)
            store._file.known[:SERIES] = True
        held.cursor.execute(
            f"insert into arrived select (i % {SERIES})::integer, "
            f"{FIRST} + i // {SERIES} * {MINUTE} + i % {SERIES} * 3000 + hash(i) % 2000, "
            f"round(20 + 5 * sin(i / 1e7 + i % {SERIES}) + (hash(i) % 100) / 100.0, 2), 0, "
            f"{FIRST} + i // {SERIES} * {MINUTE} + i % {SERIES} * 3000 + 50000 from range({after}, {rows}) t(i)"
        )


def end_of(rows: int) -> int:
    return FIRST + rows // SERIES * MINUTE


def timed(ask: Callable[[], object], rounds: int = ROUNDS) -> dict[str, float]:
    """Medians. DuckDB works in the thread that asks: its time on a core does not change on a crowded machine."""
    wall, cpu = [], []
    for _ in range(rounds + 1):
        begun, used = time.perf_counter(), time.thread_time()
        ask()
        cpu.append((time.thread_time() - used) * 1000)
        wall.append((time.perf_counter() - begun) * 1000)
    return {"ms": round(statistics.median(wall[1:]), 2), "cpu_ms": round(statistics.median(cpu[1:]), 2)}


def ask(store: DuckDBReadings, rows: int) -> dict[str, Any]:
    """Other series at every round: nothing is asked twice."""
    now, chance = end_of(rows), np.random.default_rng(1)

    def some() -> int:
        return int(chance.integers(SERIES))

    yesterday = max(FIRST, now // DAY * DAY - DAY)
    return {
        "latest_all": timed(store.latest, 3),
        "last_24h": timed(lambda: store.range(some(), now - DAY, now, 5_000)),
        "closed_24h": timed(lambda: store.range(some(), yesterday, yesterday + DAY, 5_000)),
        "days_30_by_hour": timed(lambda: store.aggregate(some(), now - 30 * DAY, now, HOUR, Fn.AVG)),
        "days_30_by_minute": timed(lambda: store.aggregate(some(), now - 30 * DAY, now, MINUTE, Fn.MAX)),
        "append_rows": append_rate(store, rows),
    }


def append_rate(store: DuckDBReadings, rows: int) -> dict[str, float]:
    """Batches of 7,500 rows, as settled every half second at 15,000 rows a second, one after the other."""
    rates, cpu = [], []
    for turn in range(3):
        begun, used = time.perf_counter(), time.thread_time()
        for batch in range(10):
            columns = arriving(end_of(rows) + (turn * 10 + batch) * SECOND, 7_500)
            store.append(store.applied() + 1, [columns])
        rates.append(75_000 / (time.perf_counter() - begun))
        cpu.append(75_000 / (time.thread_time() - used))
    return {"per_s": round(statistics.median(rates)), "per_cpu_s": round(statistics.median(cpu))}


def arriving(at: int, rows: int) -> Columns:
    series = np.arange(rows, dtype=np.int32) % SERIES
    return Columns(
        series, at + np.arange(rows, dtype=np.int64) * 10, np.random.default_rng(at).random(rows),
        np.zeros(rows, np.uint8), at, np.zeros(rows, np.uint8),
    )  # fmt: skip


def keep_up(store: DuckDBReadings, now: int) -> dict[str, float]:
    begun, cpu, pieces = time.perf_counter(), time.process_time(), []
    while True:
        before = time.perf_counter()
        if not store.upkeep(now):
            break
        pieces.append(time.perf_counter() - before)
    return {
        "seconds": round(time.perf_counter() - begun, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "pieces": len(pieces),
        "longest_piece_ms": round(max(pieces, default=0.0) * 1000, 1),
    }


def at_size(store: DuckDBReadings, path: Path, before: int, rows: int) -> dict[str, Any]:
    begun = time.perf_counter()
    fill(store, before, rows)
    found: dict[str, Any] = {"rows": rows, "fill_s": round(time.perf_counter() - begun, 1)}
    now = end_of(rows)
    # Every day but the last two is in order by then; the last whole one is as its hours left it.
    keep_up(store, now - now % DAY)
    _say(found)
    found["before_compaction"] = ask(store, rows)
    found["upkeep"] = keep_up(store, now + 2 * HOUR)
    found["after_compaction"] = ask(store, rows)
    found["file_mb"] = round(path.stat().st_size / 1e6)
    _say(found)
    return found


class Traffic:
    """A thread that commits journal entries and one that appends 15,000 rows a second; milliseconds of each."""

    def __init__(self, store: DuckDBReadings, folder: Path, at: int) -> None:
        migrate(folder / "records.sqlite")
        self._records = open_records(folder / "records.sqlite")
        self._store = store
        self.at = at
        self.commits: list[float] = []
        self.appends: list[float] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._commit), threading.Thread(target=self._append)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._records.dispose()

    def measured(self) -> dict[str, dict[str, float]]:
        """Since the last time."""
        found = {"commit_ms": spread(self.commits), "append_ms": spread(self.appends)}
        self.commits, self.appends = [], []
        return found

    def _commit(self) -> None:
        number = 0
        while not self._stop.wait(0.05):
            number += 1
            begun = time.perf_counter()
            with write(self._records) as tx:
                append_entry(tx, number, EntryKind.TICK, self.at)
            self.commits.append((time.perf_counter() - begun) * 1000)

    def _append(self) -> None:
        number = self._store.applied()
        while not self._stop.is_set():
            number += 1
            begun = time.perf_counter()
            self._store.append(number, [arriving(self.at, RATE // 2)])
            took = time.perf_counter() - begun
            self.appends.append(took * 1000)
            self.at += 20 * SECOND  # the data's clock goes faster, so that hours end
            self._stop.wait(max(0.0, 0.5 - took))


def pauses(store: DuckDBReadings, folder: Path, rows: int, seconds: float) -> dict[str, Any]:
    """How long a commit of the journal and an append take, quiet and while everything else runs."""
    every, cutoff = np.arange(SERIES, dtype=np.int32), FIRST
    work = {"upkeep_pieces": 0, "deleted_rows": 0, "checkpoints": 0}
    with Traffic(store, folder, end_of(rows) // DAY * DAY + 2 * DAY) as traffic:
        time.sleep(seconds / 3)
        quiet = traffic.measured()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            if store.upkeep(traffic.at):
                work["upkeep_pieces"] += 1
                continue
            cutoff += 2 * HOUR
            ends = np.full(SERIES, cutoff, np.int64)
            work["deleted_rows"] += store.delete(every, np.zeros(SERIES, np.int64), ends)
            store._file.upkeep.execute("checkpoint")
            work["checkpoints"] += 1
        return {"quiet": quiet, "during_upkeep_retention_checkpoints": traffic.measured() | {"work": work}}


def spread(taken: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(taken, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "max": round(max(taken), 1), "n": len(taken)}


def _say(found: object) -> None:
    print(json.dumps(found), file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the default and only form of output")
    parser.add_argument("--rows", type=int, default=SIZES[-1], help="the largest size to measure")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long pauses are measured")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: a temporary folder)")
    options, machine = parser.parse_args(), Machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "readings.duckdb"
        store = DuckDBReadings(path)
        sizes, before = [], 0
        for rows in [size for size in SIZES if size <= options.rows] or [options.rows]:
            sizes.append(at_size(store, path, before, rows))
            before = rows
        result: dict[str, Any] = {"series": SERIES, "sizes": sizes}
        result["pauses"] = pauses(store, Path(name), before, options.seconds)
        store.close()
    result["memory_max_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(result | {"versions": versions(), "machine": machine.describe()}))


if __name__ == "__main__":
    main()

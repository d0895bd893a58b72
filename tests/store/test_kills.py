"""`kill -9` in the middle of upkeep and deletion: the file is whole, and what went is told once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from devices.instants import DAY, HOUR, MINUTE
from store.fault_points import UPKEEP_POINTS
from store.readings import Fn
from tests.store.opened import Opened
from tests.store.test_deletion import FIRST, without
from tests.store.test_upkeep import SERIES, Stored, asked, check_all, counted, fill

SOAK = os.environ.get("GRIDWHISTLE_SOAK") == "1"
NOW = FIRST + 3 * DAY
SPANS = tuple((s, 0, FIRST + 5 * HOUR) for s in range(2))
# Keeps the file up in small pieces, has some late readings, and deletes.
WORK = f"""
import sys
from pathlib import Path
from store.readings import upkeep
from tests.store.opened import Opened
from tests.store.test_deletion import SPANS_OF, delete
upkeep.SLICE = 60
with Opened(Path(sys.argv[1])) as opened:
    opened.keep_up({NOW})
    opened.put((3, {FIRST} + 1, 0.5), (3, {FIRST} + 2, 0.25), replaces=(0, 1))
    opened.keep_up({NOW})
    delete(opened, *SPANS_OF)
    opened.keep_up({NOW})
    print("done", flush=True)
""".replace("SPANS_OF)", f"{SPANS})").replace("SPANS_OF, ", "")


def work(path: Path, point: str | None, kill_after: float | None = None) -> bool:
    """Whether it came to its end."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    if point is not None:
        environment["GRIDWHISTLE_FAULT_POINT"] = point
    process = subprocess.Popen([sys.executable, "-c", WORK, str(path)], env=environment, stdout=subprocess.PIPE)
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    assert process.stdout is not None
    done = b"done" in process.stdout.read()
    # Killed by the clock it may be after its last word.
    ended = {0} if done and kill_after is None else {0, -signal.SIGKILL} if done else {-signal.SIGKILL}
    assert process.wait(60) in ended, point
    process.stdout.close()
    return done


def assert_whole(path: Path, stored: Stored) -> None:
    """As it would be if nothing had happened, or only some whole pieces of it."""
    with Opened(path) as opened:
        late = {(3, FIRST + 1): 0.5, (3, FIRST + 2): 0.25}
        late = late if opened.store.applied() > 1 else {}
        with opened.store._file.reading() as now:
            lying = "from duckdb_tables() where regexp_matches(table_name, '^(readings|minutes|hours)_')"
            assert now.one(f"select count(*) {lying}") == now.one("select count(*) from parts")
        told = sum(deletion.count for deletion in opened.store.deletions())
        assert sum(opened.store.series().values()) == len(stored) + len(late) - told
        gone = without(stored, *SPANS)
        for series, left in ((s, stored if s > 1 else gone) for s in range(SERIES)):
            for every in (MINUTE, HOUR):
                span = (series, FIRST + 6 * HOUR, FIRST + 3 * DAY, every, Fn.AVG)
                assert asked(opened, *span) == counted(left | late, *span)
        for series in range(SERIES):
            span = (series, FIRST, FIRST + 3 * DAY, HOUR, Fn.AVG)
            assert asked(opened, *span) == counted(stored | late, *span)


def test_killed_at_the_worst_places(tmp_path: Path) -> None:
    """One after the other on the same file, in the order in which the work comes to them."""
    path = tmp_path / "readings.duckdb"
    with Opened(path) as opened:
        stored = fill(opened, [20_000, 20_001], every=30 * MINUTE)
    for point in (point for point in UPKEEP_POINTS if point != "after_count"):
        assert not work(path, f"{point}:1"), point
        assert_whole(path, stored)
    assert work(path, None)
    assert_whole(path, stored)
    with Opened(path) as opened:
        check_all(opened, without(stored | {(3, FIRST + 1): 0.5, (3, FIRST + 2): 0.25}, *SPANS), rolled=True)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    path, chance = tmp_path / "readings.duckdb", random.Random(4)
    with Opened(path) as opened:
        stored = fill(opened, [20_000, 20_001], every=30 * MINUTE)
    for _ in range(100 if SOAK else 2):
        work(path, None, kill_after=chance.uniform(0.5, 2.0))
        assert_whole(path, stored)

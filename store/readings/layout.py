"""How the DuckDB file is laid out, and what its parts share: the connection, the locks, the list of tables.

Readings are appended to one table, `arrived`. What lies in hours that are over is carried, in order of series, into a
table a day; a day that is over is written anew in order of (series, measured_at). So the table that is written stays
small, a day of one series is a stretch of one or two row groups, and nothing that is asked reads more because more is
stored. Roll-ups lie in tables of their own, by day (minutes) and by 30 days (hours).

Which tables there are stands in `parts`, read in the transaction that reads them: a table that is replaced meanwhile is
still there for it. A table that is not in `parts` is half made and is dropped at the next open.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from devices.batch import I64, Bool
from devices.instants import DAY, HOUR, MAX_INSTANT, MINUTE
from store.fault_points import store_refuses
from store.readings import StoreUnavailable

log = logging.getLogger("gridwhistle.readings")

_RAW = "series integer not null, measured_at bigint not null, value double not null, quality utinyint not null, "
_RAW += "stored_at bigint not null"
# Of a single reading only `last` is kept, the rest is null: most minutes of most series have one.
_ROLLED = "series integer not null, begins bigint not null, n integer not null, last double not null, low double, "
_ROLLED += "high double, total double"
_SCHEMA = f"""
create table if not exists arrived ({_RAW});
create table if not exists applied (number bigint not null);
insert into applied select 0 where not exists (select 1 from applied);
create table if not exists parts (level varchar, number integer, name varchar, rows bigint, loose bigint);
create table if not exists folded (until bigint not null);
insert into folded select 0 where not exists (select 1 from folded);
create table if not exists dirty (series integer, hour bigint);
create table if not exists known (series integer);
create table if not exists kept (series integer, since bigint);
create table if not exists rolls_kept (level varchar, since bigint);
create table if not exists deletions (number bigint, series integer, count bigint);
create table if not exists deleted (number bigint not null);
insert into deleted select 0 where not exists (select 1 from deleted);
"""
# A day further back than this from now gets no table of its own: a device whose clock is anywhere in 8,000 years must
# not make a million tables. Such readings share one.
OLDEST_PART, NEWEST_PART = 1_100 * DAY, 2 * DAY
STRAYS = -1
# One thread scans a day of one series in milliseconds; more would take the core the settle path needs.
_THREADS = 1
# Measured with 100,000 series and 18 million rows of an hour: while these are folded and carried the process grows by
# 20 MB (with 160MB by 100, a tenth sooner). With less than MEMORY_TO_DELETE a long deletion fails.
MEMORY, MEMORY_TO_DELETE = "64MB", "160MB"
# What stays of it after a checkpoint. The rest is what DuckDB has read and keeps in case, up to the limit: in an hour
# of 100,000 series as much as the file is long. The system has the file in its own cache.
_RESTING, RESTING_EVERY_S = "32MB", 60.0
# Sooner than DuckDB by itself (16 MB), which would do it in the appender's commit; and what is deleted stays in memory
# until then: 12 MB for each of these.
WAL_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Level:
    """`at` is the column of time, `width` how much of it a row stands for, `span` what one table holds."""

    name: str
    columns: str
    at: str
    width: int
    span: int


RAW = Level("readings", _RAW, "measured_at", 0, DAY)
MINUTES = Level("minutes", _ROLLED, "begins", MINUTE, DAY)
HOURS = Level("hours", _ROLLED, "begins", HOUR, 30 * DAY)
LEVELS = {level.name: level for level in (RAW, MINUTES, HOURS)}


@dataclass(frozen=True, slots=True)
class Part:
    """A table in `parts`: the rows of [number * span, (number + 1) * span). `loose` rows are not in order yet."""

    level: Level
    number: int
    name: str
    rows: int
    loose: int

    @property
    def start(self) -> int:
        return 0 if self.number == STRAYS else self.number * self.level.span

    @property
    def end(self) -> int:
        return MAX_INSTANT + 1 if self.number == STRAYS else (self.number + 1) * self.level.span


@dataclass
class Building:
    """A part that is being written anew: series below `done` are in the new table `name`, built by `by` series."""

    part: Part
    name: str
    by: int
    done: int = 0


class Reading:
    """One transaction that sees the file at one instant."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self.cursor = cursor

    def ask(self, sql: str, arguments: Sequence[object] = ()) -> dict[str, Any]:
        return dict(self.cursor.execute(sql, list(arguments)).fetchnumpy())

    def one(self, sql: str) -> int:
        """A number; 0 where there is none."""
        row = self.cursor.execute(sql).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def parts(self, level: Level, start: int = 0, end: int = MAX_INSTANT + 1) -> list[Part]:
        """Those that may hold something of [start, end), in order of time, that of strays first."""
        rows = self.cursor.execute(
            "select number, name, rows, loose from parts where level = ? and (number = ? or number between ? and ?) "
            "order by number",
            [level.name, STRAYS, start // level.span, (max(start, end - 1)) // level.span],
        ).fetchall()
        return [Part(level, *row) for row in rows]

    def source(self, level: Level, start: int, end: int) -> str:
        """For `from`: every row of the level that may lie in [start, end)."""
        names = [part.name for part in self.parts(level, start, end)]
        return union(["arrived", *names] if level is RAW else names, level)

    def folded(self) -> int:
        """Hours before this instant have roll-ups, where they are not `dirty`."""
        return self.one("select until from folded")


def union(names: Sequence[str], level: Level) -> str:
    if not names:
        nulls = (column.split()[:2] for column in level.columns.split(", "))
        return f"(select {', '.join(f'null::{kind} as {name}' for name, kind in nulls)} where false)"
    columns = ", ".join(column.split()[0] for column in level.columns.split(", "))
    return "(" + " union all ".join(f"select {columns} from {name}" for name in names) + ")"


@dataclass
class File:
    """`write` is held by whoever appends. `rows` is held by whoever moves or deletes readings, and by an append that
    replaces some; it is taken after `write`, never before. `mark`: an append into an hour before it makes that hour
    dirty. `since` is per series: the readings before it are deleted, and what comes late for that time stays out of the
    roll-ups."""

    path: Path
    connection: duckdb.DuckDBPyConnection
    upkeep: duckdb.DuckDBPyConnection
    write: threading.Lock = field(default_factory=threading.Lock)
    rows: threading.RLock = field(default_factory=threading.RLock)
    mark: int = 0
    since: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    known: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    building: Building | None = None
    resting_due: float = 0.0
    memory: str = MEMORY

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Raises StoreUnavailable."""
        check()
        try:
            cursor = self.connection.cursor()
            try:
                cursor.execute("begin")
                yield Reading(cursor)
            finally:
                cursor.close()
        except duckdb.Error as error:
            raise StoreUnavailable(str(error)) from error

    @contextmanager
    def keeping(self) -> Iterator[Reading]:
        """One transaction of upkeep or deletion, alone with the rows that are stored. Raises StoreUnavailable."""
        with self.rows, transaction(self.upkeep):
            yield Reading(self.upkeep)

    def reopen(self) -> None:
        """After an error of which DuckDB does not recover. `write` is held. Raises StoreUnavailable."""
        with self.rows:
            self.upkeep.close()
            self.connection.close()
            self.building = None
            self.connection, self.upkeep = _connect(self.path)

    def checkpoint(self) -> bool:
        """Write the write-ahead log into the file once it is long. Says False: it is no piece of upkeep."""
        wal = self.path.with_name(self.path.name + ".wal")
        try:
            if wal.stat().st_size >= WAL_BYTES:
                with self.rows:
                    self.upkeep.execute("checkpoint")
                    self._give_back()
        except FileNotFoundError:
            return False
        except duckdb.Error as error:
            # Somebody is in the way: after the next piece, or in an append.
            log.debug("no checkpoint now: %s", error)
        return False

    def _give_back(self) -> None:
        if time.monotonic() < self.resting_due:
            return
        self.resting_due = time.monotonic() + RESTING_EVERY_S
        try:
            self.upkeep.execute(f"set memory_limit = '{_RESTING}'")
        except duckdb.Error as error:
            log.debug("a large answer needs the memory now: %s", error)
        finally:
            self.upkeep.execute(f"set memory_limit = '{self.memory}'")

    def allow(self, memory: str) -> None:
        """What all of the store may take, from now on; where a large answer needs more just now, soon."""
        with self.rows:
            self.memory = memory
            try:
                self.upkeep.execute(f"set memory_limit = '{memory}'")
            except duckdb.Error as error:
                log.debug("not yet: %s", error)

    def since_of(self, series: int) -> int:
        return int(self.since[series]) if series < len(self.since) else 0

    def grow(self, series: int) -> None:
        """Make room for series numbers below this."""
        if series > len(self.since):
            more = max(series, 2 * len(self.since)) - len(self.since)
            self.since = np.concatenate([self.since, np.zeros(more, np.int64)])
            self.known = np.concatenate([self.known, np.zeros(more, np.bool_)])


def check() -> None:
    if store_refuses():
        raise StoreUnavailable("a test says so")


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Raises StoreUnavailable, and nothing has changed."""
    try:
        connection.execute("begin")
        yield
        connection.execute("commit")
    except BaseException as error:
        try:
            connection.execute("rollback")
        except duckdb.Error:
            # The failed statement already ended the transaction.
            log.debug("nothing to roll back")
        if isinstance(error, duckdb.Error):
            raise StoreUnavailable(str(error)) from error
        raise


def open_file(path: Path) -> File:
    """The file, made where it is absent, brought to this layout where it is of the one before. StoreUnavailable."""
    file = File(path, *_connect(path))
    with file.reading() as now:
        file.mark = now.folded()
        known = now.ask("select series from known")["series"]
        since = now.ask("select series, since from kept")
    file.grow(max([-1, *known.tolist(), *since["series"].tolist()]) + 1)
    file.known[known] = True
    file.since[since["series"]] = since["since"]
    return file


def _connect(path: Path) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyConnection]:
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": _THREADS, "memory_limit": MEMORY, "write_buffer_row_group_count": 1,
        "preserve_insertion_order": False, "temp_directory": f"{path}.tmp", "autoinstall_known_extensions": False,
    }  # fmt: skip
    try:
        connection = duckdb.connect(str(path), config=config)
        with transaction(connection):
            _take_over(connection)
            connection.execute(_SCHEMA)
            _drop_half_made(connection)
    except duckdb.Error as error:
        raise StoreUnavailable(f"{path.name}: {error}") from error
    return connection, connection.cursor()


def _take_over(connection: duckdb.DuckDBPyConnection) -> None:
    """A file of one table, as it was before: its readings become what has arrived, and upkeep carries them over."""
    tables = _tables(connection)
    if "readings" in tables and "arrived" not in tables:
        connection.execute("alter table readings rename to arrived")
        connection.execute("create table known as select distinct series from arrived")
        row = connection.execute("select count(*) from arrived").fetchone()
        log.info("%s readings are carried into tables by day while the service runs", f"{row[0] if row else 0:,}")


def _drop_half_made(connection: duckdb.DuckDBPyConnection) -> None:
    named = {row[0] for row in connection.execute("select name from parts").fetchall()}
    for table in _tables(connection):
        if table.startswith(tuple(f"{name}_" for name in LEVELS)) and table not in named:
            connection.execute(f"drop table {table}")


def _tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in connection.execute("select table_name from duckdb_tables()").fetchall()}

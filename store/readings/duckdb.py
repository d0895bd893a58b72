"""Readings in one DuckDB file: the default, with nothing to install (layout.py says how it is laid out).

No table has a primary key (measured: 7 times slower, 9 times larger); the settle path says which rows may already
be there and only those are looked for. DuckDB locks the file: no second process can even read it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from devices.batch import F64, I32, I64, Bool
from devices.instants import DAY, HOUR, MAX_INSTANT, MINUTE
from store.readings import Capabilities, Columns, Deletion, Fn, Point, Points, Roll, Slice, StoreUnavailable
from store.readings.folding import Span, aggregate, first
from store.readings.forgetting import acknowledge, delete, deletions, forget
from store.readings.layout import RAW, Reading, check, open_file, transaction
from store.readings.upkeep import Upkeep

# A checkpoint that could not be written (a full disk) makes DuckDB refuse everything until the file is opened again.
_DEAD = (duckdb.FatalException, duckdb.ConnectionException)
# How often a copy looks whether it is to stop.
_LOOK_S = 0.2
# How many of its series a look-up names one by one: beyond this reading them all is as fast.
_NAMED = 1_000


class DuckDBReadings:
    """One writer connection behind a lock, one for upkeep; every reader takes a cursor of its own."""

    capabilities = Capabilities(precision_us=1, deletes_exactly=True, survives_kill=True)

    def __init__(self, path: Path) -> None:
        self._file = open_file(path)
        self.maintenance = Upkeep(self._file)

    def append(self, number: int, batches: Sequence[Columns]) -> None:
        file = self._file
        with ExitStack() as stack:
            stack.enter_context(file.write)
            check()
            if any(batch.replaces.any() for batch in batches):
                stack.enter_context(file.rows)
            try:
                if number <= self.applied():
                    return
                with transaction(file.connection):
                    met = [self._append_one(batch) for batch in batches]
                    file.connection.execute("update applied set number = ?", [number])
            except StoreUnavailable as error:
                if isinstance(error.__cause__, _DEAD):
                    file.reopen()
                raise
            for series in met:
                file.known[series] = True

    def _append_one(self, batch: Columns) -> I32:
        """The series that were not there before."""
        connection, mark = self._file.connection, batch.replaces.astype(np.bool_)
        series, measured_at, value, quality = batch.series, batch.measured_at, batch.value, batch.quality
        if not len(series):
            return series
        self._file.grow(int(series.max()) + 1)
        if mark.any():
            # Of several rows for one instant the last stands: keep the last of each, then replace what is stored.
            self._delete_replaced(series[mark], measured_at[mark])
            keep = _last_of_each(series, measured_at)
            series, measured_at, value, quality = series[keep], measured_at[keep], value[keep], quality[keep]
        rows = {"series": series, "measured_at": measured_at, "value": value, "quality": quality}
        connection.register("arriving", rows)
        connection.execute(
            "insert into arrived select series, measured_at, value, quality, ? from arriving", [batch.stored_at]
        )
        self._mark_dirty(series, measured_at)
        fresh = np.unique(series[~self._file.known[series]])
        if len(fresh):
            connection.register("fresh", {"series": fresh})
            connection.execute("insert into known select series from fresh")
        return fresh

    def _delete_replaced(self, series: I32, measured_at: I64) -> None:
        connection, building = self._file.connection, self._file.building
        connection.register("gone", {"series": series, "measured_at": measured_at})
        names = ["arrived"]
        for day in np.unique(measured_at // DAY).tolist():
            names += [part.name for part in Reading(connection).parts(RAW, day * DAY, day * DAY + 1)]
        if building is not None and building.part.level is RAW and building.part.name in names:
            names.append(building.name)
        for name in dict.fromkeys(names):
            connection.execute(
                f"delete from {name} using gone where {name}.series = gone.series "
                f"and {name}.measured_at = gone.measured_at"
            )

    def _mark_dirty(self, series: I32, measured_at: I64) -> None:
        file = self._file
        late = (measured_at < file.mark) & (measured_at >= file.since[series])
        if late.any():
            hours = np.unique(np.stack([series[late].astype(np.int64), measured_at[late] // HOUR * HOUR]), axis=1)
            file.connection.register("late", {"series": hours[0].copy(), "hour": hours[1].copy()})
            file.connection.execute("insert into dirty select series, hour from late")

    def applied(self) -> int:
        with self._file.reading() as now:
            return now.one("select max(number) from applied")

    def range(self, series: int, start: int, end: int, limit: int) -> Points:
        found = self._in_order(f"series = {int(series)}", start, end, limit, [])
        return Points(found["measured_at"], found["value"], found["quality"])

    def slice(self, series: Sequence[int], start: int, end: int, limit: int) -> Slice:
        found = self._in_order("series in (select unnest(?::integer[]))", start, end, limit, [list(series)])
        return Slice(found["series"], found["measured_at"], found["value"], found["quality"])

    def _in_order(self, which: str, start: int, end: int, limit: int, arguments: list[object]) -> dict[str, Any]:
        """The first `limit` rows by (measured_at, series): looked for in ever longer stretches of days."""
        pieces: list[dict[str, Any]] = []
        with self._file.reading() as now:
            for low, high in _stretches(now, start, end):
                pieces.append(
                    now.ask(
                        f"select series, measured_at, value, quality from {now.source(RAW, low, high)} where {which} "
                        f"and measured_at >= {low} and measured_at < {high} order by measured_at, series limit {limit}",
                        arguments,
                    )
                )
                limit -= len(pieces[-1]["series"])
                if limit <= 0:
                    break
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def latest(self, series: Sequence[int] | None = None) -> dict[int, Point]:
        missing = np.zeros(len(self._file.known), np.bool_)
        missing[self._file.known if series is None else [s for s in series if s < len(missing)]] = True
        missing &= self._file.known
        found: dict[int, Point] = {}
        with self._file.reading() as now:
            for low, high in _backwards(now):
                if not missing.any():
                    break
                for s, point in _newest(now, low, high, missing).items():
                    if s not in found or found[s].measured_at < point.measured_at:
                        found[s] = point
                    missing[s] = False
        return found

    def aggregate(self, series: int, start: int, end: int, every: int, fn: Fn) -> tuple[I64, F64]:
        with self._file.reading() as now:
            return aggregate(now, Span(series, start, end, self._file.since_of(series)), every, fn)

    def first(self, series: int, start: int, end: int) -> int | None:
        found = self.range(series, start, end, 1).measured_at.tolist()
        with self._file.reading() as now:
            return first(now, Span(series, start, end, self._file.since_of(series)), found[0] if found else None)

    def find(self, series: I32, measured_at: I64) -> tuple[I64, F64]:
        if not len(series):
            return np.empty(0, np.int64), np.empty(0, np.float64)
        asked = {"position": np.arange(len(series), dtype=np.int64), "series": series, "measured_at": measured_at}
        days = np.unique(measured_at // DAY).tolist()
        found: list[dict[str, Any]] = []
        with self._file.reading() as now:
            now.cursor.register("asked", asked)
            parts = [part.name for day in days for part in now.parts(RAW, day * DAY, day * DAY + 1)]
            for name in ("arrived", *dict.fromkeys(parts)):
                # The range lets DuckDB skip row groups by their minimum and maximum; a bare join reads the whole table.
                found.append(
                    now.ask(
                        f"select asked.position, {name}.value from {name} join asked "
                        f"on {name}.series = asked.series and {name}.measured_at = asked.measured_at "
                        f"where {name}.measured_at between {int(measured_at.min())} and {int(measured_at.max())} "
                        f"and {name}.series between {int(series.min())} and {int(series.max())}"
                    )
                )
        position = np.concatenate([piece["position"] for piece in found])
        order = np.argsort(position)
        return position[order], np.concatenate([piece["value"] for piece in found])[order]

    def series(self) -> dict[int, int]:
        with self._file.reading() as now:
            source = now.source(RAW, 0, MAX_INSTANT + 1)
            found = now.ask(f"select series, count(*)::bigint as n from {source} group by series")
        return dict(zip(found["series"].tolist(), found["n"].tolist(), strict=True))

    def upkeep(self, now: int) -> bool:
        return self.maintenance.step(now)

    def delete(self, series: I32, start: I64, end: I64, stopping: Callable[[], bool] = lambda: False) -> int:
        return delete(self._file, series, start, end, stopping)

    def deletions(self, after: int = 0) -> list[Deletion]:
        return deletions(self._file, after)

    def acknowledge(self, number: int) -> None:
        acknowledge(self._file, number)

    def forget(self, roll: Roll, before: int, series: Sequence[int] | None = None) -> None:
        forget(self._file, roll.value, before, series)

    def copy_to(self, path: Path, stopping: Callable[[], bool] = lambda: False) -> int:
        # One statement, so one snapshot, whatever tables there are; nothing is locked (20 M readings took 7 s, and
        # appends meanwhile 50 ms at most).
        cursor = self._file.connection.cursor()
        try:
            [(name,)] = cursor.execute("select current_database()").fetchall()
            cursor.execute(f"attach {_quoted(str(path))} as copied")
            with _interrupted(cursor, stopping):
                cursor.execute(f'copy from database "{name}" to copied')
            [(number,)] = cursor.execute("select max(number) from copied.applied").fetchall()
            cursor.execute("detach copied")
        except duckdb.Error as error:
            with suppress(duckdb.Error):
                cursor.execute("detach copied")
            for left in (path, path.with_name(path.name + ".wal")):
                left.unlink(missing_ok=True)
            raise StoreUnavailable(str(error)) from error
        finally:
            cursor.close()
        return int(number)

    def close(self) -> None:
        with self._file.write, self._file.rows:
            self._file.upkeep.close()
            self._file.connection.close()


def _stretches(now: Reading, start: int, end: int) -> Iterator[tuple[int, int]]:
    """[start, end) cut at days: one, two, four … of those that have a table."""
    days = [part.end for part in now.parts(RAW, start, end) if part.start > start and part.end < end]
    low, step = start, 1
    while days:
        high = days[min(step, len(days)) - 1]
        yield low, high
        low, days, step = high, days[step:], 2 * step
    yield low, end


def _backwards(now: Reading) -> Iterator[tuple[int, int]]:
    """All of time, latest first: the last minutes, the hour, its day, and the days that have a table."""
    starts = [part.start for part in now.parts(RAW) if part.number >= 0]
    top = now.one(f"select max(measured_at) from {now.source(RAW, max(starts, default=0), MAX_INSTANT + 1)}")
    high = MAX_INSTANT + 1
    for low in sorted({top - 3 * MINUTE, top - HOUR, *starts, 0}, reverse=True):
        if 0 <= low < high:
            yield low, high
            high = low


def _newest(now: Reading, low: int, high: int, missing: Bool) -> dict[int, Point]:
    wanted = np.flatnonzero(missing)
    which, arguments = "", []
    if len(wanted) <= _NAMED:
        which, arguments = "and series in (select unnest(?::integer[]))", [wanted.tolist()]
    found = now.ask(
        "select series, max(measured_at) as newest, arg_max(value, measured_at) as value, "
        f"arg_max(quality, measured_at) as quality from {now.source(RAW, low, high)} "
        f"where measured_at >= {low} and measured_at < {high} {which} group by series",
        arguments,
    )
    columns = (found[name].tolist() for name in ("series", "newest", "value", "quality"))
    return {s: Point(at, value, quality) for s, at, value, quality in zip(*columns, strict=True) if missing[s]}


@contextmanager
def _interrupted(cursor: duckdb.DuckDBPyConnection, stopping: Callable[[], bool]) -> Iterator[None]:
    """End the long statement inside with an error once it is to stop."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            if stopping():
                cursor.interrupt()

    watching = threading.Thread(target=watch, name="copy watch", daemon=True)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _last_of_each(series: I32, measured_at: I64) -> I64:
    """Positions of the last row of each (series, measured_at), ascending."""
    order = np.lexsort((np.arange(len(series)), measured_at, series))
    last = np.ones(len(order), np.bool_)
    last[:-1] = (series[order][1:] != series[order][:-1]) | (measured_at[order][1:] != measured_at[order][:-1])
    kept: I64 = np.sort(order[last])
    return kept

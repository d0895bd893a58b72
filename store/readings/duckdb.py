"""Readings in one DuckDB file: the default, with nothing to install.

The table has no primary key (measured: 7 times slower, 9 times larger); the settle path says which rows may already
be there and only those are looked for. DuckDB locks the file: no second process can even read it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from devices.batch import F64, I32, I64
from store.fault_points import store_refuses
from store.readings import Capabilities, Columns, Fn, Point, Points, Slice, StoreUnavailable

_SCHEMA = """
create table if not exists readings (
    series integer not null, measured_at bigint not null, value double not null,
    quality utinyint not null, stored_at bigint not null);
create table if not exists applied (number bigint not null);
insert into applied select 0 where not exists (select 1 from applied);
"""
_FOLD = {
    Fn.AVG: "avg(value)",
    Fn.MIN: "min(value)",
    Fn.MAX: "max(value)",
    Fn.SUM: "sum(value)",
    Fn.COUNT: "count(*)::double",
    Fn.LAST: "arg_max(value, measured_at)",
}
# One thread scans a day of one series in milliseconds; more would take the core the settle path needs.
_THREADS = 1
_MEMORY = "1GB"
# A checkpoint that could not be written (a full disk) makes DuckDB refuse everything until the file is opened again.
_DEAD = (duckdb.FatalException, duckdb.ConnectionException)


class DuckDBReadings:
    """One writer connection behind a lock; every reader takes a cursor of its own."""

    capabilities = Capabilities(precision_us=1, deletes_exactly=True, survives_kill=True)

    def __init__(self, path: Path) -> None:
        """Raises StoreUnavailable."""
        self._path = path
        self._write = threading.Lock()
        self._open()

    def _open(self) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": _THREADS, "memory_limit": _MEMORY, "autoinstall_known_extensions": False,
        }  # fmt: skip
        try:
            self._connection = duckdb.connect(str(self._path), config=config)
            self._connection.execute(_SCHEMA)
        except duckdb.Error as error:
            raise StoreUnavailable(f"{self._path.name}: {error}") from error

    def append(self, number: int, batches: Sequence[Columns]) -> None:
        with self._write:
            _check()
            try:
                if number <= self.applied():
                    return
                self._connection.execute("begin")
                for batch in batches:
                    self._append_one(batch)
                self._connection.execute("update applied set number = ?", [number])
                self._connection.execute("commit")
            except duckdb.Error as error:
                self._roll_back()
                if isinstance(error, _DEAD):
                    self._connection.close()
                    self._open()
                raise StoreUnavailable(str(error)) from error

    def _append_one(self, batch: Columns) -> None:
        mark = batch.replaces.astype(np.bool_)
        series, measured_at, value, quality = batch.series, batch.measured_at, batch.value, batch.quality
        if mark.any():
            # Of several rows for one instant the last stands: keep the last of each, then replace what is stored.
            gone = {"series": series[mark], "measured_at": measured_at[mark]}
            self._connection.register("gone", gone)
            self._connection.execute(
                "delete from readings using gone "
                "where readings.series = gone.series and readings.measured_at = gone.measured_at"
            )
            keep = _last_of_each(series, measured_at)
            series, measured_at, value, quality = series[keep], measured_at[keep], value[keep], quality[keep]
        if len(series):
            rows = {"series": series, "measured_at": measured_at, "value": value, "quality": quality}
            self._connection.register("arrived", rows)
            self._connection.execute(
                "insert into readings select series, measured_at, value, quality, ? from arrived", [batch.stored_at]
            )

    def _roll_back(self) -> None:
        try:
            self._connection.execute("rollback")
        except duckdb.Error:
            # The failed statement already ended the transaction.
            return

    def applied(self) -> int:
        row = self._connection.cursor().execute("select max(number) from applied").fetchone()
        return int(row[0]) if row else 0

    def range(self, series: int, start: int, end: int, limit: int) -> Points:
        found = self._query(
            "select measured_at, value, quality from readings "
            "where series = ? and measured_at >= ? and measured_at < ? order by measured_at limit ?",
            [series, start, end, limit],
        )
        return Points(found["measured_at"], found["value"], found["quality"])

    def slice(self, series: Sequence[int], start: int, end: int, limit: int) -> Slice:
        found = self._query(
            "select series, measured_at, value, quality from readings "
            "where measured_at >= ? and measured_at < ? and series in (select unnest(?::integer[])) "
            "order by measured_at, series limit ?",
            [start, end, list(series), limit],
        )
        return Slice(found["series"], found["measured_at"], found["value"], found["quality"])

    def latest(self, series: Sequence[int] | None = None) -> dict[int, Point]:
        where, arguments = ("", []) if series is None else ("where series in (select unnest(?))", [list(series)])
        found = self._query(
            "select series, max(measured_at) as newest, arg_max(value, measured_at) as value, "
            f"arg_max(quality, measured_at) as quality from readings {where} group by series",
            arguments,
        )
        columns = (found[name].tolist() for name in ("series", "newest", "value", "quality"))
        return {s: Point(at, value, quality) for s, at, value, quality in zip(*columns, strict=True)}

    def aggregate(self, series: int, start: int, end: int, every: int, fn: Fn) -> tuple[I64, F64]:
        # Floor division, so that buckets before 1970 would not fold over zero either.
        found = self._query(
            f"select (measured_at // $every) * $every as bucket, {_FOLD[fn]} as value from readings "
            "where series = $series and measured_at >= $start and measured_at < $end group by bucket order by bucket",
            {"every": every, "series": series, "start": start, "end": end},
        )
        return found["bucket"], found["value"]

    def find(self, series: I32, measured_at: I64) -> tuple[I64, F64]:
        if not len(series):
            return np.empty(0, np.int64), np.empty(0, np.float64)
        asked = {"position": np.arange(len(series), dtype=np.int64), "series": series, "measured_at": measured_at}
        _check()
        try:
            cursor = self._connection.cursor()
            # The range lets DuckDB skip row groups by their minimum and maximum; a bare join reads the whole table.
            cursor.register("asked", asked)
            found = cursor.execute(
                "select asked.position, readings.value from readings join asked "
                "on readings.series = asked.series and readings.measured_at = asked.measured_at "
                "where readings.measured_at between ? and ? order by asked.position",
                [int(measured_at.min()), int(measured_at.max())],
            ).fetchnumpy()
        except duckdb.Error as error:
            raise StoreUnavailable(str(error)) from error
        return found["position"], found["value"]

    def series(self) -> dict[int, int]:
        found = self._query("select series, count(*) as n from readings group by series", [])
        return dict(zip(found["series"].tolist(), found["n"].tolist(), strict=True))

    def delete_before(self, instant: int, series: Sequence[int] | None = None) -> int:
        where, arguments = ("", []) if series is None else ("and series in (select unnest(?))", [list(series)])
        with self._write:
            row = self._connection.execute(
                f"delete from readings where measured_at < ? {where}", [instant, *arguments]
            ).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        with self._write:
            self._connection.close()

    def _query(self, sql: str, arguments: object) -> dict[str, Any]:
        _check()
        try:
            return dict(self._connection.cursor().execute(sql, arguments).fetchnumpy())
        except duckdb.Error as error:
            raise StoreUnavailable(str(error)) from error


def _check() -> None:
    if store_refuses():
        raise StoreUnavailable("a test says so")


def _last_of_each(series: I32, measured_at: I64) -> I64:
    """Positions of the last row of each (series, measured_at), ascending."""
    order = np.lexsort((np.arange(len(series)), measured_at, series))
    last = np.ones(len(order), np.bool_)
    last[:-1] = (series[order][1:] != series[order][:-1]) | (measured_at[order][1:] != measured_at[order][:-1])
    kept: I64 = np.sort(order[last])
    return kept

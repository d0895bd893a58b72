"""Deleting from the DuckDB file: readings, counted, and roll-ups.

What went stands in `deletions` in the commit that deleted it. Whoever keeps the ledger adds it there by number, and
then acknowledges it: killed at any moment in between, the number says whether it was added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from devices.batch import I32, I64
from devices.instants import MAX_INSTANT
from store.fault_points import reach
from store.readings import Deletion
from store.readings.layout import LEVELS, MEMORY, MEMORY_TO_DELETE, RAW, File, Part, Reading, transaction

# Readings looked at in one commit.
_SLICE = 200_000


def delete(file: File, series: I32, start: I64, end: I64, stopping: Callable[[], bool]) -> int:
    if not len(series):
        return 0
    _raise_since(file, series, start, end)
    file.allow(MEMORY_TO_DELETE)
    try:
        return _delete_everywhere(file, series, start, end, stopping)
    finally:
        file.allow(MEMORY)


def _delete_everywhere(file: File, series: I32, start: I64, end: I64, stopping: Callable[[], bool]) -> int:
    known = max(1, int(file.known.sum()))
    gone = 0
    for part, rows in _places(file, int(start.min()), int(end.max())):
        for some in _pieces(series, max(1, _SLICE * known // max(rows, 1))):
            if stopping():
                return gone
            gone += _delete_piece(file, part, {"series": series[some], "start": start[some], "end": end[some]})
    return gone


def _places(file: File, start: int, end: int) -> Iterator[tuple[Part | None, int]]:
    """What has arrived (None), then the parts, with how many rows each has. The parts are looked for last: upkeep may
    carry what has arrived into one that was not there."""
    with file.reading() as now:
        arrived = now.one("select count(*) from arrived")
    yield None, arrived
    with file.reading() as now:
        parts = now.parts(RAW, start, end)
    yield from ((part, part.rows) for part in parts)


def _pieces(series: I32, most: int) -> Iterator[slice]:
    return (slice(i, i + most) for i in range(0, len(series), most))


def _raise_since(file: File, series: I32, start: I64, end: I64) -> None:
    """What is deleted from the beginning on is no more to be folded, and what comes late for it is not either."""
    whole = start == 0
    with file.write:
        file.grow(int(series.max()) + 1)
        since = file.since.copy()
    np.maximum.at(since, series[whole], end[whole])
    changed = np.flatnonzero(since != file.since).astype(np.int32)
    if not len(changed):
        return
    with file.keeping() as held:
        held.cursor.register("raised", {"series": changed, "since": since[changed]})
        held.cursor.execute("delete from kept where series in (select series from raised)")
        held.cursor.execute("insert into kept select series, since from raised")
    with file.write:  # an append may have made room for more series meanwhile
        file.since[changed] = since[changed]


def _delete_piece(file: File, part: Part | None, spans: dict[str, object]) -> int:
    with file.keeping() as held:
        name = "arrived" if part is None else _named(held, part)
        if name is None:
            return 0
        held.cursor.register("spans", spans)
        match = f"{name}.series = spans.series and measured_at >= spans.start and measured_at < spans.end"
        count = f"select {name}.series, count(*)::bigint as n from {name} join spans on {match} group by 1"
        found = held.ask(count)
        rows = int(found["n"].sum())
        if not rows:
            return 0
        held.cursor.execute(f"delete from {name} using spans where {match}")
        held.cursor.execute("update deleted set number = number + 1")
        held.cursor.register("went", found)
        held.cursor.execute("insert into deletions select number, series, n from deleted, went")
        if part is not None:
            _shrink(file, held, name, rows)
        reach("before_delete")
    reach("after_delete")
    file.checkpoint()
    return rows


def _named(held: Reading, part: Part) -> str | None:
    """What the part is called by now: it may have been written anew, or be gone."""
    found = (p.name for p in held.parts(part.level, part.start, part.start + 1) if p.number == part.number)
    return next(found, None)


def _shrink(file: File, held: Reading, name: str, rows: int) -> None:
    """A part without rows goes; one that has lost some counts them as loose, so that it is written anew in the end."""
    building = file.building
    if building is not None and building.part.name == name:
        held.cursor.execute(f"drop table if exists {building.name}")
        file.building = None
    if held.one(f"select count(*) from (select 1 from {name} limit 1)"):
        held.cursor.execute(f"update parts set rows = rows - {rows}, loose = loose + {rows} where name = '{name}'")
    else:
        held.cursor.execute(f"drop table {name}")
        held.cursor.execute(f"delete from parts where name = '{name}'")


def forget(file: File, level_name: str, before: int, series: Sequence[int] | None) -> None:
    level = LEVELS[level_name]
    with file.reading() as now:
        parts = now.parts(level, 0, min(before, MAX_INSTANT + 1))
    if series is None:
        with file.keeping() as held:
            held.cursor.execute("delete from rolls_kept where level = ?", [level.name])
            held.cursor.execute("insert into rolls_kept values (?, ?)", [level.name, before])
    for part in parts:
        with file.keeping() as held:
            name = _named(held, part)
            if name is None:
                continue
            if series is None and part.end <= before:
                rows = held.one(f"select count(*) from {name}")
                held.cursor.execute(f"delete from {name}")
            else:
                which = "" if series is None else " and series in (select unnest(?))"
                row = held.cursor.execute(
                    f"delete from {name} where begins < {before}{which}", [] if series is None else [list(series)]
                ).fetchone()
                rows = int(row[0]) if row else 0
            if rows:
                _shrink(file, held, name, rows)


def deletions(file: File, after: int) -> list[Deletion]:
    with file.reading() as now:
        query = "select number, series, count from deletions where number > ? order by number, series"
        return [Deletion(*row) for row in now.cursor.execute(query, [after]).fetchall()]


def acknowledge(file: File, number: int) -> None:
    with file.rows, transaction(file.upkeep):
        file.upkeep.execute("delete from deletions where number <= ?", [number])

"""What the maintenance thread does to the DuckDB file, in pieces of about SLICE rows, each a commit of its own.

`fold` makes the roll-ups of hours that are over, `mend` those that late readings have made wrong, `carry` moves
readings of folded hours out of `arrived`, `compact` writes a table anew in order of (series, time). Killed between two
pieces, the file is whole: what is half made is not in `parts`, or is made again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from devices.instants import DAY, HOUR, MINUTE
from store.fault_points import reach
from store.readings.folding import rolled
from store.readings.layout import (
    HOURS,
    LEVELS,
    MINUTES,
    NEWEST_PART,
    OLDEST_PART,
    RAW,
    STRAYS,
    Building,
    File,
    Level,
    Part,
    Reading,
)

log = logging.getLogger("gridwhistle.readings")

# Rows of one piece: a fifth of a second of a core, some 20 MB while it is sorted.
SLICE = 200_000
# Readings come that much later without being late: an hour is folded once.
HOUR_OVER = 10 * MINUTE
DAY_OVER = HOUR
# A part is in order as long as one row of so many is not.
MOST_LOOSE = 20
# The hours' table of this month is asked for charts every minute: it is put in order as it grows.
_OPEN_LOOSE, _OPEN_ROWS = 3, 250_000


@dataclass(frozen=True, slots=True)
class Load:
    """Arrived readings to be carried in one piece: of [start, end), and of these series."""

    number: int
    start: int
    end: int
    low: int
    high: int


class Upkeep:
    """`step` is called by one thread at a time; the rest of the file's users go on meanwhile."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._loads: deque[Load] = deque()
        self._alone = threading.Lock()

    def step(self, now: int) -> bool:
        """One piece of what is most urgent; whether there was any."""
        with self._alone:
            return (
                self._file.checkpoint() or self._building() or self.fold(now) or self.mend(now) or self.carry(now)
                or self.compact(now)
            )  # fmt: skip

    def fold(self, now: int) -> bool:
        """The next hour that is over; or all of them, where they hold few readings."""
        until = (now - HOUR_OVER) // HOUR * HOUR
        with self._file.reading() as seen:
            folded = seen.folded()
            source = seen.source(RAW, folded, until)
            where = f"measured_at >= {folded} and measured_at < {until}"
            rows = seen.one(f"select count(*) from {source} where {where}")
            if not rows:
                return False
            if rows > SLICE:
                until = seen.one(f"select min(measured_at) from {source} where {where}") // HOUR * HOUR + HOUR
                rows = seen.one(f"select count(*) from {source} where {where} and measured_at < {until}")
        with self._file.write:
            # From here on a reading of these hours makes its hour dirty, whether this sees it or not.
            self._file.mark = max(self._file.mark, until)
        for low, high in self._pieces(rows):
            with self._file.keeping() as held:
                self._fold_piece(held, now, folded, until, f"series >= {low} and series < {high}", afresh=low == 0)
        with self._file.keeping() as held:
            held.cursor.execute("update folded set until = ?", [until])
            reach("before_fold")
        return True

    def _fold_piece(self, held: Reading, now: int, start: int, end: int, which: str, *, afresh: bool) -> None:
        source = held.source(RAW, start, end)
        where = f"measured_at >= {start} and measured_at < {end} and {which}"
        for level in (MINUTES, HOURS):
            if afresh:  # what a fold that was killed half way has left
                for part in held.parts(level, start, end):
                    held.cursor.execute(f"delete from {part.name} where begins >= {start} and begins < {end}")
            days = held.ask(f"select distinct measured_at // {level.span} as number from {source} where {where}")
            for number in days["number"].tolist():
                part = _part(held, level, number, now)
                self._cancel(held, part)
                low, high = max(start, number * level.span), min(end, (number + 1) * level.span)
                of_part = f"measured_at >= {low} and measured_at < {high} and {which}"
                _insert(held, part, rolled(level, source, of_part))

    def mend(self, now: int) -> bool:
        """Make the roll-ups of the oldest dirty hour anew, of the series that came late."""
        with self._file.reading() as seen:
            hour = seen.one("select min(hour) + 1 from dirty") - 1
        if hour < 0:
            return False
        with self._file.keeping() as held:
            # What is marked while this runs is not seen here, not deleted, and mended in its turn.
            late = held.ask("select distinct series from dirty where hour = ?", [hour])["series"]
            held.cursor.execute("delete from dirty where hour = ?", [hour])
            late = late[self._file.since[late] <= hour]
            held.cursor.register("late", {"series": late})
            if len(late) and hour < held.folded():
                which = "series in (select series from late)"
                for level in (MINUTES, HOURS):
                    for part in held.parts(level, hour, hour + HOUR):
                        self._cancel(held, part)
                        held.cursor.execute(
                            f"delete from {part.name} where begins >= {hour} and begins < {hour + HOUR} and {which}"
                        )
                self._fold_piece(held, now, hour, hour + HOUR, which, afresh=False)
            reach("before_mend")
        return True

    def carry(self, now: int) -> bool:
        """Readings of folded hours into the table of their day."""
        if not self._loads:
            with self._file.reading() as seen:
                self._loads.extend(self._find_loads(seen, now))
        if not self._loads:
            return False
        load = self._loads.popleft()
        where = (
            f"measured_at >= {load.start} and measured_at < {load.end} "
            f"and series >= {load.low} and series < {load.high}"
        )
        if load.number == STRAYS:
            where += f" and (measured_at < {now - OLDEST_PART} or measured_at > {now + NEWEST_PART})"
        with self._file.keeping() as held:
            part = _part(held, RAW, load.number, now)
            self._cancel(held, part)
            _insert(held, part, f"select * from arrived where {where} order by series, measured_at")
            held.cursor.execute(f"delete from arrived where {where}")
            reach("before_carry")
        return True

    def _find_loads(self, seen: Reading, now: int) -> list[Load]:
        """Day by day, as many hours together as make a piece; an hour of more than one in pieces by series."""
        hours = seen.ask(
            f"select measured_at // {HOUR} as hour, count(*)::bigint as n from arrived "
            f"where measured_at < {seen.folded()} group by hour order by hour"
        )
        found: list[Load] = []
        rows = 0
        for hour, n in zip(hours["hour"].tolist(), hours["n"].tolist(), strict=True):
            start = hour * HOUR
            number = _number(RAW, start // DAY, now)
            last = found[-1] if found else None
            if last is not None and last.number == number and last.high > self._series() and rows + n <= SLICE:
                found[-1] = Load(number, last.start, start + HOUR, 0, last.high)
                rows += n
            else:
                found += [Load(number, start, start + HOUR, low, high) for low, high in self._pieces(n)]
                rows = n if n <= SLICE else SLICE
        return found

    def compact(self, now: int) -> bool:
        """Begin to write the next part anew that is over and not in order."""
        with self._file.reading() as seen:
            part = next((p for level in LEVELS.values() for p in seen.parts(level) if _is_due(p, now)), None)
            if part is None:
                return False
            name = f"{part.name.rsplit('_', 1)[0]}_{int(part.name.rsplit('_', 1)[1]) + 1}"
        with self._file.rows:
            with self._file.keeping() as held:
                if part not in held.parts(part.level, part.start, part.start + 1):  # somebody has deleted from it
                    return True
                held.cursor.execute(f"drop table if exists {name}")
                held.cursor.execute(f"create table {name} ({part.level.columns})")
            rows = max(part.rows, 1)
            self._file.building = Building(part, name, max(1, (self._series() + 1) * SLICE // max(rows, SLICE)))
        return True

    def _building(self) -> bool:
        """Go on with the part that is being written, by one piece; put it in the other's place at the end."""
        building = self._file.building
        if building is None:
            return False
        part, low = building.part, building.done
        with self._file.keeping() as held:
            if self._file.building is None:  # somebody has deleted from it meanwhile
                return True
            if low <= self._series():
                order = f"where series >= {low} and series < {low + building.by} order by series, {part.level.at}"
                held.cursor.execute(f"insert into {building.name} select * from {part.name} {order}")
            else:
                reach("before_compacted")
                rows = held.one(f"select count(*) from {building.name}")
                held.cursor.execute(
                    "update parts set name = ?, rows = ?, loose = 0 where name = ?", [building.name, rows, part.name]
                )
                held.cursor.execute(f"drop table {part.name}")
        building.done = low + building.by
        if low > self._series():
            self._file.building = None
            log.debug("%s is in order", building.name)
            reach("after_compacted")
        return True

    def _cancel(self, held: Reading, part: Part) -> None:
        """What is written anew does not have what comes into the part now."""
        building = self._file.building
        if building is not None and building.part.name == part.name:
            held.cursor.execute(f"drop table if exists {building.name}")
            self._file.building = None

    def _series(self) -> int:
        """All series have lower numbers than this."""
        known = np.flatnonzero(self._file.known)
        return int(known[-1]) + 1 if len(known) else 0

    def _pieces(self, rows: int) -> list[tuple[int, int]]:
        """Series from and to, so that each has about SLICE of the rows; the last is open."""
        count = -(-rows // SLICE)
        edges = [self._series() * i // count for i in range(count)] if count > 1 else [0]
        return list(zip(edges, [*edges[1:], 1 << 31], strict=True))


def _number(level: Level, number: int, now: int) -> int:
    start = number * level.span
    return number if now - OLDEST_PART <= start + level.span and start <= now + NEWEST_PART else STRAYS


def _part(held: Reading, level: Level, number: int, now: int) -> Part:
    """The part for these rows, made if there is none."""
    number = _number(level, number, now)
    for part in held.parts(level):
        if part.number == number:
            return part
    name = f"{level.name}_{'strays' if number == STRAYS else number}_0"
    held.cursor.execute(f"create table {name} ({level.columns})")
    held.cursor.execute("insert into parts values (?, ?, ?, 0, 0)", [level.name, number, name])
    return Part(level, number, name, 0, 0)


def _insert(held: Reading, part: Part, query: str) -> None:
    row = held.cursor.execute(f"insert into {part.name} {query}").fetchone()
    held.cursor.execute(
        "update parts set rows = rows + $n, loose = loose + $n where name = $name",
        {"n": row[0] if row else 0, "name": part.name},
    )


def _is_due(part: Part, now: int) -> bool:
    if part.end + DAY_OVER <= now or part.number == STRAYS:
        return part.loose * MOST_LOOSE > part.rows
    return part.level is HOURS and part.loose * _OPEN_LOOSE > part.rows and part.rows > _OPEN_ROWS

"""Buckets of one series, from roll-ups where they fit and from readings elsewhere; and the SQL that makes roll-ups.

Only whole hours are read from roll-ups, of which every reading is known to be in them: hours that are folded and not
dirty. So a bucket says the same whatever it was read from; of sums that holds to the last bit where adding is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from devices.batch import F64, I64
from devices.instants import HOUR, MINUTE
from store.readings import Fn
from store.readings.layout import HOURS, MINUTES, RAW, Level, Reading

_FOLD = {
    Fn.AVG: "sum(total) / sum(n)",
    Fn.MIN: "min(low)",
    Fn.MAX: "max(high)",
    Fn.SUM: "sum(total)",
    Fn.COUNT: "sum(n)::double",
    Fn.LAST: "arg_max(last, begins)",
}
_ROLL = "select begins, n, last, "
_ROLL += "coalesce(low, last) as low, coalesce(high, last) as high, coalesce(total, last) as total from "
_SINGLE = "select measured_at as begins, 1 as n, value as last, value as low, value as high, value as total from "
_OF_HOUR = f"// {HOUR} * {HOUR}"


def rolled(level: Level, source: str, where: str) -> str:
    """The rows of a roll-up, in order, from readings."""
    several = "case when count(*) > 1 then {} end"
    return (
        f"select series, measured_at // {level.width} * {level.width} as begins, count(*)::integer as n, "
        f"arg_max(value, measured_at) as last, {several.format('min(value)')} as low, "
        f"{several.format('max(value)')} as high, {several.format('sum(value)')} as total "
        f"from {source} where {where} group by 1, 2 order by 1, 2"
    )


@dataclass(frozen=True, slots=True)
class Span:
    """What is asked. `since`: the readings before it are deleted."""

    series: int
    start: int
    end: int
    since: int


def aggregate(now: Reading, span: Span, every: int, fn: Fn) -> tuple[I64, F64]:
    level = HOURS if every % HOUR == 0 else MINUTES if every % MINUTE == 0 else RAW
    first, last = _whole_hours(now, level, span)
    dirty = _dirty(now, span.series, max(first, span.since), last)
    rows: list[str] = []
    rest = [(span.start, span.end)]
    if first < last:
        rest = [(span.start, first), *((hour, hour + HOUR) for hour in dirty), (last, span.end)]
        clean = f" and begins {_OF_HOUR} not in ({', '.join(map(str, dirty))})" if dirty else ""
        rows.append(_ROLL + _where(now, level, span, first, last) + clean)
        if level is MINUTES and first < span.since:
            end = min(last, span.since)
            rows.append(_ROLL + _where(now, HOURS, span, first, end) + _without(now, [MINUTES], span, first, end))
    for start, end in rest:
        if start < end:
            rows.append(_SINGLE + _where(now, RAW, span, start, end))
            rows += _instead(now, span, start, min(end, span.since, now.folded()))
    found = now.ask(
        f"select begins // {every} * {every} as bucket, {_FOLD[fn]} as value from ({' union all '.join(rows)}) "
        "group by bucket order by bucket"
    )
    return found["bucket"], found["value"]


def first(now: Reading, span: Span, reading: int | None) -> int | None:
    """`reading` is the first in the span that is not deleted; earlier hours may have left minutes, or themselves."""
    found, end = reading, min(span.end, span.since)
    for level in (MINUTES, HOURS) if span.start < end else ():
        rolled = now.one(
            f"select min(begins) from {now.source(level, span.start, end)} where series = {span.series} "
            f"and begins >= {span.start} and begins < {end}"
        )
        if rolled and (found is None or rolled // HOUR < found // HOUR):
            found = rolled
    return found


def _whole_hours(now: Reading, level: Level, span: Span) -> tuple[int, int]:
    """From and to: the hours of which roll-ups are read."""
    if level is RAW:
        return span.end, span.end
    kept = now.one(f"select max(since) from rolls_kept where level = '{level.name}'")
    first = -(-max(span.start, kept) // HOUR) * HOUR
    return first, max(first, min(span.end // HOUR * HOUR, now.folded()))


def _dirty(now: Reading, series: int, start: int, end: int) -> list[int]:
    where = f"series = {series} and hour >= {start} and hour < {end}"
    found: list[int] = now.ask(f"select distinct hour from dirty where {where} order by hour")["hour"].tolist()
    return found


def _where(now: Reading, level: Level, span: Span, start: int, end: int) -> str:
    source = now.source(level, start, end)
    return f"{source} where series = {span.series} and {level.at} >= {start} and {level.at} < {end}"


def _without(now: Reading, levels: list[Level], span: Span, start: int, end: int) -> str:
    """... of which there is nothing finer."""
    return "".join(
        f" and begins {_OF_HOUR} not in (select {level.at} {_OF_HOUR} from {_where(now, level, span, start, end)})"
        for level in levels
    )


def _instead(now: Reading, span: Span, start: int, end: int) -> list[str]:
    """Where the readings of an hour are deleted: its minutes, or itself. They are of the span they begin in: none is
    lost where two spans meet."""
    if start >= end:
        return []
    hour, until = start // HOUR * HOUR, -(-end // HOUR) * HOUR
    return [
        _ROLL + _where(now, MINUTES, span, start, end) + _without(now, [RAW], span, hour, until),
        _ROLL + _where(now, HOURS, span, start, end) + _without(now, [RAW, MINUTES], span, hour, until),
    ]

"""The site's own time: the hour, the day of the week, whether people are off that day, whether it is flood season.

Everything works on arrays of instants (int64 µs UTC). The zone's offset is looked up in a small table of each year met,
so an hour that is skipped or comes twice is neither: `between("01:30", "02:30")` follows the clock on the wall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from devices.batch import I64, Bool
from devices.instants import DAY, SECOND, from_datetime, to_datetime
from rules.outcome import FAR

MonthDay = tuple[int, int]

_EPOCH = date(1970, 1, 1)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_BEGIN = 0
_END = from_datetime(datetime(_LAST_YEAR + 1, 1, 1, tzinfo=UTC))
_NO_DAY = FAR // DAY
# From one 29 February to the next, at worst (1896 to 1904, 2096 to 2104).
_LEAP_DAYS = 8 * 366


@dataclass(frozen=True, slots=True)
class Calendar:
    """`holidays` are off whatever the day of the week, `workdays` are weekends that are worked (调休).

    Both ends of `flood_season` belong to it; None: never. A year not in `years` has weekends and nothing else.
    """

    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()
    years: frozenset[int] = frozenset()
    flood_season: tuple[MonthDay, MonthDay] | None = None


EMPTY = Calendar()


@dataclass(frozen=True, slots=True)
class Site:
    """`zone` an IANA name; ZoneInfoNotFoundError where there is none of that name.

    Instants before 1970 or after 9998 are taken as the nearest that can be told. The `next_…` give, for each instant,
    the first one after it at which the truth changes, FAR where it never does.
    """

    zone: str = "Asia/Shanghai"
    calendar: Calendar = EMPTY

    def __post_init__(self) -> None:
        ZoneInfo(self.zone)

    def time_of_day(self, at: I64) -> I64:
        """Microseconds the clock on the wall shows past midnight."""
        return self._local(at) % DAY

    def weekday(self, at: I64) -> I64:
        """0 is Monday."""
        return _weekday(self._local(at) // DAY)

    def holiday(self, at: I64) -> Bool:
        """Off: a holiday, or a weekend that is not worked."""
        return _is_off(self.calendar, self._local(at) // DAY)

    def flood_season(self, at: I64) -> Bool:
        return _in_season(self.calendar.flood_season, self._local(at) // DAY)

    def between(self, at: I64, start_us: int, end_us: int) -> Bool:
        """The time of day is in [start, end), over midnight where start >= end."""
        return _between(self._local(at), start_us, end_us)

    def next_between(self, at: I64, start_us: int, end_us: int) -> I64:
        if start_us == end_us:
            return np.full(len(at), FAR, np.int64)

        def ahead(local: I64) -> I64:
            midnight = local // DAY * DAY
            time = local - midnight
            to_start, to_end = (start_us - time - 1) % DAY + 1, (end_us - time - 1) % DAY + 1
            return np.asarray(local + np.minimum(to_start, to_end), np.int64)

        return self._next(at, lambda local: _between(local, start_us, end_us), ahead)

    def next_weekday(self, at: I64, days: frozenset[int]) -> I64:
        chosen = np.array([day in days for day in range(7)])
        return self._next_day(at, lambda day: chosen[_weekday(day)], 7)

    def next_holiday(self, at: I64) -> I64:
        return self._next_day(at, lambda day: _is_off(self.calendar, day), 8, _last_listed(self.calendar))

    def next_flood_season(self, at: I64) -> I64:
        season = self.calendar.flood_season
        return self._next_day(at, lambda day: _in_season(season, day), 0 if season is None else _LEAP_DAYS)

    def next_midnight(self, at: I64) -> I64:
        """When the local date changes; where midnight is skipped, the first instant of the new date."""
        return self._next(at, lambda local: local // DAY, lambda local: (local // DAY + 1) * DAY)

    def missing_years(self, first: int, last: int) -> tuple[int, ...]:
        """The local years from the instant `first` to `last`, at most a hundred, that the calendar does not know."""
        ends = np.clip(self._local(np.array([first, last], np.int64)), _BEGIN, _END - 1)
        years = [to_datetime(int(end)).year for end in ends]
        return tuple(y for y in range(years[0], min(years[1], years[0] + 99) + 1) if y not in self.calendar.years)

    def _local(self, at: I64) -> I64:
        return np.asarray(_clip(at) + _offsets(self.zone, at)[0], np.int64)

    def _next_day(self, at: I64, truth: Callable[[I64], Bool], reach: int, last_listed: int = 0) -> I64:
        """`reach` days after both the day and `last_listed` the truth has changed at least once, if it ever does."""

        def ahead(local: I64) -> I64:
            day = local // DAY
            days = np.arange(day.min(), max(int(day.max()), last_listed) + reach + 2)
            told = truth(days)
            turns = np.append(days[1:][told[1:] != told[:-1]], _NO_DAY)
            found = turns[np.searchsorted(turns, day, "right")]
            return np.where(found == _NO_DAY, FAR, found * DAY)

        return self._next(at, lambda local: truth(local // DAY), ahead)

    def _next(self, at: I64, truth: Callable[[I64], NDArray[np.generic]], ahead: Callable[[I64], I64]) -> I64:
        """`ahead` is where the truth of a local time changes if the offset stays. Stretches of one offset are gone
        through one after the other; at their seam the local time jumps, and the truth may change with it."""
        found = np.full(len(at), FAR, np.int64)
        open_, now = np.arange(len(at)), _clip(at)
        if not len(at):
            return found
        told = truth(self._local(now))
        while len(open_):
            offset, until = _offsets(self.zone, now)
            turn = ahead(now + offset)
            never, turn = turn == FAR, turn - offset
            found[open_] = np.where(never, FAR, turn)
            over = ~never & (turn >= until) & (until < _END)
            found[open_[~never & (turn >= _END)]] = FAR
            open_, now, told = open_[over], until[over], told[over]
            if len(open_):
                changed = truth(self._local(now)) != told
                found[open_[changed]] = now[changed]
                open_, now, told = open_[~changed], now[~changed], told[~changed]
        return found


def _between(local: I64, start_us: int, end_us: int) -> Bool:
    time = local % DAY
    after, before = time >= start_us, time < end_us
    return after & before if start_us < end_us else after | before


def _weekday(day: I64) -> I64:
    return np.asarray((day + _EPOCH.weekday()) % 7, np.int64)


def _is_off(calendar: Calendar, day: I64) -> Bool:
    holidays, workdays = _listed(calendar)
    return (_weekday(day) >= 5) & ~np.isin(day, workdays) | np.isin(day, holidays)


def _in_season(season: tuple[MonthDay, MonthDay] | None, day: I64) -> Bool:
    if season is None or not len(day):
        return np.zeros(len(day), np.bool_)
    first, last = (month * 100 + of_month for month, of_month in season)
    days, place = _few(day)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    number = (months.astype(np.int64) % 12 + 1) * 100 + (dates - months).astype(np.int64) + 1
    inside = (number >= first, number <= last)
    told: Bool = inside[0] & inside[1] if first <= last else inside[0] | inside[1]
    return told[place]


def _few(day: I64) -> tuple[I64, I64]:
    """Days that hold all of these, each once, and the place of each among them."""
    first, last = int(day.min()), int(day.max())
    if last - first <= len(day) + 1_000:
        return np.arange(first, last + 1), day - first
    days, place = np.unique(day, return_inverse=True)
    return days, place


@lru_cache(16)
def _listed(calendar: Calendar) -> tuple[I64, I64]:
    """Holidays and workdays as days since 1970, rising."""
    found = [sorted((day - _EPOCH).days for day in days) for days in (calendar.holidays, calendar.workdays)]
    return np.array(found[0], np.int64), np.array(found[1], np.int64)


def _last_listed(calendar: Calendar) -> int:
    return max([0, *(int(days[-1]) for days in _listed(calendar) if len(days))])


def _clip(at: I64) -> I64:
    return np.clip(at, _BEGIN, _END - 1)


def _offsets(zone: str, at: I64) -> tuple[I64, I64]:
    """Of each instant: local minus UTC in µs, and until when at least it stays that."""
    if not len(at):
        return at, at
    at = _clip(at)
    years = {to_datetime(int(at.min())).year, to_datetime(int(at.max())).year}
    if len(years) > 1:
        years = set((np.unique(at.astype("datetime64[us]").astype("datetime64[Y]").astype(np.int64)) + 1970).tolist())
    begin, until, offset = _table(zone, tuple(sorted(years)))
    if len(begin) == 1:
        return np.full(len(at), offset[0]), np.full(len(at), until[0])
    place = np.searchsorted(begin, at, "right") - 1
    return offset[place], until[place]


@lru_cache(64)
def _table(zone: str, years: tuple[int, ...]) -> tuple[I64, I64, I64]:
    """Stretches of one offset, in order: begin, end, offset in µs."""
    stretches = [stretch for year in years for stretch in _year(zone, year)]
    begin, until, offset = np.array(stretches, np.int64).T
    return begin.copy(), until.copy(), offset.copy()


@lru_cache(4096)
def _year(zone: str, year: int) -> tuple[tuple[int, int, int], ...]:
    """A year UTC, looked at every day: no zone has changed twice within one."""
    info = ZoneInfo(zone)

    def offset(at: int) -> int:
        told = to_datetime(at).astimezone(info).utcoffset()
        return (told or timedelta()) // timedelta(microseconds=1)

    first = from_datetime(datetime(year, 1, 1, tzinfo=UTC))
    end = from_datetime(datetime(year + 1, 1, 1, tzinfo=UTC))
    stretches, begin, current = [], first, offset(first)
    for day in range(first, end, DAY):
        after = offset(min(day + DAY, end - SECOND))
        if after != current:
            low, high = day, min(day + DAY, end - SECOND)
            while high - low > SECOND:
                middle = (low + high) // 2 // SECOND * SECOND
                low, high = (middle, high) if offset(middle) == current else (low, middle)
            stretches.append((begin, high, current))
            begin, current = high, after
    return (*stretches, (begin, end, current))

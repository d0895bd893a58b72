"""The clock on the wall and what people have declared, plain: with datetime and zoneinfo, one instant at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from rules.calendar import Calendar
from rules.declared import Declared, Pause, Response, Span
from rules.expression import Between, Expression, Holiday, Mode, Weekday

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
HOUR = 3_600_000_000
_LEVELS = {"response": 4, "response_4": 4, "response_3": 3, "response_2": 2, "response_1": 1}
Scheduled = Between | Weekday | Holiday | Mode


@dataclass(frozen=True)
class Times:
    """What decides a schedule or a mode."""

    zone: str
    calendar: Calendar
    declared: Declared

    def local(self, at: int) -> datetime:
        return _wall(self.zone, at)

    def truth(self, node: Scheduled, at: int) -> bool:
        if isinstance(node, Mode):
            return self.mode(node.name, at)
        wall = self.local(at)
        if isinstance(node, Between):
            now, start, end = _time_of_day(wall), node.start_us, node.end_us
            return start <= now < end if start < end else now >= start or now < end
        if isinstance(node, Weekday):
            return wall.weekday() in node.days
        return self.off(wall.date())

    def off(self, day: date) -> bool:
        return day in self.calendar.holidays or (day.weekday() >= 5 and day not in self.calendar.workdays)

    def mode(self, name: str, at: int) -> bool:
        if name == "flood_season":
            return self.in_season(self.local(at).date())
        if name == "drill":
            return any(covers(span, at) for span in self.declared.drills)
        level = self.response(at)
        return level is not None and level <= _LEVELS[name]

    def in_season(self, day: date) -> bool:
        if self.calendar.flood_season is None:
            return False
        first, last = self.calendar.flood_season
        today = (day.month, day.day)
        return first <= today <= last if first <= last else today >= first or today <= last

    def response(self, at: int) -> int | None:
        """The most severe that is declared then; 1 is the most severe."""
        return min((r.level for r in self.declared.responses if covers(r, at)), default=None)

    def changes(self, node: Expression, after: int, until: int) -> list[int]:
        """Instants in (after, until] at which the schedule or mode turns."""
        assert isinstance(node, (Between, Weekday, Holiday, Mode))
        return [at for at in self._marks(node, after, until) if self.truth(node, at) != self.truth(node, at - 1)]

    def _marks(self, node: Scheduled, after: int, until: int) -> list[int]:
        if isinstance(node, Mode) and node.name != "flood_season":
            spans: Sequence[Span | Response] = [*self.declared.drills, *self.declared.responses]
            marks = [mark for span in spans for mark in (span.start, span.end) if mark is not None]
        else:
            times = {0, node.start_us, node.end_us} if isinstance(node, Between) else {0}
            marks = [mark for time in sorted(times) for mark in _shown(self.zone, time, after, until)]
            marks += _seams(self.zone, after, until)
        return sorted({mark for mark in marks if after < mark <= until})


def covers(span: Span | Response | Pause, at: int) -> bool:
    return span.start <= at and (span.end is None or at < span.end)


def instant(wall: datetime) -> int:
    return (wall.astimezone(UTC) - _EPOCH) // _US


@cache
def _wall(zone: str, at: int) -> datetime:
    return (_EPOCH + at * _US).astimezone(ZoneInfo(zone))


def _time_of_day(wall: datetime) -> int:
    return (wall.replace(tzinfo=None) - datetime.combine(wall.date(), datetime.min.time())) // _US


def _shown(zone: str, time_us: int, after: int, until: int) -> Iterator[int]:
    """When the clock on the wall shows this time of day: twice where an hour comes twice."""
    day = _wall(zone, after).date() - timedelta(days=1)
    while day <= _wall(zone, until).date():
        shown = datetime.combine(day, datetime.min.time()) + time_us * _US
        for fold in (0, 1):
            yield instant(shown.replace(tzinfo=ZoneInfo(zone), fold=fold))
        day += timedelta(days=1)


def _seams(zone: str, after: int, until: int) -> list[int]:
    """When the clock on the wall is set forward or back."""
    return [seam for hour in range(after // HOUR, until // HOUR + 1) for seam in _seam(zone, hour)]


@cache
def _seam(zone: str, hour: int) -> tuple[int, ...]:
    low, high = hour * HOUR, (hour + 1) * HOUR
    before = _wall(zone, low).utcoffset()
    if _wall(zone, high).utcoffset() == before:
        return ()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _wall(zone, middle).utcoffset() == before else (low, middle)
    return (high,)

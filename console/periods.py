"""Instants and periods as the forms of a page give them: local time of the site, without an offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from alerts.refusals import Invalid
from devices.instants import DAY, MAX_INSTANT, MIN_INSTANT, MINUTE, from_datetime, to_datetime

DAYS = (1, 7, 30, 90)
_LONGEST = 40


@dataclass(frozen=True, slots=True)
class Period:
    """[start, end); `days` of a choice such as the last 7 days, 0 where both ends were given."""

    start: int
    end: int
    days: int
    start_text: str
    end_text: str
    choices: Sequence[int] = DAYS


def instant_of(text: str, zone: ZoneInfo) -> int | None:
    """None for nothing given. Raises Invalid for what is no instant."""
    text = text.strip()
    if not text:
        return None
    try:
        if len(text) > _LONGEST:
            raise ValueError(text)
        given = datetime.fromisoformat(text)
        at = from_datetime(given if given.tzinfo is not None else given.replace(tzinfo=zone))
        if not MIN_INSTANT <= at <= MAX_INSTANT:
            raise ValueError(text)
    except (ValueError, OverflowError) as error:
        raise Invalid("bad_instant", "时间格式不对", "this is no time") from error
    return at


def text_of(at: int, zone: ZoneInfo) -> str:
    """As an input of type datetime-local takes it, to the minute."""
    return to_datetime(at).astimezone(zone).strftime("%Y-%m-%dT%H:%M")


def period_of(now: int, zone: ZoneInfo, *, days: int, start: str, end: str) -> Period:
    """Both ends where one is given (the other is now, or a day before), else the last so many days. Raises Invalid."""
    first, last = instant_of(start, zone), instant_of(end, zone)
    if first is None and last is None:
        days = days if days in DAYS else DAYS[1]
        # To the end of this minute: what has just happened belongs to it.
        last = (now // MINUTE + 1) * MINUTE
        first = last - days * DAY
        return Period(first, last, days, text_of(first, zone), text_of(last, zone))
    last = now if last is None else last
    first = max(0, last - DAY) if first is None else first
    if first >= last:
        raise Invalid("empty_span", "开始时间须早于结束时间", "the span must begin before it ends")
    return Period(first, last, 0, text_of(first, zone), text_of(last, zone))

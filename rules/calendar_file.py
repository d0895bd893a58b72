"""calendar.yaml: holidays and worked weekends of each year as the State Council announces them, and flood season."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from devices.documents import Document, DocumentError, Mistake, Model, Path, check, parse
from rules.calendar import Calendar, MonthDay

_DAYS = re.compile(r"(\d{4}-\d\d-\d\d)(?:\s*\.\.\s*(\d{4}-\d\d-\d\d))?")
_MONTH_DAY = re.compile(r"(\d\d)-(\d\d)")
_LONGEST = 31


def _days(value: Any) -> tuple[date, date]:
    found = _DAYS.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"expected a date such as 2026-01-04 or 2026-01-01..2026-01-03, found {value!r}")
    first, last = (_date(text) for text in (found[1], found[2] or found[1]))
    if not timedelta() <= last - first < timedelta(days=_LONGEST):
        raise ValueError(f"{value}: the second date must be the later, within {_LONGEST} days")
    return first, last


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"there is no day {text}") from error


def _month_day(value: Any) -> MonthDay:
    found = _MONTH_DAY.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"expected month and day such as 05-01, found {value!r}")
    _date(f"2000-{value}")
    return int(found[1]), int(found[2])


Days = Annotated[tuple[date, date], BeforeValidator(_days)]
Ends = Annotated[tuple[int, int], BeforeValidator(_month_day)]


class _Year(Model):
    holidays: list[Days] = Field(default_factory=list)
    workdays: list[Days] = Field(default_factory=list)


class _Season(Model):
    first: Ends = Field(alias="from")
    last: Ends = Field(alias="to")


class CalendarFile(Model):
    years: dict[Annotated[int, Field(strict=True, ge=1970, le=9998)], _Year] = Field(default_factory=dict)
    flood_season: _Season | None = None


def read_calendar(text: str, file: str) -> Calendar:
    """Raises DocumentError with every mistake: what is no date, a date far from its year, a workday that is no
    weekend, a day that is both."""
    document = parse(text, file)
    read = check(document, CalendarFile)
    mistakes = list(_cross_check(read, document))
    if mistakes:
        raise DocumentError(mistakes)
    season = read.flood_season
    return Calendar(
        frozenset(day for year in read.years.values() for span in year.holidays for day in _each(span)),
        frozenset(day for year in read.years.values() for span in year.workdays for day in _each(span)),
        frozenset(read.years),
        None if season is None else (season.first, season.last),
    )


def _cross_check(read: CalendarFile, document: Document) -> Iterator[Mistake]:
    off = {day for year in read.years.values() for span in year.holidays for day in _each(span)}
    for number, year in read.years.items():
        for key, spans in (("holidays", year.holidays), ("workdays", year.workdays)):
            for index, span in enumerate(spans):
                path: Path = ("years", number, key, index)
                for day in _each(span):
                    if not date(number - 1, 12, 1) <= day <= date(number + 1, 1, 31):
                        yield document.mistake(path, f"{day} does not belong to {number}")
                    elif key == "workdays" and day in off:
                        yield document.mistake(path, f"{day} is a holiday as well")
                    elif key == "workdays" and day.weekday() < 5:
                        yield document.mistake(path, f"{day} is no weekend: it is worked anyway")


def _each(span: tuple[date, date]) -> Iterator[date]:
    for number in range((span[1] - span[0]).days + 1):
        yield span[0] + timedelta(days=number)

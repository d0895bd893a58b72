"""The site's time as the clock on its wall shows it, and the calendar as the State Council announces it."""

from __future__ import annotations

import re
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.batch import I64
from devices.documents import DocumentError
from devices.instants import DAY, HOUR, MINUTE, from_iso, to_datetime, to_iso
from rules.calendar import EMPTY, Calendar, Site
from rules.calendar_file import read_calendar
from rules.outcome import FAR, NEVER

TOWN = read_calendar(Path("examples/qidu/calendar.yaml").read_text(), "calendar.yaml")
ZONES = ["Asia/Shanghai", "Europe/London", "America/New_York", "Asia/Kolkata", "Africa/Cairo", "Australia/Lord_Howe"]
# What the notices of the State Council say, counted by hand: public holidays that would be working days, and the
# weekends worked for them; the difference is the thirteen statutory days of each year.
WEEKDAYS_OFF = {2025: 18, 2026: 19}
WEEKENDS_WORKED = {2025: 5, 2026: 6}


def instants(*texts: str) -> I64:
    return np.array([from_iso(text) for text in texts], np.int64)


def texts(at: I64) -> list[str]:
    return ["never" if t == FAR else to_iso(t) for t in at.tolist()]


def on_the_wall(at: int, zone: str) -> datetime:
    return to_datetime(at).astimezone(ZoneInfo(zone))


@pytest.mark.parametrize(
    ("day", "off"),
    [
        ("2026-01-01", True),  # 元旦, a Thursday
        ("2026-01-04", False),  # a Sunday worked for it
        ("2026-02-14", False),  # a Saturday worked for the Spring Festival
        ("2026-02-23", True),
        ("2026-02-24", False),
        ("2026-06-06", True),  # a plain Saturday
        ("2025-10-08", True),
        ("2025-10-11", False),
        ("2024-10-01", False),  # 2024 is not in the file: a Tuesday is a Tuesday
        ("2024-09-29", True),  # and a Sunday a Sunday, though it was worked
    ],
)
def test_a_day_is_off_as_the_calendar_says_and_without_it_at_weekends(day: str, off: bool) -> None:
    at = instants(f"{day}T00:00:00+08:00", f"{day}T23:59:59.999999+08:00")
    assert Site(calendar=TOWN).holiday(at).tolist() == [off, off]


@pytest.mark.parametrize("year", [2025, 2026])
def test_the_shipped_years_have_as_many_days_off_as_announced(year: int) -> None:
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(365)]
    off = Site(calendar=TOWN).holiday(instants(*[f"{day}T12:00:00+08:00" for day in days]))
    weekend = np.array([day.weekday() >= 5 for day in days])
    assert ((off & ~weekend).sum(), (weekend & ~off).sum()) == (WEEKDAYS_OFF[year], WEEKENDS_WORKED[year])


def test_years_without_data_are_named() -> None:
    first, last = instants("2024-12-31T16:00:00Z", "2027-03-01T00:00:00Z").tolist()
    assert Site(calendar=TOWN).missing_years(first, last) == (2027,)
    assert Site(calendar=TOWN).missing_years(first - 1, last) == (2024, 2027)
    assert Site().missing_years(last, last) == (2027,)


def test_flood_season_has_both_its_days() -> None:
    at = instants("2026-04-30T15:59:59Z", "2026-04-30T16:00:00Z", "2026-09-30T15:59:59Z", "2026-09-30T16:00:00Z")
    site = Site(calendar=TOWN)
    assert site.flood_season(at).tolist() == [False, True, True, False]
    assert texts(site.next_flood_season(at)) == [
        "2026-04-30T16:00:00Z", "2026-09-30T16:00:00Z", "2026-09-30T16:00:00Z", "2027-04-30T16:00:00Z",
    ]  # fmt: skip


def test_a_season_may_lie_over_the_new_year_or_be_absent() -> None:
    at = instants("2026-01-15T00:00:00Z", "2026-03-15T00:00:00Z", "2026-11-15T00:00:00Z")
    winter = Site(calendar=Calendar(flood_season=((11, 1), (2, 29))))
    assert winter.flood_season(at).tolist() == [True, False, True]
    assert texts(winter.next_flood_season(at)) == [
        "2026-02-28T16:00:00Z", "2026-10-31T16:00:00Z", "2027-02-28T16:00:00Z",
    ]  # fmt: skip
    assert not Site().flood_season(at).any()
    assert texts(Site().next_flood_season(at)) == ["never"] * 3


def test_a_leap_day_season_is_found_eight_years_on() -> None:
    site = Site("UTC", Calendar(flood_season=((2, 29), (2, 29))))
    assert texts(site.next_flood_season(instants("2096-03-01T00:00:00Z"))) == ["2104-02-29T00:00:00Z"]


def test_the_night_is_between_ten_and_six() -> None:
    site, night = Site(), (22 * HOUR, 6 * HOUR)
    at = instants("2025-11-21T21:59:59+08:00", "2025-11-21T22:00:00+08:00", "2025-11-22T05:59:59+08:00",
                  "2025-11-22T06:00:00+08:00")  # fmt: skip
    assert site.between(at, *night).tolist() == [False, True, True, False]
    assert texts(site.next_between(at, *night)) == [
        "2025-11-21T14:00:00Z", "2025-11-21T22:00:00Z", "2025-11-21T22:00:00Z", "2025-11-22T14:00:00Z",
    ]  # fmt: skip


def test_from_an_hour_to_itself_is_the_whole_day() -> None:
    at = instants("2025-11-21T00:00:00Z")
    assert Site().between(at, HOUR, HOUR).all()
    assert texts(Site().next_between(at, HOUR, HOUR)) == ["never"]


def test_in_spring_an_hour_is_skipped_and_what_lies_in_it_begins_when_the_clock_jumps() -> None:
    site, at = Site("Europe/London"), instants("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z")
    assert (site.time_of_day(at) // MINUTE).tolist() == [59, 120]
    assert site.between(at, 90 * MINUTE, 150 * MINUTE).tolist() == [False, True]
    assert texts(site.next_between(at, 90 * MINUTE, 150 * MINUTE)) == ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]


def test_in_autumn_an_hour_comes_twice_and_so_does_what_lies_in_it() -> None:
    site, at = Site("Europe/London"), instants("2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z")
    assert site.between(at, 90 * MINUTE, 150 * MINUTE).tolist() == [False, True, False]
    assert texts(site.next_between(at, 90 * MINUTE, 150 * MINUTE)) == [
        "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z",
    ]  # fmt: skip


def test_where_midnight_is_skipped_the_day_begins_with_its_first_instant() -> None:
    at = instants("2024-04-25T12:00:00Z")
    assert texts(Site("Africa/Cairo").next_midnight(at)) == ["2024-04-25T22:00:00Z"]
    assert on_the_wall(from_iso("2024-04-25T22:00:00Z"), "Africa/Cairo").hour == 1


def test_the_next_day_off_is_found_over_a_worked_weekend() -> None:
    at = instants("2026-02-13T12:00:00+08:00", "2026-02-15T00:00:00+08:00", "2026-12-31T12:00:00+08:00")
    assert texts(Site(calendar=TOWN).next_holiday(at)) == [
        "2026-02-14T16:00:00Z", "2026-02-23T16:00:00Z", "2027-01-01T16:00:00Z",
    ]  # fmt: skip


def test_the_next_weekday_of_every_or_no_day_never_comes() -> None:
    at = instants("2026-02-13T12:00:00+08:00")
    assert texts(Site().next_weekday(at, frozenset(range(7)))) == ["never"]
    assert texts(Site().next_weekday(at, frozenset())) == ["never"]
    assert texts(Site().next_weekday(at, frozenset({4}))) == ["2026-02-13T16:00:00Z"]


@given(
    st.sampled_from(ZONES),
    st.lists(st.integers(from_iso("1975-01-01T00:00:00Z"), from_iso("2036-01-01T00:00:00Z")), max_size=30),
)
def test_the_clock_on_the_wall_is_that_of_the_zone(zone: str, at: list[int]) -> None:
    site, columns = Site(zone, TOWN), np.array(at, np.int64)
    wall = [on_the_wall(t, zone) for t in at]
    shown = [(w - datetime.combine(w.date(), datetime.min.time(), w.tzinfo)) // timedelta(microseconds=1) for w in wall]
    assert site.time_of_day(columns).tolist() == shown
    assert site.weekday(columns).tolist() == [w.weekday() for w in wall]


def changes(site: Site, zone: str, at: int, start: int, end: int) -> int:
    """Minute by minute, as a person with a clock would find it."""

    def told(t: int) -> bool:
        w = on_the_wall(t, zone)
        minute = (w.hour * 60 + w.minute) * MINUTE
        return start <= minute < end if start < end else minute >= start or minute < end

    t = at // MINUTE * MINUTE + MINUTE
    while told(t) == told(at):
        t += MINUTE
    return t


@settings(max_examples=60)
@given(st.sampled_from(ZONES), st.integers(0, 4), st.integers(-1500, 1500), st.integers(0, 1439), st.integers(0, 1439))
def test_the_next_change_of_a_schedule_is_what_a_watcher_finds(
    zone: str, season: int, minutes: int, start: int, end: int
) -> None:
    """Around the days on which clocks are put forward and back in 2024."""
    seams = ["2024-03-31T01:00:00Z", "2024-10-27T01:00:00Z", "2024-03-10T07:00:00Z", "2024-04-25T22:00:00Z",
             "2024-10-05T15:30:00Z"]  # fmt: skip
    at = from_iso(seams[season]) + minutes * MINUTE
    found = Site(zone).next_between(np.array([at, at + 1]), start * MINUTE, end * MINUTE).tolist()
    if start == end:
        assert found == [FAR, FAR]
    else:
        assert found == [changes(Site(zone), zone, t, start * MINUTE, end * MINUTE) for t in (at, at + 1)]


@settings(max_examples=40)
@given(st.sampled_from(ZONES), st.integers(from_iso("2024-11-01T00:00:00Z"), from_iso("2027-03-01T00:00:00Z")))
def test_the_next_change_of_the_days_is_the_first_midnight_that_differs(zone: str, at: int) -> None:
    site, one = Site(zone, TOWN), np.array([at], np.int64)
    days = frozenset({0, 5})
    for truth, following in (
        (site.holiday, site.next_holiday(one)),
        (lambda a: np.isin(site.weekday(a), list(days)), site.next_weekday(one, days)),
        (site.flood_season, site.next_flood_season(one)),
    ):
        midnight = one
        while bool(truth(midnight)[0]) == bool(truth(one)[0]):
            assert (
                on_the_wall(int(site.next_midnight(midnight)[0]) - 1, zone).date()
                == on_the_wall(int(midnight[0]), zone).date()
            )
            midnight = site.next_midnight(midnight)
        assert following.tolist() == midnight.tolist()


def test_instants_from_before_and_after_everything_are_no_trouble() -> None:
    at = np.array([NEVER, -1, 0, FAR], np.int64)
    site = Site("Europe/London", TOWN)
    for found in (site.time_of_day(at), site.weekday(at), site.holiday(at), site.flood_season(at)):
        assert len(found) == 4
    for after in (site.next_between(at, 0, HOUR), site.next_midnight(at), site.next_holiday(at),
                  site.next_weekday(at, frozenset({1})), site.next_flood_season(at)):  # fmt: skip
        assert (after > np.minimum(at, FAR - 1)).all()
        assert after[3] == FAR
        assert len(site.next_midnight(at[:0])) == 0


def test_a_zone_nobody_knows_is_an_error_at_once() -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        Site("Mars/Olympus")


def test_fifty_thousand_instants_of_a_day_take_milliseconds() -> None:
    """A guard against a loop over rows, fifty times what it takes on a slow machine."""
    at = from_iso("2026-03-29T00:00:00Z") + np.random.default_rng(1).integers(0, DAY, 50_000)
    site = Site("Europe/London", TOWN)
    begun = time.perf_counter()
    site.next_between(at, 22 * HOUR, 6 * HOUR)
    site.next_holiday(at)
    assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("years: {2026: {holidays: [2026-02-30]}}", "c.yaml:1:27: years.2026.holidays.0: there is no day 2026-02-30"),
        ("years: {2026: {holidays: [1 May]}}", "c.yaml:1:27: .*expected a date such as 2026-01-04"),
        ("years: {2026: {holidays: [2026-01-03..2026-01-01]}}", "the second date must be the later"),
        ("years: {2026: {holidays: [2026-01-01..2026-12-31]}}", "within 31 days"),
        ("years:\n  2026:\n    holidays: [2025-06-01]", "c.yaml:3:16: 2025-06-01 does not belong to 2026"),
        ("years: {2026: {workdays: [2026-01-05]}}", "2026-01-05 is no weekend"),
        ("years: {2026: {holidays: [2026-01-04], workdays: [2026-01-04]}}", "2026-01-04 is a holiday as well"),
        ("years: {soon: {}}", "c.yaml:1:9: .*valid integer"),
        ("years: {2026: {holiday: []}}", "c.yaml:1:16: .*not a known key"),
        ("flood_season: {from: 5-1, to: 09-30}", "c.yaml:1:16: .*month and day such as 05-01"),
        ("flood_season: {from: 13-01, to: 09-30}", "there is no day"),
        ("flood_season: {from: 05-01}", "flood_season.to: is required"),
        ("- 1", "c.yaml:1:1"),
    ],
)
def test_a_mistake_in_the_calendar_is_told_where_it_stands(text: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said if "*" in said else re.escape(said)):
        read_calendar(text, "c.yaml")


def test_a_calendar_may_hold_a_season_only_and_its_year_may_begin_in_december() -> None:
    assert read_calendar("flood_season: {from: 06-01, to: 09-30}", "c.yaml").flood_season == ((6, 1), (9, 30))
    told = read_calendar("years: {2019: {holidays: [2018-12-30..2019-01-01], workdays: [2018-12-29]}}", "c.yaml")
    assert (told.years, len(told.holidays), told.workdays) == (frozenset({2019}), 3, frozenset({date(2018, 12, 29)}))
    assert EMPTY.years == frozenset()

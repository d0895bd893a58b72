"""The site whose time rules go by: the zone of the settings or the town, and the calendar in the town's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from devices.instants import DAY
from devices.town import Town
from gridwhistle.settings import DEFAULT_ZONE
from rules.book import RuleBook
from rules.calendar import EMPTY, Calendar, Site
from rules.calendar_file import read_calendar
from rules.expression import Holiday, Mode, leaves
from rules.rule import Rule

CALENDAR = "calendar.yaml"
# Next year's holidays are announced in November; from a month before they are needed their absence is told.
_AHEAD = 31 * DAY


def read_site(zone: str | None, town: Town | None, files: Mapping[str, str]) -> Site:
    """`zone` of the settings, else the town's; `files` of the town's folder by name. Raises DocumentError."""
    return Site(zone or (town.zone if town else DEFAULT_ZONE), calendar_of(files))


def calendar_of(files: Mapping[str, str]) -> Calendar:
    """Raises DocumentError."""
    return read_calendar(files[CALENDAR], CALENDAR) if CALENDAR in files else EMPTY


def remarks(book: RuleBook, site: Site, now: int) -> Iterator[str]:
    """What the rules ask of the calendar and it does not say; Chinese first."""
    asking = [rule.id for rule in book.rules.values() if any(isinstance(leaf, Holiday) for leaf in _leaves(rule))]
    for year in site.missing_years(now, now + _AHEAD) if asking else ():
        yield (
            f"{CALENDAR} 没有 {year} 年：holiday() 在该年只认周末（规则 {_few(asking)}） "
            f"no year {year}: holiday() then knows weekends only (rules {_few(asking)})"
        )
    if site.calendar.flood_season is None and (asking := [r.id for r in book.rules.values() if _asks_season(r)]):
        yield (
            f"{CALENDAR} 没有 flood_season：规则 {_few(asking)} 所需的汛期永不成立 "
            f"no flood_season: it never is, and rules {_few(asking)} ask for it"
        )


def _asks_season(rule: Rule) -> bool:
    season = "flood_season"
    return season in rule.only_in or any(isinstance(leaf, Mode) and leaf.name == season for leaf in _leaves(rule))


def _leaves(rule: Rule) -> Iterator[object]:
    for tree in rule.trees:
        yield from leaves(tree)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")

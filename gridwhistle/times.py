"""Times as people write them on the command line, and the site's zone and now that they are meant in."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import httpx
from sqlalchemy import Engine, func, select

from devices.instants import HOUR, MAX_INSTANT, MIN_INSTANT, from_datetime, from_iso, parse_duration
from gridwhistle.clock import wall
from gridwhistle.folders import town_in
from gridwhistle.reach import ask
from gridwhistle.settings import ClockSource, Settings
from gridwhistle.site import read_site
from store.records.tables import ledger


def read_time(text: str, *, zone: ZoneInfo, now: int) -> int:
    """An instant as a person writes it: ISO 8601 with an offset, a date or a time of the site (`2025-07-01`,
    `2025-07-01T08:00`), or so long ago (`-24h`). Raises ValueError."""
    said = text.strip()
    if said.startswith("-"):
        return max(MIN_INSTANT, now - parse_duration(said[1:]))
    moment = datetime.fromisoformat(said)
    if moment.tzinfo is not None:
        return from_iso(said)
    instant = from_datetime(moment.replace(tzinfo=zone))
    if not MIN_INSTANT <= instant <= MAX_INSTANT:
        raise ValueError("before 1970 or after 9999")
    return instant


def now_of(reached: httpx.Client | Engine, source: ClockSource) -> int:
    """The rule clock's now; of a stopped installation on data time the end of the last hour of its ledger."""
    if isinstance(reached, httpx.Client):
        return from_iso(ask(reached, "GET", "/api/v1/ledger", query={"limit": "1"})["now"])
    if source is ClockSource.WALL:
        return wall()
    with reached.connect() as tx:
        last = tx.execute(select(func.max(ledger.c.hour))).scalar()
    return wall() if last is None else int(last) + HOUR


def zone_of(settings: Settings) -> ZoneInfo:
    """The site's zone. Raises DocumentError, OSError for a town that cannot be read."""
    if settings.site.zone is not None:
        return ZoneInfo(settings.site.zone)
    town = town_in(settings.town)
    return ZoneInfo(read_site(None, town, {}).zone)

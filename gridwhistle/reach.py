"""An installation for the command line: the service that runs over a data folder, or its files where none does."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from sqlalchemy import Engine, func, select

from devices.instants import HOUR, MAX_INSTANT, MIN_INSTANT, from_datetime, from_iso, parse_duration
from devices.town import read_town
from gridwhistle.clock import wall
from gridwhistle.folders import read_town_files
from gridwhistle.people import RECORDS, NotDone, running
from gridwhistle.remote_rules import ask
from gridwhistle.settings import ClockSource, Settings
from gridwhistle.site import read_site
from store.records.database import UnusableRecords, migrate, open_records
from store.records.tables import ledger

# What is asked of the whole store may take a while.
PATIENCE_S = 600.0


@contextmanager
def reach(data_dir: Path) -> Iterator[httpx.Client | Engine]:
    """A client of the running service, or the records of a stopped one, whose folder nobody else gets meanwhile.
    Raises NotDone where there is neither."""
    try:
        lock = (data_dir / "lock").open("r+")
    except OSError as error:
        raise NotDone(f"{data_dir} 中没有系统数据 no installation has its data in this folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with running(data_dir) as client:
                client.timeout = httpx.Timeout(PATIENCE_S)
                yield client
            return
        try:
            migrate(data_dir / RECORDS)
        except UnusableRecords as error:
            raise NotDone(str(error)) from error
        records = open_records(data_dir / RECORDS)
        try:
            yield records
        finally:
            records.dispose()


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
    town = None if settings.town is None else read_town(read_town_files(settings.town))
    return ZoneInfo(read_site(None, town, {}).zone)

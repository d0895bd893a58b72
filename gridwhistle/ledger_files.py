"""The ledger for the command line: through the running service, or in the files of one that has stopped or was killed.

In the files it is read as start would read it: the tables, and the journal entries that no snapshot has folded into
them. To count the stores again, entries that wait for the readings store are moved there first, as start moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
from sqlalchemy import Engine

from alerts.refusals import Invalid, Refusal
from devices.instants import DAY, to_iso
from flow.appender import Appender
from flow.ledger_book import LedgerBook, Recount, Span, ledger_as_left, recount
from flow.retention import count_deletions
from gridwhistle.clock import wall
from gridwhistle.reach import NotDone, WrongRequest, ask, reach
from store.readings import ReadingStore, StoreUnavailable
from store.records.devices import read_registry
from store.records.journal import last_number
from store.records.pages import MAX_LIMIT

Json = dict[str, Any]
READINGS = "readings.duckdb"
POLL_S = 0.1


class Books(Protocol):
    """What raises does so with NotDone."""

    reached: httpx.Client | Engine

    def page(self, *, device: str | None, start: int | None, end: int | None, cursor: str | None) -> Json:
        """As GET /ledger answers."""

    def verify(self, *, device: str | None, told: Callable[[str], None]) -> Json:
        """As POST /ledger/verify answers; `told` what it waits for."""


@contextmanager
def open_books(data_dir: Path) -> Iterator[Books]:
    """Raises NotDone where neither service nor files can be reached."""
    with reach(data_dir) as reached:
        yield OverApi(reached) if isinstance(reached, httpx.Client) else InFiles(reached, data_dir)


class OverApi:
    def __init__(self, client: httpx.Client) -> None:
        self.reached: httpx.Client | Engine = client
        self._client = client

    def page(self, *, device: str | None, start: int | None, end: int | None, cursor: str | None) -> Json:
        said = {"device": device, "cursor": cursor, "from": _iso(start), "to": _iso(end)}
        query = {name: value for name, value in said.items() if value is not None} | {"limit": str(MAX_LIMIT)}
        return ask(self._client, "GET", "/api/v1/ledger", query=query)

    def verify(self, *, device: str | None, told: Callable[[str], None]) -> Json:
        told("正在核对 counting the stores")
        query = {} if device is None else {"device": device}
        return ask(self._client, "POST", "/api/v1/ledger/verify", query=query)


class InFiles:
    def __init__(self, records: Engine, data_dir: Path) -> None:
        self.reached: httpx.Client | Engine = records
        self._records = records
        self._data_dir = data_dir
        with records.connect() as tx:
            self._registry = read_registry(tx)
            self._ledger = ledger_as_left(tx, self._registry)

    def page(self, *, device: str | None, start: int | None, end: int | None, cursor: str | None) -> Json:
        from api.ledger import device_number, ledger_page

        now = wall()
        end = now + 1 if end is None else end
        start = max(0, end - DAY) if start is None else start
        with _told():
            span = Span(start, end, device_number(self._registry, device))
            book = LedgerBook(self._records, self._ledger)
            found = ledger_page(book, self._registry, span, now, seen=True, limit=MAX_LIMIT, cursor=cursor)
        return found.model_dump(mode="json", by_alias=True)

    def verify(self, *, device: str | None, told: Callable[[str], None]) -> Json:
        from api.ledger import device_number, verified
        from store.readings.duckdb import DuckDBReadings

        with _told():
            number = device_number(self._registry, device)
            readings = DuckDBReadings(self._data_dir / READINGS)
            try:
                found = self._recount(readings, told)
            finally:
                readings.close()
        return verified(self._registry, found, number).model_dump(mode="json")

    def _recount(self, readings: ReadingStore, told: Callable[[str], None]) -> Recount:
        count_deletions(self._records, readings, self._registry, wall())
        appender = Appender(self._records, readings, self._registry)
        with self._records.connect() as tx:
            appender.start(last_number(tx))
        try:
            while (waiting := appender.lag()) and appender.trouble is None:
                told(f"{waiting} 条日志正在入库 journal entries on their way into the readings store")
                appender.drain(POLL_S)
            told("正在核对 counting the stores")
            return recount(self._records, self._ledger, readings, self._registry, appender)
        finally:
            appender.stop(10.0)


def _iso(at: int | None) -> str | None:
    return None if at is None else to_iso(at)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Refusal as error:
        kind = WrongRequest if isinstance(error, Invalid) else NotDone
        raise kind(f"{error.zh} {error.en}") from error
    except StoreUnavailable as error:
        raise NotDone(f"时序库不可用 the readings store cannot be used: {error}") from error

"""An installation without a broker, for the tests of the API and of the console: real stores and real settling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import uvicorn
from sqlalchemy import Connection

from alerts.roles import Actor, Role
from devices.documents import DocumentError
from devices.faults import ClockLimits
from devices.instants import DAY, HOUR, MINUTE
from devices.registry import DeviceStatus
from devices.town import Town
from flow import access
from flow.backing_up import Backups, Make
from flow.installation import Health, Installation, LatestValues
from flow.ledger_book import LedgerBook, Recount, recount
from flow.memory import Limits
from flow.reloading import Reloaded, wrong_rules
from flow.start import start_settler
from flow.stream import Hub
from gridwhistle.rereading import Rereader
from ingest.decoder import Decoder, UnknownDevices
from rules.book import load
from store.readings.duckdb import DuckDBReadings
from store.records.database import migrate, open_records

PASSWORD = "correct horse"
ADMIN = Actor("admin", Role.ADMIN)
T = TypeVar("T")


def make_people(path: Path, people: Mapping[str, Role], now: int) -> None:
    """A whole database in one file, in which only everyone's PASSWORD has been hashed: it takes long, so copy it."""
    migrate(path)
    records = open_records(path)
    access.ensure_admin(records, now, PASSWORD)
    for name, role in people.items():
        access.add_user(records, now, ADMIN, name=name, password=PASSWORD, role=role)
    with records.connect() as tx:
        tx.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    records.dispose()


class Installed:
    """What runs in `folder`, where the records database lies already; `now` is where all its clocks stand."""

    folder: Path
    now: int
    rules: Mapping[str, str]

    def _open(self, town: Town, *, health: Callable[[], Health], back_up: Make | None = None) -> None:
        self.records = open_records(self.folder / "records.sqlite")
        self.readings = DuckDBReadings(self.folder / "readings.duckdb")
        self.settler = start_settler(
            self.records, self.readings, book=load(self.rules), town=town,
            limits=Limits(ClockLimits(5 * MINUTE, 365 * DAY), 1 << 30, 1000), now=self.now,
        )  # fmt: skip
        memory = self.settler.memory
        self.decoder = Decoder(
            memory.registry, unknown=UnknownDevices.QUARANTINE, now=lambda: self.now,
            first_arrival=self.settler.first_arrival,
        )  # fmt: skip
        self.hub = Hub(self.records, lambda: self.now, registry=memory.registry, latest=lambda: memory.newest)
        self.installation = Installation(
            records=self.records, readings=self.readings, registry=memory.registry, now=lambda: self.now,
            wall=lambda: self.now, hub=self.hub, zone=ZoneInfo(town.zone), site_name=(town.name.zh, town.name.en),
            health=health, set_device_status=self._set_status, declare=self._declare, reload=self._reload,
            rulebook=lambda: self.settler.book,
            latest=lambda: LatestValues(memory.registry, memory.newest),
            ledger_sums=memory.ledger.running, ledger_reasons=memory.ledger.running_reasons,
            book=LedgerBook(self.records, memory.ledger), verify_ledger=self._verify, read_again=self._rereader(),
            backups=None if back_up is None else Backups(back_up, self.records, lambda: self.now),
            session_span=12 * HOUR, ask_engine=lambda look: look(self.settler.memory.engine),
        )  # fmt: skip

    def _close(self) -> None:
        self.installation.trials.close()
        if self.installation.backups is not None:
            self.installation.backups.close()
        self.settler.appender.stop(5)
        self.readings.close()
        self.records.dispose()

    async def _serve(self, server: uvicorn.Server) -> None:
        """With the hub running, until the server ends."""
        hub = asyncio.create_task(self.hub.run())
        try:
            await server.serve()
        finally:
            hub.cancel()

    def _rereader(self) -> Rereader:
        decoder = Decoder(
            self.settler.memory.registry, unknown=UnknownDevices.QUARANTINE, now=lambda: self.now,
            first_arrival=lambda _id, _digest: None,
        )  # fmt: skip
        return Rereader(
            decoder, self.settler, run=asyncio.to_thread, now=lambda: self.now, met=self.decoder.forget_routes
        )

    async def _declare(self, act: Callable[[Connection, int], T]) -> T:
        return await asyncio.to_thread(self.settler.declare, act, self.now)

    async def _reload(self, actor: Actor) -> Reloaded:
        """As the service does, with `rules` for its files."""
        actor.require("rules.reload")
        try:
            book = load(self.rules)
        except DocumentError as error:
            raise wrong_rules(error) from error
        return await asyncio.to_thread(self.settler.reload, book, self.now, actor.name)

    async def _set_status(self, device_id: str, status: DeviceStatus, actor: Actor) -> None:
        await asyncio.to_thread(self.settler.set_status, device_id, status, self.now, actor)
        self.decoder.forget_routes()

    async def _verify(self) -> Recount:
        memory = self.settler.memory
        count = partial(recount, self.records, memory.ledger, self.readings, memory.registry, self.settler.appender)
        return await asyncio.to_thread(count)

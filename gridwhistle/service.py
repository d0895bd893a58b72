"""The service: every part made, started, watched and stopped in one place.

Start is bottom up (stores, settling, link, pages), stop the other way round: leave the broker first, settle what has
arrived, save the state, then close what the pages read.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

import api.app
import console
from alerts.roles import Actor
from devices.faults import ClockLimits
from devices.instants import HOUR, SECOND
from devices.names import clock_topic
from devices.registry import DeviceStatus
from devices.town import Town
from flow.access import ensure_admin, open_local_session
from flow.backing_up import Backups
from flow.backup import Manifest, Stopping, Told, back_up, held
from flow.filling import Filler, filling_thread
from flow.installation import Installation, LatestValues
from flow.keeping import KeepingThread
from flow.ledger_book import LedgerBook, Recount, recount
from flow.memory import Limits
from flow.readings import Settler
from flow.regularly import Regularly
from flow.retention import Retention
from flow.service_alarms import INSTALLATION
from flow.start import start_settler
from flow.stream import Hub
from gridwhistle.allocator import give_back, leave_to_live
from gridwhistle.backups import source_of
from gridwhistle.broker import BrokerChild, BrokerFailed
from gridwhistle.centre import BACKLOG_S, SettlingCentre
from gridwhistle.clock import DataClock, SteadyClock, wall
from gridwhistle.commanding import Commander
from gridwhistle.folders import read_town_files, town_in
from gridwhistle.health import health
from gridwhistle.keeping import keep_of
from gridwhistle.rereading import Rereader
from gridwhistle.rule_files import RuleFiles, read_book
from gridwhistle.settings import ClockSource, Settings
from gridwhistle.site import read_site
from gridwhistle.storage import first_line
from ingest.decoder import Decoder
from ingest.flood import Flood
from ingest.link import Options
from ingest.subscriber import Address, Flush, Subscriber
from notify.channels import open_channels
from notify.worker import Worker
from rules.book import RuleBook
from rules.calendar import Site
from store.readings.duckdb import DuckDBReadings
from store.records.categories import put_categories
from store.records.database import migrate, open_records, write
from store.records.tables import occurrences

log = logging.getLogger("gridwhistle.service")

TICK_S = 1.0
SNAPSHOT_EVERY = 30  # ticks
GIVE_BACK_EVERY = 10
# How long an end waits for the readings store: what it has not taken is in the journal.
STORE_S = 2.0
T = TypeVar("T")


class Service:
    """Made by `open_service`; `url` is where the console answers, `admin_password` the one made at a first start."""

    def __init__(self, settings: Settings, broker: BrokerChild | None) -> None:
        self.settings = settings
        self.broker = broker
        self.broker_address = (broker.host, broker.port) if broker else (settings.broker.host, settings.broker.port)
        self.stopping = asyncio.Event()
        self.data_clock = DataClock() if settings.clock.source is ClockSource.DATA else None
        self.steady = SteadyClock()
        self.heard_clock: Callable[[], int] = self.data_clock.now if self.data_clock else self.steady.now
        self.url = ""
        self.admin_password: str | None = None
        self.clock_limits = ClockLimits(settings.clock.max_ahead, settings.clock.max_behind)
        self.records: Engine
        self.readings: DuckDBReadings
        self.settler: Settler
        self.centre: SettlingCentre
        self.subscriber: Subscriber
        self.decoder: Decoder
        self.hub: Hub
        self.installation: Installation
        self.filling: Regularly
        self.keeping: KeepingThread
        self.commander: Commander
        self.backups: Backups
        self.rule_files: RuleFiles
        self._outbox_wake = asyncio.Event()
        self._down_since: float | None = None
        self._jumps = 0

    def now(self) -> int:
        """The rule clock for people and pages: the wall while the data clock has not spoken."""
        return self.heard_clock() or wall()

    def build(self, stack: AsyncExitStack) -> None:
        """Open the stores and make every part; nothing talks to the network yet."""
        settings = self.settings
        # Whatever of the files is wrong is told before anything is made, the first password above all.
        book, town = read_book(settings), town_in(settings.town)
        files = read_town_files(settings.town) if settings.town else {}
        site = read_site(settings.site.zone, town, files)
        self._open_stores(stack, files)
        self._make_settling(stack, book, town, site)
        self._make_link(town)
        self._make_upkeep()
        self.rule_files = RuleFiles(settings, self.settler, self.records, town, self.centre.run, self.now)
        self.rule_files.warn(book)
        self._make_installation(town)
        stack.callback(self.installation.trials.close)

    def _open_stores(self, stack: AsyncExitStack, files: Mapping[str, str]) -> None:
        settings = self.settings
        path = settings.data_dir / "records.sqlite"
        migrate(path)
        self.records = open_records(path)
        stack.callback(self.records.dispose)
        with write(self.records) as tx:
            put_categories(tx, files.get("categories.yaml"), watch_us=settings.orders.watch)
        self.readings = DuckDBReadings(settings.data_dir / "readings.duckdb")
        stack.callback(_within, STORE_S, self.readings.close)
        password = settings.admin.password
        self.admin_password = ensure_admin(self.records, wall(), password.get_secret_value() if password else None)

    def _make_settling(self, stack: AsyncExitStack, book: RuleBook, town: Town | None, site: Site) -> None:
        settings = self.settings
        limits = Limits(self.clock_limits, settings.journal.max_mb * 1024 * 1024, settings.ingest.receive_maximum)
        self.settler = start_settler(
            self.records,
            self.readings,
            book=book,
            town=town,
            limits=limits,
            now=None if self.data_clock else self.steady.now(),
            site=site,
        )
        self.settler.wall = wall
        stack.callback(self.settler.appender.stop, STORE_S)
        memory, clock = self.settler.memory, self.data_clock
        if clock and memory.now:
            clock.set(memory.now)
        self.hub = Hub(self.records, self.now, registry=memory.registry, latest=lambda: memory.newest)
        self.centre = SettlingCentre(
            self.settler, poke=self.poke, now=self.now, told=(lambda: clock.started) if clock else (lambda: True)
        )
        self.centre.remember_standing(_standing_of_installation(self.records))

    def _make_link(self, town: Town | None) -> None:
        settings = self.settings
        self.decoder = Decoder(
            self.settler.memory.registry,
            unknown=settings.unknown_devices,
            now=self.heard_clock,
            first_arrival=self.settler.first_arrival,
            clock=self.clock_limits,
            flood=self._flood(),
        )
        self.subscriber = self._subscriber(town)
        self.commander = Commander(
            self.records, self.subscriber.publish, wall=wall, drained=lambda: self.subscriber.drained, poke=self.poke
        )

    def _make_upkeep(self) -> None:
        """What goes on beside the path of a reading, each in a thread of its own."""
        registry, appender = self.settler.memory.registry, self.settler.appender
        filler = Filler(
            self.records,
            self.readings,
            registry,
            book=lambda: self.settler.book,
            site=lambda: self.settler.memory.engine.site,
            drained=appender.drain,
        )
        self.filling = filling_thread(filler, now=self.now, found=self.poke)
        keep = keep_of(self.settings)
        retention = Retention(self.records, self.readings, registry, keep, appender.corrections.extend)
        self.keeping = KeepingThread(self.readings, retention, now=self.heard_clock, wall=wall)
        self.backups = Backups(self._back_up, self.records, wall)

    def _make_installation(self, town: Town | None) -> None:
        """What pages and API may ask and do."""
        memory, settings = self.settler.memory, self.settings
        self.installation = Installation(
            records=self.records,
            readings=self.readings,
            registry=memory.registry,
            now=self.now,
            wall=wall,
            hub=self.hub,
            zone=ZoneInfo(memory.engine.site.zone),
            site_name=(town.name.zh, town.name.en or town.name.zh) if town else ("吹哨", "Gridwhistle"),
            health=lambda: health(self.subscriber, self.centre.storage, self.settler.appender, self.records),
            set_device_status=self.set_device_status,
            declare=self.declare,
            reload=self.rule_files.reload,
            rulebook=lambda: self.settler.book,
            latest=lambda: LatestValues(memory.registry, memory.newest),
            ledger_sums=memory.ledger.running,
            session_span=settings.sessions.hours * HOUR,
            ask_engine=lambda look: self.centre.ask(lambda: look(memory.engine)),
            ledger_reasons=memory.ledger.running_reasons,
            book=LedgerBook(self.records, memory.ledger),
            verify_ledger=self.verify_ledger,
            read_again=self._rereader(),
            command_asked=self.commander.wake,
            backups=self.backups,
            site=lambda: memory.engine.site,
        )

    def _back_up(self, folder: Path, told: Told, stopping: Stopping) -> Manifest:
        """In the thread of the backup."""

        @contextmanager
        def still() -> Iterator[None]:
            with held(self.settler, self.centre.ask), self.keeping.still():
                yield

        source = source_of(self.settings, self.readings, still)
        return back_up(folder, source, told, stopping)

    def _flood(self) -> Flood | None:
        """Recorded data comes as fast as it is played."""
        ingest = self.settings.ingest
        most = None if self.data_clock else ingest.max_messages_per_s
        return None if most is None else Flood(most, ingest.burst_s)

    def _rereader(self) -> Rereader:
        decoder = Decoder(
            self.settler.memory.registry,
            unknown=self.settings.unknown_devices,
            now=self.heard_clock,
            first_arrival=lambda _id, _digest: None,
            clock=self.clock_limits,
        )
        return Rereader(decoder, self.settler, run=self.centre.run, now=self.now, met=self.decoder.forget_routes)

    def _subscriber(self, town: Town | None) -> Subscriber:
        settings = self.settings
        host, port = self.broker_address
        tls = None
        if settings.broker.tls:
            tls = ssl.create_default_context(cafile=settings.broker.ca_file)
        password = settings.broker.read_password()
        data_clock = self.data_clock
        return Subscriber(
            Address(host, port, tls),
            Options(
                settings.broker.client_id,
                settings.ingest.receive_maximum,
                settings.broker.username,
                password.encode() if password is not None else None,
                settings.broker.keep_alive_s,
            ),
            self.decoder,
            self.centre,
            now=self.heard_clock,
            flush=Flush(settings.ingest.batch_rows, settings.ingest.batch_ms / 1000),
            data_clock=data_clock.set if data_clock else None,
            clock_topic=clock_topic(town.site if town else "+") if data_clock else None,
        )

    def poke(self) -> None:
        """After a commit, from any thread: the event stream and the outbox look again."""
        self.hub.poke()
        self._loop.call_soon_threadsafe(self._outbox_wake.set)

    def app(self) -> FastAPI:
        app = api.app.create_app(self.installation)
        self.centre.settle_seconds = app.state.metrics.observe_settle
        console.attach(app, self.installation)
        return app

    async def run(self, ready: Callable[[], None]) -> None:
        """Until `stopping` is set or a part fails; `ready` is called once broker, stores and HTTP answer."""
        self._loop = asyncio.get_running_loop()
        listening = socket.create_server((self.settings.http.host, self.settings.http.port))
        host, port = listening.getsockname()[:2]
        self.url = f"http://{host}:{port}"
        server = _Server(uvicorn.Config(self.app(), log_config=None, lifespan="off", timeout_graceful_shutdown=3))
        channels = open_channels(self.settings.notify.channels, os.environ)
        worker = Worker(
            self.records, channels, wall=wall, wake=self._outbox_wake, attempts=self.settings.notify.attempts
        )
        self._write_api_file()
        thresholds = gc.get_threshold()
        leave_to_live()
        self.filling.start()
        self.keeping.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self.hub.run(), name="hub"),
                    tasks.create_task(worker.run(), name="outbox"),
                    tasks.create_task(self.commander.run(), name="commands"),
                    tasks.create_task(self._tick(), name="clock"),
                    tasks.create_task(self._announce(server, ready), name="ready"),
                ]
                serving = tasks.create_task(server.serve(sockets=[listening]), name="http")
                # Not the group's: a link that ends for good is an orderly stop, not a crash of everything else.
                link = asyncio.create_task(self.subscriber.run(), name="link")
                link.add_done_callback(lambda _: self.stopping.set())
                watching = asyncio.create_task(self._watch_broker(), name="broker")
                await self.stopping.wait()
                await self.subscriber.stop()
                link.cancel()
                watching.cancel()
                for task in background:
                    task.cancel()
                self.hub.close()
                server.should_exit = True
                await serving
        finally:
            gc.unfreeze()
            gc.set_threshold(*thresholds)
            await asyncio.to_thread(self.backups.close)
            await asyncio.to_thread(self.filling.stop, 10.0)
            await asyncio.to_thread(self.keeping.stop, 5.0)
            await self.centre.stop()
            (self.settings.data_dir / "api.json").unlink(missing_ok=True)
        with contextlib.suppress(asyncio.CancelledError):
            await link
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    async def _watch_broker(self) -> None:
        """The embedded broker is ours: without it there is nothing to serve, and whoever watches us shall know."""
        if self.broker is not None:
            status = await self.broker.ended()
            self.stopping.set()
            raise BrokerFailed(f"自带的消息服务器已退出 the embedded broker ended (status {status})")

    async def _announce(self, server: uvicorn.Server, ready: Callable[[], None]) -> None:
        while not (server.started and self.subscriber.drained):
            if self.stopping.is_set():
                return
            await asyncio.sleep(0.02)
        leave_to_live()
        await asyncio.to_thread(give_back)
        ready()

    async def _tick(self) -> None:
        """Every second: what only the clock can tell; every 30 s the snapshot."""
        count = 0
        while True:
            await asyncio.sleep(TICK_S)
            count += 1
            try:
                await self._tick_once(count)
            except SQLAlchemyError as error:
                # The database is away; the subscriber has stopped acknowledging and /readyz says why.
                log.error("a tick could not be committed: %s", first_line(error))

    async def _tick_once(self, count: int) -> None:
        subscriber, loop = self.subscriber, asyncio.get_running_loop()
        if subscriber.up:
            self._down_since = None
        elif self._down_since is None:
            self._down_since = loop.time()
        await self.centre.watch_storage()
        await self.centre.watch_link(
            down_s=0.0 if self._down_since is None else loop.time() - self._down_since,
            lag_s=subscriber.lag_s,
            drained=subscriber.drained and subscriber.lag_s < BACKLOG_S,
            trouble=subscriber.trouble,
        )
        if self.data_clock is None:
            now = self.now()
            if self.steady.jumps != self._jumps:
                await self.centre.jumped(now)
                self._jumps = self.steady.jumps
            await self.centre.clock(now, heard=now - round(subscriber.unheard_s * SECOND))
        if count % SNAPSHOT_EVERY == 0:
            await self.centre.run(self.settler.snapshot)
        if count % GIVE_BACK_EVERY == 0:
            await asyncio.to_thread(give_back)

    async def set_device_status(self, device_id: str, status: DeviceStatus, actor: Actor) -> None:
        await self.centre.run(lambda: self.settler.set_status(device_id, status, self.now(), actor))
        self.decoder.forget_routes()

    async def verify_ledger(self) -> Recount:
        """Counted in the settling thread, while nothing is deleted."""
        memory, appender = self.settler.memory, self.settler.appender
        count = partial(recount, self.records, memory.ledger, self.readings, memory.registry, appender)
        return await self.centre.run(lambda: self.keeping.paused(count))

    async def declare(self, act: Callable[[Connection, int], T]) -> T:
        return await self.centre.run(lambda: self.settler.declare(act, self.now()))

    def _write_api_file(self) -> None:
        """Where the command line finds us; the token's file is readable by its owner alone."""
        folder = self.settings.data_dir
        token = folder / "api.token"
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(open_local_session(self.records, wall()))
        (folder / "api.json").write_text(json.dumps({"url": self.url, "token_file": token.name}))


def _within(seconds: float, close: Callable[[], None]) -> None:
    """What hangs does not keep the process from ending."""
    closing = threading.Thread(target=close, name="closing", daemon=True)
    closing.start()
    closing.join(seconds)


class _Server(uvicorn.Server):
    """Signals are the service's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _standing_of_installation(records: Engine) -> dict[str, int]:
    query = select(occurrences.c.rule, occurrences.c.raised_at)
    with contextlib.closing(records.connect()) as tx:
        found = tx.execute(query.where(occurrences.c.device == INSTALLATION, occurrences.c.cleared_at.is_(None)))
        return {row.rule: row.raised_at for row in found}

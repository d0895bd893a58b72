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
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import uvicorn
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

import api.app
import console
from alerts.refusals import Conflict, WrongDocument
from alerts.roles import SERVICE, Actor
from devices.documents import DocumentError, Mistake
from devices.faults import ClockLimits
from devices.instants import HOUR, SECOND
from devices.names import clock_topic
from devices.registry import DeviceStatus
from devices.town import Town, read_town
from flow.access import ensure_admin, open_local_session
from flow.backing_up import Backups
from flow.backup import Manifest, Stopping, Told, back_up, held
from flow.filling import Filler, FillingThread
from flow.installation import Health, Installation, LatestValues
from flow.keeping import KeepingThread
from flow.ledger_book import LedgerBook, recount
from flow.memory import Limits
from flow.readings import Settler
from flow.reloading import Reloaded, wrong_rules
from flow.retention import Retention
from flow.service_alarms import INSTALLATION
from flow.start import start_settler
from flow.stream import Hub
from gridwhistle.across import warnings
from gridwhistle.allocator import give_back
from gridwhistle.backups import source_of
from gridwhistle.broker import BrokerChild, BrokerFailed
from gridwhistle.centre import BACKLOG_S, SettlingCentre
from gridwhistle.clock import DataClock, SteadyClock, wall
from gridwhistle.commanding import Commander
from gridwhistle.data_folder import Locked, data_folder
from gridwhistle.folders import read_rule_files, read_town_files
from gridwhistle.keeping import keep_of
from gridwhistle.rereading import Rereader
from gridwhistle.settings import ClockSource, Settings
from gridwhistle.site import calendar_of, read_site, remarks
from gridwhistle.storage import first_line
from ingest.decoder import Decoder
from ingest.flood import Flood
from ingest.link import Options
from ingest.subscriber import Address, Flush, SessionTaken, Subscriber
from notify.channels import open_channels
from notify.worker import Worker
from rules.book import RuleBook, load
from rules.calendar import EMPTY, Calendar
from store.readings import StoreUnavailable
from store.readings.duckdb import DuckDBReadings
from store.records.categories import catalogue, put_categories
from store.records.database import UnusableRecords, migrate, open_records, write
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
        self.records: Engine
        self.settler: Settler
        self.centre: SettlingCentre
        self.subscriber: Subscriber
        self.decoder: Decoder
        self.hub: Hub
        self.installation: Installation
        self.filling: FillingThread
        self.keeping: KeepingThread
        self.commander: Commander
        self.backups: Backups
        self._town: Town | None = None
        self._outbox_wake = asyncio.Event()
        self._down_since: float | None = None
        self._jumps = 0

    def now(self) -> int:
        """The rule clock for people and pages: the wall while the data clock has not spoken."""
        return self.heard_clock() or wall()

    def build(self, stack: AsyncExitStack) -> None:
        """Open the stores and make every part; nothing talks to the network yet."""
        settings = self.settings
        book, town = read_book(settings), read_the_town(settings)
        files = read_town_files(settings.town) if settings.town else {}
        site = read_site(settings.site.zone, town, files)
        path = settings.data_dir / "records.sqlite"
        migrate(path)
        self.records = open_records(path)
        stack.callback(self.records.dispose)
        with write(self.records) as tx:
            put_categories(tx, files.get("categories.yaml"), watch_us=settings.orders.watch)
        readings = DuckDBReadings(settings.data_dir / "readings.duckdb")
        stack.callback(_within, STORE_S, readings.close)
        password = settings.admin.password
        self.admin_password = ensure_admin(self.records, wall(), password.get_secret_value() if password else None)
        limits = Limits(
            ClockLimits(settings.clock.max_ahead, settings.clock.max_behind),
            settings.journal.max_mb * 1024 * 1024,
            settings.ingest.receive_maximum,
        )
        now = None if self.data_clock else self.steady.now()
        self.settler = start_settler(self.records, readings, book=book, town=town, limits=limits, now=now, site=site)
        self.settler.wall = wall
        memory = self.settler.memory
        if self.data_clock and memory.now:
            self.data_clock.set(memory.now)
        stack.callback(self.settler.appender.stop, STORE_S)
        self.hub = Hub(self.records, self.now, registry=memory.registry, latest=lambda: memory.newest)
        clock = self.data_clock
        self.centre = SettlingCentre(
            self.settler, poke=self.poke, now=self.now, told=(lambda: clock.started) if clock else (lambda: True)
        )
        self.centre.remember_standing(_standing_of_installation(self.records))
        self.decoder = Decoder(
            memory.registry,
            unknown=settings.unknown_devices,
            now=self.heard_clock,
            first_arrival=self.settler.first_arrival,
            clock=limits.clock,
            flood=self._flood(),
        )
        self.subscriber = self._subscriber(town)
        for remark in remarks(book, site, self.now()):
            log.warning("%s", remark)
        self.commander = Commander(
            self.records, self.subscriber.publish, wall=wall, drained=lambda: self.subscriber.drained, poke=self.poke
        )
        self.backups = Backups(self._back_up, self.records, wall)
        self._town = town
        self._warn(book)
        self.installation = Installation(
            records=self.records,
            readings=readings,
            registry=memory.registry,
            now=self.now,
            wall=wall,
            hub=self.hub,
            zone=ZoneInfo(site.zone),
            site_name=(town.name.zh, town.name.en or town.name.zh) if town else ("吹哨", "Gridwhistle"),
            health=self.health,
            set_device_status=self.set_device_status,
            declare=self.declare,
            reload=self.reload,
            rulebook=lambda: self.settler.book,
            latest=lambda: LatestValues(memory.registry, memory.newest),
            ledger_sums=memory.ledger.running,
            session_span=settings.sessions.hours * HOUR,
            ask_engine=lambda look: self.centre.ask(lambda: look(memory.engine)),
            ledger_reasons=memory.ledger.running_reasons,
            book=LedgerBook(self.records, memory.ledger),
            verify_ledger=lambda: self.centre.run(
                lambda: self.keeping.paused(
                    lambda: recount(self.records, memory.ledger, readings, memory.registry, self.settler.appender)
                )
            ),
            read_again=self._rereader(limits.clock),
            command_asked=self.commander.wake,
            backups=self.backups,
            site=lambda: memory.engine.site,
        )
        stack.callback(self.installation.trials.close)
        filler = Filler(
            self.records, readings, memory.registry, lambda: self.settler.book, lambda: memory.engine.site,
            self.settler.appender.drain,
        )  # fmt: skip
        self.filling = FillingThread(filler, now=self.now, found=self.poke)
        retention = Retention(
            self.records, readings, memory.registry, keep_of(settings), self.settler.appender.corrections.extend
        )
        self.keeping = KeepingThread(readings, retention, now=self.heard_clock, wall=wall)

    def _back_up(self, folder: Path, told: Told, stopping: Stopping) -> Manifest:
        """In the thread of the backup."""

        @contextmanager
        def still() -> Iterator[None]:
            with held(self.settler, self.centre.ask), self.keeping.still():
                yield

        source = source_of(self.settings, self.installation.readings, still)
        return back_up(folder, source, told, stopping)

    def _flood(self) -> Flood | None:
        """Recorded data comes as fast as it is played."""
        ingest = self.settings.ingest
        most = None if self.data_clock else ingest.max_messages_per_s
        return None if most is None else Flood(most, ingest.burst_s)

    def _rereader(self, clock: ClockLimits) -> Rereader:
        decoder = Decoder(
            self.settler.memory.registry,
            unknown=self.settings.unknown_devices,
            now=self.heard_clock,
            first_arrival=lambda _id, _digest: None,
            clock=clock,
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
        # Start-up made a few hundred thousand objects that live for ever: the collector need not walk them again.
        gc.collect()
        gc.freeze()
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

    async def declare(self, act: Callable[[Connection, int], T]) -> T:
        return await self.centre.run(lambda: self.settler.declare(act, self.now()))

    async def reload(self, actor: Actor) -> Reloaded:
        """The rule files as they are now, all or none. Raises NotAllowed, WrongDocument, Conflict."""
        actor.require("rules.reload")
        return await self._take_rules(actor.name)

    async def _take_rules(self, by: str) -> Reloaded:
        try:
            book = await asyncio.to_thread(read_book, self.settings)
            calendar = await asyncio.to_thread(self._read_calendar)
        except DocumentError as error:
            raise wrong_rules(error) from error
        except OSError as error:
            zh, en = f"规则文件无法读取：{error}", f"the rule files cannot be read: {error}"
            raise Conflict("rules_unreadable", zh, en) from error
        site = replace(self.installation.site(), calendar=calendar)
        changed = await self.centre.run(lambda: self.settler.reload(book, self.now(), by, site))
        log.info("rules reloaded: %d, of which afresh: %s", len(book.rules), ", ".join(changed.afresh) or "none")
        for remark in remarks(book, site, self.now()):
            log.warning("%s", remark)
        return replace(changed, warnings=await asyncio.to_thread(self._warn, book))

    def _read_calendar(self) -> Calendar:
        """Raises DocumentError, OSError."""
        return calendar_of(read_town_files(self.settings.town)) if self.settings.town else EMPTY

    def _warn(self, book: RuleBook) -> tuple[Mistake, ...]:
        """Logged: what is wrong between these rules and the town that runs."""
        with self.records.connect() as tx:
            found = warnings(book, self._town, catalogue(tx))
        for warning in found:
            log.warning("%s", warning)
        return found

    def health(self) -> Health:
        subscriber, storage = self.subscriber, self.centre.storage
        sql, store = storage.sql_trouble(), storage.store_trouble()
        lag, linked = self.settler.appender.lag(), subscriber.up and (sql is not None or not subscriber.trouble)
        return {
            "broker": {
                "ok": linked,
                "detail": "connected" if linked else subscriber.trouble,
                "lag_s": round(subscriber.lag_s, 3),
            },
            "sql": self._sql_health() if sql is None else {"ok": False, "detail": sql},
            "store": {"ok": store is None, "detail": store or "appending"},
            "journal": {"ok": lag < FAR_BEHIND, "detail": f"{lag} entries wait for the store", "lag_entries": lag},
        }

    def _sql_health(self) -> dict[str, object]:
        try:
            with self.records.connect() as tx:
                tx.execute(select(1))
        except SQLAlchemyError as error:
            return {"ok": False, "detail": first_line(error)}
        return {"ok": True, "detail": "answers"}

    def reload_rules(self) -> None:
        """SIGHUP: take the rule files as they are now; a mistake in them leaves the running rules."""
        task = asyncio.ensure_future(self._take_rules(SERVICE))
        task.add_done_callback(_tell_reloaded)

    def _write_api_file(self) -> None:
        """Where the command line finds us; the token's file is readable by its owner alone."""
        folder = self.settings.data_dir
        token = folder / "api.token"
        descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(open_local_session(self.records, wall()))
        (folder / "api.json").write_text(json.dumps({"url": self.url, "token_file": token.name}))


def _tell_reloaded(done: asyncio.Future[Reloaded]) -> None:
    error = done.exception()
    if isinstance(error, WrongDocument):
        log.error("the rules were not reloaded: %s", "\n".join(map(str, error.mistakes)))
    elif error is not None:
        log.error("the rules were not reloaded", exc_info=error)


def _within(seconds: float, close: Callable[[], None]) -> None:
    """What hangs does not keep the process from ending."""
    closing = threading.Thread(target=close, name="closing", daemon=True)
    closing.start()
    closing.join(seconds)


FAR_BEHIND = 1_000


class _Server(uvicorn.Server):
    """Signals are the service's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def read_book(settings: Settings) -> RuleBook:
    """Raises DocumentError with every mistake, OSError."""
    return load(read_rule_files(settings.rules))


def read_the_town(settings: Settings) -> Town | None:
    """Raises DocumentError with every mistake, OSError."""
    return read_town(read_town_files(settings.town)) if settings.town else None


@asynccontextmanager
async def open_service(settings: Settings, *, embedded_broker: bool) -> AsyncIterator[Service]:
    """Raises Locked, DocumentError, OSError, StoreUnavailable, UnusableRecords; closes everything at the end."""
    async with AsyncExitStack() as stack:
        stack.enter_context(data_folder(settings.data_dir))
        broker = None
        if embedded_broker:
            broker = await stack.enter_async_context(BrokerChild(settings.data_dir))
            print(broker.warning or f"MQTT 服务器 broker {broker.url}", file=sys.stderr)
        service = Service(settings, broker)
        service.build(stack)
        yield service


def run(settings: Settings, *, embedded_broker: bool) -> int:
    """The service until SIGTERM or SIGINT; the exit status."""
    # While one thread decodes without pause, the settling thread waits this long for the interpreter after every
    # statement of SQL it makes; Python's own 5 ms costs a tenth of the throughput, much less would cost it in switches.
    sys.setswitchinterval(0.001)
    return asyncio.run(_run(settings, embedded_broker))


async def _run(settings: Settings, embedded_broker: bool) -> int:
    loop, status = asyncio.get_running_loop(), 0
    try:
        async with open_service(settings, embedded_broker=embedded_broker) as service:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, service.stopping.set)
            loop.add_signal_handler(signal.SIGHUP, service.reload_rules)
            if service.admin_password:
                print(f"首次启动：用户 admin，密码 {service.admin_password}（只显示这一次）", file=sys.stderr)
                print(f"First start: user admin, password {service.admin_password} (shown once)", file=sys.stderr)
            await service.run(lambda: print(f"ready {service.url}", flush=True))
    except* (Locked, DocumentError, StoreUnavailable, UnusableRecords) as errors:
        status = _say(errors, 2)
    except* (SessionTaken, BrokerFailed) as errors:
        status = _say(errors, 1)
    return status


def _say(errors: BaseExceptionGroup[BaseException], status: int) -> int:
    for error in errors.exceptions:
        print(error, file=sys.stderr)
    return status


def _standing_of_installation(records: Engine) -> dict[str, int]:
    query = select(occurrences.c.rule, occurrences.c.raised_at)
    with contextlib.closing(records.connect()) as tx:
        found = tx.execute(query.where(occurrences.c.device == INSTALLATION, occurrences.c.cleared_at.is_(None)))
        return {row.rule: row.raised_at for row in found}

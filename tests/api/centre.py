"""An installation without a broker, and people signed in to its API: everything behind the routes is real."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Connection

from alerts.roles import Actor, Role
from api.app import create_app
from devices.documents import DocumentError
from devices.faults import ClockLimits
from devices.instants import DAY, HOUR, MINUTE
from devices.registry import DeviceStatus
from devices.town import read_town
from flow import access
from flow.backing_up import Backups
from flow.backup import Manifest, Source, Stopping, Told, back_up
from flow.installation import Installation, LatestValues
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

START = 1_763_700_000_000_000  # 2025-11-21T04:40:00Z
PASSWORD = "correct horse"
T = TypeVar("T")
RULES = """
rules:
  - id: high
    name: {zh: 圩内高水位, en: Polder high}
    applies_to: {kind: pump_station}
    when: level_inside > 3.5
    clear: level_inside <= 3.3
    priority: critical
    order: {category: flood.polder_inside}
  - id: opened
    name: {zh: 老人开门, en: Door opened}
    applies_to: {kind: door_sensor}
    when: event("door_opened")
    priority: notice
  - id: tamper
    name: {zh: 门磁被拆, en: Door sensor tampered with}
    applies_to: {kind: door_sensor}
    when: tamper == true
    priority: medium
    order: {category: elder.door}
"""
TOWN = {
    "town.yaml": "site: qidu\nname: {zh: 七都, en: Qidu}\n",
    "grids.geojson": json.dumps({
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": None, "properties": p}
            for p in (
                {"id": "town", "name": "七都镇", "level": "town"},
                {"id": "east", "name": "东片", "level": "village", "parent": "town"},
                {"id": "west", "name": "西片", "level": "village", "parent": "town"},
            )
        ],
    }),
    "devices.yaml": """
devices:
  - {id: ps-1, kind: pump_station, interval: 60, name: 一号泵站, grid: east, at: [30.9, 120.4],
     attributes: {inside_limit_level: 3.5}, keeper: 王建国, keeper_phone: "13800000001"}
  - {id: ps-2, kind: pump_station, interval: 60, grid: west}
  - {id: door-1, kind: door_sensor, name: 陆阿婆家, grid: east, at: [30.91, 120.41], keeper: 周敏,
     person: 陆阿婆, person_address: 隆兴路七号, tags: [独居八旬], attributes: {floor: 2}}
  - {id: cam-1, kind: camera, grid: west}
""",
}  # fmt: skip
# What only `GET …/person` may show, and what a viewer may not see of a door.
PERSON = ("陆阿婆", "隆兴路七号", "30.91", "120.41")
PRIVATE = (*PERSON, "door-1", "独居八旬", "周敏", "door_opened")


def people(path: Path) -> Path:
    """A database in which only everyone's password has been hashed; copied for every test."""
    migrate(path)
    records = open_records(path)
    access.ensure_admin(records, START, PASSWORD)
    for name, role in PEOPLE.items():
        access.add_user(records, START, ADMIN, name=name, password=PASSWORD, role=role)
    with records.connect() as tx:
        tx.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    records.dispose()
    return path


@dataclass
class Centre:
    """`peopled` is a database of `people`; `now` is where its clocks stand; all requests share the loop of `runner`."""

    folder: Path
    peopled: Path
    now: int = START
    rules: Mapping[str, str] = field(default_factory=lambda: {"rules.yaml": RULES})
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    tokens: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)

    def start(self) -> Centre:
        shutil.copy(self.peopled, self.folder / "records.sqlite")
        self.records = open_records(self.folder / "records.sqlite")
        self.readings = DuckDBReadings(self.folder / "readings.duckdb")
        self.settler = start_settler(
            self.records, self.readings, book=load(self.rules), town=read_town(TOWN),
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
            wall=lambda: self.now, hub=self.hub, zone=ZoneInfo("Asia/Shanghai"), site_name=("七都", "Qidu"),
            health=lambda: {
                part: {"ok": part not in self.failing, "detail": "x"} for part in ("broker", "sql", "store", "journal")
            },
            set_device_status=self._set_status, declare=self._declare, reload=self._reload,
            rulebook=lambda: self.settler.book,
            latest=lambda: LatestValues(memory.registry, memory.newest),
            ledger_sums=memory.ledger.running, ledger_reasons=memory.ledger.running_reasons,
            book=LedgerBook(self.records, memory.ledger), verify_ledger=self._verify,
            read_again=Rereader(
                Decoder(
                    memory.registry, unknown=UnknownDevices.QUARANTINE, now=lambda: self.now,
                    first_arrival=lambda _id, _digest: None,
                ),
                self.settler, run=asyncio.to_thread, now=lambda: self.now, met=self.decoder.forget_routes,
            ),
            backups=Backups(self._back_up, self.records, lambda: self.now),
            session_span=12 * HOUR, ask_engine=lambda look: look(self.settler.memory.engine),
        )  # fmt: skip
        self.app: FastAPI = create_app(self.installation)
        return self

    def stop(self) -> None:
        self.runner.close()
        self.installation.trials.close()
        assert self.installation.backups is not None
        self.installation.backups.close()
        self.settler.appender.stop(5)
        self.readings.close()
        self.records.dispose()

    def _back_up(self, folder: Path, told: Told, stopping: Stopping) -> Manifest:
        source = Source(self.folder, self.readings, nullcontext, dict, "1", lambda: self.now)
        return back_up(folder, source, told, stopping)

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

    def send(self, device: str, body: Any, *, channel: str = "readings", kind: str = "pump_station") -> None:
        """One message, settled at once and in the readings store when this returns."""
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.decoder.feed(f"gw/v1/qidu/{kind}/{device}/{channel}".encode(), payload, 0x30, 0)
        batch, _ = self.decoder.builder.take()
        self.settler.settle(batch, self.now)
        self.settler.appender.drain(5)

    def level(self, value: float, device: str = "ps-1", *, after: int = MINUTE) -> int:
        """The level of a station, a minute after the last; the instant."""
        self.now += after
        self.send(device, {"at": self.now // 1000, "level_inside": value})
        return self.now

    def door_opens(self) -> None:
        self.now += MINUTE
        event = {"at": self.now // 1000, "event": "door_opened"}
        self.send("door-1", event, channel="events", kind="door_sensor")

    def ask(self, method: str, path: str, *, token: str | None = None, **how: Any) -> httpx.Response:
        headers = dict(how.pop("headers", {})) | ({"Authorization": f"Bearer {token}"} if token else {})
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)

        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://centre") as client:
                return await client.request(method, path, headers=headers, **how)

        return self.runner.run(go())

    def token(self, name: str) -> str:
        """`name` is a user of PEOPLE, admin, or wall."""
        if name not in self.tokens:
            made = (
                access.make_wall_token(self.records, self.now, ADMIN, label="大厅")
                if name == "wall"
                else access.sign_in(self.records, self.now, name, PASSWORD, "api")
            )
            self.tokens[name] = made.token
        return self.tokens[name]

    def get(self, name: str, path: str, **query: Any) -> Any:
        answer = self.ask("GET", f"/api/v1{path}", token=self.token(name), params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, name: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = self.ask("POST", f"/api/v1{path}", token=self.token(name), json=body)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    @contextmanager
    def served(self) -> Iterator[str]:
        """Over real HTTP on a free port, with the hub running."""
        server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_config=None, lifespan="off"))

        async def serve() -> None:
            hub = asyncio.create_task(self.hub.run())
            try:
                await server.serve()
            finally:
                hub.cancel()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = server.force_exit = True
            self.hub.close()
            thread.join(10)


ADMIN = Actor("admin", Role.ADMIN)
PEOPLE = {
    "viewer": Role.VIEWER,
    "handler": Role.HANDLER,
    "handler2": Role.HANDLER,
    "checker": Role.CHECKER,
    "officer": Role.DUTY_OFFICER,
}

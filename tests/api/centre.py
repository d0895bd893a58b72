"""An installation without a broker, and people signed in to its API: everything behind the routes is real."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from alerts.roles import Role
from api.app import create_app
from devices.instants import MINUTE
from devices.town import read_town
from flow import access
from flow.backup import Manifest, Source, Stopping, Told, back_up
from tests.installed import ADMIN, PASSWORD, Installed, make_people

START = 1_763_700_000_000_000  # 2025-11-21T04:40:00Z
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
    make_people(path, PEOPLE, START)
    return path


@dataclass
class Centre(Installed):
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
        self._open(
            read_town(TOWN),
            health=lambda: {
                part: {"ok": part not in self.failing, "detail": "x"} for part in ("broker", "sql", "store", "journal")
            },
            back_up=self._back_up,
        )
        self.app: FastAPI = create_app(self.installation)
        return self

    def stop(self) -> None:
        self.runner.close()
        self._close()

    def _back_up(self, folder: Path, told: Told, stopping: Stopping) -> Manifest:
        source = Source(self.folder, self.readings, nullcontext, dict, "1", lambda: self.now)
        return back_up(folder, source, told, stopping)

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

        thread = threading.Thread(target=lambda: asyncio.run(self._serve(server)), daemon=True)
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


PEOPLE = {
    "viewer": Role.VIEWER,
    "handler": Role.HANDLER,
    "handler2": Role.HANDLER,
    "checker": Role.CHECKER,
    "officer": Role.DUTY_OFFICER,
}

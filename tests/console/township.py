"""A running installation without a broker: a small town, real stores, real settling, the console over real HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from fastapi import FastAPI

import console
from alerts.roles import Role
from devices.instants import DAY, MINUTE
from devices.town import read_town
from tests.installed import Installed, make_people

START = 1_782_853_200_000_000  # 2026-06-30T21:00Z, 05:00 in Shanghai
PEOPLE = {"wang": Role.DUTY_OFFICER, "li": Role.HANDLER, "chen": Role.CHECKER, "guest": Role.VIEWER}

RULES = """
rules:
  - id: polder-inside-high
    name: {zh: 圩内水位超最高控制水位, en: Polder level above its limit}
    applies_to: {kind: pump_station}
    when: level_inside > attr.inside_limit_level
    for: 1m
    clear: level_inside <= attr.inside_limit_level - 0.20
    priority: critical
    order: {category: flood.polder_inside}
  - id: mains-lost
    name: {zh: 泵站失电, en: Pump station without mains}
    applies_to: {kind: pump_station}
    when: mains_ok == false
    priority: high
  - id: pm25-high
    name: {zh: PM2.5持续偏高, en: PM2.5 high}
    applies_to: {kind: air_monitor}
    when: pm2_5 > 115
    priority: medium
  - id: door-opened
    name: {zh: 老人开门, en: Elder's door opened}
    applies_to: {kind: door_sensor}
    when: event("door_opened")
    priority: notice
  - id: door-tamper
    name: {zh: 门磁被拆, en: Door sensor tampered with}
    applies_to: {kind: door_sensor}
    when: tamper == true
    priority: medium
    order: {category: elder.door}
  - id: intruders
    name: {zh: 禁区有人闯入, en: Persons in a no-go zone}
    applies_to: {kind: camera}
    when: count(event("person_detected"), 10m) >= 3
    priority: high
"""

EVIL = '<img src=x onerror="document.title=1">'
ATTRIBUTES = (
    "{drain_start_level: 3.20, drain_stop_level: 2.95, inside_limit_level: 3.50, outside_warning_level: 3.80, "
    "dyke_level: 5.20, datum: 吴淞}"
)


def _square(x: float, y: float, side: float = 0.02) -> dict[str, Any]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {"type": "Polygon", "coordinates": [ring]}


GRIDS = (
    ({"id": "town", "name": "七都镇", "level": "镇"}, _square(120.40, 30.90, 0.05)),
    ({"id": "east", "name": "东片", "level": "村", "parent": "town"}, _square(120.42, 30.90)),
    ({"id": "west", "name": "西片", "level": "村", "parent": "town"}, _square(120.40, 30.90)),
    ({"id": "north", "name": "北片", "level": "村", "parent": "town"}, _square(120.40, 30.92)),
)
DEVICES = f"""
devices:
  - {{id: ps-1, kind: pump_station, name: 一号泵站, grid: east, at: [30.91, 120.43], attributes: {ATTRIBUTES},
     keeper: 沈建国, keeper_phone: 138-0000-2101}}
  - {{id: ps-2, kind: pump_station, name: 二号泵站, grid: west, at: [30.91, 120.41], attributes: {ATTRIBUTES},
     keeper: 徐志明, keeper_phone: 138-0000-2175}}
  - {{id: ps-3, kind: pump_station, name: '{EVIL}', grid: north, at: [30.93, 120.41], attributes: {ATTRIBUTES}}}
  - {{id: air-1, kind: air_monitor, name: 镇政府, grid: east, at: [30.905, 120.425]}}
  - {{id: cam-1, kind: camera, name: 圩堤卡口, grid: west, at: [30.915, 120.405]}}
  - {{id: door-1, kind: door_sensor, name: 陆阿婆家, grid: east, at: [30.9123, 120.4321], keeper: 周敏,
     keeper_phone: 138-0000-3001, person: 陆阿婆, person_address: 隆兴路七号, tags: [独居八旬]}}
  - {{id: door-2, kind: door_sensor, name: 钱老伯家, grid: east, person: 钱老伯, person_address: 震泽弄三号}}
"""
TOWN = {
    "town.yaml": "site: qidu\nname: {zh: 七都镇集成指挥中心, en: Qidu command centre}\nzone: Asia/Shanghai\n",
    "grids.geojson": json.dumps({
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": p, "geometry": g} for p, g in GRIDS],
    }),
    "devices.yaml": DEVICES,
}  # fmt: skip
# What only the page of the person may show.
PERSON = ("陆阿婆", "隆兴路", "30.9123", "120.4321", "钱老伯", "震泽弄")


@cache
def _database_with_people() -> bytes:
    """Migrated, and everybody's password hashed, once for all tests of this process."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "records.sqlite"
        make_people(path, PEOPLE, START - 2 * DAY)
        return path.read_bytes()


@dataclass
class Township(Installed):
    """`now` is where the rule clock stands; sessions run on the same clock, so nothing here waits for the wall."""

    folder: Path
    town: Mapping[str, str] = field(default_factory=lambda: TOWN)
    rules: Mapping[str, str] = field(default_factory=lambda: {"rules.yaml": RULES})
    now: int = START
    url: str = ""

    def open(self) -> Township:
        (self.folder / "records.sqlite").write_bytes(_database_with_people())
        town = read_town(self.town)
        self.site = town.site
        self.kinds = {device.id: device.kind for device in town.devices.values()}
        self._open(town, health=dict)
        self.app = FastAPI(openapi_url=None)
        console.attach(self.app, self.installation)
        return self

    def close(self) -> None:
        self.stop()
        self._close()

    def serve(self, port: int = 0) -> str:
        """Over HTTP on a free port, with the hub running; the address."""
        self.server = uvicorn.Server(
            uvicorn.Config(
                self.app, host="127.0.0.1", port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1
            )
        )
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(self.server)), daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the server did not start"
            self.thread.join(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        return self.url

    def stop(self) -> None:
        """End the server and the event stream, as a restart of the service would; `serve` begins again."""
        if self.url:
            self.hub.close()
            self.server.should_exit = True
            self.thread.join(10)
            assert not self.thread.is_alive()
            self.url = ""
            self.hub.closed = False

    # --- what happens in the town -------------------------------------------------------------------------------------
    def send(
        self, device: str, body: object, *, at: int | None = None, channel: str = "readings", kind: str | None = None
    ) -> None:
        """One packet, not settled yet. `at` is added to an object that has none."""
        if isinstance(body, dict):
            body = {"at": (self.now if at is None else at) // 1000, **body}
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = kind or self.kinds.get(device, "pump_station")
        self.decoder.feed(f"gw/v1/{self.site}/{kind}/{device}/{channel}".encode(), payload, 0x30, 0)

    def settle(self) -> None:
        """What was sent, settled and in the readings store when this returns."""
        batch, _ = self.decoder.builder.take()
        self.settler.settle(batch, self.now)
        self.settler.appender.drain(10)
        self.hub.poke()

    def tell(self, device: str, *, after: int = MINUTE, **values: float | bool) -> None:
        """One reading, a minute after the last."""
        self.now += after
        self.send(device, values)
        self.settle()

    def flood(self, device: str = "ps-1", level: float = 3.52) -> None:
        """The polder stands above its limit for longer than the minute the rule asks for."""
        for _ in range(3):
            self.tell(device, level_inside=level, level_outside=3.61, pumps_running=4, pumps_available=4, mains_ok=True)

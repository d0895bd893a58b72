"""The demonstration: broker, service and console, and a pretend township in front of them.

The data folder is fresh and goes away with the demo. With a duration it stops by itself, the township first, then the
queue drains, and the report compares what the township injected with what was raised.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from aiomqtt import MqttError
from pydantic import SecretStr
from rich.console import Console
from sqlalchemy import Engine, select

from alerts.roles import Actor, Role
from devices.instants import SECOND
from flow.access import add_user
from flow.service_alarms import INSTALLATION
from gridwhistle.broker import BrokerFailed
from gridwhistle.clock import wall
from gridwhistle.folders import town_in
from gridwhistle.process import open_service
from gridwhistle.service import Service
from gridwhistle.settings import Admin, Clock, ClockSource, Http, Settings
from simulator.scenarios import SCENARIOS
from simulator.township import Published, simulate
from simulator.truth import compare
from store.records.tables import devices, occurrences, orders

QIDU = Path(__file__).resolve().parent.parent / "examples" / "qidu"
# People to sign in as: the four steps need three of them, and a viewer finds nothing to press.
PEOPLE = {
    "duty": (Role.DUTY_OFFICER, "值班员 沈月"),
    "handler": (Role.HANDLER, "网格员 周强"),
    "checker": (Role.CHECKER, "核查员 吴敏"),
    "viewer": (Role.VIEWER, "访客"),
}
DRAIN_S = 30.0
DEFAULT_PORT = 8080


def demo(*, lasts: int | None, report: str | None, scenario: str, seed: int, speed: float, port: int | None) -> int:
    """`lasts` in microseconds of wall time, None until Ctrl-C; the exit status."""
    if scenario not in SCENARIOS:
        print(f"没有剧本 no scenario {scenario!r}; {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    if report and report != "-" and not Path(report).resolve().parent.is_dir():
        print(f"--report {report}: 目录不存在 there is no such folder", file=sys.stderr)
        return 2
    password = secrets.token_urlsafe(9)
    with tempfile.TemporaryDirectory(prefix="gridwhistle-demo-") as folder:
        settings = Settings(
            data_dir=Path(folder),
            town=QIDU,
            rules=QIDU / "rules",
            clock=Clock(source=ClockSource.DATA),
            http=Http(port=free_or(DEFAULT_PORT) if port is None else port),
            admin=Admin(password=SecretStr(password)),
        )
        try:
            found = asyncio.run(_play(settings, password, lasts=lasts, scenario=scenario, seed=seed, speed=speed))
        except* (MqttError, BrokerFailed) as errors:
            print(f"演示中断 the demonstration broke off: {errors.exceptions[0]}", file=sys.stderr)
            found = None
    if found is None:
        return 1
    if report == "-":
        print(json.dumps(found, ensure_ascii=False))
    elif report:
        Path(report).write_text(json.dumps(found, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 0


def free_or(port: int) -> int:
    """The usual port if nobody has it, else any (0)."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


async def _play(
    settings: Settings, password: str, *, lasts: int | None, scenario: str, seed: int, speed: float
) -> dict[str, Any]:
    town = town_in(settings.town)
    assert town is not None
    async with open_service(settings, embedded_broker=True) as service:
        _add_people(service.records, password)
        ready, stop = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run(ready.set), name="service")
            await _first(ready, stop)
            if not stop.is_set():
                _welcome(service, password, scenario, speed)
                if lasts is not None:
                    loop.call_later(lasts / SECOND, stop.set)
                host, port = service.broker_address
                published = await simulate(
                    f"mqtt://{host}:{port}", town, scenario=scenario, seed=seed, speed=speed, stop=stop
                )
                await _drain(service, published.values)
                found = await asyncio.to_thread(_report, service, published)
            else:
                found = {}
            service.stopping.set()
    return found


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _add_people(records: Engine, password: str) -> None:
    chief = Actor("admin", Role.ADMIN)
    for name, (role, shown) in PEOPLE.items():
        add_user(records, wall(), chief, name=name, password=password, role=role, display_name=shown)


def _welcome(service: Service, password: str, scenario: str, speed: float) -> None:
    """On standard error: standard output may be the report."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    say = console.print
    say(f"\n[bold]吹哨 Gridwhistle[/bold]  演示剧本 scenario {scenario}, {speed:g} 倍速 times real time\n")
    say(f"  控制台 Console   [bold]{service.url}[/bold]")
    say(f"  登录   Sign in   [bold]admin[/bold] 或 or {', '.join(PEOPLE)}   密码 password [bold]{password}[/bold]")
    say("  停止   Stop      Ctrl-C\n")


async def _drain(service: Service, values: int) -> None:
    """Until everything the township handed over is settled and in the store, or nothing has moved for DRAIN_S."""
    loop, memory, clock = asyncio.get_running_loop(), service.settler.memory, service.data_clock
    assert clock is not None
    seen, moved = (0, 0), loop.time()
    while (at := (memory.ledger.running()["received"], memory.now)) < (values, clock.now()):
        if at != seen:
            seen, moved = at, loop.time()
        elif loop.time() - moved > DRAIN_S:
            return
        await asyncio.sleep(0.05)
    await asyncio.to_thread(service.settler.appender.drain, DRAIN_S)


def _report(service: Service, published: Published) -> dict[str, Any]:
    counts = service.settler.memory.ledger.running()
    with service.records.connect() as tx:
        kinds = {row.id: row.kind for row in tx.execute(select(devices.c.id, devices.c.kind))}
        found = tx.execute(select(occurrences).where(occurrences.c.device != INSTALLATION)).all()
        states = Counter(tx.execute(select(orders.c.state)).scalars())
    truth = compare(published.truth, [(row.rule, row.device, row.raised_at) for row in found], until=published.until)
    return {
        "published": published.values,
        "received": counts["received"],
        "stored": counts["stored"],
        "duplicates": counts["duplicate"],
        "replaced": counts["replaced"],
        "refused": counts["refused"],
        "late": counts["late"],
        "alarms": {
            "raised": len(found),
            "cleared": sum(row.cleared_at is not None for row in found),
            "by_kind": dict(Counter(kinds.get(row.device, "group") for row in found)),
        },
        "orders": {"filed": sum(states.values()), "by_state": dict(states)},
        "truth": truth,
    }

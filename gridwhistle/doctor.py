"""`gridwhistle doctor`: looks at everything the service stands on and says what is wrong and what to do.

Nothing is changed: the databases are opened only where no service runs, and are not migrated.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import resource
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from gridwhistle.broker import find_mosquitto
from gridwhistle.checking import check_all
from gridwhistle.clock import wall
from gridwhistle.doctor_broker import examine_broker
from gridwhistle.doctor_disk import examine_disk
from gridwhistle.doctor_mosquitto import examine_config
from gridwhistle.findings import Finding, fail, ok, warn
from gridwhistle.settings import Settings
from gridwhistle.settings_sources import SettingsError, load

LIBRARIES = ("duckdb", "sqlalchemy", "fastapi", "numpy", "pydantic", "aiomqtt", "apprise")
# A connection of every screen and of the broker, the databases' files, what waits to be closed: no service comes near
# this, and the 256 that some systems give, a flood night's screens can use up.
FEW_FILES = 1024
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
# This program's own year: a clock before it is a board without a battery.
WRITTEN = 1_735_689_600_000_000  # 2025-01-01

Step = Callable[[Settings], Awaitable[list[Finding]]]


async def examine(
    config: Path | None,
    overrides: Sequence[str],
    progress: Callable[[float], None] = lambda _: None,
    *,
    broker_config: Path | None = None,
) -> list[Finding]:
    """Every matter, worst or not, in the order of what stands on what. `broker_config`: that of the Mosquitto."""
    findings = [_versions(), _mosquitto(), open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])]
    try:
        settings = load(config, overrides)
    except SettingsError as error:
        findings += [fail("settings", str(mistake), "改正 mend it; docs/settings.md") for mistake in error.mistakes]
        return findings
    findings.append(ok("settings", str(config) if config else "默认值与环境变量 defaults and environment"))
    steps: tuple[Step, ...] = (_files(config), examine_disk, _stores, _clock, _channels, _broker)
    for number, step in enumerate(steps, 1):
        findings += await step(settings)
        progress(number / len(steps))
    if broker_config is not None:
        findings += await asyncio.to_thread(examine_config, broker_config)
    return findings


def _versions() -> Finding:
    found = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    python = sys.version.split()[0]
    return ok(
        "versions", f"gridwhistle {version('gridwhistle')}, Python {python}, SQLite {sqlite3.sqlite_version}, {found}"
    )


def _mosquitto() -> Finding:
    found = find_mosquitto()
    if found is None:
        return warn(
            "mosquitto",
            "未安装，demo 与 --embedded-broker 将用不持久的 amqtt not installed: they use amqtt, which is not durable",
            "apt install mosquitto",
        )
    return ok("mosquitto", found)


def open_files(limit: int) -> Finding:
    """`limit` of this shell; a service manager may give another."""
    known = "不限 unlimited" if limit == resource.RLIM_INFINITY else str(limit)
    if limit != resource.RLIM_INFINITY and limit < FEW_FILES:
        few = f"同时打开的文件最多 {known} 个，屏幕一多就不够 files open at once: too few for many screens"
        return warn("files.open", few, f"ulimit -n {FEW_FILES}；systemd: LimitNOFILE={FEW_FILES}")
    return ok("files.open", f"同时打开的文件 files open at once: {known}")


def _files(config: Path | None) -> Step:
    async def step(settings: Settings) -> list[Finding]:
        if config is None:
            if settings.rules or settings.town:
                return []
            bare = "没有规则也没有乡镇：只存不判 neither rules nor a town: readings are stored, never judged"
            return [warn("files", bare, "gridwhistle init DIR")]
        checked = await asyncio.to_thread(check_all, config)
        if checked.mistakes:
            return [fail("files", str(mistake), "改正 mend it") for mistake in checked.mistakes]
        rest = [warn("files", str(warning), "看一看 have a look") for warning in checked.warnings]
        return [ok("files", f"{checked.rules} 条规则 rules, {checked.devices} 台设备 devices"), *rest]

    return step


async def _stores(settings: Settings) -> list[Finding]:
    folder = settings.data_dir.resolve()
    lock = folder / "lock"
    if lock.exists():
        with lock.open("r") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return await asyncio.to_thread(_running, folder)
            return await asyncio.to_thread(_resting, folder)
    return [ok("stores", "尚无数据，首次启动时建立 none yet: made at the first start")]


def _resting(folder: Path) -> list[Finding]:
    """Nobody runs over them, and the lock is ours while we look."""
    found: list[Finding] = []
    records, readings = folder / "records.sqlite", folder / "readings.duckdb"
    if records.exists():
        try:
            with closing(sqlite3.connect(f"{records.as_uri()}?mode=ro", uri=True)) as database:
                said = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            said = str(error)
        whole = said == "ok"
        found.append(ok("records", str(records)) if whole else fail("records", f"{records}: {said}",
                     "用 records.sqlite.before-* 或备份恢复 restore a backup"))  # fmt: skip
    if readings.exists():
        found.append(_duckdb(readings))
    return found or [ok("stores", "尚无数据 none yet")]


def _duckdb(path: Path) -> Finding:
    import duckdb

    try:
        with duckdb.connect(str(path), read_only=True) as database:
            database.execute("select 1").fetchall()
    except duckdb.Error as error:
        return fail("readings", f"{path}: {str(error).splitlines()[0]}", "恢复备份 restore a backup")
    return ok("readings", str(path))


def _running(folder: Path) -> list[Finding]:
    """A service runs over them: it knows best, and says so at /readyz."""
    import httpx

    try:
        url = json.loads((folder / "api.json").read_text(encoding="utf-8"))["url"]
        answer = httpx.get(f"{url}/readyz", timeout=5, trust_env=False)
        parts = answer.json()
    except (OSError, ValueError, KeyError, httpx.HTTPError) as error:
        silent = "数据目录被占用，但服务没有应答 it holds the data folder and does not answer"
        return [fail("service", f"{silent}: {type(error).__name__}", "看日志，或重启 see its log, or restart it")]
    if answer.status_code == 200:
        return [ok("service", f"运行中，全部就绪 running and ready: {url}")]
    return [fail("service", f"{url}: {json.dumps(parts, ensure_ascii=False)[:500]}", "看日志 see its log")]


async def _clock(settings: Settings) -> list[Finding]:
    if wall() < WRITTEN:
        return [fail("clock", "系统时间早于本程序 the clock is before this program was written", "对时 set it: NTP")]
    if synchronised() is False:
        adrift = "系统时钟未同步，会误判设备时钟 the clock is not synchronised: devices that are right look wrong"
        return [warn("clock", adrift, "启用 enable chrony / systemd-timesyncd")]
    known = "已同步 synchronised" if synchronised() else "同步状态未知 whether it is synchronised is not known here"
    return [ok("clock", f"{known}; 容差 tolerance of devices: {settings.model_dump(mode='json')['clock']}")]


def synchronised() -> bool | None:
    """What the kernel says of the clock's synchronisation, None where it does not say."""
    try:
        # struct timex is 208 bytes on 64-bit Linux; zeros mean: change nothing, tell.
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512)))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != TIME_ERROR


async def _channels(settings: Settings) -> list[Finding]:
    from notify.channels import ChannelError, open_channels

    places = settings.notify.channels
    if not places:
        return [
            warn("notify", "没有通知渠道 no channel: 告警只在屏幕上 alarms show on screens only", "notify.channels")
        ]
    try:
        channels = open_channels(places, os.environ)
    except ChannelError as error:
        return [fail("notify", line, "改正 mend it") for line in str(error).splitlines()]
    for channel in channels.values():
        await channel.close()
    return [ok("notify", ", ".join(channels))]


async def _broker(settings: Settings) -> list[Finding]:
    return await examine_broker(settings.broker)

"""The service as a process: its data folder taken, its broker started, signals heard, an exit status."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from devices.documents import DocumentError
from gridwhistle.broker import BrokerChild, BrokerFailed
from gridwhistle.data_folder import Locked, data_folder
from gridwhistle.service import Service
from gridwhistle.settings import Settings
from ingest.subscriber import SessionTaken
from store.readings import StoreUnavailable
from store.records.database import UnusableRecords


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
            loop.add_signal_handler(signal.SIGHUP, service.rule_files.on_signal)
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

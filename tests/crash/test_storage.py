"""The database or the readings store is away: only what is kept is acknowledged, it is told, and all catches up."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from devices.instants import SECOND, from_iso
from store.fault_points import STATES
from tests.conftest import SOAK, Broker
from tests.crash.load import WINDOW, Load
from tests.crash.proof import prove, settled
from tests.end_to_end.conftest import Service, wait_for

pytestmark = pytest.mark.services

AWAY_S = 60 if SOAK else 7
MB = 1024 * 1024
# The most that memory may grow by while nothing can be saved: what has been read and not settled is bounded.
GROWN_MB = 120


def failing(service: Service) -> list[str]:
    answer = service.api.get("/readyz")
    return [] if answer.status_code == 200 else list(answer.json()["failing"])


def storage_alarms(service: Service) -> list[Any]:
    return service.all("occurrences", rule="gw-storage")


def memory_of(service: Service) -> float:
    assert service.process
    return psutil.Process(service.process.pid).memory_info().rss / MB


def reads_work(service: Service) -> None:
    """Alarms, values and history, while nothing can be written."""
    assert service.all("occurrences", rule="hot")
    assert service.get("readings", device="m-0", metric="temperature", limit=5)["items"]
    assert service.get("readings/latest", device="m-0")["items"]


@contextmanager
def locked(service: Service) -> Iterator[None]:
    """Another process's hand on the database: that of this test."""
    with closing(sqlite3.connect(service.folder / "data" / "records.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def disk_full(service: Service) -> Iterator[None]:
    """No file of the service can be written beyond its first 4 KiB, as if the disk had no room."""
    assert service.process
    before = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, before)


def test_nothing_is_lost_while_a_store_is_away_and_it_is_told(
    make_service: Callable[..., Service], broker: Broker, rules: Path
) -> None:
    service = make_service()
    fault = service.folder.with_name("fault")
    service.environment["GRIDWHISTLE_FAULT_FILE"] = str(fault)
    service.start()
    with Load(broker, rate=1_000) as load:
        load.send(3_000)
        settled(service, load.sent)
        load.resume()
        for number, away in enumerate((locked, disk_full), 1):
            nothing_is_acknowledged(service, load, away)
            told(service, number)
        for number, state in enumerate(STATES, 3):
            fault.write_text(state)
            alarms_go_on(service, load, number)
            fault.unlink()
            wait_for(lambda: not failing(service), 30)
            told(service, number)
        prove(service, load.finish(), rules, other=["gw-storage"])


def nothing_is_acknowledged(
    service: Service, load: Load, away: Callable[[Service], AbstractContextManager[None]]
) -> None:
    """The database cannot be written: the broker keeps what comes, memory does not grow, reads go on."""
    memory, began = memory_of(service), time.time()
    with away(service):
        wait_for(lambda: "sql" in failing(service), 30)
        assert "broker" not in failing(service), "the link is not to blame"
        reads_work(service)
        settled_before = service.ledger()["received"]
        time.sleep(AWAY_S - (time.time() - began) if SOAK else 0.5)
        assert service.ledger()["received"] == settled_before
        assert memory_of(service) - memory < GROWN_MB
        ended = time.time()
    wait_for(lambda: not failing(service), 30)
    settled(service, load.sent[: load.acknowledged - WINDOW])
    wait_for(lambda: storage_alarms(service)[-1:] and storage_alarms(service)[-1]["cleared_at"], 30)
    last = max(storage_alarms(service), key=lambda o: str(o["raised_at"]))
    raised, cleared = (from_iso(last[name]) / SECOND for name in ("raised_at", "cleared_at"))
    assert began - 2 < raised < began + 10, "its true begin"
    assert ended - 2 < cleared < ended + 30, "and end"


def alarms_go_on(service: Service, load: Load, number: int) -> None:
    """The readings store is away: the journal takes what comes, and it is judged."""
    began = time.time()
    wait_for(lambda: "store" in failing(service), 30)
    wait_for(lambda: len(storage_alarms(service)) >= number, 10)
    judged = service.all("occurrences", rule="hot")
    wait_for(lambda: len(service.all("occurrences", rule="hot")) > len(judged), 30, lambda: "alarms do not go on")
    time.sleep(AWAY_S - (time.time() - began) if SOAK else 0)
    settled(service, load.sent[: load.acknowledged - WINDOW])
    assert {"store"} <= set(failing(service)) <= {"store", "journal"}


def told(service: Service, number: int) -> None:
    """One occurrence of `gw-storage` for each time (a machine that is too busy to commit within 5 s has its own)."""
    wait_for(lambda: all(o["cleared_at"] for o in storage_alarms(service)), 30)
    assert len(storage_alarms(service)) >= number

"""The running installation, as the API and the console see it: what they read, and what only it can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine

from alerts.roles import Actor
from devices.registry import DeviceStatus, Registry
from flow.backing_up import Backups
from flow.classify import Newest
from flow.ledger import Reason
from flow.ledger_book import LedgerBook, Recount
from flow.redriving import ReadAgain
from flow.reloading import Reloaded
from flow.stream import Hub
from flow.trials import Trials
from rules.book import RuleBook
from rules.calendar import Site
from rules.engine import Engine as RuleEngine
from store.readings import ReadingStore

Health = Mapping[str, Mapping[str, object]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LatestValues:
    """The newest value of every series, from memory: it is there before the store has it."""

    registry: Registry
    newest: Newest

    def of(self, device: int) -> dict[str, tuple[int, float, int]]:
        """metric → (measured_at, value, quality) of a device, events included under `event:<name>`."""
        known = len(self.newest.measured_at)
        found = {}
        for metric, series in self.registry.series_of(device):
            if series < known and self.newest.measured_at[series]:
                row = (self.newest.measured_at[series], self.newest.value[series], self.newest.quality[series])
                found[metric] = (int(row[0]), float(row[1]), int(row[2]))
        return found


class AskEngine(Protocol):
    def __call__(self, look: Callable[[RuleEngine], T]) -> T:
        """What the engine that runs says, asked in the settling thread between two batches. Raises StoreUnavailable
        where it does not come round to it."""


class Declare(Protocol):
    def __call__(self, act: Callable[[Connection, int], T]) -> Awaitable[T]:
        """Do an act of `flow.declare` in the settling thread at the rule clock's now, with what follows from it."""


@dataclass(frozen=True)
class Installation:
    """`now` is the rule clock (wall, or data), `wall` always the wall, both in microseconds; `health` maps broker, sql,
    store and journal to {"ok": bool, "detail": str, …}; `reload` reads the rule files and takes them, or raises
    WrongDocument and leaves those that run; `command_asked` is to be called once a command to a device is committed;
    `backups` is None where none can be made; `trials` is to be closed at the end."""

    records: Engine
    readings: ReadingStore
    registry: Registry
    now: Callable[[], int]
    wall: Callable[[], int]
    hub: Hub
    zone: ZoneInfo
    site_name: tuple[str, str]
    health: Callable[[], Health]
    set_device_status: Callable[[str, DeviceStatus, Actor], Awaitable[None]]
    declare: Declare
    reload: Callable[[Actor], Awaitable[Reloaded]]
    ask_engine: AskEngine
    rulebook: Callable[[], RuleBook]
    latest: Callable[[], LatestValues]
    session_span: int
    ledger_sums: Callable[[], Mapping[str, int]]
    ledger_reasons: Callable[[], Mapping[Reason, int]]
    book: LedgerBook
    verify_ledger: Callable[[], Awaitable[Recount]]
    read_again: ReadAgain
    command_asked: Callable[[], None] = lambda: None
    backups: Backups | None = None
    trials: Trials = field(default_factory=Trials)
    site: Callable[[], Site] = Site

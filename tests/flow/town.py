"""A small town on a real SQLite file, and words to tell what happened in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine, Table, insert, select

from alerts.roles import Actor, Role
from devices.instants import HOUR, MINUTE, SECOND
from devices.registry import Device, Registry
from devices.town import Grid
from flow.alarms import record_transitions
from flow.holding import RuleBookLike
from rules.outcome import Edge, Transition
from rules.rule import Priority
from store.records.database import migrate, open_records, write
from store.records.devices import add_devices, put_grids
from store.records.tables import outbox, stream, users

# 2025-07-01T05:00 in Shanghai.
NOW = 1_751_317_200 * SECOND
OFFICER = Actor("wang", Role.DUTY_OFFICER)
HANDLER = Actor("li", Role.HANDLER)
OTHER_HANDLER = Actor("zhao", Role.HANDLER)
CHECKER = Actor("chen", Role.CHECKER)
VIEWER = Actor("guest", Role.VIEWER)
ADMIN = Actor("admin", Role.ADMIN)
PEOPLE = (OFFICER, HANDLER, OTHER_HANDLER, CHECKER, VIEWER, ADMIN)


@dataclass(frozen=True)
class Rule:
    id: str
    name_zh: str
    name_en: str
    priority: Priority
    order_category: str | None
    text: str = "rule text"


@dataclass(frozen=True)
class Book:
    rules: dict[str, Rule] = field(default_factory=dict)


LEVEL = Rule("level-high", "圩内高水位", "Polder level high", Priority.CRITICAL, "flood.polder_inside")
PUMP = Rule("pump-fault", "水泵故障", "Pump fault", Priority.HIGH, "flood.pump")
ELDER = Rule("elder-still", "老人长时间未活动", "Elder still", Priority.HIGH, "elder.no_movement")
AIR = Rule("air-dusty", "扬尘", "Dust", Priority.MEDIUM, None)
DOOR = Rule("door-opened", "门开", "Door opened", Priority.NOTICE, "elder.door")
BOOK = Book({rule.id: rule for rule in (LEVEL, PUMP, ELDER, AIR, DOOR)})


@cache
def empty_database() -> bytes:
    """Migrated once for all tests of this process."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "records.sqlite"
        migrate(path)
        return path.read_bytes()


class Town:
    """Tell it transitions; ask it rows. `now` moves only when told to."""

    def __init__(self, folder: Path) -> None:
        (folder / "records.sqlite").write_bytes(empty_database())
        self.records: Engine = open_records(folder / "records.sqlite")
        self.now = NOW
        self.book: RuleBookLike = BOOK
        self.registry = Registry()
        self.alive: frozenset[int] = frozenset()
        found = [
            Device(0, "ps-01", "qidu", "pump_station", "一号泵站", "g-1", keeper="周工", keeper_phone="0512-1"),
            Device(1, "ps-02", "qidu", "pump_station", "二号泵站", "g-2"),
            Device(2, "door-07", "qidu", "door_sensor", "张奶奶家门磁", "g-1", person="张桂英",
                   person_address="长江路 7 号", latitude=31.2, longitude=120.6),
        ]  # fmt: skip
        for device in found:
            self.registry.put(device)
        with write(self.records) as tx:
            put_grids(tx, [Grid(id="g-1", name="一网格"), Grid(id="g-2", name="二网格")])
            add_devices(tx, found)
            tx.execute(
                insert(users),
                [{"name": p.name, "role": p.role, "password": "-", "display_name": "", "created_at": NOW}
                 for p in PEOPLE],
            )  # fmt: skip

    def tell(self, *transitions: Transition) -> None:
        with write(self.records) as tx:
            record_transitions(
                tx, transitions, now=self.now, registry=self.registry, rulebook=self.book, counting=self.counting
            )

    def counting(self, _rule: str) -> frozenset[int]:
        """Who meets the condition of a group rule's members."""
        return frozenset({device.number for device in self.registry.devices}) - self.alive

    def raised(self, rule: Rule = LEVEL, device: str = "ps-01", at: int | None = None, value: float = 3.6) -> None:
        self.tell(up(rule, device, self.now if at is None else at, value))

    def cleared(self, rule: Rule = LEVEL, device: str = "ps-01", at: int | None = None) -> None:
        self.tell(down(rule, device, self.now if at is None else at))

    def later(self, span: int = MINUTE) -> None:
        self.now += span

    def rows(self, table: Table) -> list[dict[str, Any]]:
        with self.records.connect() as tx:
            return [dict(row._mapping) for row in tx.execute(select(table).order_by(*table.primary_key.columns))]

    def messages(self) -> list[str]:
        """The keys of everything in the outbox."""
        return [row["key"] for row in self.rows(outbox)]

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [row["body"] for row in self.rows(stream) if row["kind"] == kind]


def up(rule: Rule = LEVEL, device: str = "ps-01", at: int = NOW, value: float = 3.6) -> Transition:
    reason: dict[str, object] = {"when": "level_inside > 3.5", "values": {"level_inside": value}}
    return Transition(rule.id, device, "level_inside", Edge.RAISED, at, at - MINUTE, value, value, reason, 0)


def down(rule: Rule = LEVEL, device: str = "ps-01", at: int = NOW + HOUR, peak: float = 3.8) -> Transition:
    return Transition(rule.id, device, "level_inside", Edge.CLEARED, at, at, None, peak, {}, 1)

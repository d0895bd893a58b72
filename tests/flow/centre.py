"""A command centre without a broker for tests: messages go through the decoder, batches through the settler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from devices.faults import ClockLimits
from devices.instants import DAY, MINUTE
from devices.town import Town, read_town
from flow.ledger import COLUMNS, WITH_REASONS, LedgerRow
from flow.ledger_book import LedgerBook, Span
from flow.memory import Limits
from flow.readings import Settler
from flow.start import start_settler
from ingest.decoder import Decoder, UnknownDevices
from rules.book import load
from store.readings import Point
from store.readings.duckdb import DuckDBReadings
from store.records.database import migrate, open_records
from store.records.tables import alarms, occurrences, orders, refused

START = 1_763_700_000_000_000  # 2025-11-21T04:40:00Z
HIGH = """
rules:
  - id: high
    name: {zh: 高, en: high}
    applies_to: {kind: pump_station}
    when: level_inside > 3.5
    clear: level_inside <= 3.3
    priority: critical
    order: {category: flood.polder_inside}
"""
TOWN = {
    "town.yaml": "site: qidu\nname: {zh: 七都, en: Qidu}\n",
    "devices.yaml": """
devices:
  - {id: ps-1, kind: pump_station, interval: 60}
  - {id: ps-2, kind: pump_station, interval: 60}
  - {id: door-1, kind: door_sensor}
  - {id: cam-1, kind: camera}
""",
}


@dataclass
class SmallCentre:
    """`start` opens or reopens everything in `folder`; `now` is where its clock stands."""

    folder: Path
    rules: str = HIGH
    unknown: UnknownDevices = UnknownDevices.QUARANTINE
    limits: Limits = field(default_factory=lambda: Limits(ClockLimits(5 * MINUTE, 7 * DAY), 1 << 30, 1000))
    now: int = START
    store: type[DuckDBReadings] = DuckDBReadings
    town: Mapping[str, str] = field(default_factory=lambda: TOWN)

    def start(self) -> SmallCentre:
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "records.sqlite"
        migrate(path)
        self.records: Engine = open_records(path)
        self.readings = self.store(self.folder / "readings.duckdb")
        town: Town = read_town(self.town)
        self.settler: Settler = start_settler(
            self.records, self.readings, book=load({"rules.yaml": self.rules}), town=town, limits=self.limits,
            now=self.now,
        )  # fmt: skip
        self.decoder = Decoder(
            self.settler.memory.registry, unknown=self.unknown, now=lambda: self.now,
            first_arrival=self.settler.first_arrival, clock=self.limits.clock,
        )  # fmt: skip
        return self

    def stop(self, *, crash: bool = False) -> None:
        """A crash saves nothing beyond what is committed."""
        if not crash:
            self.settler.snapshot()
        self.settler.appender.stop(5)
        self.readings.close()
        self.records.dispose()

    def send(
        self, device: str, body: Any, *, channel: str = "readings", kind: str = "pump_station", packet_id: int = 0,
        first: int = 0x30,
    ) -> None:  # fmt: skip
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.decoder.feed(f"gw/v1/qidu/{kind}/{device}/{channel}".encode(), payload, first, packet_id)

    def settle(self) -> None:
        batch, _ = self.decoder.builder.take()
        self.settler.settle(batch, self.now)

    def level(self, at: int, value: float, device: str = "ps-1", **how: Any) -> None:
        """One level of a station, `at` microseconds, in a batch of its own."""
        self.now = max(self.now, at)
        self.send(device, {"at": at // 1000, "level_inside": value}, **how)
        self.settle()

    def ledger_rows(self, device: int | None = None) -> list[LedgerRow]:
        return LedgerBook(self.records, self.settler.memory.ledger).page(Span(device=device), limit=100_000)

    def ledger(self) -> dict[str, int]:
        """Totals that are not zero, but for what the rules saw; its sums are checked at every look."""
        rows = self.ledger_rows()
        for row in rows:
            assert row.received == row.stored + row.duplicate + row.replaced + row.refused
            assert row.evaluated <= row.stored
            for column in WITH_REASONS:
                by_reason = [n for (outcome, _), n in row.reasons.items() if outcome == column]
                assert sum(by_reason) == getattr(row, column)
        totals = {name: sum(getattr(row, name) for row in rows) for name in COLUMNS}
        running = self.settler.memory.ledger.running()
        for correction in self.settler.appender.corrections:
            running = {name: n + correction.by.get(name, 0) for name, n in running.items()}
        assert totals == running
        return {name: n for name, n in totals.items() if n and name != "evaluated"}

    def stored(self, device: str, metric: str) -> dict[int, Point]:
        self.settler.appender.drain(5)
        known = self.settler.memory.registry.get(device)
        assert known is not None
        series = self.settler.memory.registry.find_series(known.number, metric)
        assert series is not None
        points = self.readings.range(series, 0, 1 << 62, 100_000)
        columns = (points.measured_at.tolist(), points.value.tolist(), points.quality.tolist())
        return {at: Point(at, value, quality) for at, value, quality in zip(*columns, strict=True)}

    def occurrences(self) -> list[tuple[str, str, int, int | None]]:
        query = select(occurrences).order_by(occurrences.c.raised_at, occurrences.c.id)
        with self.records.connect() as tx:
            return [(o.rule, o.device, o.raised_at, o.cleared_at) for o in tx.execute(query)]

    def states(self) -> dict[tuple[str, str], str]:
        with self.records.connect() as tx:
            return {(a.rule, a.device): a.state for a in tx.execute(select(alarms))}

    def orders(self) -> list[tuple[str, str]]:
        with self.records.connect() as tx:
            return [(o.category, o.state) for o in tx.execute(select(orders).order_by(orders.c.id))]

    def refusals(self) -> list[tuple[str, str]]:
        with self.records.connect() as tx:
            return [(r.reason, r.topic) for r in tx.execute(select(refused).order_by(refused.c.id))]

"""The ledger as people read it: a span page by page, or its sums, over the tables and what is not folded into them yet.

A town has millions of hours of devices: nothing here reads more of them than a page shows, and sums are the database's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, func, select, tuple_

from devices.instants import HOUR
from devices.registry import Registry
from flow.appender import Appender
from flow.ledger import COLUMNS, Difference, Ledger, LedgerRow, Reason, count_settled, verify
from store.readings import ReadingStore, StoreUnavailable
from store.records.journal import every_entry
from store.records.settled import rows_of
from store.records.tables import ledger as counts_table
from store.records.tables import ledger_reasons as reasons_table
from store.records.tables import snapshots

Place = tuple[int, int]  # hour, device
# Folding takes some milliseconds, twice a minute.
PATIENCE_S = 2.0
# What may wait for the readings store takes it this long at most.
DRAIN_S = 60.0
T = TypeVar("T")
_FOLDED = select(func.max(snapshots.c.number))


@dataclass(frozen=True, slots=True)
class Span:
    """Hours of arrival from that of `start` to before `end`, None: to the last; `device` is a device number."""

    start: int = 0
    end: int | None = None
    device: int | None = None

    def has(self, hour: int, device: int) -> bool:
        return (
            hour >= self.start // HOUR * HOUR
            and (self.end is None or hour < self.end)
            and (self.device is None or device == self.device)
        )


@dataclass(slots=True)
class Sums:
    """Counts by column, and by (column, reason)."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))
    reasons: dict[Reason, int] = field(default_factory=dict)

    def add(self, counts: Mapping[str, int], reasons: Mapping[Reason, int]) -> None:
        for name, n in counts.items():
            self.counts[name] += n
        for reason, n in reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + n


@dataclass(frozen=True, slots=True)
class LedgerBook:
    records: Engine
    ledger: Ledger

    def page(self, span: Span, *, after: Place | None = None, limit: int) -> list[LedgerRow]:
        """The first `limit` rows of the span by hour, then device, that come after this place."""

        def read(tx: Connection) -> dict[Place, Sums]:
            c = counts_table.c
            query = select(c.hour, c.device, *(c[name] for name in COLUMNS)).where(*_where(span, c))
            if after is not None:
                query = query.where(tuple_(c.hour, c.device) > tuple_(*after))
            rows = tx.execute(query.order_by(c.hour, c.device).limit(limit))
            found = {(hour, device): _sums(counts) for hour, device, *counts in rows}
            for place, sums in self._waiting(span):
                if after is None or place > after:
                    found.setdefault(place, Sums()).add(sums.counts, sums.reasons)
            shown = {place: found[place] for place in sorted(found)[:limit]}
            _add_reasons(tx, shown)
            return shown

        return [_row(place, sums) for place, sums in self._read(read).items()]

    def by_device(self, span: Span) -> dict[int, Sums]:
        return self._sums(span, by_hour=False)

    def by_hour(self, span: Span) -> dict[int, Sums]:
        """Of all devices, or the span's; hours without any are left out."""
        return self._sums(span, by_hour=True)

    def _sums(self, span: Span, *, by_hour: bool) -> dict[int, Sums]:
        key, place_of = ("hour", 0) if by_hour else ("device", 1)

        def read(tx: Connection) -> dict[int, Sums]:
            c, r = counts_table.c, reasons_table.c
            summed = select(c[key], *(func.sum(c[name]) for name in COLUMNS)).where(*_where(span, c)).group_by(c[key])
            found = {one: _sums(counts) for one, *counts in tx.execute(summed)}
            told = select(r[key], r.outcome, r.reason, func.sum(r["count"])).where(*_where(span, r))
            for one, outcome, reason, n in tx.execute(told.group_by(r[key], r.outcome, r.reason)):
                found.setdefault(one, Sums()).add({}, {(outcome, reason): n})
            for place, sums in self._waiting(span):
                found.setdefault(place[place_of], Sums()).add(sums.counts, sums.reasons)
            return dict(sorted(found.items()))

        return self._read(read)

    def _read(self, read: Callable[[Connection], T]) -> T:
        """Tables and memory as of one instant: again where the one was folded into the other meanwhile."""
        deadline = monotonic() + PATIENCE_S
        while True:
            through = self.ledger.folded_through
            with self.records.connect() as tx:
                of_tables = (tx.execute(_FOLDED).scalar() or 0) == through
                found = read(tx)
            if (of_tables and self.ledger.folded_through == through) or monotonic() > deadline:
                return found
            sleep(0.005)

    def _waiting(self, span: Span) -> Iterator[tuple[Place, Sums]]:
        """What is not folded yet; a place may come more than once."""
        for hour, device, counts in self.ledger.pending(span.device):
            if span.has(hour, device):
                yield (hour, device), _sums(counts)
        for hour, device, reason, n in self.ledger.pending_reasons():
            if span.has(hour, device):
                yield (hour, device), Sums({}, {reason: n})


def total(of: Mapping[int, Sums]) -> Sums:
    found = Sums()
    for sums in of.values():
        found.add(sums.counts, sums.reasons)
    return found


def _sums(counts: list[int]) -> Sums:
    return Sums(dict(zip(COLUMNS, counts, strict=True)))


def _where(span: Span, c: object) -> list[ColumnElement[bool]]:
    hour, device = c.hour, c.device  # type: ignore[attr-defined]
    found = [hour >= span.start // HOUR * HOUR]
    if span.end is not None:
        found.append(hour < span.end)
    if span.device is not None:
        found.append(device == span.device)
    return found


def _add_reasons(tx: Connection, shown: Mapping[Place, Sums]) -> None:
    if not shown:
        return
    c, places = reasons_table.c, list(shown)
    within = tuple_(c.hour, c.device)
    query = select(reasons_table).where(within >= tuple_(*places[0]), within <= tuple_(*places[-1]))
    for row in tx.execute(query).mappings():
        place = row["hour"], row["device"]
        if place in shown:
            shown[place].add({}, {(row["outcome"], row["reason"]): row["count"]})


def _row(place: Place, sums: Sums) -> LedgerRow:
    reasons = {reason: n for reason, n in sums.reasons.items() if n}
    return LedgerRow(device=place[1], hour=place[0], reasons=reasons, **sums.counts)


@dataclass(frozen=True, slots=True)
class Recount:
    """Values and events `stored` by device number, by the ledger; no `differences`: the stores have just them."""

    stored: Mapping[int, int]
    differences: Sequence[Difference]


def recount(records: Engine, ledger: Ledger, readings: ReadingStore, registry: Registry, appender: Appender) -> Recount:
    """Count the stores again, in the settling thread or where none runs. Raises StoreUnavailable where the readings
    store does not take what waits for it."""
    if not appender.drain(DRAIN_S):
        raise StoreUnavailable(f"{appender.lag()} journal entries wait for the readings store")
    with records.connect() as tx:
        return Recount(ledger.stored(tx), verify(tx, ledger, readings, registry))


def ledger_as_left(tx: Connection, registry: Registry) -> Ledger:
    """The ledger of an installation that does not run, however it ended: the tables, and the journal after the last
    snapshot."""
    ledger = Ledger()
    ledger.begin(tx)
    ledger.folded_through = tx.execute(_FOLDED).scalar() or 0
    device = np.array(registry.series_device, np.int32)
    for entry in every_entry(tx, ledger.folded_through):
        if entry.settled is not None:
            rows = rows_of(entry.settled)
            count_settled(ledger, entry.at, entry.settled, device[rows.series], rows.state)
    return ledger

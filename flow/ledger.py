"""The ledger: per device and hour of arrival, received = stored + duplicate + replaced + refused.

Every batch's counts stand in its journal entry, in the same commit as its readings. Here they are summed in memory
and folded into the ledger table with the snapshot; after a crash the entries after the snapshot are counted again,
so the table and the journal never both hold a count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert

from devices.batch import I64
from devices.instants import HOUR
from store.records.tables import ledger

COLUMNS = ("received", "stored", "duplicate", "replaced", "refused", "late", "flagged", "quarantined", "deleted")


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """`device` is a device number, -1 where it could not be told; `hour` the start of the hour."""

    device: int
    hour: int
    received: int
    stored: int
    duplicate: int
    replaced: int
    refused: int
    late: int
    flagged: int
    quarantined: int
    deleted: int


def empty_counts() -> I64:
    return np.zeros((0, len(COLUMNS) + 1), np.int64)


def add_to_table(tx: Connection, rows: Sequence[Mapping[str, int]]) -> None:
    """Rows of device, hour and every column; a row that is there already grows by them."""
    if not rows:
        return
    statement = insert(ledger)
    sums = {name: ledger.c[name] + statement.excluded[name] for name in COLUMNS}
    tx.execute(statement.on_conflict_do_update(index_elements=["device", "hour"], set_=sums), list(rows))


def correction(device: int, at: int, **by: int) -> dict[str, int]:
    """A row that moves what was counted, such as stored=-1, duplicate=1."""
    return {"device": device, "hour": at // HOUR * HOUR, **dict.fromkeys(COLUMNS, 0), **by}


class Ledger:
    """Counts since the last fold, by hour: row d + 1 of an hour's table is device d."""

    def __init__(self) -> None:
        self._hours: dict[int, I64] = {}
        self._running = np.zeros(len(COLUMNS), np.int64)

    def add(self, at: int, counts: I64) -> None:
        if not len(counts):
            return
        hour = at // HOUR * HOUR
        table = self._hours.get(hour)
        need = int(counts[:, 0].max()) + 2
        if table is None or len(table) < need:
            grown = np.zeros((need, len(COLUMNS)), np.int64)
            if table is not None:
                grown[: len(table)] = table
            table = self._hours[hour] = grown
        np.add.at(table, counts[:, 0] + 1, counts[:, 1:])
        self._running += counts[:, 1:].sum(axis=0)

    def begin(self, tx: Connection) -> None:
        """Take the table's sums as what was counted before; call once, before the journal is counted again."""
        sums = tx.execute(select(*(func.coalesce(func.sum(ledger.c[name]), 0) for name in COLUMNS))).one()
        self._running += np.array(sums, np.int64)

    def correct(self, row: Mapping[str, int]) -> None:
        """The running sums follow a correction that is in the table already."""
        self._running += np.array([row[name] for name in COLUMNS], np.int64)

    def running(self) -> dict[str, int]:
        """Sums of every column over all devices and hours, without asking the database."""
        return dict(zip(COLUMNS, self._running.tolist(), strict=True))

    def fold(self, tx: Connection) -> None:
        """Add what was counted to the table. Call `folded` once the commit is through."""
        add_to_table(tx, list(self._pending()))

    def folded(self) -> None:
        self._hours.clear()

    def totals(self, tx: Connection, device: int | None = None) -> dict[str, int]:
        """Sums of every column, over the table and what is not folded yet."""
        total = dict.fromkeys(COLUMNS, 0)
        for row in self.rows(tx, device=device):
            for name in COLUMNS:
                total[name] += getattr(row, name)
        return total

    def rows(
        self, tx: Connection, *, device: int | None = None, start: int = 0, end: int | None = None
    ) -> list[LedgerRow]:
        """By hour, then device."""
        query = select(ledger).where(ledger.c.hour >= start // HOUR * HOUR)
        if device is not None:
            query = query.where(ledger.c.device == device)
        found = {(r.hour, r.device): np.array([r._mapping[c] for c in COLUMNS], np.int64) for r in tx.execute(query)}
        nothing = np.zeros(len(COLUMNS), np.int64)
        for row in self._pending():
            key = (row["hour"], row["device"])
            if (device is None or row["device"] == device) and row["hour"] >= start // HOUR * HOUR:
                found[key] = found.get(key, nothing) + np.array([row[c] for c in COLUMNS], np.int64)
        return [
            LedgerRow(number, hour, *(int(n) for n in counts))
            for (hour, number), counts in sorted(found.items())
            if end is None or hour < end
        ]

    def _pending(self) -> Iterable[dict[str, int]]:
        # A copy of the keys: the settling thread may open an hour while a page reads.
        for hour, table in list(self._hours.items()):
            for d in np.flatnonzero(table.any(axis=1)):
                yield {"device": int(d) - 1, "hour": hour, **dict(zip(COLUMNS, table[d].tolist(), strict=True))}

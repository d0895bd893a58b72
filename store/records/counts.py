"""Sums over the records for monitoring: few rows out, whatever is in the tables."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from store.records.tables import ledger, outbox

_COUNTED = ("received", "stored", "duplicate", "replaced", "refused")


def ledger_sums(tx: Connection) -> dict[str, int]:
    """Of everything folded into the table; what the journal still holds comes with the next snapshot."""
    row = tx.execute(select(*(func.coalesce(func.sum(ledger.c[name]), 0) for name in _COUNTED))).one()
    return {name: int(count) for name, count in zip(_COUNTED, row, strict=True)}


def count_outbox(tx: Connection) -> tuple[int, int]:
    """Messages that wait to be sent, and those given up."""
    waiting = select(func.count()).where(outbox.c.sent_at.is_(None), outbox.c.dead_at.is_(None))
    dead = select(func.count()).where(outbox.c.dead_at.is_not(None))
    return tx.execute(waiting).scalar_one(), tx.execute(dead).scalar_one()

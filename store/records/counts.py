"""Sums over the records for monitoring: few rows out, whatever is in the tables."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from store.records.tables import outbox


def count_outbox(tx: Connection) -> tuple[int, int]:
    """Messages that wait to be sent, and those given up."""
    waiting = select(func.count()).where(outbox.c.sent_at.is_(None), outbox.c.dead_at.is_(None))
    dead = select(func.count()).where(outbox.c.dead_at.is_not(None))
    return tx.execute(waiting).scalar_one(), tx.execute(dead).scalar_one()

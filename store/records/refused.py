"""What was received and not stored: topic, bytes and reason, for the Intake page and whoever mends the sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Connection, delete, func, insert, select

from devices.batch import Refused
from store.records.pages import Page, decode_id, page_of
from store.records.tables import refused


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """`device` is a device number, -1 where it could not be told."""

    id: int
    at: int
    topic: str
    payload: bytes
    reason: str
    detail: str
    device: int


def add_refused(tx: Connection, now: int, found: Sequence[Refused]) -> None:
    if found:
        rows = [
            {"at": now, "topic": r.topic, "payload": r.payload, "reason": r.reason, "detail": r.detail,
             "device": r.device}
            for r in found
        ]  # fmt: skip
        tx.execute(insert(refused), rows)


def list_refused(
    tx: Connection, *, reason: str | None = None, device: int | None = None, limit: int, cursor: str | None = None
) -> Page[RefusedRow]:
    """Newest first."""
    query = select(*(refused.c[f.name] for f in fields(RefusedRow))).order_by(refused.c.id.desc()).limit(limit + 1)
    if reason is not None:
        query = query.where(refused.c.reason == reason)
    if device is not None:
        query = query.where(refused.c.device == device)
    if cursor is not None:
        query = query.where(refused.c.id < decode_id(cursor))
    return page_of([RefusedRow(*row) for row in tx.execute(query)], limit, lambda row: [row.id])


def count_refused(tx: Connection) -> dict[str, int]:
    """How many by reason."""
    found = tx.execute(select(refused.c.reason, func.count().label("refusals")).group_by(refused.c.reason))
    return {row.reason: row.refusals for row in found}


def keep_newest_refused(tx: Connection, most: int) -> int:
    """Drop all but the newest `most`; how many went. Their count stays in the ledger."""
    last = tx.execute(select(func.max(refused.c.id))).scalar() or 0
    return tx.execute(delete(refused).where(refused.c.id <= last - most)).rowcount

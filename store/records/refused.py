"""What was received and not stored: topic, bytes and reason, for the Intake page and whoever mends the sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from devices.batch import Redriven, Refused
from store.records.pages import Page, decode_id, page_of
from store.records.tables import refused


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """`device` is a device number, -1 where it could not be told; `count` is what the ledger counted for it; `whole`:
    all its bytes are kept."""

    id: int
    at: int
    topic: str
    payload: bytes
    reason: str
    detail: str
    device: int
    count: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the kept packets: all of these that are given must hold. `device` is a device number; `since` and
    `before` are instants of arrival, `before` not included."""

    ids: tuple[int, ...] | None = None
    reason: str | None = None
    device: int | None = None
    since: int | None = None
    before: int | None = None

    def where(self) -> list[ColumnElement[bool]]:
        c = refused.c
        found: list[ColumnElement[bool]] = [] if self.ids is None else [c.id.in_(self.ids)]
        if self.reason is not None:
            found.append(c.reason == self.reason)
        if self.device is not None:
            found.append(c.device == self.device)
        if self.since is not None:
            found.append(c.at >= self.since)
        if self.before is not None:
            found.append(c.at < self.before)
        return found


_COLUMNS = [refused.c[f.name] for f in fields(RefusedRow)]


def add_refused(tx: Connection, now: int, found: Sequence[Refused]) -> None:
    if found:
        rows = [
            {"at": now, "topic": r.topic, "payload": r.payload, "reason": r.reason, "detail": r.detail,
             "device": r.device, "count": r.count}
            for r in found
        ]  # fmt: skip
        tx.execute(insert(refused), rows)


def list_refused(tx: Connection, wanted: Wanted, *, limit: int, cursor: str | None = None) -> Page[RefusedRow]:
    """Newest first."""
    query = select(*_COLUMNS).where(*wanted.where()).order_by(refused.c.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(refused.c.id < decode_id(cursor))
    return page_of([RefusedRow(*row) for row in tx.execute(query)], limit, lambda row: [row.id])


def get_refused(tx: Connection, number: int) -> RefusedRow | None:
    row = tx.execute(select(*_COLUMNS).where(refused.c.id == number)).first()
    return None if row is None else RefusedRow(*row)


def oldest_refused(
    tx: Connection, wanted: Wanted, *, after: int, through: int, limit: int, most_bytes: int
) -> list[RefusedRow]:
    """Of the packets numbered above `after` up to `through` the oldest, in order of arrival; at least one, and no more
    than `most_bytes` of payload."""
    within = (refused.c.id > after, refused.c.id <= through)
    query = select(*_COLUMNS).where(*within, *wanted.where()).order_by(refused.c.id).limit(limit)
    found: list[RefusedRow] = []
    size = 0
    with tx.execute(query) as rows:
        for row in rows:
            size += len(row.payload)
            if found and size > most_bytes:
                break
            found.append(RefusedRow(*row))
    return found


def number_refused(tx: Connection, wanted: Wanted, *, after: int = 0, through: int | None = None) -> tuple[int, int]:
    """How many there are above `after` up to `through`, and the number of the newest of them."""
    query = select(func.count(), func.coalesce(func.max(refused.c.id), 0)).where(refused.c.id > after, *wanted.where())
    if through is not None:
        query = query.where(refused.c.id <= through)
    count, newest = tx.execute(query).one()
    return int(count), int(newest)


def newer_refused(tx: Connection, after: int) -> list[tuple[str, str]]:
    """(reason, topic) of those numbered above `after`, in order."""
    query = select(refused.c.reason, refused.c.topic).where(refused.c.id > after).order_by(refused.c.id)
    return [(row.reason, row.topic) for row in tx.execute(query)]


def take_redriven(tx: Connection, redriven: Sequence[Redriven]) -> list[Redriven]:
    """Delete the rows of packets that were read again; those that were still there. A number alone is no proof: SQLite
    gives that of a deleted row to a new one."""
    found: list[Redriven] = []
    for one in redriven:
        if tx.execute(delete(refused).where(refused.c.id == one.id, refused.c.at == one.at)).rowcount:
            found.append(one)
    return found


def purge_refused(tx: Connection, wanted: Wanted) -> int:
    """How many went. Their count stays in the ledger."""
    return tx.execute(delete(refused).where(*wanted.where())).rowcount


def count_refused(tx: Connection) -> dict[str, int]:
    """How many by reason."""
    found = tx.execute(select(refused.c.reason, func.count().label("refusals")).group_by(refused.c.reason))
    return {row.reason: row.refusals for row in found}


def keep_newest_refused(tx: Connection, most: int) -> int:
    """Drop all but the newest `most`; how many went. Their count stays in the ledger."""
    last = tx.execute(select(func.max(refused.c.id))).scalar() or 0
    return tx.execute(delete(refused).where(refused.c.id <= last - most)).rowcount

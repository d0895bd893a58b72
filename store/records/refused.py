"""What was received and not stored: topic, bytes and reason, for the Intake page and whoever mends the sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, tuple_

from devices.batch import Redriven, Refused
from devices.instants import DAY
from store.records.pages import Page, decode_cursor, page_of
from store.records.tables import refused

# Refused packets kept for people to look at and to read again; their number stays in the ledger whatever goes.
KEPT, KEPT_BYTES, KEPT_FOR = 10_000, 64 << 20, 30 * DAY
# Of one batch; more would only push out what came before them.
KEPT_OF_A_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """`device` is a device number, -1 where it could not be told; `count` is what the ledger counted for it, in the
    hour of `at`; `whole`: all its bytes are kept; `arrived_at`: when it came: before `at` if refused again."""

    id: int
    at: int
    topic: str
    payload: bytes
    reason: str
    detail: str
    device: int
    count: int
    whole: bool
    arrived_at: int


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
            found.append(c.arrived_at >= self.since)
        if self.before is not None:
            found.append(c.arrived_at < self.before)
        return found


_COLUMNS = [refused.c[f.name] for f in fields(RefusedRow)]


def add_refused(tx: Connection, now: int, found: Sequence[Refused]) -> None:
    """Keep the first of a batch, and of the rest how many there were of each reason: a flood of refusals must not cost
    more than its share."""
    if not found:
        return
    rest: dict[str, int] = {}
    for r in found[KEPT_OF_A_BATCH:]:
        rest[r.reason] = rest.get(r.reason, 0) + r.count
    more = [Refused("", b"", reason, f"{n:,} more, not kept", count=n, whole=False) for reason, n in rest.items()]
    # Straight to the driver: SQLAlchemy's own binding is most of what a refused packet costs.
    names = ("at", "topic", "payload", "reason", "detail", "device", "count", "whole", "arrived_at")
    tx.exec_driver_sql(
        f"INSERT INTO refused ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        # A line that stands for several packets has the bytes of none.
        [
            (
                now,
                r.topic,
                r.payload,
                r.reason,
                r.detail,
                r.device,
                r.count,
                r.whole and (bool(r.payload) or r.count < 2),
                r.arrived_at or now,
            )
            for r in (*found[:KEPT_OF_A_BATCH], *more)
        ],
    )


def list_refused(tx: Connection, wanted: Wanted, *, limit: int, cursor: str | None = None) -> Page[RefusedRow]:
    """The last to arrive first."""
    c = refused.c
    query = select(*_COLUMNS).where(*wanted.where()).order_by(c.arrived_at.desc(), c.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(tuple_(c.arrived_at, c.id) < tuple_(*decode_cursor(cursor, int, int)))
    return page_of([RefusedRow(*row) for row in tx.execute(query)], limit, lambda row: [row.arrived_at, row.id])


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
    """Delete the rows of packets that were read again; those that were still there."""
    found: list[Redriven] = []
    for one in redriven:
        if tx.execute(delete(refused).where(refused.c.id == one.id, refused.c.at == one.at)).rowcount:
            found.append(one)
    return found


def purge_refused(tx: Connection, wanted: Wanted) -> int:
    """How many went. Their count stays in the ledger."""
    return tx.execute(delete(refused).where(*wanted.where())).rowcount


def count_refused(tx: Connection) -> dict[str, tuple[int, int]]:
    """How many are kept by reason, and what the ledger counted for them."""
    c = refused.c
    found = tx.execute(select(c.reason, func.count(), func.sum(c["count"])).group_by(c.reason))
    return {reason: (kept, counted) for reason, kept, counted in found}


def drop_refused(tx: Connection, now: int) -> int:
    """Drop the oldest where there are too many, too many bytes of them, or they are too old; how many went. Their count
    stays in the ledger."""
    c = refused.c
    last = tx.execute(select(func.max(c.id))).scalar() or 0
    gone = tx.execute(delete(refused).where(or_(c.id <= last - KEPT, c.arrived_at < now - KEPT_FOR))).rowcount
    size = tx.execute(select(func.sum(func.length(c.payload)))).scalar() or 0
    if size > KEPT_BYTES:
        newer = func.sum(func.length(c.payload)).over(order_by=c.id.desc()).label("newer")
        sized = select(c.id, newer).subquery()
        first = select(func.max(sized.c.id)).where(sized.c.newer > KEPT_BYTES).scalar_subquery()
        gone += tx.execute(delete(refused).where(c.id <= first)).rowcount
    return gone

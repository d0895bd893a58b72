"""Messages that must go out: written in the transaction that causes them (flow.messages), claimed, sent, marked.

A crash between sending and marking sends a message twice with the same key: twice beats never. A claim is a lease: a
worker that dies holding one delays the message by LEASE and loses nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, and_, delete, or_, select, update

from devices.instants import DAY, HOUR, MINUTE, SECOND
from store.records.database import write
from store.records.tables import outbox

# Longer than a channel may take to send (notify.worker.SEND_WITHIN_S), or a slow send would be done twice.
LEASE = MINUTE
FIRST_RETRY = 5 * SECOND
# A receiver that is down for a night gets its message within the hour of coming back.
LONGEST_RETRY = HOUR
# Sent messages are kept so long for whoever asks whether one went out; the occurrence itself stays.
SENT_KEPT = 30 * DAY
_PRUNED = 500  # in one commit


@dataclass(frozen=True, slots=True)
class Message:
    """Claimed for sending. `body` is JSON: `zh` and `en` for people, the rest for machines; `created_at` is rule time;
    `attempts` counts this one."""

    id: int
    key: str
    channel: str
    body: Mapping[str, object]
    created_at: int
    attempts: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    key: str
    channel: str
    dead_at: int
    attempts: int
    last_error: str


def claim(records: Engine, now: int, limit: int, *, channel: str | None = None) -> list[Message]:
    """Up to `limit` messages that are due, oldest first, held for LEASE; of one channel where it is named."""
    wanted = _open(now) if channel is None else and_(_open(now), outbox.c.channel == channel)
    due = select(outbox.c.id).where(wanted).order_by(outbox.c.due_at, outbox.c.id).limit(limit)
    with records.connect() as tx:
        if tx.execute(due.limit(1)).first() is None:  # the usual case takes no write lock
            return []
    with write(records) as tx:
        rows = tx.execute(
            update(outbox)
            .where(outbox.c.id.in_(due))
            .values(claimed_until=now + LEASE, attempts=outbox.c.attempts + 1)
            .returning(*(outbox.c[name] for name in Message.__dataclass_fields__))
        ).all()
    return sorted((Message(*row) for row in rows), key=lambda message: message.id)


def mark_sent(records: Engine, now: int, message: Message) -> None:
    with write(records) as tx:
        tx.execute(
            update(outbox)
            .where(outbox.c.id == message.id, outbox.c.sent_at.is_(None))
            .values(sent_at=now, claimed_until=None, dead_at=None, last_error=None)
        )


def mark_failed(records: Engine, now: int, message: Message, error: str, *, allowed: int) -> bool:
    """Due again after 5 s, 10 s, 20 s … an hour; dead once `allowed` attempts are used. Returns whether it is dead.

    Does nothing where the lease ran out and someone else has claimed the message since.
    """
    dead = message.attempts >= allowed
    # The exponent is bounded because Python's integers are not.
    wait = min(FIRST_RETRY * 2 ** min(message.attempts - 1, 20), LONGEST_RETRY)
    with write(records) as tx:
        tx.execute(
            update(outbox)
            .where(outbox.c.id == message.id, outbox.c.attempts == message.attempts, outbox.c.sent_at.is_(None))
            .values(claimed_until=None, last_error=error[:500], due_at=now + wait, dead_at=now if dead else None)
        )
    return dead


def bury_unknown(records: Engine, now: int, known: Collection[str]) -> int:
    """Messages to channels that are not configured are dead at once, or they would all go out the day one is."""
    lost = and_(outbox.c.sent_at.is_(None), outbox.c.dead_at.is_(None), outbox.c.channel.not_in(known))
    with records.connect() as tx:
        if tx.execute(select(outbox.c.id).where(lost).limit(1)).first() is None:
            return 0
    with write(records) as tx:
        return tx.execute(update(outbox).where(lost).values(dead_at=now, last_error="no such channel")).rowcount


def dead_letters(records: Engine, limit: int) -> list[DeadLetter]:
    """What was given up, latest first."""
    found = select(outbox.c.key, outbox.c.channel, outbox.c.dead_at, outbox.c.attempts, outbox.c.last_error)
    with records.connect() as tx:
        rows = tx.execute(found.where(outbox.c.dead_at.is_not(None)).order_by(outbox.c.dead_at.desc()).limit(limit))
        return [DeadLetter(*row) for row in rows]


def _open(now: int) -> ColumnElement[bool]:
    free = or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= now)
    return and_(outbox.c.sent_at.is_(None), outbox.c.dead_at.is_(None), outbox.c.due_at <= now, free)


def prune_sent(records: Engine, now: int) -> int:
    """Delete what was sent longer ago than SENT_KEPT; how many went."""
    old = select(outbox.c.id).where(outbox.c.sent_at < now - SENT_KEPT).limit(_PRUNED)
    gone = 0
    while True:
        with records.connect() as tx:
            found = tx.execute(old).scalars().all()
        if not found:
            return gone
        with write(records) as tx:
            gone += tx.execute(delete(outbox).where(outbox.c.id.in_(found))).rowcount

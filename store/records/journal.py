"""The journal: what has been settled, in order; the readings store and the rule state are made from it.

A batch entry carries the verdict on every row, so replaying it asks nobody anything (store.records.settled).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from devices.batch import U8
from store.records.settled import Settled
from store.records.tables import journal, snapshots


class EntryKind(StrEnum):
    BATCH = "batch"
    TICK = "tick"
    LINK = "link"  # the broker link came back: absence gets one full interval from here


@dataclass(frozen=True, slots=True)
class Entry:
    """`settled` is None unless `kind` is batch."""

    number: int
    kind: EntryKind
    at: int
    settled: Settled | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Settled)


def append_entry(tx: Connection, number: int, kind: EntryKind, at: int, settled: Settled | None = None) -> None:
    body = b"" if settled is None else _encoder.encode(settled)
    tx.execute(insert(journal), {"number": number, "kind": kind.value, "at": at, "body": body})


def read_entries(tx: Connection, after: int, limit: int) -> list[Entry]:
    """The first `limit` entries with a number greater than `after`, ascending."""
    rows = tx.execute(select(journal).where(journal.c.number > after).order_by(journal.c.number).limit(limit))
    return [
        Entry(r.number, EntryKind(r.kind), r.at, _decoder.decode(r.body) if r.kind == EntryKind.BATCH else None)
        for r in rows
    ]


def rewrite_verdict(tx: Connection, entry: Entry, verdict: U8) -> Settled:
    """Replace the verdicts of an entry that had doubts."""
    assert entry.settled is not None
    settled = msgspec.structs.replace(entry.settled, verdict=verdict.tobytes())
    tx.execute(update(journal).where(journal.c.number == entry.number).values(body=_encoder.encode(settled)))
    return settled


def every_entry(tx: Connection, after: int) -> Iterator[Entry]:
    while entries := read_entries(tx, after, 64):
        yield from entries
        after = entries[-1].number


def last_number(tx: Connection) -> int:
    """The last entry ever appended, dropped or not: the snapshot remembers it where the journal is empty."""
    newest = tx.execute(select(func.max(journal.c.number))).scalar() or 0
    snapped = tx.execute(select(func.max(snapshots.c.number))).scalar() or 0
    return max(newest, snapped)


def drop_entries(tx: Connection, through: int) -> None:
    tx.execute(delete(journal).where(journal.c.number <= through))


def journal_size(tx: Connection) -> tuple[int, int]:
    """Entries and bytes waiting."""
    entries, size = tx.execute(select(func.count(), func.coalesce(func.sum(func.length(journal.c.body)), 0))).one()
    return int(entries), int(size)


def save_snapshot(tx: Connection, name: str, number: int, body: bytes) -> None:
    tx.execute(delete(snapshots).where(snapshots.c.name == name))
    tx.execute(insert(snapshots), {"name": name, "number": number, "body": body})


def load_snapshot(tx: Connection, name: str) -> tuple[int, bytes] | None:
    row = tx.execute(select(snapshots.c.number, snapshots.c.body).where(snapshots.c.name == name)).first()
    return (row.number, row.body) if row else None

"""The ledger: per device and hour of arrival, received = stored + duplicate + replaced + refused.

What a batch counts follows from its journal entry, which is in the same commit as its readings: the state of every row
says what it counts as. Here that is summed in memory and folded into the tables with the snapshot; after a crash the
entries after the snapshot are counted again, so a table and the journal never both hold a count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection, func, or_, select

from devices.batch import DERIVED_KEY, I32, I64, U8
from devices.instants import HOUR
from devices.registry import Registry
from flow.classify import Verdict
from store.readings import ReadingStore
from store.records.settled import FLAG_SHIFT, FLAGS, JUDGED, LATE, VERDICT, WAITING, Settled
from store.records.tables import events, ledger, ledger_reasons

COLUMNS = (
    "received", "stored", "duplicate", "replaced", "refused", "late", "flagged", "quarantined", "deleted", "evaluated",
    "gaps", "gaps_filled",
)  # fmt: skip
# The columns that are told by reason; the reasons of one sum up to it, from the first hour counted by this version on.
WITH_REASONS = ("refused", "flagged")
Reason = tuple[str, str]
# The key of an event that follows from a reading (a door's `open`); it was never received, so it is not counted.
DERIVED, DERIVED_PAYLOAD = DERIVED_KEY, b'{"derived":true}'
# Why a row is refused by the settler: what the decoder refuses never became a row.
OUT_OF_RANGE = "out_of_range"
K = TypeVar("K")
_STORED = (Verdict.NEW, Verdict.UNSURE)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """`device` is a device number, -1 where it could not be told; `hour` the start of the hour. `reasons` is by
    (column, reason), column one of WITH_REASONS."""

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
    evaluated: int
    gaps: int
    gaps_filled: int
    reasons: Mapping[Reason, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """What the ledger says is stored of a device (stored - deleted) and what the stores have: readings and events."""

    device: int
    ledger_stored: int
    counted: int


@dataclass(frozen=True, slots=True)
class Correction:
    """Moves what was counted, such as stored -1 and duplicate 1; written to the tables at once."""

    device: int
    at: int
    by: Mapping[str, int]
    reasons: Mapping[Reason, int] = field(default_factory=dict)


def write_corrections(tx: Connection, corrections: Sequence[Correction]) -> None:
    """Call `Ledger.correct` of each after the commit."""
    _add_counts(tx, ((c.device, c.at // HOUR * HOUR, *(c.by.get(n, 0) for n in COLUMNS)) for c in corrections))
    _add_reasons(
        tx,
        (
            (c.device, c.at // HOUR * HOUR, outcome, reason, n)
            for c in corrections
            for (outcome, reason), n in c.reasons.items()
        ),
    )


def _add_counts(tx: Connection, rows: Iterable[tuple[int, ...]]) -> None:
    """Rows of device, hour and every column; a row that is there already grows by them."""
    names = ", ".join(COLUMNS)
    grown = ", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS)
    _upsert(tx, f"ledger (device, hour, {names})", 2 + len(COLUMNS), "device, hour", grown, list(rows))


def _add_reasons(tx: Connection, rows: Iterable[tuple[int, int, str, str, int]]) -> None:
    _upsert(
        tx, "ledger_reasons (device, hour, outcome, reason, count)", 5, "device, hour, outcome, reason",
        "count = count + excluded.count", list(rows),
    )  # fmt: skip


def _upsert(  # noqa: PLR0917 - the parts of one statement
    tx: Connection, into: str, width: int, key: str, grown: str, rows: Sequence[tuple[object, ...]]
) -> None:
    # Straight to the driver: SQLAlchemy's own binding is most of what folding a thousand devices costs.
    if rows:
        marks = ", ".join("?" * width)
        tx.exec_driver_sql(f"INSERT INTO {into} VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {grown}", list(rows))


@cache
def counted_as(state: int) -> tuple[tuple[str, ...], Reason | None]:
    """The columns that a row or event of this state counts in, and the reason if there is one."""
    verdict = Verdict(state & VERDICT)
    if verdict not in _STORED:
        reason = ("refused", OUT_OF_RANGE) if verdict is Verdict.REFUSED else None
        return ("received", verdict.name.lower()), reason
    flag = FLAGS[state >> FLAG_SHIFT]
    marks = {"late": state & LATE, "quarantined": state & WAITING, "evaluated": state & JUDGED, "flagged": flag}
    columns = ("received", "stored", *(name for name, mark in marks.items() if mark))
    return columns, ("flagged", flag) if flag else None


class _Hour:
    """Counts since the last fold, by column and by reason; place d + 1 of each is device d."""

    def __init__(self) -> None:
        self.columns: dict[str, I64] = {}
        self.reasons: dict[Reason, I64] = {}

    def count(self, columns: Iterable[str], reason: Reason | None, places: slice | int, counts: I64 | int) -> None:
        stop = places.stop if isinstance(places, slice) else places + 1
        for name in columns:
            _grown(self.columns, name, stop)[places] += counts
        if reason is not None:
            _grown(self.reasons, reason, stop)[places] += counts


def _grown(tables: dict[K, I64], key: K, need: int) -> I64:
    table = tables.get(key)
    if table is None or len(table) < need:
        more = np.zeros(max(need, 64), np.int64)
        if table is not None:
            more = np.concatenate([table, np.zeros(max(need, 2 * len(table)) - len(table), np.int64)])
        table = tables[key] = more
    return table


class Ledger:
    """Counts since the last fold by hour, and the sums of all there ever was."""

    def __init__(self) -> None:
        self._hours: dict[int, _Hour] = {}
        self._running: dict[str, int] = dict.fromkeys(COLUMNS, 0)
        self._running_reasons: dict[Reason, int] = {}
        self.folded_through = 0

    def count_rows(self, at: int, device: I32, state: U8) -> None:
        """Rows of a batch: whose each is and what became of it. One pass where all rows have the same state."""
        if not len(state):
            return
        first = int(state[0])
        if bool((state == first).all()):
            self._count_devices(at, np.bincount(device), first)
            return
        for one in np.flatnonzero(np.bincount(state, minlength=256)).tolist():
            self._count_devices(at, np.bincount(device[state == one]), one)

    def _count_devices(self, at: int, counts: I64, state: int) -> None:
        columns, reason = counted_as(state)
        self._hour(at).count(columns, reason, slice(1, len(counts) + 1), counts)
        self._run(columns, reason, int(counts.sum()))

    def count(self, at: int, device: int, columns: Iterable[str], reason: Reason | None = None, n: int = 1) -> None:
        """One event, or `n` of what never became a row."""
        columns = tuple(columns)
        self._hour(at).count(columns, reason, device + 1, n)
        self._run(columns, reason, n)

    def begin(self, tx: Connection) -> None:
        """Take the tables' sums as what was counted before; call once, before the journal is counted again."""
        sums = tx.execute(select(*(func.coalesce(func.sum(ledger.c[name]), 0) for name in COLUMNS))).one()
        for name, n in zip(COLUMNS, sums, strict=True):
            self._running[name] += n
        c = ledger_reasons.c
        for row in tx.execute(select(c.outcome, c.reason, func.sum(c["count"])).group_by(c.outcome, c.reason)):
            self._run((), (row[0], row[1]), row[2])

    def correct(self, correction: Correction) -> None:
        """The running sums follow a correction that is in the tables already."""
        for name, n in correction.by.items():
            self._running[name] += n
        for reason, n in correction.reasons.items():
            self._run((), reason, n)

    def running(self) -> dict[str, int]:
        """Sums of every column over all devices and hours, without asking the database."""
        return dict(self._running)

    def running_reasons(self) -> dict[Reason, int]:
        """Likewise of every reason."""
        return dict(self._running_reasons)

    def fold(self, tx: Connection) -> None:
        """Add what was counted to the tables. Call `folded` once the commit is through."""
        _add_counts(tx, ((device, hour, *counts) for hour, device, counts in self.pending()))
        _add_reasons(tx, ((device, hour, *reason, n) for hour, device, reason, n in self.pending_reasons()))

    def folded(self, through: int) -> None:
        """The tables have what the entries up to this number counted: the snapshot of this number came with it."""
        self._hours.clear()
        self.folded_through = through

    def stored(self, tx: Connection) -> dict[int, int]:
        """Stored - deleted by device."""
        c = ledger.c
        left = func.sum(c.stored) - func.sum(c.deleted)
        found: dict[int, int] = dict(tx.execute(select(c.device, left).group_by(c.device)).all())
        for hour in list(self._hours.values()):
            for name, sign in (("stored", 1), ("deleted", -1)):
                table = hour.columns.get(name, np.empty(0, np.int64))
                for place in np.flatnonzero(table).tolist():
                    found[place - 1] = found.get(place - 1, 0) + sign * int(table[place])
        return found

    def _hour(self, at: int) -> _Hour:
        hour = at // HOUR * HOUR
        found = self._hours.get(hour)
        if found is None:
            found = self._hours[hour] = _Hour()
        return found

    def _run(self, columns: Iterable[str], reason: Reason | None, n: int) -> None:
        for name in columns:
            self._running[name] += n
        if reason is not None:
            self._running_reasons[reason] = self._running_reasons.get(reason, 0) + n

    def pending(self, device: int | None = None) -> Iterator[tuple[int, int, list[int]]]:
        """Hour, device and every column of what is not folded."""
        # Copies: the settling thread may open an hour or a column while a page reads.
        for hour, counts in list(self._hours.items()):
            tables = dict(counts.columns)
            width = max(map(len, tables.values()), default=0)
            rows = np.zeros((len(COLUMNS), width), np.int64)
            for place, name in enumerate(COLUMNS):
                if name in tables:
                    rows[place, : len(tables[name])] = tables[name][:width]
            if device is not None:
                rows = rows[:, : device + 2]
                rows[:, : device + 1] = 0
            met = np.flatnonzero(rows.any(axis=0))
            for place, of_device in zip(met.tolist(), rows[:, met].T.tolist(), strict=True):
                yield hour, place - 1, of_device

    def pending_reasons(self) -> Iterator[tuple[int, int, Reason, int]]:
        for hour, counts in list(self._hours.items()):
            for reason, table in list(counts.reasons.items()):
                for place in np.flatnonzero(table).tolist():
                    yield hour, place - 1, reason, int(table[place])


def count_settled(ledger: Ledger, at: int, settled: Settled, device: I32, state: U8) -> None:
    """What a settled batch counts; `device` and `state` are its rows'."""
    if settled.counts:
        _count_older(ledger, at, settled)
        return
    ledger.count_rows(at, device, state)
    for event in settled.events:
        if event.state is not None:
            ledger.count(at, event.device, *counted_as(event.state))
    for repeated in settled.repeats:
        ledger.count(at, repeated, *counted_as(Verdict.DUPLICATE))
    for owner, reason, n in settled.refused:
        ledger.count(at, owner, ("received", "refused"), ("refused", reason), n)
    for owner, missing, found in settled.seq.counted if settled.seq is not None else ():
        ledger.count(at, owner, ("gaps",), n=missing)
        ledger.count(at, owner, ("gaps_filled",), n=found)


def _count_older(ledger: Ledger, at: int, settled: Settled) -> None:
    """An entry that waited while the installation was upgraded: it brings its counts, without reasons."""
    names = COLUMNS[:9]
    for device, *counts in np.frombuffer(settled.counts, np.int64).reshape(-1, len(names) + 1).tolist():
        for name, n in zip(names, counts, strict=True):
            ledger.count(at, device, (name,), n=n)


def received_events(tx: Connection) -> dict[int, int]:
    """Events that are stored by device, without those that follow from a reading."""
    received = or_(events.c.key != DERIVED, events.c.payload != DERIVED_PAYLOAD)
    query = select(events.c.device, func.count()).where(received).group_by(events.c.device)
    return dict(tx.execute(query).all())


def verify(tx: Connection, ledger: Ledger, readings: ReadingStore, registry: Registry) -> list[Difference]:
    """Per device, what the ledger says is stored (stored - deleted) against what the stores have: readings in the
    time-series store and events in SQL, without those that follow from a reading. Only the settling thread may ask,
    after `Appender.drain`: then nothing is under way. Empty: not one is lost or doubled."""
    counted: dict[int, int] = {}
    for series, n in readings.series().items():
        device = registry.series_device[series]
        counted[device] = counted.get(device, 0) + n
    for device, n in received_events(tx).items():
        counted[device] = counted.get(device, 0) + n
    told = ledger.stored(tx)
    return [
        Difference(device, told.get(device, 0), counted.get(device, 0))
        for device in sorted(told.keys() | counted.keys())
        if told.get(device, 0) != counted.get(device, 0)
    ]

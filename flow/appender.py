"""Moves journal entries to the readings store, in order; what it has not moved yet is the look-up's second half.

Of what waits so many rows are kept in memory; what is more, an outage of the store, is read from the journal again, so
it costs disk and no memory. After a crash the store itself says which entry it had last.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from devices.batch import F64, I32, I64
from devices.registry import Registry
from flow.classify import Verdict
from flow.ledger import Correction, counted_as, write_corrections
from flow.retention import count_deletions, delete_series
from store.fault_points import reach
from store.readings import Columns, ReadingStore, StoreUnavailable
from store.records.database import write
from store.records.journal import Entry, read_entries, rewrite_verdict
from store.records.settled import Rows, rows_of

log = logging.getLogger("gridwhistle.appender")

# Entries moved in one store transaction: enough to spread its cost, few enough to keep a transaction short.
MOST_AT_ONCE = 64
# Rows of settled batches kept for look-ups and for moving: some 30 MB. Where the store is further behind, a repeated
# row is counted as stored until the appender meets it.
REMEMBERED_ROWS = 1_000_000
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class _Waiting:
    number: int
    at: int
    rows: Rows


class Appender:
    """One thread; `settled` tells it that an entry is committed."""

    def __init__(self, records: Engine, readings: ReadingStore, registry: Registry) -> None:
        self._records = records
        self._readings = readings
        self._registry = registry
        self.applied = readings.applied()
        # What it put right in the ledger's table, for the settling thread's running sums.
        self.corrections: deque[Correction] = deque()
        self._recent: deque[_Waiting] = deque()
        self._waiting_rows = 0
        self._forgotten = self.applied
        self._wake = threading.Condition()
        self._last = self.applied
        self._stopping = False
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="appender", daemon=True)

    def start(self, last: int) -> None:
        """`last` is the newest entry in the journal; those after `applied` are moved at once."""
        self._last = self._forgotten = max(last, self.applied)
        self._thread.start()

    def settled(self, number: int, at: int, rows: Rows) -> None:
        """A batch is committed, which was settled at `at`."""
        with self._wake:
            self._recent.append(_Waiting(number, at, rows))
            self._waiting_rows += len(rows.series)
            while self._waiting_rows > REMEMBERED_ROWS and len(self._recent) > 1:
                self._forgotten = self._forget().number
            self._last = number
            self._wake.notify()

    def advanced(self, number: int) -> None:
        """An entry without readings is committed."""
        with self._wake:
            self._last = number
            self._wake.notify()

    def lag(self) -> int:
        """Journal entries the store does not have yet."""
        return self._last - self.applied

    def find(self, series: I32, measured_at: I64) -> tuple[dict[tuple[int, int], float], bool]:
        """What is stored or waiting for these instants, and whether that is all there is to know."""
        with self._wake:
            waiting = [batch.rows for batch in self._recent if batch.number > self.applied]
            complete = self.applied >= self._forgotten
        try:
            position, value = self._readings.find(series, measured_at)
        except StoreUnavailable:
            position, value = np.empty(0, np.int64), np.empty(0, np.float64)
            complete = False
        found = {(int(series[p]), int(measured_at[p])): float(v) for p, v in zip(position, value, strict=True)}
        for rows in waiting:
            _overlay(found, rows, series, measured_at)
        return found, complete

    def drain(self, timeout: float) -> bool:
        """Wait until everything committed so far is in the store."""
        with self._wake:
            target = self._last
            return self._wake.wait_for(lambda: self.applied >= target, timeout)

    def delete(self, series: Sequence[int], now: int) -> int:
        """Everything stored of the series, counted in the ledger as deleted; how many readings went."""
        gone = delete_series(self._readings, list(series)) if series else 0
        self.corrections.extend(count_deletions(self._records, self._readings, self._registry, now))
        return gone

    def stop(self, timeout: float) -> None:
        self.drain(timeout)
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._last > self.applied)
                if self._stopping:
                    return
            try:
                self._move()
                failures, self.trouble = 0, None
            except (StoreUnavailable, SQLAlchemyError) as error:  # SQL away: the verdict on a doubt cannot be saved
                self.trouble = str(error)
                log.warning("the readings store does not take entry %d: %s", self.applied + 1, error)
            except Exception as error:
                # The outermost loop of this thread: without it nothing would be moved until the next start.
                self.trouble = f"{type(error).__name__}: {error}"
                log.exception("entry %d could not be moved to the readings store", self.applied + 1)
            if self.trouble is not None:
                pause = RETRY_S[min(failures, len(RETRY_S) - 1)]
                failures += 1
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping, pause)

    def _move(self) -> None:
        with self._wake:
            waiting = [batch for batch in self._recent if batch.number > self.applied]
            known, last = self.applied >= self._forgotten, self._last
        if known and not any((batch.rows.verdict == Verdict.UNSURE).any() for batch in waiting):
            # All that waits is in memory as it stands in the journal.
            some = waiting[:MOST_AT_ONCE]
            number = last if len(some) == len(waiting) else some[-1].number
            self._append(number, [_columns(batch.at, batch.rows) for batch in some])
        else:
            self._move_entries(last)

    def _move_entries(self, last: int) -> None:
        """`last` was the newest entry before this looks."""
        with self._records.connect() as tx:
            entries = read_entries(tx, self.applied, MOST_AT_ONCE)
        batches: list[Columns] = []
        for entry in entries:
            if entry.settled is None:
                continue
            rows = rows_of(entry.settled)
            if (rows.verdict == Verdict.UNSURE).any():
                # What it doubts may be in the batches before it: they go first.
                self._append(entry.number - 1, batches)
                batches = []
                rows = self._settle_doubts(entry, rows)
            batches.append(_columns(entry.at, rows))
        self._append(entries[-1].number if entries else last, batches)

    def _forget(self) -> _Waiting:
        gone = self._recent.popleft()
        self._waiting_rows -= len(gone.rows.series)
        return gone

    def _append(self, number: int, batches: list[Columns]) -> None:
        reach("before_append")
        self._readings.append(number, batches)
        reach("after_append")
        with self._wake:
            self.applied = max(self.applied, number)
            while self._recent and self._recent[0].number <= number:
                self._forget()
            self._wake.notify_all()

    def _settle_doubts(self, entry: Entry, rows: Rows) -> Rows:
        """Rows counted as stored while the store could not be asked: now it can. The verdicts in the journal and the
        ledger's correction are one commit, so doing this again after a crash finds no doubt left."""
        doubts = np.flatnonzero(rows.verdict == Verdict.UNSURE)
        position, value = self._readings.find(rows.series[doubts], rows.measured_at[doubts])
        stored = dict(zip(position.tolist(), value.tolist(), strict=True))
        verdict = rows.verdict.copy()
        corrections = []
        for p, row in enumerate(doubts.tolist()):
            if p not in stored:
                verdict[row] = Verdict.NEW
                continue
            same = stored[p] == rows.value[row]
            verdict[row] = Verdict.DUPLICATE if same else Verdict.REPLACED
            device = self._registry.series_device[int(rows.series[row])]
            corrections.append(_turned_out(device, entry.at, int(rows.state[row]), Verdict(verdict[row])))
        with write(self._records) as tx:
            settled = rewrite_verdict(tx, entry, verdict)
            write_corrections(tx, corrections)
        self.corrections.extend(corrections)
        return rows_of(settled)


def _turned_out(device: int, at: int, state: int, verdict: Verdict) -> Correction:
    """The row was counted as this state says, and is a duplicate or a replacement."""
    was, reason = counted_as(state)
    now, _ = counted_as(int(verdict))
    by = {name: (name in now) - (name in was) for name in {*was, *now}}
    return Correction(device, at, by, {reason: -1} if reason is not None else {})


def _columns(at: int, rows: Rows) -> Columns:
    """The rows to write: all that are not refused or already there with this value."""
    if not rows.verdict.any():
        return Columns(rows.series, rows.measured_at, rows.value, rows.quality, at, rows.verdict)
    keep = (rows.verdict != Verdict.REFUSED) & (rows.verdict != Verdict.DUPLICATE)
    verdict = rows.verdict[keep]
    return Columns(
        rows.series[keep],
        rows.measured_at[keep],
        rows.value[keep],
        rows.quality[keep],
        at,
        ((verdict == Verdict.REPLACED) | (verdict == Verdict.UNSURE)).astype(np.uint8),
    )


def _overlay(found: dict[tuple[int, int], float], rows: Rows, series: I32, measured_at: I64) -> None:
    """Add what a waiting batch says of the asked instants; a later batch overrides an earlier."""
    asked = set(zip(series.tolist(), measured_at.tolist(), strict=True))
    kept = np.flatnonzero((rows.verdict != Verdict.REFUSED) & np.isin(rows.series, series))
    values: F64 = rows.value[kept]
    for key, value in zip(
        zip(rows.series[kept].tolist(), rows.measured_at[kept].tolist(), strict=True), values.tolist(), strict=True
    ):
        if key in asked:
            found[key] = value

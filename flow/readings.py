"""One batch of readings, settled: classified, judged, and committed with everything that follows from it.

`Settler` lives in one thread. Nothing in memory changes before the commit: if the commit fails the same batch can be
settled again, and if the process dies the broker sends it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine, insert

from alerts.refusals import Conflict, NotFound
from alerts.roles import Actor
from devices.batch import Batch, EventRow, Refused
from devices.instants import DAY
from devices.registry import DeviceStatus, Registry
from flow.alarms import record_transitions, review_suppression, update_peaks
from flow.appender import Appender
from flow.commands import save_replies
from flow.holes import save_holes
from flow.judging import Judged, judge
from flow.ledger import DERIVED, Correction, count_settled, received_events, write_corrections
from flow.memory import Limits, Memory
from flow.reloading import Reloaded, differences
from flow.second_sources import told_beside
from flow.service_alarms import silence_transitions
from flow.stream import emit
from rules.book import RuleBook
from rules.calendar import Site
from rules.outcome import Outcome, Transition
from store.fault_points import reach
from store.records import devices as device_records
from store.records.access import write_audit
from store.records.database import write
from store.records.declarations import read_declared
from store.records.journal import (
    EntryKind,
    append_entry,
    drop_entries,
    journal_size,
    save_snapshot,
)
from store.records.refused import add_refused, drop_refused, take_redriven
from store.records.settled import Rows
from store.records.tables import series as series_table

SNAPSHOT = "state"
# How far behind the readings store may be, in entries, before the journal's size is looked at (looking reads it).
FAR_BEHIND = 1_000
# What may be decided of a device. Rejecting one in use would delete what it has told.
DECISIONS = {
    (DeviceStatus.QUARANTINED, DeviceStatus.ACTIVE),
    (DeviceStatus.QUARANTINED, DeviceStatus.REJECTED),
    (DeviceStatus.REJECTED, DeviceStatus.ACTIVE),
}
# How long rejecting a device waits for its last readings to reach the store before they are deleted.
DRAIN_S = 5.0
# What ended longer ago than the longest duration a rule can name (366 days) changes nothing any more.
DECLARED_KEPT = 400 * DAY
T = TypeVar("T")


class JournalFull(Exception):
    """The readings store has been away so long that the journal has reached its limit: nothing is acknowledged."""


class Settler:
    def __init__(
        self, records: Engine, memory: Memory, appender: Appender, *, limits: Limits, number: int, book: RuleBook
    ) -> None:
        self.records = records
        self.memory = memory
        self.appender = appender
        self.limits = limits
        self.number = number
        self.book = book
        # Set where rules follow another clock: commands to devices are of the wall.
        self.wall: Callable[[], int] | None = None
        # While a backup is made: the journal keeps the entries after this one, and nothing is deleted.
        self.needed_after: int | None = None
        self.saved_series = len(memory.registry.series_device)
        self.saved_devices = len(memory.registry.devices)

    def settle(self, batch: Batch, now: int) -> Sequence[Refused]:
        """Commit the batch; when this returns its packets may be acknowledged. What of it was refused: as the batch has
        it, then what judging found. Raises JournalFull or a database error, after which nothing has changed."""
        if not now:  # the data clock has not spoken: the batch's own newest instant is the best there is
            now = max([*batch.element_received_at.tolist(), self.memory.now])
        self._meet_newcomers()
        self._check_journal()
        with write(self.records) as tx:
            judged = judge(self.memory, batch, now, tx=tx, limits=self.limits, find=self.appender.find)
            self._save_newcomers(tx)
            append_entry(tx, self.number + 1, EntryKind.BATCH, now, judged.settled)
            _save_events(tx, judged.events, [now] * len(judged.events))
            _save_statuses(tx, batch, self.memory.registry, now)
            save_replies(tx, batch.replies, now if self.wall is None else self.wall())
            taken_back = _take_back(tx, batch)
            add_refused(tx, now, judged.refused)
            self._record(tx, judged.transitions, now, judged.outcome)
            update_peaks(tx, judged.outcome.peaks)
            save_holes(tx, judged.holes, now)
            reach("before_commit")
        reach("after_commit")
        self._adopt(judged, now)
        for correction in taken_back:
            self.memory.ledger.correct(correction)
        self.memory.now = max(self.memory.now, now)
        return judged.refused

    def tick(self, now: int) -> bool:
        """Judge what only the clock can tell: absence, silence, deadlines inside rules. True if anything happened."""
        self._meet_newcomers()
        outcome = self.memory.engine.tick(now)
        heard = self.memory.presence.tick(now)
        silences = silence_transitions(self.memory.registry, heard.silences)
        transitions = (*outcome.transitions, *told_beside(self.memory, silences, now))
        if transitions or self.memory.engine.loses_members(outcome):
            with write(self.records) as tx:
                self._save_newcomers(tx)
                append_entry(tx, self.number + 1, EntryKind.TICK, now)
                self._record(tx, transitions, now, outcome)
                update_peaks(tx, outcome.peaks)
            self._advance()
        self.memory.engine.adopt(outcome)
        self.memory.presence.adopt(heard)
        self.memory.now = max(self.memory.now, now)
        return bool(transitions)

    def link(self, resumed_at: int) -> None:
        """The broker link came back (or the service started) and its backlog is drained."""
        self._meet_newcomers()
        unseen = [d for d in self.memory.registry.devices if not d.first_seen]
        with write(self.records) as tx:
            self._save_newcomers(tx)
            append_entry(tx, self.number + 1, EntryKind.LINK, resumed_at)
            for device in unseen:
                device_records.set_first_seen(tx, device.number, resumed_at)
        self._advance()
        for device in unseen:
            self.memory.registry.put(replace(device, first_seen=resumed_at))
        if unseen:  # grows by what the decoder has numbered meanwhile, so not before what was saved is marked
            self.memory.devices_changed()
        self.memory.engine.link(resumed_at)
        self.memory.presence.link(resumed_at)

    def snapshot(self) -> None:
        """Save the state with its entry number, fold the ledger, drop the entries that nothing needs any more."""
        self._meet_newcomers()
        body = self.memory.snapshot(self.book.files)
        with write(self.records) as tx:
            self._save_newcomers(tx)
            self.memory.ledger.fold(tx)
            save_snapshot(tx, SNAPSHOT, self.number, body)
            needed_after = self.number if self.needed_after is None else self.needed_after
            drop_entries(tx, min(self.number, self.appender.applied, needed_after))
            drop_refused(tx, self.memory.now)
            reach("before_snapshot")
        reach("after_snapshot")
        self.memory.ledger.folded(self.number)
        self._take_corrections()
        self._saved()

    def reload(self, book: RuleBook, now: int, by: str | None = None, site: Site | None = None) -> Reloaded:
        """Take the rules; unchanged ones keep their state, occurrences of the others are cleared now. `by`: who asked,
        for the audit; `site`: with another calendar."""
        changed = differences(self.book, book)
        outcome = self.memory.engine.reload(book, now, site)
        with write(self.records) as tx:
            if by is not None:
                write_audit(tx, now, by, "rules_reloaded", subject="rules", why=f"{len(book.rules)}")
            self._record(tx, outcome.transitions, now, outcome)
            counting = partial(self.memory.engine.counting, outcome=outcome)
            review_suppression(tx, now=now, registry=self.memory.registry, rulebook=book, counting=counting)
        self.book = book
        self.memory.engine.adopt(outcome)
        self.snapshot()
        return changed

    def declare(self, act: Callable[[Connection, int], T], now: int) -> T:
        """An act of `flow.declare`, or any other that changes what is declared: its rows and what follows from them for
        standing alarms are one commit; what it returns."""
        self._meet_newcomers()
        with write(self.records) as tx:
            self._save_newcomers(tx)
            done = act(tx, now)
            declared = read_declared(tx, self.memory.registry, now - DECLARED_KEPT)
            outcome = self.memory.engine.declare(declared, now)
            self._record(tx, outcome.transitions, now, outcome)
        self._saved()
        self.memory.engine.adopt(outcome)
        self.memory.declared_changed()
        self.snapshot()
        return done

    def set_status(self, device_id: str, status: DeviceStatus, now: int, actor: Actor) -> int:
        """Approve or reject a device: later readings are judged, or refused. How many stored readings went."""
        device = self.memory.registry.get(device_id)
        if device is None:
            raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
        if (device.status, status) not in DECISIONS:
            zh, en = f"{device_id} 不在待审核之列", f"{device_id} is not waiting for a decision"
            raise Conflict("not_waiting", zh, en)
        if status is DeviceStatus.REJECTED and self.needed_after is not None:
            zh, en = (
                "正在备份，暂不能删除数据，请稍后再试",
                "a backup is being made, nothing is deleted: try again later",
            )
            raise Conflict("backup_running", zh, en)
        self._meet_newcomers()
        self.memory.registry.put(replace(device, status=status))
        ended = self.memory.devices_changed()
        with write(self.records) as tx:
            self._save_newcomers(tx)
            device_records.set_status(tx, device.number, status)
            write_audit(tx, now, actor.name, f"device_{status.value}", subject=device_id)
            self._record(tx, ended, now)
        self._saved()
        gone = 0
        if status is DeviceStatus.REJECTED:
            self.appender.drain(DRAIN_S)
            gone = self.delete_rejected(now)
        self.snapshot()
        return gone

    def delete_rejected(self, now: int) -> int:
        """Delete what the store has of rejected devices, counted as deleted; how many went. What a crash cut short is
        finished by doing it again: a device of which the ledger has more than its events has readings left. Nothing is
        done while something waits for the readings store, or a backup is made."""
        registry = self.memory.registry
        rejected = [d.number for d in registry.devices if d.status is DeviceStatus.REJECTED]
        if not rejected or self.appender.lag() or self.needed_after is not None:
            return 0
        self.appender.delete((), now)
        with self.records.connect() as tx:
            stored, happened = self.memory.ledger.stored(tx), received_events(tx)
        left = {device for device in rejected if stored.get(device, 0) != happened.get(device, 0)}
        if not left:
            return 0
        gone = self.appender.delete([n for n, d in enumerate(registry.series_device) if d in left], now)
        self._take_corrections()
        return gone

    def service_alarm(self, transition: Transition, now: int) -> None:
        """An alarm about this installation itself, such as gw-link; no state of the readings is touched."""
        self.end([transition], now)

    def end(self, transitions: Sequence[Transition], now: int) -> None:
        """Transitions that come from no reading and no clock; no state of the readings is touched."""
        with write(self.records) as tx:
            self._record(tx, transitions, now)

    def first_arrival(self, packet_id: int, digest: bytes) -> int | None:
        """When the packet that is now redelivered first came, if that was settled."""
        known = self.memory.arrivals.get(packet_id)
        return known.received_at if known is not None and known.digest == digest else None

    def _record(
        self, tx: Connection, transitions: Sequence[Transition], now: int, outcome: Outcome | None = None
    ) -> None:
        """`outcome` is what they come from, if the rules said them, and is not adopted yet."""
        engine, registry = self.memory.engine, self.memory.registry
        counting = partial(engine.counting, outcome=outcome)
        # A device's clock may run ahead of ours: what follows from its reading never stands before it.
        at = max([now, *(t.at for t in transitions)])
        if transitions:
            record_transitions(tx, transitions, now=at, registry=registry, rulebook=self.book, counting=counting)
        if outcome is not None and engine.loses_members(outcome):
            # Alive again: its own alarms are told, whatever its gateway says.
            review_suppression(tx, now=at, registry=registry, rulebook=self.book, counting=counting)

    def _meet_newcomers(self) -> None:
        """The decoder numbers devices and series as it meets them; make room for them here."""
        registry = self.memory.registry
        while True:  # until every series that is met is of a device that is met, and so is saved after it
            if len(self.memory.newest.measured_at) != len(registry.series_device):
                self.memory.grow()
            if len(self.memory.presence.last_seen) == len(registry.devices):
                return
            self.memory.devices_changed()

    def _save_newcomers(self, tx: Connection) -> None:
        registry = self.memory.registry
        fresh = registry.devices[self.saved_devices : len(self.memory.presence.last_seen)]
        if fresh:
            device_records.add_devices(tx, fresh)
        rows = [
            {"number": n, "device": registry.series_device[n], "metric": registry.series_metric[n]}
            for n in range(self.saved_series, len(self.memory.newest.measured_at))
        ]
        if rows:
            tx.execute(insert(series_table), rows)

    def _check_journal(self) -> None:
        if self.appender.lag() > FAR_BEHIND and self.number % 50 == 0:
            with self.records.connect() as tx:
                _, size = journal_size(tx)
            if size > self.limits.journal_bytes:
                raise JournalFull(f"{size:,} bytes wait for the readings store")

    def _adopt(self, judged: Judged, now: int) -> None:
        memory = self.memory
        memory.newest.adopt(judged.change)
        memory.holes.adopt(judged.holes)
        memory.engine.adopt(judged.outcome)
        memory.presence.adopt(judged.heard)
        memory.clocks.adopt(judged.clock_changes)
        memory.ranges.adopt(judged.range_changes)
        if judged.gaps is not None:
            memory.numbering.adopt(judged.gaps)
        count_settled(memory.ledger, now, judged.settled, judged.device, judged.rows.state)
        self._take_corrections()
        memory.remember(judged.arrivals, self.limits.arrivals)
        memory.speaks_doors.update(
            e.device for e in judged.events if e.key != DERIVED and e.name in ("door_opened", "door_closed")
        )
        self._advance(now, judged.rows)

    def _take_corrections(self) -> None:
        while self.appender.corrections:
            self.memory.ledger.correct(self.appender.corrections.popleft())

    def _advance(self, now: int = 0, rows: Rows | None = None) -> None:
        self.number += 1
        self._saved()
        if rows is not None:
            self.appender.settled(self.number, now, rows)
        else:
            self.appender.advanced(self.number)

    def _saved(self) -> None:
        """To be called once the transaction of `_save_newcomers` is committed, before anything can grow again."""
        self.saved_devices = len(self.memory.presence.last_seen)
        self.saved_series = len(self.memory.newest.measured_at)


def _take_back(tx: Connection, batch: Batch) -> list[Correction]:
    """What is read again was not refused after all: of the rows that are still kept."""
    corrections = [
        Correction(r.device, r.at, {"received": -r.count, "refused": -r.count}, {("refused", r.reason): -r.count})
        for r in take_redriven(tx, batch.redriven)
    ]
    write_corrections(tx, corrections)
    return corrections


def _save_events(tx: Connection, found: Sequence[EventRow], received_at: Sequence[int]) -> None:
    if found:
        # Straight to the driver: SQLAlchemy's own binding is half of what an event costs.
        tx.exec_driver_sql(
            "INSERT INTO events (device, key, at, name, received_at, payload) VALUES (?, ?, ?, ?, ?, ?)",
            [(e.device, e.key, e.measured_at, e.name, at, e.payload) for e, at in zip(found, received_at, strict=True)],
        )


def _save_statuses(tx: Connection, batch: Batch, registry: Registry, now: int) -> None:
    for status in batch.statuses:
        if device_records.set_online(tx, status.device, status.online):
            device = registry.devices[status.device]
            emit(tx, now, "presence", {"device": device.id, "kind": device.kind, "online": status.online})

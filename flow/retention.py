"""What is old enough goes: readings and events by the time they were measured, roll-ups later, messages sent long ago.

What an alarm was raised on stays: the readings of its devices around it, until its order is archived and some days more
(the *evidence hold*). Every deletion comes into the ledger: the store keeps what went, by number, in the commit that
deleted it; `count_deletions` adds it to the ledger and remembers the number in one commit of SQL, and only then tells
the store to forget it. Killed anywhere in between, it is counted once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Engine, delete, select
from sqlalchemy.dialects.sqlite import insert

from devices.batch import I32, I64
from devices.instants import DAY, MAX_INSTANT
from devices.kinds import KINDS
from devices.registry import EVENT, Device, Registry
from flow.evidence import Hold, holds
from flow.ledger import DERIVED, DERIVED_PAYLOAD, Correction, write_corrections
from flow.outbox import prune_sent
from store.fault_points import reach
from store.readings import ReadingStore, Roll
from store.records.database import write
from store.records.tables import events, settings

_COUNTED = "retention.counted"
# Events deleted in one commit: the settling thread waits for it.
_EVENTS = 500
Stopping = Callable[[], bool]


@dataclass(frozen=True)
class Keep:
    """How long, in microseconds by measured time; None: for ever. `metrics` (by kind and metric) goes before `kinds`,
    that before `personal`, that before `raw`. `evidence` is how much longer than its order."""

    raw: int | None = 400 * DAY
    kinds: Mapping[str, int | None] = field(default_factory=dict)
    metrics: Mapping[tuple[str, str], int | None] = field(default_factory=dict)
    personal: int | None = 90 * DAY
    minutes: int | None = 730 * DAY
    hours: int | None = None
    evidence: int = 30 * DAY

    def of(self, device: Device, metric: str) -> int | None:
        if (device.kind, metric) in self.metrics:
            return self.metrics[device.kind, metric]
        if device.kind in self.kinds:
            return self.kinds[device.kind]
        return self.personal if is_personal(device) else self.raw


def is_personal(device: Device) -> bool:
    """What it reports tells about one person: who is at home, where somebody walks."""
    return KINDS[device.kind].personal or bool(device.person)


@dataclass(frozen=True)
class Retention:
    """`counted` is told what was deleted, which is in the ledger's tables by then."""

    records: Engine
    readings: ReadingStore
    registry: Registry
    keep: Keep
    counted: Callable[[Sequence[Correction]], None]

    def run(self, now: int, wall: int, stopping: Stopping = lambda: False) -> int:
        """Delete what is over, in commits of fractions of a second, until `stopping`; how many readings and events
        went. `now` is the rule clock. Raises StoreUnavailable or a database error, after which it is called again."""
        self.count(now)
        held = holds(self.records, self.registry, now, self.keep.evidence)
        series, start, end = self._spans(now, held)
        gone = self.readings.delete(series, start, end, stopping)
        self.count(now)
        if not stopping():
            gone += self._delete_events(now, held, stopping)
            self._forget_rolls(now, stopping)
            prune_sent(self.records, wall)
        return gone

    def count(self, now: int) -> None:
        self.counted(count_deletions(self.records, self.readings, self.registry, now))

    def _cutoff(self, now: int, device: Device, metric: str) -> int:
        """What was measured before this goes. Whole days: it moves once a day."""
        span = self.keep.of(device, metric)
        return 0 if span is None else max(0, (now - span) // DAY * DAY)

    def _spans(self, now: int, held: Mapping[int, list[Hold]]) -> tuple[I32, I64, I64]:
        """Series, from and to of what goes; of a held device what lies between its holds."""
        registry, rows = self.registry, []
        cutoffs: dict[tuple[int, str], int] = {}
        for number, (owner, metric) in enumerate(zip(registry.series_device, registry.series_metric, strict=False)):
            key = (owner, metric)
            cutoffs[key] = self._cutoff(now, registry.devices[owner], metric)
            rows += [(number, start, end) for start, end in between(cutoffs[key], held.get(owner, []))]
        columns = np.array(rows, np.int64).reshape(-1, 3)
        return columns[:, 0].astype(np.int32), columns[:, 1].copy(), columns[:, 2].copy()

    def _forget_rolls(self, now: int, stopping: Stopping) -> None:
        for roll, span in ((Roll.MINUTES, self.keep.minutes), (Roll.HOURS, self.keep.hours)):
            if span is not None:
                self.readings.forget(roll, max(0, (now - span) // DAY * DAY))
        groups: dict[int, list[int]] = defaultdict(list)
        for number, owner in enumerate(list(self.registry.series_device)):
            device = self.registry.devices[owner]
            if is_personal(device):
                groups[self._cutoff(now, device, self.registry.series_metric[number])].append(number)
        for cutoff, numbers in groups.items():
            if cutoff and not stopping():
                for roll in Roll:
                    self.readings.forget(roll, cutoff, numbers)

    def _delete_events(self, now: int, held: Mapping[int, list[Hold]], stopping: Stopping) -> int:
        gone = 0
        for device in list(self.registry.devices):
            for start, end in between(self._cutoff(now, device, EVENT), held.get(device.number, [])):
                for count in self._delete_some_events(device, start, end, now):
                    gone += count
                    if stopping():
                        return gone
        return gone

    def _delete_some_events(self, device: Device, start: int, end: int, now: int) -> Iterator[int]:
        c = events.c
        old = select(c.id, c.key, c.payload).where(c.device == device.number, c.at >= start, c.at < end).limit(_EVENTS)
        while True:
            with self.records.connect() as tx:
                found = tx.execute(old).all()
            if not found:
                return
            # What was made from a reading was not counted as stored either.
            count = sum(row.key != DERIVED or row.payload != DERIVED_PAYLOAD for row in found)
            corrections = [Correction(device.number, now, {"deleted": count})]
            with write(self.records) as tx:
                tx.execute(delete(events).where(c.id.in_([row.id for row in found])))
                write_corrections(tx, corrections)
            self.counted(corrections)
            yield count


def between(cutoff: int, held: list[Hold]) -> Iterator[tuple[int, int]]:
    """What of [0, cutoff) lies in no hold; holds are in order of their start."""
    start = 0
    for hold in held:
        if start < min(hold.start, cutoff):
            yield start, min(hold.start, cutoff)
        start = max(start, hold.end)
    if start < cutoff:
        yield start, cutoff


def delete_series(readings: ReadingStore, series: list[int]) -> int:
    """Everything of these series, roll-ups too: of a device that is rejected. The caller counts it."""
    numbers, whole = np.array(series, np.int32), np.full(len(series), MAX_INSTANT + 1, np.int64)
    gone = readings.delete(numbers, np.zeros(len(series), np.int64), whole)
    for roll in Roll:
        readings.forget(roll, MAX_INSTANT + 1, series)
    return gone


def count_deletions(records: Engine, readings: ReadingStore, registry: Registry, now: int) -> list[Correction]:
    """Into the ledger's tables what the store has deleted and nobody has counted; what was added."""
    waiting = readings.deletions()
    if not waiting:
        return []
    with write(records) as tx:
        done = int(tx.execute(select(settings.c.value).where(settings.c.name == _COUNTED)).scalar() or 0)
        counts: Counter[int] = Counter()
        for deletion in waiting:
            if deletion.number > done:
                counts[registry.series_device[deletion.series]] += deletion.count
        corrections = [Correction(device, now, {"deleted": count}) for device, count in sorted(counts.items())]
        write_corrections(tx, corrections)
        last = max(done, waiting[-1].number)
        put = insert(settings).values(name=_COUNTED, value=last)
        tx.execute(put.on_conflict_do_update(index_elements=["name"], set_={"value": last}))
    reach("after_count")
    readings.acknowledge(last)
    return corrections

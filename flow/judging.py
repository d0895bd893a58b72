"""What a batch comes to: clocks put right, impossible values refused, rows classified, rules evaluated.

Reads memory and the database, changes neither: `Settler` commits the result and only then adopts it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection, select

from devices.batch import I32, I64, U8, Arrival, Batch, Bool, EventRow, Quality, Refused
from devices.faults import Fault
from devices.instants import to_iso
from devices.names import topic
from devices.presence import Heard
from devices.registry import Registry
from flow.alarms import LATE_AFTER
from flow.classify import Change, Classified, Find, Newest, Verdict, classify
from flow.holes import HoleChange
from flow.ledger import COLUMNS
from flow.service_alarms import clock_transitions, range_transitions, silence_transitions
from rules.outcome import Outcome, Rows, Transition
from store.records.journal import Settled, SettledEvent
from store.records.tables import events as events_table

if TYPE_CHECKING:
    from flow.memory import Limits, Memory

DERIVED = "derived"
# Keys looked up in one statement; SQLite takes at most 32,766 bound values.
KEYS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Judged:
    settled: Settled
    transitions: tuple[Transition, ...]
    outcome: Outcome
    heard: Heard
    change: Change
    counts: I64
    clock_changes: dict[int, tuple[int, float] | None]
    range_changes: dict[int, tuple[int, float] | None]
    events: tuple[EventRow, ...]
    refused: tuple[Refused, ...]
    arrivals: tuple[Arrival, ...]
    holes: HoleChange


@dataclass(frozen=True, slots=True)
class _Events:
    """The batch's events after duplicates are gone: stored ones, whether each is judged, and how many were repeats."""

    stored: tuple[EventRow, ...]
    judged: tuple[bool, ...]
    late: tuple[bool, ...]
    repeats: tuple[int, ...]


def judge(memory: Memory, batch: Batch, now: int, *, tx: Connection, limits: Limits, find: Find) -> Judged:
    registry, newest = memory.registry, memory.newest
    device = batch.element_device[batch.element]
    received_at = batch.element_received_at[batch.element]
    wrong = limits.clock.wrong(batch.measured_at, received_at)
    measured_at = np.where(wrong, received_at, batch.measured_at)
    clock_edges, clock_changes, events = _judge_clocks(memory, batch, limits, device, wrong, received_at)

    physical, plausible = newest.physical[batch.series], newest.plausible[batch.series]
    impossible = (batch.value < physical[:, 0]) | (batch.value > physical[:, 1])
    range_edges, range_changes = memory.ranges.judge(batch.series, impossible, measured_at, batch.value, batch.element)
    odd = wrong | (batch.value < plausible[:, 0]) | (batch.value > plausible[:, 1])
    quality = np.where(odd, np.maximum(batch.quality, Quality.SUSPECT), batch.quality).astype(np.uint8)

    sorted_ = classify(newest, batch.series, measured_at, batch.value, quality, refused=impossible, find=find)
    active = memory.active
    judged_rows = sorted_.newer & (quality != Quality.BAD) & memory.judged[device]
    found = _sort_events(tx, memory, events, now)
    derived = _derive_doors(memory, batch, measured_at, judged_rows)
    stored_events = (*found.stored, *derived)
    judged_events = (*found.judged, *(True for _ in derived))

    rows = _rows(batch, measured_at, device, judged_rows, stored_events, judged_events)
    outcome = memory.engine.evaluate(rows)
    heard = memory.presence.hear(*_heard(device, measured_at, batch.element, events))
    transitions = (
        *outcome.transitions,
        *clock_transitions(registry, clock_edges),
        *range_transitions(registry, memory.ranges.standing, range_edges),
        *silence_transitions(registry, heard.silences),
    )
    late = (sorted_.verdict == Verdict.NEW) | (sorted_.verdict == Verdict.UNSURE)
    late &= ~sorted_.newer | (measured_at < now - LATE_AFTER)
    counts = _counts(device, sorted_.verdict, late, quality, active)
    counts = np.concatenate([counts, _other_counts(found, batch.refused, events, active)])
    settled = Settled(
        batch.series.tobytes(), measured_at.tobytes(), batch.value.tobytes(), quality.tobytes(),
        batch.element.tobytes(), sorted_.verdict.tobytes(), judged_rows.astype(np.uint8).tobytes(),
        [
            SettledEvent(e.series, e.device, e.element, e.measured_at, j)
            for e, j in zip(stored_events, judged_events, strict=True)
        ],
        counts.tobytes(),
        [(a.packet_id, a.digest, a.received_at) for a in batch.arrivals],
    )  # fmt: skip
    return Judged(
        settled,
        tuple(sorted(transitions, key=lambda t: t.element)),
        outcome,
        heard,
        _with_events(sorted_.change, newest, stored_events),
        counts,
        clock_changes,
        range_changes,
        stored_events,
        (*batch.refused, *_impossible(registry, batch, measured_at, impossible)),
        batch.arrivals,
        _look_for_holes(memory, batch, measured_at, quality, sorted_, judged_rows, now),
    )


def _look_for_holes(  # noqa: PLR0917 - columns
    memory: Memory, batch: Batch, measured_at: I64, quality: U8, sorted_: Classified, judged: Bool, now: int
) -> HoleChange:
    """What comes late and is new, or another value than before, of a device that is judged."""
    stored = (sorted_.verdict != Verdict.REFUSED) & (sorted_.verdict != Verdict.DUPLICATE)
    late = ~sorted_.newer & stored
    if late.any():
        late &= (quality != Quality.BAD) & memory.judged[memory.newest.device[batch.series]]
    newest = memory.newest.measured_at
    return memory.holes.look(newest, batch.series, measured_at, judged=judged, late=late, now=now)


def _judge_clocks(  # noqa: PLR0917 - columns
    memory: Memory, batch: Batch, limits: Limits, device: I32, wrong: Bool, received_at: I64
) -> tuple[list[tuple[int, Fault]], dict[int, tuple[int, float] | None], tuple[EventRow, ...]]:
    """Edges of clock faults over rows and events, and the events with their instants put right."""
    off = (batch.measured_at - received_at).astype(np.float64)
    element, at = batch.element, received_at
    events = batch.events
    if events:
        arrived = batch.element_received_at[[e.element for e in events]]
        said = np.array([e.measured_at for e in events], np.int64)
        event_wrong = limits.clock.wrong(said, arrived)
        events = tuple(
            replace(e, measured_at=int(a)) if w else e for e, w, a in zip(events, event_wrong, arrived, strict=True)
        )
        order = np.argsort(np.concatenate([element, [e.element for e in events]]), kind="stable")
        element = np.concatenate([element, np.array([e.element for e in events], np.int32)])[order]
        device = np.concatenate([device, np.array([e.device for e in events], np.int32)])[order]
        wrong = np.concatenate([wrong, event_wrong])[order]
        off = np.concatenate([off, (said - arrived).astype(np.float64)])[order]
        at = np.concatenate([at, arrived])[order]
    edges, changes = memory.clocks.judge(device, wrong, at, off, element)
    return edges, changes, events


def _sort_events(tx: Connection, memory: Memory, events: Sequence[EventRow], now: int) -> _Events:
    """Which events are new (device, key, at); of those, which the rules see: not older than the last of their name."""
    if not events:
        return _Events((), (), (), ())
    known: set[tuple[int, str, int]] = set()
    keys = sorted({e.key for e in events})
    for start in range(0, len(keys), KEYS_AT_ONCE):
        part = keys[start : start + KEYS_AT_ONCE]
        query = select(events_table.c.device, events_table.c.key, events_table.c.at)
        known |= {(r.device, r.key, r.at) for r in tx.execute(query.where(events_table.c.key.in_(part)))}
    stored, judged, late, repeats = [], [], [], []
    top: dict[int, int] = {}
    for event in events:
        identity = (event.device, event.key, event.measured_at)
        if identity in known:
            repeats.append(event.device)
            continue
        known.add(identity)
        last = top.get(event.series, int(memory.newest.measured_at[event.series]))
        in_order = event.measured_at >= last
        top[event.series] = max(last, event.measured_at)
        stored.append(event)
        judged.append(in_order and bool(memory.judged[event.device]))
        late.append(not in_order or event.measured_at < now - LATE_AFTER)
    return _Events(tuple(stored), tuple(judged), tuple(late), tuple(repeats))


def _derive_doors(memory: Memory, batch: Batch, measured_at: I64, judged: Bool) -> tuple[EventRow, ...]:
    """door_opened and door_closed from changes of `open`, for sensors that do not send the events themselves."""
    rows = np.flatnonzero(judged & memory.is_open[batch.series]) if memory.is_open.any() else ()
    found: list[EventRow] = []
    last: dict[int, float] = {}
    for i in rows:
        s, value = int(batch.series[i]), float(batch.value[i])
        before = last.get(s, float(memory.newest.value[s]))
        last[s] = value
        device = int(memory.newest.device[s])
        # NaN: the first report of a door says how it stands, not that it moved.
        if before == value or np.isnan(before) or device in memory.speaks_doors:
            continue
        name = "door_opened" if value else "door_closed"
        series = memory.door_series[s][int(value)]
        at = int(measured_at[i])
        found.append(EventRow(series, int(batch.element[i]), device, name, DERIVED, at, b'{"derived":true}'))
    return tuple(found)


def _rows(  # noqa: PLR0917 - columns
    batch: Batch, measured_at: I64, device: I32, judged: Bool, events: Sequence[EventRow], event_judged: Sequence[bool]
) -> Rows:
    """What the rules see, in order of arrival."""
    all_ = judged.all()
    series, at, value, element = batch.series, measured_at, batch.value, batch.element
    if not all_:
        series, at, value, element, device = series[judged], at[judged], value[judged], element[judged], device[judged]
    seen = [e for e, j in zip(events, event_judged, strict=True) if j]
    if seen:
        element = np.concatenate([element, np.array([e.element for e in seen], np.int32)])
        order = np.argsort(element, kind="stable")
        element = element[order]
        series = np.concatenate([series, np.array([e.series for e in seen], np.int32)])[order]
        at = np.concatenate([at, np.array([e.measured_at for e in seen], np.int64)])[order]
        value = np.concatenate([value, np.ones(len(seen))])[order]
        device = np.concatenate([device, np.array([e.device for e in seen], np.int32)])[order]
    return Rows(series, at, value, element, device)


def _heard(device: I32, measured_at: I64, element: I32, events: Sequence[EventRow]) -> tuple[I32, I64, I32]:
    if not events:
        return device, measured_at, element
    return (
        np.concatenate([device, np.array([e.device for e in events], np.int32)]),
        np.concatenate([measured_at, np.array([e.measured_at for e in events], np.int64)]),
        np.concatenate([element, np.array([e.element for e in events], np.int32)]),
    )


def _with_events(change: Change, newest: Newest, events: Sequence[EventRow]) -> Change:
    """The newest instant of every event series beside those of the readings."""
    tops: dict[int, int] = {}
    for e in events:
        tops[e.series] = max(tops.get(e.series, int(newest.measured_at[e.series])), e.measured_at)
    if not tops:
        return change
    return Change(
        np.concatenate([change.series, np.array(list(tops), np.int32)]),
        np.concatenate([change.measured_at, np.array(list(tops.values()), np.int64)]),
        np.concatenate([change.value, np.ones(len(tops))]),
        np.concatenate([change.quality, np.zeros(len(tops), np.uint8)]),
    )


def _counts(device: I32, verdict: U8, late: Bool, quality: U8, active: Bool) -> I64:
    """Ledger counts of the rows, one line a device, columns as flow.ledger.COLUMNS."""
    received = np.bincount(device, minlength=len(active))
    who = np.flatnonzero(received)
    stored = (verdict == Verdict.NEW) | (verdict == Verdict.UNSURE)
    columns: list[Bool] = [
        stored,
        verdict == Verdict.DUPLICATE,
        verdict == Verdict.REPLACED,
        verdict == Verdict.REFUSED,
        late,
        stored & (quality != Quality.GOOD),
        stored & ~active[device],
    ]
    counts = np.zeros((len(who), len(COLUMNS) + 1), np.int64)
    counts[:, 0] = who
    counts[:, 1] = received[who]
    # Counting is a tenth of the batch's cost, and most columns of most batches are empty or full.
    for place, column in enumerate(columns, start=2):
        if column.all():
            counts[:, place] = counts[:, 1]
        elif column.any():
            counts[:, place] = np.bincount(device[column], minlength=len(active))[who]
    return counts


def _other_counts(found: _Events, refused: Sequence[Refused], events: Sequence[EventRow], active: Bool) -> I64:
    """Ledger counts of events and of what never became a row; a device may stand in several lines."""
    width = len(COLUMNS) + 1
    place = {name: i + 1 for i, name in enumerate(COLUMNS)}
    lines: list[list[int]] = []

    def line(device: int, **by: int) -> None:
        row = [device, *([0] * (width - 1))]
        for name, n in by.items():
            row[place[name]] = n
        lines.append(row)

    for event, is_late in zip(found.stored, found.late, strict=True):
        line(event.device, received=1, stored=1, late=int(is_late), quarantined=int(not active[event.device]))
    for device in found.repeats:
        line(device, received=1, duplicate=1)
    for gone in refused:
        line(gone.device, received=gone.count, refused=gone.count)
    assert len(found.stored) + len(found.repeats) == len(events)
    return np.array(lines, np.int64).reshape(-1, width)


def _impossible(registry: Registry, batch: Batch, measured_at: I64, impossible: Bool) -> tuple[Refused, ...]:
    """Values beyond what their sensor can measure, written as the device could have sent them alone."""
    found = []
    for i in np.flatnonzero(impossible):
        series = int(batch.series[i])
        device = registry.devices[registry.series_device[series]]
        metric, value = registry.series_metric[series], float(batch.value[i])
        payload = json.dumps({"at": to_iso(int(measured_at[i])), metric: value}).encode()
        where = topic(device.site, device.kind, device.id, "readings")
        found.append(
            Refused(where, payload, "out_of_range", f"{metric}: {value:g} is beyond its sensor", device.number)
        )
    return tuple(found)

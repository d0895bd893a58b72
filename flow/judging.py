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
from flow.classify import Change, Classified, Find, Newest, Verdict, classify, steps_of
from flow.holes import HoleChange
from flow.ledger import DERIVED, DERIVED_PAYLOAD
from flow.numbering import Gaps
from flow.service_alarms import clock_transitions, range_transitions, silence_transitions
from rules.outcome import Outcome, Rows, Transition
from store.records.refused import KEPT_OF_A_BATCH
from store.records.settled import (
    FLAG_SHIFT,
    FLAGS,
    JUDGED,
    LATE,
    WAITING,
    Settled,
    SettledEvent,
    elements_of,
    pack_columns,
)
from store.records.settled import Rows as SettledRows
from store.records.tables import events as events_table

if TYPE_CHECKING:
    from flow.memory import Limits, Memory

# Keys looked up in one statement; SQLite takes at most 32,766 bound values.
KEYS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Judged:
    """`rows` and `settled` are one thing twice: as the appender takes it, and as the journal keeps it."""

    settled: Settled
    rows: SettledRows
    device: I32
    transitions: tuple[Transition, ...]
    outcome: Outcome
    heard: Heard
    change: Change
    gaps: Gaps | None
    clock_changes: dict[int, tuple[int, float] | None]
    range_changes: dict[int, tuple[int, float] | None]
    events: tuple[EventRow, ...]
    refused: tuple[Refused, ...]
    arrivals: tuple[Arrival, ...]
    holes: HoleChange


@dataclass(frozen=True, slots=True)
class _Events:
    """The batch's events after duplicates are gone: stored ones, whether each is judged, and whose were repeats."""

    stored: tuple[EventRow, ...]
    judged: tuple[bool, ...]
    late: tuple[bool, ...]
    repeats: tuple[EventRow, ...]


@dataclass(frozen=True, slots=True)
class _Elements:
    """The elements that have rows: which they are, how many rows each has, whose it is, what it says of its instant,
    when it came, and whether its clock is wrong."""

    number: I32
    size: I64
    device: I32
    said: I64
    received_at: I64
    wrong: Bool

    @property
    def measured_at(self) -> I64:
        """With the clocks put right."""
        return np.where(self.wrong, self.received_at, self.said)


def _elements(batch: Batch, limits: Limits) -> _Elements:
    start, size = elements_of(batch.element)
    number = batch.element[start]
    said, received_at = batch.measured_at[start], batch.element_received_at[number]
    wrong = limits.clock.wrong(said, received_at)
    return _Elements(number, size, batch.element_device[number], said, received_at, wrong)


def judge(memory: Memory, batch: Batch, now: int, *, tx: Connection, limits: Limits, find: Find) -> Judged:
    registry, newest = memory.registry, memory.newest
    elements = _elements(batch, limits)
    clock_edges, clock_changes, events = _judge_clocks(memory, batch, limits, elements)
    heard_at = elements.measured_at
    measured_at = np.repeat(heard_at, elements.size) if elements.wrong.any() else batch.measured_at
    device = np.repeat(elements.device, elements.size)

    impossible, quality, flag = _judge_values(memory, batch, elements)
    range_edges, range_changes = _judge_ranges(memory, batch, measured_at, impossible)
    sorted_ = classify(newest, batch.series, measured_at, batch.value, quality, refused=impossible, find=find)
    judged_rows = _seen_by_rules(memory, sorted_, quality, device)
    found = _sort_events(tx, memory, events, now)
    derived = _derive_doors(memory, batch, measured_at, judged_rows)
    stored_events = (*found.stored, *derived)
    judged_events = (*found.judged, *(True for _ in derived))

    rows = _rows(batch, measured_at, device, judged_rows, stored_events, judged_events)
    if len(rows) == len(batch) and sorted_.rising is not None and not stored_events:
        rows = replace(rows, by_series=sorted_.rising.order)
    outcome = memory.engine.evaluate(rows)
    heard = memory.presence.hear(*_heard(elements.device, heard_at, elements.number, events))
    transitions = (
        *outcome.transitions,
        *clock_transitions(registry, clock_edges),
        *range_transitions(registry, memory.ranges.standing, range_edges),
        *silence_transitions(registry, heard.silences),
    )
    state = _states(memory, sorted_, judged_rows, flag, device=device, late_before=now - LATE_AFTER, at=measured_at)
    gaps = _look_for_gaps(memory, batch, sorted_.newer, found.repeats)
    settled = Settled(
        **pack_columns(
            batch.series, batch.value, quality, state, at=heard_at, size=elements.size, number=elements.number
        ),
        events=[
            *(
                SettledEvent(
                    e.series, e.device, e.element, e.measured_at, j, _event_state(memory, e, judged=j, late=late)
                )
                for e, j, late in zip(found.stored, found.judged, found.late, strict=True)
            ),
            *(SettledEvent(e.series, e.device, e.element, e.measured_at, True) for e in derived),
        ],
        arrivals=[(a.packet_id, a.digest, a.received_at) for a in batch.arrivals],
        repeats=[e.device for e in found.repeats],
        refused=_counted(batch.refused),
        seq=gaps.packed() if gaps is not None else None,
    )
    return Judged(
        settled,
        SettledRows(batch.series, measured_at, batch.value, quality, batch.element, state, sorted_.verdict),
        device,
        tuple(sorted(transitions, key=lambda t: t.element)),
        outcome,
        heard,
        _with_events(sorted_.change, newest, stored_events),
        gaps,
        clock_changes,
        range_changes,
        stored_events,
        (*batch.refused, *(_impossible(registry, batch, measured_at, impossible) if impossible is not None else ())),
        batch.arrivals,
        _look_for_holes(memory, batch, measured_at, quality, sorted_, judged_rows, now),
    )


def _judge_values(memory: Memory, batch: Batch, elements: _Elements) -> tuple[Bool | None, U8, U8 | None]:
    """Rows beyond what their sensor can measure (None: none), the quality of all, and why each is flagged (None: none
    is)."""
    newest, series, value, quality = memory.newest, batch.series, batch.value, batch.quality
    # What is plausible is possible, so one look is enough where nothing is odd.
    odd = (value < newest.plausible_low[series]) | (value > newest.plausible_high[series])
    implausible, clock_wrong, doubted = odd.any(), elements.wrong.any(), quality.any()
    impossible = None
    if implausible:
        impossible = (value < newest.possible_low[series]) | (value > newest.possible_high[series])
        impossible = impossible if impossible.any() else None
    if not (implausible or clock_wrong or doubted):
        return impossible, quality, None
    flag = np.where(odd, FLAGS.index("implausible"), np.where(quality != Quality.GOOD, FLAGS.index("suspect"), 0))
    if clock_wrong:
        wrong = np.repeat(elements.wrong, elements.size)
        flag[wrong] = FLAGS.index("clock_wrong")
        odd |= wrong
    quality = np.where(odd, np.maximum(quality, Quality.SUSPECT), quality).astype(np.uint8)
    return impossible, quality, flag.astype(np.uint8)


def _judge_ranges(
    memory: Memory, batch: Batch, measured_at: I64, impossible: Bool | None
) -> tuple[list[tuple[int, Fault]], dict[int, tuple[int, float] | None]]:
    if impossible is None:
        if not memory.ranges.standing:
            return [], {}
        impossible = np.zeros(len(batch), np.bool_)
    return memory.ranges.judge(batch.series, impossible, measured_at, batch.value, batch.element)


def _seen_by_rules(memory: Memory, sorted_: Classified, quality: U8, device: I32) -> Bool:
    seen = sorted_.newer if not quality.any() else sorted_.newer & (quality != Quality.BAD)
    return seen if memory.judged.all() else seen & memory.judged[device]


def _states(
    memory: Memory, sorted_: Classified, judged: Bool, flag: U8 | None, *, device: I32, late_before: int, at: I64
) -> U8:
    """What became of every row, in one byte each (store.records.settled)."""
    state = sorted_.verdict | (judged.view(np.uint8) * np.uint8(JUDGED))
    old = at < late_before
    if sorted_.rising is None:
        old |= ~sorted_.newer
    if old.any():
        kept = (sorted_.verdict == Verdict.NEW) | (sorted_.verdict == Verdict.UNSURE)
        state[old & kept] |= LATE
    if not memory.active.all():
        state[~memory.active[device]] |= WAITING
    if flag is not None:
        state |= flag << FLAG_SHIFT
    return state


def _event_state(memory: Memory, event: EventRow, *, judged: bool, late: bool) -> int:
    waiting = not memory.active[event.device]
    return Verdict.NEW | (JUDGED if judged else 0) | (LATE if late else 0) | (WAITING if waiting else 0)


def _counted(refused: Sequence[Refused]) -> list[tuple[int, str, int]]:
    """By device and reason."""
    found: dict[tuple[int, str], int] = {}
    for r in refused:
        found[r.device, r.reason] = found.get((r.device, r.reason), 0) + r.count
    return [(device, reason, n) for (device, reason), n in found.items()]


def _look_for_gaps(memory: Memory, batch: Batch, newer: Bool, repeats: Sequence[EventRow]) -> Gaps | None:
    """An element without rows, be it that all its values were refused, is as good as a new one; a repeat is not."""
    if batch.element_seq is None:
        return None
    fresh = np.ones(len(batch.element_device), np.bool_)
    if not newer.all():
        fresh[batch.element] = False
        fresh[batch.element[newer]] = True
    fresh[[e.element for e in repeats]] = False
    return memory.numbering.look(batch.element_device, batch.element_seq, fresh)


def _look_for_holes(  # noqa: PLR0917 - columns
    memory: Memory, batch: Batch, measured_at: I64, quality: U8, sorted_: Classified, judged: Bool, now: int
) -> HoleChange:
    """What comes late and is new, or another value than before, of a device that is judged."""
    newest, late = memory.newest.measured_at, None
    steps = sorted_.rising if sorted_.rising is not None and judged.all() else None
    if sorted_.rising is None:
        stored = (sorted_.verdict != Verdict.REFUSED) & (sorted_.verdict != Verdict.DUPLICATE)
        late = ~sorted_.newer & stored
        late &= (quality != Quality.BAD) & memory.judged[memory.newest.device[batch.series]]
        late = late if late.any() else None
    if steps is None:
        steps = steps_of(newest, batch.series, measured_at, np.flatnonzero(judged))
    return memory.holes.look(steps, batch.series, measured_at, late=late, now=now)


def _judge_clocks(
    memory: Memory, batch: Batch, limits: Limits, elements: _Elements
) -> tuple[list[tuple[int, Fault]], dict[int, tuple[int, float] | None], tuple[EventRow, ...]]:
    """Edges of clock faults over elements and events, and the events with their instants put right."""
    number, device, wrong, at = elements.number, elements.device, elements.wrong, elements.received_at
    events = batch.events
    if not events and not memory.clocks.standing and not wrong.any():
        return [], {}, events
    off = (elements.said - at).astype(np.float64)
    if events:
        arrived = batch.element_received_at[[e.element for e in events]]
        said = np.array([e.measured_at for e in events], np.int64)
        event_wrong = limits.clock.wrong(said, arrived)
        events = tuple(
            replace(e, measured_at=int(a)) if w else e for e, w, a in zip(events, event_wrong, arrived, strict=True)
        )
        order = np.argsort(np.concatenate([number, [e.element for e in events]]), kind="stable")
        number = np.concatenate([number, np.array([e.element for e in events], np.int32)])[order]
        device = np.concatenate([device, np.array([e.device for e in events], np.int32)])[order]
        wrong = np.concatenate([wrong, event_wrong])[order]
        off = np.concatenate([off, (said - arrived).astype(np.float64)])[order]
        at = np.concatenate([at, arrived])[order]
    edges, changes = memory.clocks.judge(device, wrong, at, off, number)
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
            repeats.append(event)
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
        found.append(EventRow(series, int(batch.element[i]), device, name, DERIVED, at, DERIVED_PAYLOAD))
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


def _impossible(registry: Registry, batch: Batch, measured_at: I64, impossible: Bool) -> tuple[Refused, ...]:
    """Values beyond what their sensor can measure, written as the device could have sent them alone. The ledger counts
    the rows; of many the rest is one line."""
    found = []
    where_impossible = np.flatnonzero(impossible)
    rest = len(where_impossible) - KEPT_OF_A_BATCH
    if rest > 0:
        found.append(Refused("", b"", "out_of_range", f"{rest:,} more values, not kept", count=rest, whole=False))
    for i in where_impossible[:KEPT_OF_A_BATCH]:
        series = int(batch.series[i])
        device = registry.devices[registry.series_device[series]]
        metric, value = registry.series_metric[series], float(batch.value[i])
        payload = json.dumps({"at": to_iso(int(measured_at[i])), metric: value}).encode()
        where = topic(device.site, device.kind, device.id, "readings")
        found.append(
            Refused(where, payload, "out_of_range", f"{metric}: {value:g} is beyond its sensor", device.number)
        )
    return tuple(found)

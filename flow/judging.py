"""What a batch comes to: clocks put right, impossible values refused, rows classified, rules evaluated.

Reads memory and the database, changes neither: `Settler` commits the result and only then adopts it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection

from devices.batch import I32, I64, U8, Arrival, Batch, Bool, EventRow, Quality, Refused
from devices.faults import Fault
from devices.instants import to_iso
from devices.names import topic
from devices.presence import Heard
from devices.registry import Registry
from flow.alarms import LATE_AFTER
from flow.classify import Change, Classified, Find, Verdict, classify, steps_of
from flow.happenings import Events, all_heard, derive_doors, sort_events, with_events
from flow.holes import HoleChange
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

if TYPE_CHECKING:
    from flow.memory import Limits, Memory


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
    found = sort_events(tx, memory, events, now)
    derived = derive_doors(memory, batch, measured_at, judged_rows)
    stored_events = (*found.stored, *derived)
    judged_events = (*found.judged, *(True for _ in derived))

    rows = _rows(batch, measured_at, device, judged_rows, stored_events, judged_events)
    if len(rows) == len(batch) and sorted_.rising is not None and not stored_events:
        rows = replace(rows, by_series=sorted_.rising.order)
    outcome = memory.engine.evaluate(rows)
    heard = memory.presence.hear(*all_heard(elements.device, heard_at, elements.number, events))
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
        events=_settled_events(memory, found, derived),
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
        with_events(sorted_.change, newest, stored_events),
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


def _settled_events(memory: Memory, found: Events, derived: Sequence[EventRow]) -> list[SettledEvent]:
    sent = zip(found.stored, found.judged, found.late, strict=True)
    return [
        *(
            SettledEvent(e.series, e.device, e.element, e.measured_at, j, _event_state(memory, e, judged=j, late=late))
            for e, j, late in sent
        ),
        *(SettledEvent(e.series, e.device, e.element, e.measured_at, True) for e in derived),
    ]


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
        # Of a packet that is read again: when it came.
        came = int(batch.element_received_at[batch.element[i]]) if batch.redriven else 0
        detail = f"{metric}: {value:g} is beyond its sensor"
        found.append(Refused(where, payload, "out_of_range", detail, device.number, arrived_at=came))
    return tuple(found)

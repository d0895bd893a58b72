"""Events of a batch: which are new, which follow from a door's `open`, and what they add to the columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection

from devices.batch import I32, I64, Batch, Bool, EventRow
from flow.alarms import LATE_AFTER
from flow.classify import Change, Newest
from flow.ledger import DERIVED, DERIVED_PAYLOAD

if TYPE_CHECKING:
    from flow.memory import Memory

# Events looked up in one statement, and in which numbers: each is a statement that SQLite keeps, text and plan.
AT_ONCE = 256
Identity = tuple[int, str, int]  # device, the sender's key, instant


@dataclass(frozen=True, slots=True)
class Events:
    """The batch's events after duplicates are gone: stored ones, whether each is judged, and whose were repeats."""

    stored: tuple[EventRow, ...]
    judged: tuple[bool, ...]
    late: tuple[bool, ...]
    repeats: tuple[EventRow, ...]


def sort_events(tx: Connection, memory: Memory, events: Sequence[EventRow], now: int) -> Events:
    """Which events are new (device, key, at); of those, which the rules see: not older than the last of their name."""
    if not events:
        return Events((), (), (), ())
    known = _known(tx, {(e.device, e.key, e.measured_at) for e in events})
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
    return Events(tuple(stored), tuple(judged), tuple(late), tuple(repeats))


def _known(tx: Connection, wanted: Iterable[Identity]) -> set[Identity]:
    """Those that are stored."""
    rest = iter(wanted)
    found: set[Identity] = set()
    while part := list(islice(rest, AT_ONCE)):
        part += [part[0]] * ((1 << (len(part) - 1).bit_length()) - len(part))
        # In this order, or SQLite walks over every event there is.
        query = (
            f"WITH wanted(device, key, at) AS (VALUES {', '.join(['(?, ?, ?)'] * len(part))}) SELECT wanted.* "
            "FROM wanted CROSS JOIN events USING (device, key, at)"
        )
        found |= {(row.device, row.key, row.at) for row in tx.exec_driver_sql(query, tuple(chain.from_iterable(part)))}
    return found


def derive_doors(memory: Memory, batch: Batch, measured_at: I64, judged: Bool) -> tuple[EventRow, ...]:
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


def all_heard(device: I32, measured_at: I64, element: I32, events: Sequence[EventRow]) -> tuple[I32, I64, I32]:
    if not events:
        return device, measured_at, element
    return (
        np.concatenate([device, np.array([e.device for e in events], np.int32)]),
        np.concatenate([measured_at, np.array([e.measured_at for e in events], np.int64)]),
        np.concatenate([element, np.array([e.element for e in events], np.int32)]),
    )


def with_events(change: Change, newest: Newest, events: Sequence[EventRow]) -> Change:
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

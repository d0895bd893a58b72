"""What the settling thread remembers between batches, all of it made again from the snapshot and the journal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from devices.batch import Arrival, Bool
from devices.faults import ClockLimits, Faults
from devices.presence import Presence
from devices.registry import EVENT, DeviceStatus, Registry
from flow.classify import Change, Newest, Verdict
from flow.holes import Holes
from flow.ledger import Ledger, count_settled
from flow.numbering import Numbering, unpack
from flow.service_alarms import SILENCE
from rules.engine import Engine
from rules.outcome import Rows, Transition
from rules.snapshot import read as read_engine
from store.records.journal import Entry, EntryKind
from store.records.settled import Settled, rows_of


@dataclass(frozen=True, slots=True)
class Limits:
    """`journal_bytes`: how much may wait for the readings store. `arrivals`: packets that can be in flight at once."""

    clock: ClockLimits
    journal_bytes: int
    arrivals: int


class _Saved(msgspec.Struct):
    now: int
    book: dict[str, str]
    engine: bytes
    measured_at: bytes
    value: bytes
    quality: bytes
    presence: dict[str, bytes | int]
    arrivals: list[tuple[int, bytes, int]]
    # Not in snapshots of versions before these.
    last_seq: bytes = b""
    missing: dict[int, list[tuple[int, int]]] = {}


@dataclass
class Memory:
    """`active` and `judged` (active, and no second source) are per device; `is_open`, `door_series` (closed, opened) of
    the `open` series of door sensors; `speaks_doors` are the sensors that send door events themselves; `now` is the
    last instant anything was settled."""

    registry: Registry
    engine: Engine
    newest: Newest = field(default_factory=Newest)
    holes: Holes = field(default_factory=Holes)
    presence: Presence = field(default_factory=Presence)
    clocks: Faults = field(default_factory=Faults)
    ranges: Faults = field(default_factory=Faults)
    ledger: Ledger = field(default_factory=Ledger)
    numbering: Numbering = field(default_factory=Numbering)
    arrivals: OrderedDict[int, Arrival] = field(default_factory=OrderedDict)
    active: Bool = field(default_factory=lambda: np.empty(0, np.bool_))
    judged: Bool = field(default_factory=lambda: np.empty(0, np.bool_))
    is_open: Bool = field(default_factory=lambda: np.empty(0, np.bool_))
    door_series: dict[int, tuple[int, int]] = field(default_factory=dict)
    speaks_doors: set[int] = field(default_factory=set)
    now: int = 0

    def devices_changed(self, grid_tree: Mapping[str, frozenset[str]] | None = None) -> tuple[Transition, ...]:
        """Devices were added, or their status or attributes changed, or the grids; what no longer stands because of
        it."""
        devices = tuple(self.registry.devices)  # once: the decoder may number another one meanwhile
        self.active = np.array([d.status is DeviceStatus.ACTIVE for d in devices], np.bool_)
        self.judged = np.array([d.judged for d in devices], np.bool_)
        self.presence.devices_changed(devices)
        self.numbering.grow(len(self.active))
        ended = self.engine.devices_changed(grid_tree)
        self.grow()
        return ended

    def declared_changed(self) -> None:
        """The engine has other pauses: a device that is paused altogether is not missed either."""
        found: dict[int, tuple[tuple[int, int], ...]] = {}
        for pause in self.engine.declared.pauses:
            device = self.registry.get(pause.device)
            if device is not None and (pause.rules is None or SILENCE in pause.rules):
                found[device.number] = (*found.get(device.number, ()), (pause.start, pause.end))
        self.presence.pauses = found

    def grow(self) -> None:
        """Make room for series numbered since; a door's `open` brings the series of its two events."""
        known = len(self.is_open)
        while True:  # until no more came: of these events, or from the decoder
            self.newest.grow(self.registry)
            for number in range(known, len(self.newest.measured_at)):
                if self.registry.series_metric[number] == "open":
                    device = self.registry.series_device[number]
                    self.door_series[number] = (
                        self.registry.series(device, EVENT + "door_closed"),
                        self.registry.series(device, EVENT + "door_opened"),
                    )
            known = len(self.newest.measured_at)
            if known == len(self.registry.series_device):
                break
        self.holes.grow(self.registry)
        grown = np.zeros(len(self.newest.measured_at), np.bool_)
        grown[list(self.door_series)] = True
        self.is_open = grown

    def remember(self, arrivals: Iterable[Arrival], most: int) -> None:
        """Keep the last `most` packets: an older one cannot still be in flight, and its id may be another's by now."""
        for arrival in arrivals:
            self.arrivals.pop(arrival.packet_id, None)
            self.arrivals[arrival.packet_id] = arrival
        while len(self.arrivals) > most:
            self.arrivals.popitem(last=False)

    def snapshot(self, book: Mapping[str, str]) -> bytes:
        newest = self.newest
        return msgspec.msgpack.encode(
            _Saved(
                self.now,
                dict(book),
                self.engine.snapshot(),
                newest.measured_at.tobytes(),
                newest.value.tobytes(),
                newest.quality.tobytes(),
                self.presence.snapshot(),
                [(a.packet_id, a.digest, a.received_at) for a in self.arrivals.values()],
                self.numbering.last.tobytes(),
                self.numbering.missing,
            )
        )

    def restore(self, body: bytes, *, with_rules: bool = True) -> None:
        """Take a snapshot. Without its rules the engine begins afresh, which `can_restore` says when to do."""
        saved = msgspec.msgpack.decode(body, type=_Saved)
        for name, kind in (("measured_at", np.int64), ("value", np.float64), ("quality", np.uint8)):
            column = np.frombuffer(getattr(saved, name), kind)
            getattr(self.newest, name)[: len(column)] = column
        self.now = saved.now
        last = np.frombuffer(saved.last_seq, np.int64)
        self.numbering.last[: len(last)] = last
        self.numbering.missing = saved.missing
        self.presence.restore(saved.presence)
        if with_rules:
            self.engine.restore(saved.engine)
            self.declared_changed()
        self.remember((Arrival(*a) for a in saved.arrivals), len(saved.arrivals))

    def replay(self, entry: Entry, most_arrivals: int) -> None:
        """Take what a journal entry changed; its alarms and orders are in the database already."""
        self.now = max(self.now, entry.at)
        if entry.kind is EntryKind.TICK:
            self.engine.adopt(self.engine.tick(entry.at))
            self.presence.adopt(self.presence.tick(entry.at))
        elif entry.kind is EntryKind.LINK:
            self.engine.link(entry.at)
            self.presence.link(entry.at)
        elif entry.settled is not None:
            self._replay_batch(entry.at, entry.settled, most_arrivals)

    def _replay_batch(self, at: int, settled: Settled, most_arrivals: int) -> None:
        rows = rows_of(settled)
        device = self.newest.device[rows.series]
        judged = rows.judged
        seen = [e for e in settled.events if e.judged]
        events = settled.events
        element = np.concatenate([rows.element[judged], np.array([e.element for e in seen], np.int32)])
        order = np.argsort(element, kind="stable")
        self.engine.adopt(
            self.engine.evaluate(
                Rows(
                    np.concatenate([rows.series[judged], np.array([e.series for e in seen], np.int32)])[order],
                    np.concatenate([rows.measured_at[judged], np.array([e.measured_at for e in seen], np.int64)])[
                        order
                    ],
                    np.concatenate([rows.value[judged], np.ones(len(seen))])[order],
                    element[order],
                    np.concatenate([device[judged], np.array([e.device for e in seen], np.int32)])[order],
                )
            )
        )
        heard = self.presence.hear(
            np.concatenate([device, np.array([e.device for e in events], np.int32)]),
            np.concatenate([rows.measured_at, np.array([e.measured_at for e in events], np.int64)]),
            np.concatenate([rows.element, np.array([e.element for e in events], np.int32)]),
        )
        self.presence.adopt(heard)
        kept = rows.verdict != Verdict.REFUSED
        series = np.concatenate([rows.series[kept], np.array([e.series for e in events], np.int32)])
        instants = np.concatenate([rows.measured_at[kept], np.array([e.measured_at for e in events], np.int64)])
        values = np.concatenate([rows.value[kept], np.ones(len(events))])
        quality = np.concatenate([rows.quality[kept], np.zeros(len(events), np.uint8)])
        order = np.lexsort((np.arange(len(series)), instants, series))
        last = np.ones(len(order), np.bool_)
        last[:-1] = series[order][1:] != series[order][:-1]
        final = order[last]
        final = final[instants[final] >= self.newest.measured_at[series[final]]]
        self.newest.adopt(Change(series[final], instants[final], values[final], quality[final]))
        if settled.seq is not None:
            self.numbering.adopt(unpack(settled.seq))
        count_settled(self.ledger, at, settled, device, rows.state)
        self.remember((Arrival(*a) for a in settled.arrivals), most_arrivals)


def book_of(body: bytes) -> dict[str, str]:
    """The rule files a snapshot was taken under."""
    return msgspec.msgpack.decode(body, type=_Saved).book


def can_restore(body: bytes) -> bool:
    """Whether the state of the rules in a snapshot is of this version of the engine."""
    try:
        read_engine(msgspec.msgpack.decode(body, type=_Saved).engine)
    except ValueError:
        return False
    return True

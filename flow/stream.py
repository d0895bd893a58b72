"""The event stream: rows written inside the transactions that cause them, fanned out to every listening client.

The surprise: no client has a queue. Each remembers only the last id it was sent and pulls what follows from a short
shared memory, or from the table when it has fallen far behind, so a slow client costs nothing and loses nothing within
the 24 hours the table keeps. Latest values are not events: a client that was busy gets the newest value of each series
and never the ones between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sqlalchemy import Connection, Engine, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from alerts.categories import is_personal_category
from devices.batch import F64, I64, U8, Bool, Quality
from devices.instants import DAY, to_iso
from devices.kinds import KINDS
from devices.registry import EVENT, Device, DeviceStatus, Registry
from rules.rule import Priority
from store.records.database import write
from store.records.tables import stream

RETENTION = DAY
# Enough for a storm of alarms between two wake-ups of a healthy client; the table serves those further behind.
RING = 2_000
READ_LIMIT = 500
# One event of latest values; a town with more changes in a second sends the rest in the next second.
VALUES_LIMIT = 2_000
# Another process (the command line) may write to the table without poking: found within this many seconds.
POLL_S = 1.0
PRUNE_EVERY = 600  # polls
MASKS_EVERY = 30  # polls: how long an approval may take to show among the latest values
# What a client gets without events: proof that the connection lives, and the moment its right to listen is checked.
HEARTBEAT_S = 15.0
VALUES_S = 1.0
# Refused beyond: each client costs two arrays over all series.
MAX_CLIENTS = 200
# What of an event of a personal device (an elder's door) everyone may know: that there is one, and in which grid.
PUBLIC_KEYS = frozenset({"id", "rule", "alarm", "act", "state", "step", "active", "priority", "category", "grid",
                         "version"})  # fmt: skip
# What a personal device says of who is at home: for those who ask for one device by name, in no list and no stream.
AT_HOME = frozenset({"open", "motion"})

log = logging.getLogger(__name__)


def emit(tx: Connection, now: int, kind: str, body: Mapping[str, object]) -> None:
    """Add an event to the transaction: it exists if and only if the change does. `kind` is one of the table's."""
    tx.execute(insert(stream).values(at=now, kind=kind, body=dict(body)))


def prune(records: Engine, now: int) -> int:
    """Delete what is older than 24 hours, the newest row excepted: ids must go on from it."""
    newest = select(func.max(stream.c.id)).scalar_subquery()
    with write(records) as tx:
        return tx.execute(delete(stream).where(stream.c.at < now - RETENTION, stream.c.id < newest)).rowcount


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    kind: str
    body: Mapping[str, object]


class LatestColumns(Protocol):
    """Newest value of every series, indexed by series number; `measured_at` 0 where nothing came yet."""

    measured_at: I64
    value: F64
    quality: U8


class Hub:
    """Wakes the clients of this process when the table grows; `poke` may come from any thread, while `run` runs."""

    def __init__(
        self, records: Engine, now: Callable[[], int], *, registry: Registry, latest: Callable[[], LatestColumns]
    ) -> None:
        self.registry = registry
        self.clients = 0
        self._records = records
        self._now = now
        self.latest = latest
        self._ring: deque[Event] = deque(maxlen=RING)
        self._last = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._changed = asyncio.Event()
        self._polls = 0
        self._masks: tuple[Bool, Bool] = (np.empty(0, bool), np.empty(0, bool))
        self._masks_key = (-1, -1)
        self.closed = False

    def poke(self) -> None:
        """Say that the table may have grown."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Until cancelled. Clients end when it ends."""
        self._loop = asyncio.get_running_loop()
        try:
            self._last = await self.newest()
            # Clients may have come before: what they missed is in the table.
            self._publish()
            while True:
                try:
                    await self._poll()
                except SQLAlchemyError:
                    # SQL is down: readiness says so, and the events wait in the table.
                    log.warning("event stream: cannot read the records", exc_info=True)
                await _wait(self._woken, POLL_S)
                self._woken.clear()
        finally:
            self._loop = None
            self.close()

    def close(self) -> None:
        self.closed = True
        self._publish()

    async def wait(self, last: int, seconds: float) -> None:
        """Return when there may be something after `last`, or the time is up."""
        if self._last <= last and not self.closed:
            await _wait(self._changed, seconds)

    def shown(self, event: Event, *, personal: bool) -> Mapping[str, object] | None:
        """The body this client may see, None for nothing: without `personal`, a personal device or
        an order of elder care is a grid's count."""
        device = self.registry.get(str(event.body.get("device", "")))
        # What is about several devices says of which kind.
        kind = KINDS.get(device.kind if device is not None else str(event.body.get("kind", "")))
        of_person = kind is not None and kind.personal
        if personal or not (of_person or is_personal_category(str(event.body.get("category", "")))):
            return event.body
        # A notice says that a door opened, presence when; a command is the desk's: none is a count.
        if event.kind in ("presence", "command") or event.body.get("priority") == Priority.NOTICE:
            return None
        return {key: value for key, value in event.body.items() if key in PUBLIC_KEYS}

    async def after(self, last: int) -> list[Event] | None:
        """The events after `last`, oldest first, at most READ_LIMIT; None where some are no longer kept."""
        if last >= self._last:
            return []
        if self._ring and last >= self._ring[0].id - 1:
            return [event for event in self._ring if event.id > last][:READ_LIMIT]
        return await asyncio.to_thread(self._read_kept, last)

    async def newest(self) -> int:
        """The newest id in the table, 0 before the first."""
        return await asyncio.to_thread(self._newest)

    async def resumable(self, last: int) -> bool:
        """Whether `last` is an id of the last 24 hours, so that everything after it can still be sent."""
        return await asyncio.to_thread(self._is_kept, last)

    def series_shown(self, *, personal: bool) -> Bool:
        """Which series may be sent as latest values: no events, nothing rejected, personal devices only if asked
        and then not who is at home."""
        size = len(self.registry.series_device)
        key = (size, self._polls // MASKS_EVERY)
        if key != self._masks_key:
            devices = np.asarray(self.registry.series_device[:size], np.int32)
            value = np.array([not m.startswith(EVENT) for m in self.registry.series_metric[:size]], bool)
            shown = np.array([d.status is not DeviceStatus.REJECTED for d in self.registry.devices], bool)
            public = np.array([not KINDS[d.kind].personal for d in self.registry.devices], bool)
            at_home = np.array([m in AT_HOME for m in self.registry.series_metric[:size]], bool)
            handlers = value & shown[devices] & (public[devices] | ~at_home)
            self._masks = (value & (shown & public)[devices], handlers)
            self._masks_key = key
        return self._masks[personal]

    async def _poll(self) -> None:
        if self._polls % PRUNE_EVERY == 0:
            await asyncio.to_thread(prune, self._records, self._now())
        self._polls += 1
        while events := await asyncio.to_thread(self._read, self._last):
            self._ring.extend(events)
            self._last = events[-1].id
            self._publish()

    def _publish(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _newest(self) -> int:
        with self._records.connect() as tx:
            return tx.execute(select(func.max(stream.c.id))).scalar() or 0

    def _read(self, last: int) -> list[Event]:
        with self._records.connect() as tx:
            return _after(tx, last)

    def _read_kept(self, last: int) -> list[Event] | None:
        with self._records.connect() as tx:
            oldest = tx.execute(select(func.min(stream.c.id))).scalar()
            return None if oldest is None or last < oldest - 1 else _after(tx, last)

    def _is_kept(self, last: int) -> bool:
        since = self._now() - RETENTION
        with self._records.connect() as tx:
            first, oldest_at = tx.execute(select(func.min(stream.c.id), func.min(stream.c.at))).one()
            if last == 0:  # a client of an installation in which nothing had happened yet
                return first is None or (first == 1 and oldest_at >= since)
            at = tx.execute(select(stream.c.at).where(stream.c.id == last)).scalar()
            return at is not None and at >= since


def _after(tx: Connection, last: int) -> list[Event]:
    found = tx.execute(
        select(stream.c.id, stream.c.kind, stream.c.body)
        .where(stream.c.id > last)
        .order_by(stream.c.id)
        .limit(READ_LIMIT)
    )
    return [Event(id_, kind, body) for id_, kind, body in found]


class _Values:
    """What one client was last told of every series."""

    def __init__(self, hub: Hub, *, personal: bool, devices: frozenset[str] | None) -> None:
        self._hub, self._personal, self._devices = hub, personal, devices
        self._at: I64 = np.empty(0, np.int64)
        self._value: F64 = np.empty(0, np.float64)

    def changed(self) -> list[dict[str, object]]:
        """Values that differ from those told, at most VALUES_LIMIT; the rest follows at the next call."""
        shown, latest = self._hub.series_shown(personal=self._personal), self._hub.latest()
        quality, value, at = latest.quality, latest.value, latest.measured_at
        size = min(len(quality), len(value), len(at), len(shown))
        if size > len(self._at):
            more = size - len(self._at)
            self._at = np.concatenate((self._at, np.zeros(more, np.int64)))
            self._value = np.concatenate((self._value, np.full(more, np.nan)))
        differs = (at[:size] != self._at[:size]) | (value[:size] != self._value[:size])
        found = np.flatnonzero(shown[:size] & (at[:size] > 0) & differs)
        if self._devices is not None:
            found = found[[self._device(s).id in self._devices for s in found.tolist()]]
        found = found[:VALUES_LIMIT]
        self._at[found], self._value[found] = at[found], value[found]
        return [self._item(s, int(at[s]), float(value[s]), int(quality[s])) for s in found.tolist()]

    def _device(self, series: int) -> Device:
        return self._hub.registry.devices[self._hub.registry.series_device[series]]

    def _item(self, series: int, at: int, value: float, quality: int) -> dict[str, object]:
        metric = self._hub.registry.series_metric[series]
        return {
            "device": self._device(series).id, "metric": metric, "at": to_iso(at), "value": value,
            "quality": Quality(quality).name.lower(),
        }  # fmt: skip


async def sse(
    hub: Hub,
    last_id: str | None,
    *,
    personal: bool,
    values: bool = True,
    devices: frozenset[str] | None = None,
    allowed: Callable[[], bool] | None = None,
    heartbeat_s: float | None = None,
) -> AsyncIterator[str]:
    """Server-sent events for one client, until the hub closes or `allowed` (asked at every heartbeat) says no.

    `last_id` is the client's Last-Event-ID: everything after it is sent first, or `event: reset` where that is no
    longer known. Without it the stream begins now, with an `event: ready` whose id makes a later resume complete.
    `personal` shows personal devices (handler and above). `devices` narrows the latest values, not the events.
    """
    hub.clients += 1
    try:
        last, opening = await _open(hub, last_id)
        yield f"retry: 2000\n{opening}"
        told = _Values(hub, personal=personal, devices=devices)
        loop, pause = asyncio.get_running_loop(), HEARTBEAT_S if heartbeat_s is None else heartbeat_s
        beat, values_at = loop.time() + pause, loop.time()
        while not hub.closed:
            events = await hub.after(last)
            if events is None:
                last = await hub.newest()
                yield _message("reset", {"reason": "too_far_behind"}, last)
            for event in events or ():
                last = event.id
                if (body := hub.shown(event, personal=personal)) is not None:
                    yield _message(event.kind, body, last)
            if values and loop.time() >= values_at:
                values_at = loop.time() + VALUES_S
                if changed := told.changed():
                    yield _message("latest", {"items": changed})
            if loop.time() >= beat:
                if allowed is not None and not await asyncio.to_thread(allowed):
                    return
                beat = loop.time() + pause
                yield ": \n\n"
            until = min(beat, values_at) if values else beat
            await hub.wait(last, max(0.0, until - loop.time()))
    finally:
        hub.clients -= 1


async def _open(hub: Hub, last_id: str | None) -> tuple[int, str]:
    """The id to go on from, and the first message."""
    newest = await hub.newest()
    if last_id is None or not last_id.strip():
        return newest, _message("ready", {}, newest)
    number = int(last_id) if re.fullmatch(r"[0-9]{1,18}", last_id.strip()) else -1
    if await hub.resumable(number):
        return number, ": resumed\n\n"
    return newest, _message("reset", {"reason": "unknown_id"}, newest)


def _message(kind: str, body: Mapping[str, object], number: int | None = None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

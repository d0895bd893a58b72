"""Makes the settling state again at start: snapshot, then the journal after it, then what people changed meanwhile.

The journal is evaluated with the rules it was settled under (the snapshot carries them) and with the devices of then
(the database has them); only then are today's town and rules taken, so a rule edited while the service was down starts
afresh, what stood of a device that it no longer applies to ends, and both say so.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy import Connection, Engine, select

from alerts.service_rules import SERVICE_RULES
from devices.documents import DocumentError
from devices.kinds import KINDS
from devices.registry import Device, DeviceStatus, Registry
from devices.town import Town, TownDevice, tree_of
from flow.alarms import record_transitions
from flow.appender import Appender
from flow.ledger import DERIVED
from flow.memory import Limits, Memory, book_of, can_restore
from flow.readings import DECLARED_KEPT, SNAPSHOT, Settler
from flow.service_alarms import CLOCK, RANGE
from rules.book import RuleBook, load
from rules.calendar import Site
from rules.engine import Engine as RuleEngine
from rules.outcome import Edge, Transition
from store.readings import ReadingStore
from store.records import devices as device_records
from store.records.database import write
from store.records.declarations import read_declared
from store.records.journal import every_entry, last_number, load_snapshot
from store.records.tables import events, occurrences

log = logging.getLogger("gridwhistle.start")

_SITE = Site()
_NO_BOOK = RuleBook({}, {})


def start_settler(
    records: Engine,
    readings: ReadingStore,
    *,
    book: RuleBook,
    town: Town | None,
    limits: Limits,
    now: int | None,
    site: Site = _SITE,
) -> Settler:
    """The settler as the last commit left it, with the town, the rules and the declarations of today.

    `now` None: the data clock has not spoken yet; devices are first seen when it does.
    """
    with records.connect() as tx:
        registry = device_records.read_registry(tx)
        saved = load_snapshot(tx, SNAPSHOT)
        number, body = saved if saved else (0, b"")
        afresh = bool(body) and not can_restore(body)
        settled_under = _NO_BOOK if afresh else _book_then(body, book)
        tree = tree_of(device_records.list_grids(tx))
        memory = Memory(registry, RuleEngine(settled_under, registry, grid_tree=tree, site=site))
        memory.devices_changed()
        if body:
            memory.restore(body, with_rules=not afresh)
        memory.ledger.begin(tx)
        memory.ledger.folded_through = number
        for entry in every_entry(tx, number):
            memory.replay(entry, limits.arrivals)
        memory.holes.load(tx, memory.newest.measured_at)
        _standing_faults(tx, memory)
        _door_speakers(tx, memory)
        last = last_number(tx)
    if town is not None:
        _take_town(records, memory, town, now or 0)
    appender = Appender(records, readings, registry)
    appender.start(last)
    settler = Settler(records, memory, appender, limits=limits, number=max(last, appender.applied), book=settled_under)
    today = memory.now if now is None else now
    if afresh:
        log.warning("the state of the rules is of another version: all rules start afresh")
        _end_standing(settler, today)
    settler.reload(book, today)
    with records.connect() as tx:
        declared = read_declared(tx, registry, today - DECLARED_KEPT)
    if declared != memory.engine.declared:
        settler.declare(lambda _tx, _now: None, today)
    settler.delete_rejected(today)
    return settler


def _end_standing(settler: Settler, now: int) -> None:
    """Nothing would end what no rule remembers having raised."""
    c = occurrences.c
    standing = select(c.rule, c.device, c.metric, c.since, c.raised_at, c.first_value, c.peak_value)
    with settler.records.connect() as tx:
        rows = tx.execute(standing.where(c.cleared_at.is_(None), c.rule.not_in(SERVICE_RULES))).all()
    settler.end(
        [
            Transition(
                row.rule, row.device, row.metric, Edge.CLEARED, max(now, row.raised_at), row.since, row.first_value,
                row.peak_value, {"cleared_by": "rule_removed_or_changed"}, -1,
            )
            for row in rows
        ],
        now,
    )  # fmt: skip


def _book_then(body: bytes, book: RuleBook) -> RuleBook:
    files = book_of(body) if body else None
    if files is None or files == book.files:
        return book
    try:
        return load(files)
    except DocumentError as error:
        log.warning("the rules of the last run cannot be read any more; all rules start afresh: %s", error)
        return book


def _take_town(records: Engine, memory: Memory, town: Town, now: int) -> None:
    """The town as its files are today: devices and grids, and in the same commit the end of every alarm whose rule does
    not apply to its device any more."""
    registry = memory.registry
    known = len(registry.devices)
    wanted = [_as_wanted(registry, town.site, each, now) for each in town.devices.values()]
    updated = [d for d in wanted if d is not None and registry.get(d.id) is not None]
    fresh = [d for d in wanted if d is not None and registry.get(d.id) is None]
    for device in (*updated, *(replace(d, number=known + place) for place, d in enumerate(fresh))):
        registry.put(device)
    series = [number for device in updated for _, number in registry.series_of(device.number)]
    memory.newest.measure(registry, series)
    memory.holes.measure(registry, series)
    with write(records) as tx:
        device_records.put_grids(tx, town.grids.values())
        for device in updated:
            device_records.put_device(tx, device)
        device_records.add_devices(tx, registry.devices[known:])
        ended = memory.devices_changed(tree_of(town.grids.values()))
        record_transitions(
            tx, ended, now=max([now, *(t.at for t in ended)]), registry=registry, rulebook=memory.engine.book,
            counting=memory.engine.counting,
        )  # fmt: skip


def _as_wanted(registry: Registry, site: str, wanted: TownDevice, now: int) -> Device | None:
    """None where it is known as it stands in the files. Status and first_seen stay."""
    known = registry.get(wanted.id)
    if known is None:
        return _device(site, wanted, 0, now)
    quarantined = known.status is DeviceStatus.QUARANTINED  # whoever wrote it into the town has approved it
    status = DeviceStatus.ACTIVE if quarantined else known.status
    device = replace(_device(site, wanted, known.number, known.first_seen), status=status)
    return device if device != known else None


def _device(site: str, wanted: TownDevice, number: int, first_seen: int) -> Device:
    at = wanted.at or (None, None)
    return Device(
        number=number,
        id=wanted.id,
        site=site,
        kind=wanted.kind,
        name=wanted.name,
        grid=wanted.grid,
        attributes=wanted.attributes,
        tags=wanted.tags,
        interval_s=wanted.interval or KINDS[wanted.kind].interval_s,
        silent_after_s=wanted.silent_after,
        latitude=at[0],
        longitude=at[1],
        keeper=wanted.keeper,
        keeper_phone=wanted.keeper_phone,
        person=wanted.person,
        person_address=wanted.person_address,
        first_seen=first_seen,
        second_of=wanted.second_of,
    )


def _standing_faults(tx: Connection, memory: Memory) -> None:
    """Faults stand where their occurrence stands: the database and the journal are one commit."""
    registry: Registry = memory.registry
    standing = select(occurrences).where(occurrences.c.cleared_at.is_(None), occurrences.c.rule.in_((CLOCK, RANGE)))
    for row in tx.execute(standing):
        device = registry.get(row.device)
        if device is None:
            continue
        if row.rule == CLOCK:
            memory.clocks.standing[device.number] = (row.raised_at, row.first_value or 0.0)
            continue
        series = registry.find_series(device.number, row.metric)
        if series is not None:
            memory.ranges.standing[series] = (row.raised_at, row.first_value or 0.0)


def _door_speakers(tx: Connection, memory: Memory) -> None:
    spoken = select(events.c.device).where(events.c.name.in_(("door_opened", "door_closed")), events.c.key != DERIVED)
    memory.speaks_doors.update(tx.execute(spoken.distinct()).scalars())

"""Orders that follow alarms by themselves: filed, joined, reopened as rework, sent to checking when all is normal.

One order per alarm at a time. The service's notes (attached, cleared) leave the version alone: a chattering alarm
would otherwise refuse every act of the person at work on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from alerts.alarms import RANK, AlarmState, Happening
from alerts.categories import Catalogue
from alerts.limits import Limits, is_overdue, moved, next_limit
from alerts.orders import FINAL, MOVES, OPEN, Act, CloseBy, OrderState, Source
from alerts.roles import SERVICE
from devices.kinds import KINDS
from devices.registry import Device
from devices.subjects import is_group
from flow.held import FOUND_LATER, REOPENED, SUPERSEDED, Happened, HeldOccurrence, RuleLike
from flow.messages import Event, Message, order_event, order_message, place_names, tell
from rules.rule import Priority
from store.records.categories import catalogue
from store.records.database import chunks
from store.records.tables import alarms, occurrences, order_history, order_occurrences, orders

ATTACHED, CLEARED = "attached", "cleared"
# What asks for an order, while it stands: it came, it came back, it got worse, nothing holds it back any more.
_ASKING = frozenset({Happening.RAISED, REOPENED, Happening.WORSENED, Happening.UNSUPPRESSED})


@dataclass(slots=True, eq=False)
class HeldOrder:
    """`standing`: (alarm, raised_at) of the attached occurrences that have not cleared. `id` None: not yet written.
    `moved`: its state, its limits or its priority are no longer those in the table."""

    alarm: int
    state: OrderState
    version: int
    category: str
    title: str
    priority: str
    close_by: CloseBy
    device: str | None
    grid: str | None
    limits: Limits
    closed_at: int | None = None
    id: int | None = None
    kind: str | None = None
    standing: set[tuple[int, int]] = field(default_factory=set)
    joined: list[HeldOccurrence] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    moved: bool = False


class Places(Protocol):
    """Where a device stands: the registry in memory, or its row."""

    def get(self, device_id: str, /) -> Device | None: ...


@dataclass(slots=True)
class _Desk:
    """What one telling needs: the open or just closed order of each alarm, and the place of each device."""

    now: int
    categories: Catalogue
    registry: Places
    by_alarm: dict[int, HeldOrder]


def hold_orders(tx: Connection, alarms: Sequence[int]) -> dict[int, HeldOrder]:
    """The order of each alarm that is open or closed: its own latest, or the one that was merged into.

    To be called before the occurrences' ends are written: what stands is read from them.
    """
    c = orders.c
    by_alarm: dict[int, Any] = {}
    for some in chunks(alarms):
        latest = select(orders).where(c.alarm.in_(some), c.state.not_in(_GONE)).order_by(c.id)
        by_alarm |= {row.alarm: row for row in tx.execute(latest)}
    by_alarm = {alarm: _merged_into(tx, row) for alarm, row in by_alarm.items()}
    held = {row.id: _held(tx, row) for row in by_alarm.values() if row.state not in FINAL}
    for some in chunks(list(held)):
        standing = (
            select(order_occurrences.c.order, occurrences.c.alarm, occurrences.c.raised_at)
            .join(occurrences, occurrences.c.id == order_occurrences.c.occurrence)
            .where(order_occurrences.c.order.in_(some), occurrences.c.cleared_at.is_(None))
        )
        for order, alarm, raised_at in tx.execute(standing):
            held[order].standing.add((alarm, raised_at))
    return {alarm: held[row.id] for alarm, row in by_alarm.items() if row.id in held}


def follow_with_orders(
    tx: Connection,
    by_alarm: dict[int, HeldOrder],
    happened: Sequence[Happened],
    known: Mapping[str, RuleLike],
    *,
    now: int,
    registry: Places,
) -> list[Message]:
    """Change the orders as the alarms' happenings ask, write them, and return the messages about it."""
    desk = _Desk(now, catalogue(tx), registry, by_alarm)
    touched: dict[int, HeldOrder] = {}
    for h in happened:
        order = by_alarm.get(h.alarm.id)
        if h.act in _ASKING and h.to_state is not AlarmState.NORM:
            order = _raised(desk, h, known[h.alarm.rule])
        elif order is not None and h.act == SUPERSEDED:
            order.standing.discard((h.alarm.id, h.occurrence.raised_at))
        elif order is not None and h.act == Happening.CLEARED:
            _cleared(desk, order, h.occurrence, None if h.why == FOUND_LATER else h.why)
        if order is not None:
            touched[id(order)] = order
    return _write(tx, list(touched.values()), desk)


def file_standing(tx: Connection, happened: Happened, rule: RuleLike, *, now: int, registry: Places) -> list[Message]:
    """The order of an alarm that stands when its suppression ends."""
    desk = _Desk(now, catalogue(tx), registry, hold_orders(tx, [happened.alarm.id]))
    order = _raised(desk, happened, rule)
    return _write(tx, [] if order is None else [order], desk)


def _raised(desk: _Desk, happened: Happened, rule: RuleLike) -> HeldOrder | None:
    """Raised, or worse than it was: its order, filed, joined or opened again. None where it asks for none."""
    if happened.priority is Priority.NOTICE or rule.order_category is None:
        return None
    alarm, occurrence = happened.alarm, happened.occurrence
    order = desk.by_alarm.get(alarm.id)
    if order is not None and order.state in OPEN:
        _join(desk, order, happened, rule)
    elif happened.is_suppressed:
        return None
    elif order is not None and order.closed_at is not None and desk.now <= order.closed_at + desk.categories.watch_us:
        _rise(order, happened.priority)
        _move(desk, order, Act.REOPEN, rule.name_zh, occurrence)
        order.closed_at = None
        if not occurrence.retroactive:
            order.messages.append(("reopened", f"v{order.version}"))
    else:
        order = desk.by_alarm[alarm.id] = _new(desk, happened, rule)
        _record(desk, order, Act.FILE, None, rule.name_zh, occurrence)
        if not occurrence.retroactive:
            order.messages.append(("filed", ""))
    order.joined.append(occurrence)
    order.standing.add((alarm.id, occurrence.raised_at))
    return order


def _join(desk: _Desk, order: HeldOrder, happened: Happened, rule: RuleLike) -> None:
    """The order is at least as urgent as the worst that is attached to it."""
    occurrence, before = happened.occurrence, order.priority
    rose = _rise(order, happened.priority)
    attached = (happened.alarm.id, occurrence.raised_at) in order.standing
    if rose and attached:
        _note(desk, order, Happening.WORSENED, f"{before} → {order.priority}", occurrence)
    elif not attached:
        _note(desk, order, ATTACHED, rule.name_zh, occurrence)


def _rise(order: HeldOrder, priority: Priority) -> bool:
    """Whether the order is more urgent than it was. It never becomes less so by itself."""
    if RANK[priority] >= RANK[Priority(order.priority)]:
        return False
    order.priority, order.moved = priority, True
    return True


def _cleared(desk: _Desk, order: HeldOrder, occurrence: HeldOccurrence, why: str | None) -> None:
    """All of its alarms are normal: to checking where the sensor may say so, else a note. `why`: what cleared it, if no
    reading did."""
    key = (occurrence.alarm.id, occurrence.raised_at)
    if key not in order.standing:
        return
    order.standing.remove(key)
    normal = not order.standing
    if normal and order.close_by is CloseBy.SENSOR and (order.state, Act.SELF_CLEAR) in MOVES:
        _move(desk, order, Act.SELF_CLEAR, why, occurrence)
    else:
        _note(desk, order, CLEARED, why or (None if normal else f"{len(order.standing)} standing"), occurrence)


def _new(desk: _Desk, happened: Happened, rule: RuleLike) -> HeldOrder:
    alarm = happened.alarm
    category = desk.categories.of(rule.order_category or "")
    device = desk.registry.get(alarm.device)
    return HeldOrder(
        alarm.id,
        OrderState.FILED,
        1,
        category.id,
        f"{rule.name_zh}：{place_names(alarm, device)[0]}",
        happened.priority,
        category.close_by,
        alarm.device,
        alarm.grid,
        moved(Limits(), Act.FILE, category, desk.now),
        kind=alarm.kind,
    )


def _move(desk: _Desk, order: HeldOrder, act: Act, why: str | None, occurrence: HeldOccurrence) -> None:
    before = order.state
    order.state = MOVES[before, act]
    order.version += 1
    order.moved = True
    order.limits = moved(order.limits, act, desk.categories.of(order.category), desk.now)
    _record(desk, order, act, before, why, occurrence)


def _note(desk: _Desk, order: HeldOrder, act: str, why: str | None, occurrence: HeldOccurrence) -> None:
    _record(desk, order, act, order.state, why, occurrence)


def _record(  # noqa: PLR0917 - one row
    desk: _Desk, order: HeldOrder, act: str, before: OrderState | None, why: str | None, occurrence: HeldOccurrence
) -> None:
    order.rows.append({
        "at": desk.now, "by": SERVICE, "post": SERVICE, "act": act, "from_state": before, "to_state": order.state,
        "why": why, "detail": {"alarm": occurrence.alarm.id, "occurrence": occurrence.id},
    })  # fmt: skip


def _held(tx: Connection, row: Any) -> HeldOrder:
    several = is_group(row.device or "")
    return HeldOrder(
        row.alarm,
        OrderState(row.state),
        row.version,
        row.category,
        row.title,
        row.priority,
        CloseBy(row.close_by),
        row.device,
        row.grid,
        Limits(row.accept_by, row.arrive_by, row.handle_by),
        row.closed_at,
        row.id,
        tx.execute(select(alarms.c.kind).where(alarms.c.id == row.alarm)).scalar() if several else None,
    )


# A merged order is followed to where it went; these are gone for good.
_GONE = (OrderState.VOID, OrderState.ARCHIVED)


def _merged_into(tx: Connection, row: Any) -> Any:
    while row.state == OrderState.MERGED:
        row = tx.execute(select(orders).where(orders.c.id == row.merged_into)).one()
    return row


def _write(tx: Connection, touched: Sequence[HeldOrder], desk: _Desk) -> list[Message]:
    new = [order for order in touched if order.id is None]
    moved_on = [order for order in touched if order.id is not None and order.moved]
    if new:
        rows = [_row(order, desk) for order in new]
        ids = tx.scalars(insert(orders).returning(orders.c.id, sort_by_parameter_order=True), rows)
        for order, id_ in zip(new, ids.all(), strict=True):
            order.id = id_
    if moved_on:
        rows = [{f"b_{key}": value for key, value in (_changes(o, desk.now) | {"id": o.id}).items()} for o in moved_on]
        values: dict[str, Any] = {key: bindparam(f"b_{key}") for key in _changes(moved_on[0], desk.now)}
        tx.execute(update(orders).where(orders.c.id == bindparam("b_id")).values(values), rows)
    history = [row | {"order": order.id} for order in touched for row in order.rows]
    if history:
        tx.execute(insert(order_history), history)
    joined = [{"order": order.id, "occurrence": o.id} for order in touched for o in order.joined]
    if joined:
        tx.execute(upsert(order_occurrences).on_conflict_do_nothing(), joined)
    tell(tx, desk.now, [_event(order) for order in touched if order.rows])
    return [_message(order, happening, once) for order in touched for happening, once in order.messages]


def _changes(order: HeldOrder, now: int) -> dict[str, Any]:
    return {
        "state": order.state,
        "version": order.version,
        "priority": order.priority,
        "changed_at": now,
        "accept_by": order.limits.accept_by,
        "arrive_by": order.limits.arrive_by,
        "handle_by": order.limits.handle_by,
        "closed_at": order.closed_at,
        "next_limit_at": next_limit(order.state, order.limits, now),
        "overdue": is_overdue(order.state, order.limits, now),
    }


def _row(order: HeldOrder, desk: _Desk) -> dict[str, Any]:
    device = desk.registry.get(order.device or "")
    shown = device is not None and not KINDS[device.kind].personal
    return _changes(order, desk.now) | {
        "category": order.category,
        "title": order.title,
        "source": Source.RULE,
        "reporter": SERVICE,
        "alarm": order.alarm,
        "device": order.device,
        "grid": order.grid,
        # Where an elder lives is on no order.
        "latitude": device.latitude if device and shown else None,
        "longitude": device.longitude if device and shown else None,
        "close_by": order.close_by,
        "created_at": desk.now,
    }


def _event(order: HeldOrder) -> Event:
    assert order.id is not None
    return order_event(
        order.id, order.rows[-1]["act"], order.state, version=order.version, category=order.category,
        priority=order.priority, device=order.device, grid=order.grid, alarm=order.alarm, kind=order.kind,
    )  # fmt: skip


def _message(order: HeldOrder, happening: str, once: str) -> Message:
    assert order.id is not None
    return order_message(order.id, happening, order.title, priority=order.priority, once=once, alarm=order.alarm)

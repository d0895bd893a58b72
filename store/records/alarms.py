"""Alarms, their occurrences and their history, for pages and the API.

A row names the device and who keeps it, never who lives there: the columns of the person are in no query here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, case, func, select, tuple_

from alerts.alarms import STANDING, AlarmState
from alerts.refusals import Invalid
from alerts.service_rules import PREFIX
from rules.rule import Priority
from store.records.pages import Page, decode_cursor, page_of
from store.records.tables import alarm_history as history
from store.records.tables import alarms, devices, grids, occurrences, orders, rules


@dataclass(frozen=True, slots=True)
class OccurrenceRow:
    """`reason` is what the rule saw when it fired; `retroactive`: found when it was over already, nobody was told."""

    id: int
    alarm: int
    rule: str
    device: str
    metric: str | None
    since: int
    raised_at: int
    cleared_at: int | None
    first_value: float | None
    peak_value: float | None
    reason: dict[str, Any]
    retroactive: bool
    recorded_at: int


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """`active`: the condition holds, whatever the state says. `kind` is empty where the alarm is about no device.
    `order` is the latest order of the alarm."""

    id: int
    rule: str
    rule_zh: str
    rule_en: str
    rule_text: str
    device: str
    device_name: str
    kind: str
    grid: str | None
    grid_name: str
    keeper: str
    keeper_phone: str
    priority: Priority
    state: AlarmState
    active: bool
    version: int
    raised_count: int
    changed_at: int
    acknowledged_by: str | None
    acknowledged_at: int | None
    shelved_by: str | None
    shelved_until: int | None
    shelve_reason: str | None
    order: int | None
    occurrence: OccurrenceRow | None


@dataclass(frozen=True, slots=True)
class AlarmHistoryRow:
    id: int
    alarm: int
    occurrence: int | None
    at: int
    by: str
    act: str
    from_state: str | None
    to_state: str
    why: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one grid (None: devices outside every grid): how many alarms stand and the worst of them."""

    count: int
    worst: Priority


_OCCURRENCE = [occurrences.c[name] for name in OccurrenceRow.__slots__]
_RANK: ColumnElement[int] = case({p.value: i for i, p in enumerate(Priority)}, value=alarms.c.priority, else_=99)
# What waits for somebody comes before what somebody has seen.
_SEEN: ColumnElement[int] = case({AlarmState.UNACK.value: 0, AlarmState.RTNUN.value: 1}, value=alarms.c.state, else_=2)
_LATEST_ORDER = select(func.max(orders.c.id)).where(orders.c.alarm == alarms.c.id).scalar_subquery()


def standing(
    tx: Connection, *, grid: Collection[str] | None = None, limit: int = 500, notices: bool = True
) -> list[AlarmRow]:
    """The board: worst priority first, unacknowledged first, oldest first."""
    query = _narrowed(_alarms().where(alarms.c.state.in_(STANDING)), grid=grid)
    if not notices:
        query = query.where(alarms.c.priority != Priority.NOTICE)
    query = query.order_by(_RANK, _SEEN, occurrences.c.raised_at, alarms.c.id).limit(limit)
    return [_alarm(row) for row in tx.execute(query)]


def list_alarms(
    tx: Connection,
    *,
    state: str | None = None,
    priority: str | None = None,
    device: str | None = None,
    grid: Collection[str] | None = None,
    hide_notices_of: Collection[str] = (),
    limit: int,
    cursor: str | None = None,
) -> Page[AlarmRow]:
    """Last changed first. `grid`: any of these grids. Raises Invalid for a state or priority that does not exist.

    Without the notices of these kinds of device: left out here, because a cursor would tell of a row left out later.
    """
    query = _narrowed(_alarms(), state=state, priority=priority, device=device, grid=grid)
    if hide_notices_of:
        kind = func.coalesce(devices.c.kind, "")
        query = query.where((alarms.c.priority != Priority.NOTICE) | kind.not_in(hide_notices_of))
    if cursor is not None:
        query = query.where(tuple_(alarms.c.changed_at, alarms.c.id) < decode_cursor(cursor, int, int))
    query = query.order_by(alarms.c.changed_at.desc(), alarms.c.id.desc()).limit(limit + 1)
    return page_of([_alarm(row) for row in tx.execute(query)], limit, lambda alarm: [alarm.changed_at, alarm.id])


def get_alarm(tx: Connection, alarm: int) -> AlarmRow | None:
    row = tx.execute(_alarms().where(alarms.c.id == alarm)).one_or_none()
    return None if row is None else _alarm(row)


def alarm_history(tx: Connection, alarm: int, *, limit: int = 500) -> list[AlarmHistoryRow]:
    """The latest rows, the oldest of them first."""
    columns = [history.c[name] for name in AlarmHistoryRow.__slots__]
    found = tx.execute(select(*columns).where(history.c.alarm == alarm).order_by(history.c.id.desc()).limit(limit))
    return [AlarmHistoryRow(*row) for row in found][::-1]


def list_occurrences(  # noqa: PLR0913 - the filters of one list
    tx: Connection,
    *,
    rule: str | None = None,
    device: str | None = None,
    alarm: int | None = None,
    start: int | None = None,
    end: int | None = None,
    include_service: bool = False,
    hide_kinds: Collection[str] = (),
    limit: int,
    cursor: str | None = None,
) -> Page[OccurrenceRow]:
    """In order of raising, raised_at in [start, end). Without `rule` the service's own are left out unless asked;
    those of devices of `hide_kinds` always: a cursor would tell of a row left out later."""
    c = occurrences.c
    query = select(*_OCCURRENCE)
    wanted = ((c.rule, rule), (c.device, device), (c.alarm, alarm))
    query = query.where(*(column == value for column, value in wanted if value is not None))
    if rule is None and not include_service:
        query = query.where(~c.rule.startswith(PREFIX))
    if hide_kinds:
        query = query.where(c.device.not_in(select(devices.c.id).where(devices.c.kind.in_(hide_kinds))))
    if start is not None:
        query = query.where(c.raised_at >= start)
    if end is not None:
        query = query.where(c.raised_at < end)
    if cursor is not None:
        query = query.where(tuple_(c.raised_at, c.id) > decode_cursor(cursor, int, int))
    found = tx.execute(query.order_by(c.raised_at, c.id).limit(limit + 1))
    return page_of([OccurrenceRow(*row) for row in found], limit, lambda o: [o.raised_at, o.id])


def counts_standing(tx: Connection) -> dict[Priority, int]:
    query = select(alarms.c.priority, func.count()).where(alarms.c.state.in_(STANDING)).group_by(alarms.c.priority)
    found = {Priority(priority): count for priority, count in tx.execute(query)}
    return {priority: found.get(priority, 0) for priority in Priority}


def standing_by_grid(tx: Connection) -> dict[str | None, Standing]:
    """For the map: notices left out, so that a grid's colour never says whether an elder's door opened."""
    query = (
        select(alarms.c.grid, func.count(), func.min(_RANK))
        .where(alarms.c.state.in_(STANDING), alarms.c.priority != Priority.NOTICE)
        .group_by(alarms.c.grid)
    )
    return {grid: Standing(count, list(Priority)[rank]) for grid, count, rank in tx.execute(query)}


def count_occurrences(tx: Connection, *, include_service: bool = False) -> tuple[int, int, dict[str, int]]:
    """(raised, cleared, raised by kind of device)."""
    query = select(devices.c.kind, func.count(), func.count(occurrences.c.cleared_at)).select_from(
        occurrences.outerjoin(devices, devices.c.id == occurrences.c.device)
    )
    if not include_service:
        query = query.where(~occurrences.c.rule.startswith(PREFIX))
    found = tx.execute(query.group_by(devices.c.kind)).all()
    by_kind = {kind or "": raised for kind, raised, _ in found}
    return sum(by_kind.values()), sum(cleared for _, _, cleared in found), by_kind


def _alarms() -> Select[Any]:
    return select(
        *(alarms.c[name] for name in _ALARM),
        rules.c.name_zh,
        rules.c.name_en,
        rules.c.text,
        devices.c.name,
        devices.c.kind,
        devices.c.keeper,
        devices.c.keeper_phone,
        grids.c.name.label("grid_name"),
        _LATEST_ORDER.label("order"),
        *(column.label(f"o_{column.name}") for column in _OCCURRENCE),
    ).select_from(
        alarms.outerjoin(rules, rules.c.id == alarms.c.rule)
        .outerjoin(devices, devices.c.id == alarms.c.device)
        .outerjoin(grids, grids.c.id == alarms.c.grid)
        .outerjoin(occurrences, occurrences.c.id == alarms.c.occurrence)
    )


_ALARM = ("id", "rule", "device", "grid", "active", "version", "raised_count", "changed_at", "acknowledged_by",
          "acknowledged_at", "shelved_by", "shelved_until", "shelve_reason", "state", "priority")  # fmt: skip


def _alarm(row: Row[Any]) -> AlarmRow:
    found = row._mapping
    occurrence = {name: found[f"o_{name}"] for name in OccurrenceRow.__slots__}
    return AlarmRow(
        **{name: found[name] for name in _ALARM if name not in {"state", "priority"}},
        rule_zh=found["name_zh"] or found["rule"],
        rule_en=found["name_en"] or found["rule"],
        rule_text=found["text"] or "",
        device_name=found["name"] or "",
        kind=found["kind"] or "",
        grid_name=found["grid_name"] or "",
        keeper=found["keeper"] or "",
        keeper_phone=found["keeper_phone"] or "",
        priority=Priority(found["priority"]),
        state=AlarmState(found["state"]),
        order=found["order"],
        occurrence=None if found["o_id"] is None else OccurrenceRow(**occurrence),
    )


def _narrowed(
    query: Select[Any],
    *,
    state: str | None = None,
    priority: str | None = None,
    device: str | None = None,
    grid: Collection[str] | None = None,
) -> Select[Any]:
    if state is not None:
        query = query.where(alarms.c.state == _known(AlarmState, state, "state"))
    if priority is not None:
        query = query.where(alarms.c.priority == _known(Priority, priority, "priority"))
    if device is not None:
        query = query.where(alarms.c.device == device)
    if grid is not None:
        query = query.where(alarms.c.grid.in_(grid))
    return query


def _known(values: type[AlarmState] | type[Priority], value: str, name: str) -> str:
    if value not in set(values):
        choices = ", ".join(values)
        raise Invalid(f"bad_{name}", f"{name} 应为 {choices} 之一", f"{name} must be one of {choices}")
    return value

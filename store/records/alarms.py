"""Alarms, their occurrences and their history, for pages and the API.

A row names the device and who keeps it, never who lives there: the columns of the person are in no query here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, RowMapping, Select, case, func, select, tuple_

from alerts.alarms import STANDING, AlarmState
from alerts.refusals import Invalid
from alerts.service_rules import PREFIX
from devices.subjects import grid_of, is_group, tag_of
from rules.book import SILENCE
from rules.rule import Priority
from store.records.pages import Page, decode_cursor, page_of
from store.records.tables import alarm_history as history
from store.records.tables import alarms, devices, grids, occurrences, orders, rules


@dataclass(frozen=True, slots=True)
class OccurrenceRow:
    """`reason` is what the rule saw when it fired; `retroactive`: found when it was over already, nobody was told.
    `severity` is {"at", "priority", "reason"} from when on it was how severe, oldest first; None where its rule has one
    severity. `early`: of a forecast. `priority`: the alarm's now."""

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
    severity: list[dict[str, Any]] | None
    early: bool
    priority: str

    @property
    def severities(self) -> list[dict[str, Any]]:
        """As `severity`; of a rule with one severity, that which its alarm has now."""
        return self.severity or [{"at": self.raised_at, "priority": self.priority, "reason": self.reason}]


@dataclass(frozen=True, slots=True)
class Parent:
    """The alarm of several devices that holds another back. `kind` and `device_name` as in AlarmRow."""

    alarm: int
    rule: str
    rule_zh: str
    rule_en: str
    device: str
    device_name: str
    kind: str


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """`active`: the condition holds, whatever the state says. `kind` is empty where the alarm is about no device; where
    it is about several (devices.subjects), a personal one if any of them is, and empty where they are of several kinds.
    `device_name` is then the name of the grid, or the tag. `early`: a forecast, not the alarm itself. `suppresses`: how
    many standing alarms it holds back. `order` is the latest order of the alarm."""

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
    early: bool
    suppressed_by: Parent | None
    suppresses: int
    occurrence: OccurrenceRow | None

    def as_parent(self) -> Parent:
        """As those that it holds back see it."""
        return Parent(self.id, self.rule, self.rule_zh, self.rule_en, self.device, self.device_name, self.kind)


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


# Of occurrences joined with their alarms.
OCCURRENCE = [occurrences.c[name] if name in occurrences.c else alarms.c[name] for name in OccurrenceRow.__slots__]
_RANK: ColumnElement[int] = case({p.value: i for i, p in enumerate(Priority)}, value=alarms.c.priority, else_=99)
# What waits for somebody comes before what somebody has seen.
_SEEN: ColumnElement[int] = case({AlarmState.UNACK.value: 0, AlarmState.RTNUN.value: 1}, value=alarms.c.state, else_=2)
_LATEST_ORDER = select(func.max(orders.c.id)).where(orders.c.alarm == alarms.c.id).scalar_subquery()
_PARENT, _PARENT_RULE, _PARENT_GRID = alarms.alias("parent"), rules.alias("parent_rule"), grids.alias("parent_grid")
_CHILD = alarms.alias("child")
_CHILDREN = (
    select(func.count()).select_from(_CHILD).where(_CHILD.c.suppressed_by == alarms.c.id, _CHILD.c.active)
).scalar_subquery()
# Of a device, or of the members where an alarm is about several.
_KIND = func.coalesce(devices.c.kind, alarms.c.kind, "")


def standing(
    tx: Connection, *, grid: Collection[str] | None = None, limit: int = 500, notices: bool = True, early: bool = True
) -> list[AlarmRow]:
    """The board: worst priority first, unacknowledged first, oldest first."""
    query = _narrowed(_alarms().where(alarms.c.state.in_(STANDING)), grid=grid)
    if not notices:
        query = query.where(alarms.c.priority != Priority.NOTICE)
    if not early:
        query = query.where(~alarms.c.early)
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

    Without the notices of these kinds of device, and without any alarm of them where one device or several are asked
    for by name: left out here, because a cursor would tell of a row left out later.
    """
    query = _narrowed(_alarms(), state=state, priority=priority, device=device, grid=grid)
    if hide_notices_of:
        query = query.where((alarms.c.priority != Priority.NOTICE) | _KIND.not_in(hide_notices_of))
        query = query if device is None else query.where(_KIND.not_in(hide_notices_of))
    if cursor is not None:
        query = query.where(tuple_(alarms.c.changed_at, alarms.c.id) < decode_cursor(cursor, int, int))
    query = query.order_by(alarms.c.changed_at.desc(), alarms.c.id.desc()).limit(limit + 1)
    return page_of([_alarm(row) for row in tx.execute(query)], limit, lambda alarm: [alarm.changed_at, alarm.id])


def silent_devices(tx: Connection) -> frozenset[str]:
    """Whose silence stands, whether anybody is told of it or not: shelved, or held back by the alarm of a gateway."""
    query = select(alarms.c.device).where(alarms.c.rule == SILENCE, alarms.c.active)
    return frozenset(tx.execute(query).scalars())


def suppressed_under(tx: Connection, parents: Collection[int], *, limit: int) -> list[AlarmRow]:
    """What stands and is held back by one of these alarms, worst first."""
    query = _alarms().where(alarms.c.suppressed_by.in_(parents), alarms.c.active)
    return [_alarm(row) for row in tx.execute(query.order_by(_RANK, alarms.c.id).limit(limit))]


def get_alarm(tx: Connection, alarm: int) -> AlarmRow | None:
    row = tx.execute(_alarms().where(alarms.c.id == alarm)).one_or_none()
    return None if row is None else _alarm(row)


def find_alarm(tx: Connection, rule: str, device: str) -> AlarmRow | None:
    """Of this rule about this device, or about several."""
    row = tx.execute(_alarms().where(alarms.c.rule == rule, alarms.c.device == device)).one_or_none()
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
    query = select(*OCCURRENCE).join(alarms, alarms.c.id == c.alarm)
    wanted = ((c.rule, rule), (c.device, device), (c.alarm, alarm))
    query = query.where(*(column == value for column, value in wanted if value is not None))
    if rule is None and not include_service:
        query = query.where(~c.rule.startswith(PREFIX))
    if hide_kinds:
        query = query.where(c.device.not_in(select(devices.c.id).where(devices.c.kind.in_(hide_kinds))))
        query = query.where(c.alarm.not_in(select(alarms.c.id).where(alarms.c.kind.in_(hide_kinds))))
    if start is not None:
        query = query.where(c.raised_at >= start)
    if end is not None:
        query = query.where(c.raised_at < end)
    if cursor is not None:
        query = query.where(tuple_(c.raised_at, c.id) > decode_cursor(cursor, int, int))
    found = tx.execute(query.order_by(c.raised_at, c.id).limit(limit + 1))
    return page_of([OccurrenceRow(*row) for row in found], limit, lambda o: [o.raised_at, o.id])


def counts_standing(tx: Connection) -> dict[Priority, int]:
    """Without early notices: what may come is not what is."""
    standing_now = alarms.c.state.in_(STANDING) & ~alarms.c.early
    query = select(alarms.c.priority, func.count()).where(standing_now).group_by(alarms.c.priority)
    found = {Priority(priority): count for priority, count in tx.execute(query)}
    return {priority: found.get(priority, 0) for priority in Priority}


def standing_by_grid(tx: Connection) -> dict[str | None, Standing]:
    """For the map: notices left out, so that a grid's colour never says whether an elder's door opened, and early
    notices, which are not the alarm."""
    query = (
        select(alarms.c.grid, func.count(), func.min(_RANK))
        .where(alarms.c.state.in_(STANDING), alarms.c.priority != Priority.NOTICE, ~alarms.c.early)
        .group_by(alarms.c.grid)
    )
    return {grid: Standing(count, list(Priority)[rank]) for grid, count, rank in tx.execute(query)}


def count_occurrences(tx: Connection, *, include_service: bool = False) -> tuple[int, int, dict[str, int]]:
    """(raised, cleared, raised by kind of device), early notices left out."""
    query = (
        select(_KIND, func.count(), func.count(occurrences.c.cleared_at))
        .select_from(
            occurrences.join(alarms, alarms.c.id == occurrences.c.alarm).outerjoin(
                devices, devices.c.id == occurrences.c.device
            )
        )
        .where(~alarms.c.early)
    )
    if not include_service:
        query = query.where(~occurrences.c.rule.startswith(PREFIX))
    found = tx.execute(query.group_by(_KIND)).all()
    by_kind = {kind: raised for kind, raised, _ in found}
    return sum(by_kind.values()), sum(cleared for _, _, cleared in found), by_kind


def _alarms() -> Select[Any]:
    return select(
        *(alarms.c[name] for name in _ALARM),
        rules.c.name_zh,
        rules.c.name_en,
        rules.c.text,
        devices.c.name,
        _KIND.label("kind"),
        devices.c.keeper,
        devices.c.keeper_phone,
        grids.c.name.label("grid_name"),
        _LATEST_ORDER.label("order"),
        _CHILDREN.label("suppresses"),
        *(_PARENT.c[name].label(f"p_{name}") for name in ("id", "rule", "device", "kind")),
        _PARENT_RULE.c.name_zh.label("p_zh"),
        _PARENT_RULE.c.name_en.label("p_en"),
        _PARENT_GRID.c.name.label("p_grid"),
        *(column.label(f"o_{column.name}") for column in OCCURRENCE),
    ).select_from(
        alarms.outerjoin(rules, rules.c.id == alarms.c.rule)
        .outerjoin(devices, devices.c.id == alarms.c.device)
        .outerjoin(grids, grids.c.id == alarms.c.grid)
        .outerjoin(occurrences, occurrences.c.id == alarms.c.occurrence)
        .outerjoin(_PARENT, _PARENT.c.id == alarms.c.suppressed_by)
        .outerjoin(_PARENT_RULE, _PARENT_RULE.c.id == _PARENT.c.rule)
        .outerjoin(_PARENT_GRID, _PARENT_GRID.c.id == _PARENT.c.grid)
    )


_ALARM = ("id", "rule", "device", "grid", "active", "version", "raised_count", "changed_at", "acknowledged_by",
          "acknowledged_at", "shelved_by", "shelved_until", "shelve_reason", "early", "state", "priority")  # fmt: skip


def _alarm(row: Row[Any]) -> AlarmRow:
    found = row._mapping
    occurrence = {name: found[f"o_{name}"] for name in OccurrenceRow.__slots__}
    return AlarmRow(
        **{name: found[name] for name in _ALARM if name not in {"state", "priority"}},
        rule_zh=found["name_zh"] or found["rule"],
        rule_en=found["name_en"] or found["rule"],
        rule_text=found["text"] or "",
        device_name=found["name"] or subject_name(found["device"], found["grid_name"]),
        kind=found["kind"],
        grid_name=found["grid_name"] or "",
        keeper=found["keeper"] or "",
        keeper_phone=found["keeper_phone"] or "",
        priority=Priority(found["priority"]),
        state=AlarmState(found["state"]),
        order=found["order"],
        suppressed_by=_parent(found),
        suppresses=found["suppresses"],
        occurrence=None if found["o_id"] is None else OccurrenceRow(**occurrence),
    )


def subject_name(subject: str, grid_name: str | None) -> str:
    """What several devices are called: their grid's name, or their tag. Empty for one device."""
    return grid_name or grid_of(subject) or tag_of(subject) or "" if is_group(subject) else ""


def _parent(found: RowMapping) -> Parent | None:
    if found["p_id"] is None:
        return None
    return Parent(
        found["p_id"],
        found["p_rule"],
        found["p_zh"] or found["p_rule"],
        found["p_en"] or found["p_rule"],
        found["p_device"],
        subject_name(found["p_device"], found["p_grid"]),
        found["p_kind"] or "",
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

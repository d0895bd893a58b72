"""Work orders, their history, and the chain from the reading to the archive, for pages and the API."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, exists, func, select

from alerts.alarms import Happening
from alerts.orders import FINAL, STEPS, CloseBy, Order, OrderState, Step
from alerts.refusals import Invalid
from alerts.roles import SERVICE, Role
from store.records.alarms import OCCURRENCE, OccurrenceRow, subject_name
from store.records.categories import catalogue
from store.records.pages import Page, decode_id, page_of
from store.records.tables import alarm_history, alarms, devices, grids, occurrences, order_occurrences, orders, users
from store.records.tables import order_history as history


@dataclass(frozen=True, slots=True)
class OrderRow:
    """`standing`: the condition of an attached occurrence still holds. `closed_at` only while closed or archived."""

    id: int
    state: OrderState
    version: int
    category: str
    title: str
    description: str
    priority: str
    source: str
    reporter: str
    external_id: str | None
    alarm: int | None
    device: str | None
    grid: str | None
    latitude: float | None
    longitude: float | None
    close_by: CloseBy
    assignee: str | None
    merged_into: int | None
    handled_by: str | None
    created_at: int
    changed_at: int
    accept_by: int | None
    arrive_by: int | None
    handle_by: int | None
    closed_at: int | None
    next_limit_at: int | None
    overdue: bool
    category_zh: str
    category_en: str
    device_name: str
    kind: str
    grid_name: str
    keeper: str
    keeper_phone: str
    assignee_name: str
    standing: bool

    @property
    def step(self) -> Step:
        return STEPS[self.state]

    def to_decide(self) -> Order:
        """What `alerts.orders` decides by."""
        return Order(
            self.state, self.version, self.close_by, self.reporter, self.assignee, self.handled_by, self.standing
        )


@dataclass(frozen=True, slots=True)
class OrderHistoryRow:
    """`post` is the role the person acted in, or "service"."""

    id: int
    order: int
    at: int
    by: str
    post: str
    act: str
    from_state: str | None
    to_state: str
    why: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain. `kind` is reading, occurrence, alarm or order; `detail` of a reading: metric, value,
    reason."""

    at: int
    kind: str
    act: str
    by: str
    post: str
    from_state: str | None
    to_state: str | None
    why: str | None
    alarm: int | None
    occurrence: int | None
    detail: dict[str, Any]


_STORED = [orders.c[f.name] for f in fields(OrderRow) if f.name in orders.c]
# Attached occurrences that are shown: a chattering alarm may have brought thousands.
_MOST_OCCURRENCES = 200


def list_orders(  # noqa: PLR0913 - the filters of one list
    tx: Connection,
    *,
    state: str | None = None,
    step: str | None = None,
    assignee: str | None = None,
    category: str | None = None,
    alarm: int | None = None,
    device: str | None = None,
    grid: Collection[str] | None = None,
    open_only: bool = False,
    limit: int,
    cursor: str | None = None,
) -> Page[OrderRow]:
    """Newest first. `category` also takes a group such as `flood`. Raises Invalid for an unknown state or step."""
    c = orders.c
    query = _orders()
    if state is not None:
        query = query.where(c.state == _known(OrderState, state, "state"))
    if step is not None:
        wanted = _known(Step, step, "step")
        query = query.where(c.state.in_([s for s, of in STEPS.items() if of == wanted]))
    if category is not None:
        query = query.where((c.category == category) | c.category.startswith(f"{category}.", autoescape=True))
    if grid is not None:
        query = query.where(c.grid.in_(grid))
    if open_only:
        query = query.where(c.state.not_in(FINAL))
    wanted_rows = ((c.assignee, assignee), (c.alarm, alarm), (c.device, device))
    query = query.where(*(column == value for column, value in wanted_rows if value is not None))
    if cursor is not None:
        query = query.where(c.id < decode_id(cursor))
    found = _rows(tx, query.order_by(c.id.desc()).limit(limit + 1))
    return page_of(found, limit, lambda order: [order.id])


def get_order(tx: Connection, order: int) -> OrderRow | None:
    return next(iter(_rows(tx, _orders().where(orders.c.id == order))), None)


def states_of(tx: Connection, numbers: Collection[int]) -> dict[int, OrderState]:
    """The states of these orders, for a list of alarms that shows them."""
    found = tx.execute(select(orders.c.id, orders.c.state).where(orders.c.id.in_(numbers)))
    return {row.id: OrderState(row.state) for row in found}


def find_external(tx: Connection, external_id: str) -> OrderRow | None:
    return next(iter(_rows(tx, _orders().where(orders.c.external_id == external_id))), None)


def order_history(tx: Connection, order: int, *, limit: int = 1000) -> list[OrderHistoryRow]:
    """The latest rows, the oldest of them first."""
    columns = [history.c[f.name] for f in fields(OrderHistoryRow)]
    found = tx.execute(select(*columns).where(history.c.order == order).order_by(history.c.id.desc()).limit(limit))
    return [OrderHistoryRow(*row) for row in found][::-1]


def order_attached(tx: Connection, order: int, *, limit: int = _MOST_OCCURRENCES) -> list[OccurrenceRow]:
    """The occurrences attached to the order, the latest of them, oldest first."""
    query = (
        select(*OCCURRENCE)
        .join(alarms, alarms.c.id == occurrences.c.alarm)
        .join(order_occurrences, order_occurrences.c.occurrence == occurrences.c.id)
        .where(order_occurrences.c.order == order)
        .order_by(occurrences.c.raised_at.desc(), occurrences.c.id.desc())
    )
    return [OccurrenceRow(*row) for row in tx.execute(query.limit(limit))][::-1]


def chain(tx: Connection, order: int) -> list[Link]:
    """Reading → occurrence → alarm → order acts, in order of time."""
    attached = order_attached(tx, order)
    links = [link for occurrence in attached for link in _of_occurrence(occurrence)]
    links += _of_alarms(tx, attached)
    links += [
        Link(
            row.at, "order", row.act, row.by, row.post, row.from_state, row.to_state, row.why,
            _number(row, "alarm"), _number(row, "occurrence"), row.detail,
        )
        for row in order_history(tx, order)
    ]  # fmt: skip
    # sorted() keeps what happened at one instant in the order above: cause before consequence.
    return sorted(links, key=lambda link: link.at)


def counts_by_step(tx: Connection) -> dict[Step, int]:
    """Orders somebody still has to do something about, closed ones that are being watched included."""
    counts = dict.fromkeys(Step, 0)
    for state, count in counts_by_state(tx).items():
        if state not in FINAL:
            counts[STEPS[state]] += count
    return counts


def counts_by_state(tx: Connection) -> dict[OrderState, int]:
    query = select(orders.c.state, func.count()).group_by(orders.c.state)
    return {OrderState(state): count for state, count in tx.execute(query)}


def count_overdue(tx: Connection) -> int:
    return tx.execute(select(func.count()).select_from(orders).where(orders.c.overdue)).scalar_one()


def list_handlers(tx: Connection) -> list[tuple[str, str]]:
    """(name, display name) of everyone an order may be dispatched to."""
    query = select(users.c.name, users.c.display_name).where(users.c.role == Role.HANDLER, ~users.c.disabled)
    return [(name, display_name or name) for name, display_name in tx.execute(query.order_by(users.c.name))]


def _number(row: OrderHistoryRow, name: str) -> int | None:
    """Only the service's own notes are believed: a person's detail may hold anything."""
    return row.detail.get(name) if row.by == SERVICE else None


def _of_occurrence(o: OccurrenceRow) -> list[Link]:
    seen = {"metric": o.metric, "value": o.first_value, "reason": o.reason}
    links = [
        Link(o.since, "reading", "read", "", "", None, None, None, o.alarm, o.id, seen | {"device": o.device}),
        Link(o.raised_at, "occurrence", "raised", "", "", None, None, None, o.alarm, o.id, {"rule": o.rule}),
    ]
    if o.cleared_at is not None:
        peak = {"rule": o.rule, "peak_value": o.peak_value}
        links.append(Link(o.cleared_at, "occurrence", "cleared", "", "", None, None, None, o.alarm, o.id, peak))
    return links


def _of_alarms(tx: Connection, attached: list[OccurrenceRow]) -> list[Link]:
    """What people did about the alarms while these occurrences were on the desk; the raises themselves are above."""
    if not attached:
        return []
    c = alarm_history.c
    query = select(alarm_history).where(
        c.alarm.in_({o.alarm for o in attached}),
        c.at >= min(o.recorded_at for o in attached),
        c.act.not_in((Happening.RAISED, Happening.CLEARED)),
    )
    return [
        Link(row.at, "alarm", row.act, row.by, "", row.from_state, row.to_state, row.why, row.alarm, row.occurrence, {})
        for row in tx.execute(query.order_by(c.id).limit(1000))
    ]


def _orders() -> Select[Any]:
    attached = order_occurrences.join(occurrences, occurrences.c.id == order_occurrences.c.occurrence)
    still = exists().select_from(attached).where(
        order_occurrences.c.order == orders.c.id, occurrences.c.cleared_at.is_(None)
    )  # fmt: skip
    return select(
        *_STORED,
        devices.c.name.label("device_name"),
        # An order about several devices is as personal as their alarm.
        func.coalesce(devices.c.kind, alarms.c.kind).label("kind"),
        devices.c.keeper,
        devices.c.keeper_phone,
        grids.c.name.label("grid_name"),
        users.c.display_name.label("assignee_name"),
        still.label("standing"),
    ).select_from(
        orders.outerjoin(devices, devices.c.id == orders.c.device)
        .outerjoin(alarms, alarms.c.id == orders.c.alarm)
        .outerjoin(grids, grids.c.id == orders.c.grid)
        .outerjoin(users, users.c.name == orders.c.assignee)
    )


def _rows(tx: Connection, query: Select[Any]) -> list[OrderRow]:
    categories = catalogue(tx)

    def row_of(row: Row[Any]) -> OrderRow:
        found = dict(row._mapping)
        category = categories.of(found["category"])
        found["device_name"] = found["device_name"] or subject_name(found["device"] or "", found["grid_name"])
        for name in ("device_name", "kind", "grid_name", "keeper", "keeper_phone", "assignee_name"):
            found[name] = found[name] or ""
        found["state"], found["close_by"] = OrderState(found["state"]), CloseBy(found["close_by"])
        return OrderRow(**found, category_zh=category.zh, category_en=category.en)

    return [row_of(row) for row in tx.execute(query)]


def _known(values: type[OrderState] | type[Step], value: str, name: str) -> str:
    if value not in set(values):
        choices = ", ".join(values)
        raise Invalid(f"bad_{name}", f"{name} 应为 {choices} 之一", f"{name} must be one of {choices}")
    return value

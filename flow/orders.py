"""What people do about work orders: file one by hand, and every act of the table. One act, one transaction.

`act_on_order` compares the version the person saw with the one that is, under the write lock: of two who press at once
the second is told that the order has changed, and nothing is done twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.sqlite import insert as upsert

from alerts.limits import Limits, is_overdue, moved, next_limit
from alerts.orders import OPEN, Act, OrderState, Source, acts_for, decide, parse_act
from alerts.refusals import Invalid, NotFound
from alerts.roles import Actor, Role
from devices.instants import DAY, from_iso
from flow.deeds import note, write_act
from flow.filing import ATTACHED
from flow.messages import Message, order_message, post
from flow.reporting import MAX_DESCRIPTION, MAX_EXTERNAL, MAX_TITLE, check_form, close_by_of, place_of, report
from rules.rule import Priority
from store.records.categories import catalogue
from store.records.database import write
from store.records.orders import OrderRow, find_external, get_order
from store.records.tables import order_history, order_occurrences, orders, users

MAX_REASON, MAX_DETAIL = 2000, 20_000
# Farther away than this is no extension but an order that wants another plan.
MAX_EXTENSION = 90 * DAY


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order and what this person may do with it next."""

    order: OrderRow
    acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filed:
    """`created` False: this external_id was filed before, here it is."""

    view: OrderView
    created: bool


@dataclass(frozen=True, slots=True)
class _Deed:
    """One accepted act on one order, with the words that came with it."""

    actor: Actor
    act: Act
    to: OrderState
    reason: str | None
    detail: dict[str, Any]


def view_order(order: OrderRow, actor: Actor) -> OrderView:
    return OrderView(order, acts_for(order.to_decide(), actor))


def file_order(  # noqa: PLR0913 - the fields of the form
    records: Engine,
    now: int,
    actor: Actor,
    *,
    category: str,
    title: str,
    source: str = Source.DUTY,
    description: str = "",
    priority: str = Priority.MEDIUM,
    external_id: str | None = None,
    device: str | None = None,
    grid: str | None = None,
    latitude: float | None = None,
    longitude: float | None = None,
    alarm: int | None = None,
) -> Filed:
    """File by hand, in state `reported`. The same external_id again gives the same order and changes nothing.

    Raises NotAllowed, Invalid for what the form should not have let through, NotFound for an unknown alarm, Conflict
    where the alarm has an open order already.
    """
    actor.require("order.report")
    check_form(title, description, source, priority, external_id)
    with write(records) as tx:
        if external_id is not None and (known := find_external(tx, external_id)) is not None:
            return Filed(view_order(known, actor), created=False)
        row = place_of(tx, device, grid, alarm) | {
            "category": category,
            "close_by": close_by_of(catalogue(tx), category),
            "title": title.strip(),
            "description": description.strip(),
            "priority": priority,
            "source": source,
            "reporter": actor.name,
            "external_id": external_id,
            "latitude": latitude,
            "longitude": longitude,
            "alarm": alarm,
        }
        number = report(tx, now, actor, row)
        return Filed(view_order(_read(tx, number), actor), created=True)


def act_on_order(  # noqa: PLR0913 - the body of one request
    records: Engine,
    now: int,
    actor: Actor,
    *,
    order: int,
    act: str,
    version: int,
    reason: str | None = None,
    assignee: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> OrderView:
    """Do it, or raise NotAllowed, NotFound, Conflict or Invalid and change nothing.

    `assignee` is who an order is dispatched to. `detail` is kept with the history; `extend` reads `until` from it
    (ISO 8601 or microseconds), `merge` reads `into` (the number of an open order).
    """
    chosen = parse_act(act)
    with write(records) as tx:
        row = _read(tx, order)
        to = decide(row.to_decide(), chosen, actor, version=version, reason=reason)
        deed = _Deed(actor, chosen, to, _reason(chosen, reason), _detail(detail))
        _do(tx, now, row, deed, assignee=assignee)
        return view_order(_read(tx, order), actor)


def _do(tx: Connection, now: int, row: OrderRow, deed: _Deed, *, assignee: str | None) -> None:
    categories = catalogue(tx)
    changes = _consequences(tx, now, row, deed, assignee=assignee)
    limits = moved(
        Limits(row.accept_by, row.arrive_by, changes.pop("handle_by", row.handle_by)),
        deed.act,
        categories.of(row.category),
        now,
        suspended_us=_suspended(tx, row, now) if deed.act is Act.RESUME else 0,
    )
    closed_at = {OrderState.CLOSED: row.closed_at or now, OrderState.ARCHIVED: row.closed_at}.get(deed.to)
    ends = closed_at + categories.watch_us if closed_at is not None and deed.to is OrderState.CLOSED else None
    changes |= {
        "accept_by": limits.accept_by,
        "arrive_by": limits.arrive_by,
        "handle_by": limits.handle_by,
        "closed_at": closed_at,
        "next_limit_at": ends or next_limit(deed.to, limits, now),
        "overdue": is_overdue(deed.to, limits, now),
    }
    write_act(tx, now, row, deed.act, deed.to, by=deed.actor.name, post_of=deed.actor.role, why=deed.reason,
              detail=deed.detail, changes=changes)  # fmt: skip
    post(tx, now, _messages(row, deed, changes))


def _consequences(tx: Connection, now: int, row: OrderRow, deed: _Deed, *, assignee: str | None) -> dict[str, Any]:
    """Columns an act changes besides state, version and limits."""
    if assignee is not None and deed.act is not Act.DISPATCH:
        raise Invalid("assignee_only_with_dispatch", "只有派单可以指定处置人", "only dispatch names an assignee")
    match deed.act:
        case Act.DISPATCH:
            deed.detail["assignee"] = _handler(tx, assignee)
            return {"assignee": assignee}
        case Act.ACCEPT:
            return {"assignee": deed.actor.name}
        case Act.SELF_HANDLE:
            return {"assignee": deed.actor.name, "handled_by": deed.actor.name}
        case Act.HANDLE:
            return {"handled_by": deed.actor.name}
        case Act.RETURN | Act.SEND_UP:
            return {"assignee": None}
        case Act.EXTEND:
            return {"handle_by": _until(row, deed, now)}
        case Act.MERGE:
            return {"merged_into": _merge(tx, now, row, deed)}
    return {}


def _read(tx: Connection, order: int) -> OrderRow:
    found = get_order(tx, order)
    if found is None:
        raise NotFound("no_such_order", f"没有编号为 {order} 的工单", f"there is no order {order}")
    return found


def _reason(act: Act, reason: str | None) -> str | None:
    if reason is not None and len(reason) > MAX_REASON:
        raise Invalid("text_too_long", f"理由不能超过 {MAX_REASON} 字", f"at most {MAX_REASON} characters")
    said = reason.strip() or None if reason is not None else None
    if act is Act.COMMENT and said is None:
        raise Invalid("reason_required", "备注不能为空", "a comment says something: give it as reason")
    return said


def _detail(detail: Mapping[str, Any] | None) -> dict[str, Any]:
    found = dict(detail or {})
    try:
        size = len(json.dumps(found, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Invalid("bad_detail", "detail 不是有效的 JSON", f"detail is not JSON: {error}") from error
    if size > MAX_DETAIL:
        raise Invalid(
            "text_too_long", f"detail 不能超过 {MAX_DETAIL} 字", f"detail has at most {MAX_DETAIL} characters"
        )
    return found


def _handler(tx: Connection, assignee: str | None) -> str:
    if not assignee:
        raise Invalid("assignee_required", "派单需要指定处置人", "dispatch needs an assignee")
    query = select(users.c.name).where(users.c.name == assignee, users.c.role == Role.HANDLER, ~users.c.disabled)
    if tx.execute(query).first() is None:
        raise Invalid("no_such_handler", f"没有处置员“{assignee}”", f"there is no handler {assignee!r}")
    return assignee


def _until(row: OrderRow, deed: _Deed, now: int) -> int:
    """The new handling limit. Raises Invalid unless it is later than now and than the old one."""
    given = deed.detail.get("until")
    try:
        until = given if isinstance(given, int) and not isinstance(given, bool) else from_iso(str(given))
    except ValueError as error:
        raise Invalid("bad_until", "延期需要新的时限 until", "extend needs detail.until, an instant") from error
    if not max(now, row.handle_by or 0) < until <= now + MAX_EXTENSION:
        raise Invalid(
            "bad_until",
            "新时限应晚于现在和原时限，且在 90 天以内",
            "until must be later than now and the old limit, within 90 days",
        )
    deed.detail["from"] = row.handle_by
    return until


def _merge(tx: Connection, now: int, row: OrderRow, deed: _Deed) -> int:
    """The order it goes into, which takes over its occurrences. Raises Invalid unless that one is open."""
    into = deed.detail.get("into")
    other = get_order(tx, into) if isinstance(into, int) and not isinstance(into, bool) else None
    if other is None or other.id == row.id or other.state not in OPEN:
        raise Invalid(
            "bad_into", "合并需要另一张未结工单的编号 into", "merge needs detail.into, the number of another open order"
        )
    mine = select(orders.c.id, order_occurrences.c.occurrence).select_from(
        order_occurrences.join(orders, orders.c.id == other.id)
    )
    tx.execute(
        upsert(order_occurrences)
        .from_select(["order", "occurrence"], mine.where(order_occurrences.c.order == row.id))
        .on_conflict_do_nothing()
    )
    note(tx, now, other.id, ATTACHED, other.state, other.state, by=deed.actor.name, post_of=deed.actor.role,
         why=deed.reason, detail={"order": row.id})  # fmt: skip
    return other.id


def _suspended(tx: Connection, row: OrderRow, now: int) -> int:
    """How long the suspension lasted that ends now."""
    h = order_history.c
    began = select(h.at).where(h.order == row.id, h.act == Act.SUSPEND).order_by(h.id.desc()).limit(1)
    return max(0, now - int(tx.execute(began).scalar_one()))


def _messages(row: OrderRow, deed: _Deed, changes: Mapping[str, Any]) -> list[Message]:
    happening = {Act.FILE: "filed", Act.DISPATCH: "dispatched", Act.REJECT: "reopened", Act.REOPEN: "reopened"}.get(
        deed.act
    )
    if happening is None:
        return []
    once = "" if deed.act is Act.FILE else f"v{row.version + 1}"
    assignee = changes.get("assignee", row.assignee) if deed.act is not Act.FILE else None
    return [
        order_message(
            row.id, happening, row.title, priority=row.priority, once=once, alarm=row.alarm, assignee=assignee
        )
    ]


__all__ = [
    "MAX_DESCRIPTION",
    "MAX_EXTERNAL",
    "MAX_REASON",
    "MAX_TITLE",
    "Filed",
    "OrderView",
    "act_on_order",
    "file_order",
    "view_order",
]

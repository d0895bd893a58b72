"""Orders filed by hand, in state `reported`: what the form must hold, and where it happened."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from alerts.categories import Catalogue
from alerts.orders import OPEN, CloseBy, OrderState, Source
from alerts.refusals import Conflict, Invalid, NotFound
from alerts.roles import Actor
from devices.subjects import is_group
from flow.deeds import attach, note
from flow.messages import order_event, tell
from rules.rule import Priority
from store.records.alarms import get_alarm
from store.records.tables import devices, grids, orders

MAX_TITLE, MAX_DESCRIPTION, MAX_EXTERNAL = 200, 4000, 200
_BY_HAND = frozenset(Source) - {Source.RULE}


def check_form(title: str, description: str, source: str, priority: str, external_id: str | None) -> None:
    if not 0 < len(title.strip()) <= MAX_TITLE:
        raise Invalid("bad_title", f"标题应为 1 到 {MAX_TITLE} 字", f"a title has 1 to {MAX_TITLE} characters")
    if len(description) > MAX_DESCRIPTION:
        raise Invalid("text_too_long", f"描述不能超过 {MAX_DESCRIPTION} 字", f"at most {MAX_DESCRIPTION} characters")
    if source not in _BY_HAND:
        choices = ", ".join(s for s in Source if s in _BY_HAND)
        raise Invalid("bad_source", f"来源应为 {choices} 之一", f"source must be one of {choices}")
    if priority not in set(Priority):
        choices = ", ".join(Priority)
        raise Invalid("bad_priority", f"优先级应为 {choices} 之一", f"priority must be one of {choices}")
    if external_id is not None and not 0 < len(external_id) <= MAX_EXTERNAL:
        raise Invalid("bad_external_id", f"外部编号应为 1 到 {MAX_EXTERNAL} 字", "external_id is empty or too long")


def place_of(tx: Connection, device: str | None, grid: str | None, alarm: int | None) -> dict[str, Any]:
    """Device and grid, from the alarm where it is about one. Raises Invalid for what is not registered."""
    if alarm is not None:
        found = get_alarm(tx, alarm)
        if found is None:
            raise NotFound("no_such_alarm", f"没有编号为 {alarm} 的告警", f"there is no alarm {alarm}")
        busy = select(orders.c.id).where(orders.c.alarm == alarm, orders.c.state.in_(OPEN))
        if (other := tx.execute(busy).scalar()) is not None:
            raise Conflict("order_open", f"该告警已有未结工单 #{other}", f"order {other} of this alarm is still open")
        device, grid = device or found.device, grid or found.grid
    if device is not None:
        row = tx.execute(select(devices.c.grid).where(devices.c.id == device)).one_or_none()
        if row is None and alarm is None:
            raise Invalid("no_such_device", f"没有设备“{device}”", f"there is no device {device!r}")
        grid = grid or (row.grid if row else None)
    elif grid is not None and tx.execute(select(grids.c.id).where(grids.c.id == grid)).first() is None:
        raise Invalid("no_such_grid", f"没有网格“{grid}”", f"there is no grid {grid!r}")
    return {"device": device, "grid": grid}


def close_by_of(categories: Catalogue, category: str) -> CloseBy:
    if category not in categories.categories:
        raise Invalid("no_such_category", f"没有类别“{category}”", f"there is no category {category!r}")
    return categories.of(category).close_by


def report(tx: Connection, now: int, actor: Actor, row: dict[str, Any]) -> int:
    values = row | {"state": OrderState.REPORTED, "version": 1, "created_at": now, "changed_at": now}
    number: int = tx.scalars(insert(orders).values(values).returning(orders.c.id)).one()
    if row["alarm"] is not None:
        attach(tx, number, row["alarm"])
    note(tx, now, number, "report", None, OrderState.REPORTED, by=actor.name, post_of=actor.role,
         detail={"source": row["source"]})  # fmt: skip
    tell(
        tx, now,
        [order_event(number, "report", OrderState.REPORTED, version=1, category=row["category"],
                     priority=row["priority"], device=row["device"], grid=row["grid"], alarm=row["alarm"],
                     kind=_kind_of_several(tx, row))],
    )  # fmt: skip
    return number


def _kind_of_several(tx: Connection, row: dict[str, Any]) -> str | None:
    """For the stream: of an order about several devices, by the alarm it was filed for."""
    if row["alarm"] is None or not is_group(row["device"] or ""):
        return None
    found = get_alarm(tx, row["alarm"])
    return None if found is None else found.kind

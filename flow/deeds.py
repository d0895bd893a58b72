"""One accepted act on one order, written: state and version by compare-and-set, the history row, the stream row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, update
from sqlalchemy.dialects.sqlite import insert as upsert

from alerts.orders import OrderState
from alerts.refusals import Conflict
from alerts.roles import SERVICE
from devices.subjects import is_group
from flow.messages import order_event, tell
from store.records.alarms import get_alarm
from store.records.orders import OrderRow
from store.records.tables import order_history, order_occurrences, orders


def write_act(  # noqa: PLR0913 - one history row
    tx: Connection,
    now: int,
    row: OrderRow,
    act: str,
    to: OrderState,
    *,
    by: str,
    post_of: str,
    why: str | None = None,
    detail: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any],
) -> None:
    """State, version, history row and stream row, if the order still has the version that was read."""
    version = row.version + 1
    done = tx.execute(
        update(orders)
        .where(orders.c.id == row.id, orders.c.version == row.version)
        .values(state=to, version=version, changed_at=now, **changes)
    )
    if done.rowcount != 1:
        raise Conflict(
            "version_changed", "工单已有新变化，请刷新后再操作", "the order has changed meanwhile: look again"
        )
    note(tx, now, row.id, act, row.state, to, by=by, post_of=post_of, why=why, detail=detail)
    tell(
        tx, now,
        [order_event(row.id, act, to, version=version, category=row.category, priority=row.priority,
                     device=row.device, grid=row.grid, alarm=row.alarm, kind=kind_of_several(row))],
    )  # fmt: skip


def kind_of_several(row: OrderRow) -> str | None:
    """For the stream: of an order about several devices."""
    return row.kind or None if is_group(row.device or "") else None


def note(  # noqa: PLR0913, PLR0917 - one history row
    tx: Connection,
    now: int,
    order: int,
    act: str,
    before: OrderState | None,
    to: OrderState,
    *,
    by: str = SERVICE,
    post_of: str = SERVICE,
    why: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    tx.execute(
        insert(order_history).values(
            order=order, at=now, by=by, post=post_of, act=act, from_state=before, to_state=to, why=why,
            detail=dict(detail or {}),
        )
    )  # fmt: skip


def attach(tx: Connection, order: int, alarm: int) -> None:
    """The alarm's latest occurrence belongs to the order from now on."""
    found = get_alarm(tx, alarm)
    if found is not None and found.occurrence is not None:
        row = {"order": order, "occurrence": found.occurrence.id}
        tx.execute(upsert(order_occurrences).on_conflict_do_nothing(), row)

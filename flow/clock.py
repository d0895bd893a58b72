"""What the clock alone does at the desk: shelves expire, limits run out, closed orders reach the archive.

Deadlines are stored and indexed, so a tick costs nothing while nothing is due. A tick that comes late (the service was
down) does what is due then, once: an order is told overdue with the instant its limit ran out.
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, Select, or_, select, update

from alerts.alarms import AlarmState
from alerts.limits import Limits, next_limit, running
from alerts.orders import Act, OrderState, decide
from alerts.roles import SERVICE
from devices.instants import to_iso
from flow.deeds import kind_of_several, note, write_act
from flow.desk import expire_shelves
from flow.messages import order_event, order_message, post, tell
from store.records.database import write
from store.records.orders import OrderRow, get_order
from store.records.tables import alarms, orders

OVERDUE = "overdue"
# One tick's share of work: what is left is due at the next one, a second later.
AT_ONCE = 500


def tick_desk(records: Engine, now: int) -> None:
    """Do what has fallen due. Cheap where nothing has: it then asks for no write lock."""
    with records.connect() as tx:
        shelved = select(alarms.c.id).where(alarms.c.state == AlarmState.SHLVD, alarms.c.shelved_until <= now)
        due = tx.execute(select(or_(shelved.exists(), _due(now).exists()))).scalar_one()
    if not due:
        return
    with write(records) as tx:
        expire_shelves(tx, now, AT_ONCE)
        for number in tx.scalars(_due(now).order_by(orders.c.next_limit_at).limit(AT_ONCE)).all():
            order = get_order(tx, number)
            assert order is not None
            if order.state is OrderState.CLOSED:
                _archive(tx, now, order)
            else:
                _run_out(tx, now, order)


def _due(now: int) -> Select[int]:
    return select(orders.c.id).where(orders.c.next_limit_at <= now)


def _archive(tx: Connection, now: int, order: OrderRow) -> None:
    to = decide(order.to_decide(), Act.ARCHIVE, None)
    write_act(tx, now, order, Act.ARCHIVE, to, by=SERVICE, post_of=SERVICE, changes={"next_limit_at": None})


def _run_out(tx: Connection, now: int, order: OrderRow) -> None:
    """One history row and one message for each limit that ran out; the version stays, for nobody did anything."""
    limits = Limits(order.accept_by, order.arrive_by, order.handle_by)
    told = order.next_limit_at or now
    out = [(at, name) for at, name in running(order.state, limits) if told <= at <= now]
    tx.execute(
        update(orders)
        .where(orders.c.id == order.id)
        .values(overdue=True, next_limit_at=next_limit(order.state, limits, now))
    )
    for at, name in out:
        note(tx, now, order.id, OVERDUE, order.state, order.state, why=name, detail={"limit": name, "at": to_iso(at)})
    messages = [
        order_message(
            order.id, OVERDUE, order.title, priority=order.priority, once=f"{name}:{at}", alarm=order.alarm,
            assignee=order.assignee, limit=name,
        )
        for at, name in out
    ]  # fmt: skip
    post(tx, now, messages)
    event = order_event(
        order.id, OVERDUE, order.state, version=order.version, category=order.category, priority=order.priority,
        device=order.device, grid=order.grid, alarm=order.alarm, kind=kind_of_several(order),
    )  # fmt: skip
    tell(tx, now, [event])

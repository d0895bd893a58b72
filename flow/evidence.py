"""Which stretches of which devices are held as evidence: what was measured around an alarm somebody still works on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, or_, select

from alerts.orders import OrderState
from devices.instants import HOUR, MAX_INSTANT
from devices.registry import Registry
from store.records.tables import occurrences, order_occurrences, orders

AROUND = HOUR
# In these nothing is done about an order any more.
_OVER = frozenset({OrderState.ARCHIVED, OrderState.VOID})


@dataclass(frozen=True, slots=True, order=True)
class Hold:
    """Whole hours: what is kept of an hour is all of it."""

    start: int
    end: int


def holds(records: Engine, registry: Registry, now: int, longer: int) -> Mapping[int, list[Hold]]:
    """Device number → its holds in order of start. `longer`: how long after its order was archived, or after its end
    where it has none, an occurrence is held."""
    found: dict[int, set[Hold]] = defaultdict(set)
    o, link = occurrences.c, order_occurrences.c
    query = (
        select(o.device, o.since, o.cleared_at, o.reason, link.order)
        .outerjoin(order_occurrences, link.occurrence == o.id)
        .outerjoin(orders, orders.c.id == link.order)
        .where(or_(o.cleared_at.is_(None), o.cleared_at > now - longer, orders.c.state.not_in(_OVER),
                   orders.c.changed_at > now - longer))
    )  # fmt: skip
    with records.connect() as tx:
        for row in tx.execute(query).all():
            if row.cleared_at is not None and row.order is not None and row.cleared_at <= now - longer:
                over_at = _over_at(tx, row.order)
                if over_at is not None and over_at <= now - longer:
                    continue
            end = MAX_INSTANT if row.cleared_at is None else row.cleared_at + AROUND
            hold = Hold(max(0, row.since - AROUND) // HOUR * HOUR, -(-end // HOUR) * HOUR)
            for device in (row.device, *row.reason.get("members", ())):
                known = registry.get(device)
                if known is not None:
                    found[known.number].add(hold)
    return {device: sorted(some) for device, some in found.items()}


def _over_at(tx: Connection, order: int) -> int | None:
    """When the order, or the one it was merged into, was done with; None: somebody still works on it."""
    c = orders.c
    row = tx.execute(select(c.state, c.changed_at, c.merged_into).where(c.id == order)).one()
    if row.state == OrderState.MERGED and row.merged_into is not None:
        return _over_at(tx, row.merged_into)
    return int(row.changed_at) if row.state in _OVER else None

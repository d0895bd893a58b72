"""The limits of an order (accept 签收, arrive 到场, handle 处置): when they run out and which of them runs in a state.

A limit is set by the move that starts it and kept afterwards as a record; the state says which ones are running.
Suspension stops the handling clock: the time it lasted is added on resuming.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from alerts.categories import Category
from alerts.orders import Act, OrderState

S = OrderState


@dataclass(frozen=True, slots=True)
class Limits:
    """Instants; None where that clock was never started."""

    accept_by: int | None = None
    arrive_by: int | None = None
    handle_by: int | None = None


# Which limits run in which state; in the others none does.
_RUNNING: Mapping[OrderState, tuple[str, ...]] = MappingProxyType({
    S.FILED: ("handle_by",),
    S.RETURNED: ("handle_by",),
    S.SENT_UP: ("handle_by",),
    S.DISPATCHED: ("accept_by", "handle_by"),
    S.REWORK: ("accept_by", "handle_by"),
    S.ACCEPTED: ("arrive_by", "handle_by"),
    S.ON_SITE: ("handle_by",),
})  # fmt: skip


def running(state: OrderState, limits: Limits) -> list[tuple[int, str]]:
    """(instant, name) of each limit running in this state, the earliest first."""
    named = ((getattr(limits, name), name) for name in _RUNNING.get(state, ()))
    return sorted((at, name) for at, name in named if at is not None)


def next_limit(state: OrderState, limits: Limits, now: int) -> int | None:
    """The earliest running limit that has not run out yet."""
    return next((at for at, _ in running(state, limits) if at > now), None)


def is_overdue(state: OrderState, limits: Limits, now: int) -> bool:
    return any(at <= now for at, _ in running(state, limits))


def moved(limits: Limits, act: Act, category: Category, now: int, *, suspended_us: int = 0) -> Limits:
    """The limits after the act. `suspended_us`: how long the suspension lasted that `resume` ends."""
    match act:
        case Act.FILE:
            return Limits(handle_by=now + category.handle_us)
        case Act.DISPATCH:
            return replace(limits, accept_by=now + category.accept_us, arrive_by=None)
        case Act.ACCEPT:
            return replace(limits, arrive_by=now + category.arrive_us)
        case Act.REJECT | Act.REOPEN:
            return Limits(accept_by=now + category.accept_us, handle_by=now + category.handle_us)
        case Act.RESUME:
            handle_by = None if limits.handle_by is None else limits.handle_by + suspended_us
            return replace(limits, arrive_by=now + category.arrive_us, handle_by=handle_by)
    return limits

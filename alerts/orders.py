"""Work orders as a table: the four-step method (四单), who may do which act, and the limits that run in each state.

The surprise: two checks are about the person, not the role. A handler's acts are the assignee's alone (an order that
came back without ever having had an assignee may be accepted by any handler, who then is it), and whoever handled an
order, or is assigned to it, may not check, close or reject it, whatever role he has by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound
from alerts.roles import MAY, Actor, Role


class OrderState(StrEnum):
    REPORTED = "reported"
    VERIFYING = "verifying"
    FILED = "filed"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    ON_SITE = "on_site"
    HANDLED = "handled"
    CHECKING = "checking"
    CLOSED = "closed"
    ARCHIVED = "archived"
    RETURNED = "returned"
    REWORK = "rework"
    SUSPENDED = "suspended"
    VOID = "void"
    SENT_UP = "sent_up"
    MERGED = "merged"


class Step(StrEnum):
    REPORT = "report"
    DISPATCH = "dispatch"
    HANDLE = "handle"
    ARCHIVE = "archive"


class Act(StrEnum):
    VERIFY = "verify"
    FILE = "file"
    SELF_HANDLE = "self_handle"
    DISPATCH = "dispatch"
    ACCEPT = "accept"
    ARRIVE = "arrive"
    HANDLE = "handle"
    CHECK = "check"
    SELF_CLEAR = "self_clear"
    CLOSE = "close"
    REJECT = "reject"
    REOPEN = "reopen"
    ARCHIVE = "archive"
    RETURN = "return"
    SUSPEND = "suspend"
    RESUME = "resume"
    SEND_UP = "send_up"
    VOID = "void"
    MERGE = "merge"
    EXTEND = "extend"
    COMMENT = "comment"


class CloseBy(StrEnum):
    """Who may end an order: the alarm's return to normal, a person who was there, or both together."""

    SENSOR = "sensor"
    PERSON = "person"
    BOTH = "both"


class Source(StrEnum):
    RULE = "rule"
    RESIDENT = "resident"
    GRID_WORKER = "grid_worker"
    HOTLINE = "hotline"
    DUTY = "duty"


S, A = OrderState, Act

STEPS: Mapping[OrderState, Step] = MappingProxyType({
    S.REPORTED: Step.REPORT, S.VERIFYING: Step.REPORT,
    S.FILED: Step.DISPATCH, S.DISPATCHED: Step.DISPATCH, S.RETURNED: Step.DISPATCH, S.SENT_UP: Step.DISPATCH,
    S.ACCEPTED: Step.HANDLE, S.ON_SITE: Step.HANDLE, S.HANDLED: Step.HANDLE,
    S.REWORK: Step.HANDLE, S.SUSPENDED: Step.HANDLE,
    S.CHECKING: Step.ARCHIVE, S.CLOSED: Step.ARCHIVE, S.ARCHIVED: Step.ARCHIVE,
    S.VOID: Step.ARCHIVE, S.MERGED: Step.ARCHIVE,
})  # fmt: skip
STEP_NAMES: Mapping[Step, tuple[str, str]] = MappingProxyType({
    Step.REPORT: ("发现上传", "report"),
    Step.DISPATCH: ("分类派发", "dispatch"),
    Step.HANDLE: ("接收处置", "handle"),
    Step.ARCHIVE: ("验收归档", "verify and archive"),
})  # fmt: skip

# Nothing may be done to these any more; a new trouble of the same alarm is a new order.
FINAL = frozenset({S.ARCHIVED, S.VOID, S.MERGED})
# Still somebody's work: new occurrences of the alarm attach to it.
OPEN = frozenset(S) - FINAL - {S.CLOSED}
# "Before handled": every state from which the handling is still ahead, rework included.
_BEFORE_HANDLED = (S.REPORTED, S.VERIFYING, S.FILED, S.DISPATCHED, S.ACCEPTED, S.ON_SITE, S.RETURNED, S.REWORK,
                   S.SUSPENDED, S.SENT_UP)  # fmt: skip

_ROWS: tuple[tuple[Act, tuple[OrderState, ...], OrderState], ...] = (
    (A.VERIFY, (S.REPORTED,), S.VERIFYING),
    (A.FILE, (S.REPORTED, S.VERIFYING), S.FILED),
    (A.SELF_HANDLE, (S.REPORTED, S.VERIFYING), S.CHECKING),
    (A.DISPATCH, (S.FILED, S.RETURNED, S.SENT_UP), S.DISPATCHED),
    (A.ACCEPT, (S.DISPATCHED, S.REWORK), S.ACCEPTED),
    (A.ARRIVE, (S.ACCEPTED,), S.ON_SITE),
    (A.HANDLE, (S.ACCEPTED, S.ON_SITE), S.HANDLED),
    (A.CHECK, (S.HANDLED,), S.CHECKING),
    (A.SELF_CLEAR, (S.FILED, S.DISPATCHED, S.ACCEPTED, S.ON_SITE), S.CHECKING),
    (A.CLOSE, (S.CHECKING,), S.CLOSED),
    (A.REJECT, (S.CHECKING,), S.REWORK),
    (A.REOPEN, (S.CLOSED,), S.REWORK),
    (A.ARCHIVE, (S.CLOSED,), S.ARCHIVED),
    (A.RETURN, (S.DISPATCHED, S.ACCEPTED), S.RETURNED),
    (A.SUSPEND, (S.ACCEPTED, S.ON_SITE), S.SUSPENDED),
    (A.RESUME, (S.SUSPENDED,), S.ACCEPTED),
    (A.SEND_UP, (S.FILED, S.RETURNED, S.DISPATCHED, S.ACCEPTED, S.ON_SITE), S.SENT_UP),
    (A.VOID, _BEFORE_HANDLED, S.VOID),
    (A.MERGE, (S.REPORTED, S.VERIFYING, S.FILED, S.DISPATCHED), S.MERGED),
)
# Acts that leave the state as it is: extending needs a limit that still runs, a comment anything not final.
EXTENDABLE = (S.FILED, S.RETURNED, S.SENT_UP, S.DISPATCHED, S.ACCEPTED, S.ON_SITE, S.REWORK)
_STAYING = ((A.EXTEND, EXTENDABLE), (A.COMMENT, tuple(s for s in S if s not in FINAL)))

MOVES: Mapping[tuple[OrderState, Act], OrderState] = MappingProxyType(
    {(state, act): to for act, froms, to in _ROWS for state in froms}
    | {(state, act): state for act, froms in _STAYING for state in froms}
)
SERVICE_MAY = frozenset({A.FILE, A.SELF_CLEAR, A.REOPEN, A.ARCHIVE})
NEEDS_REASON = frozenset({A.RETURN, A.VOID, A.SUSPEND, A.EXTEND, A.SEND_UP, A.REJECT, A.MERGE})
_ASSIGNEES_OWN = frozenset({A.ACCEPT, A.ARRIVE, A.HANDLE, A.RETURN, A.RESUME})
_CHECKERS = frozenset({A.CHECK, A.CLOSE, A.REJECT})


@dataclass(frozen=True, slots=True)
class Order:
    """What the decision needs to know. `standing`: the condition of an alarm attached to it still holds."""

    state: OrderState
    version: int
    close_by: CloseBy
    reporter: str
    assignee: str | None = None
    handled_by: str | None = None
    standing: bool = False


def parse_act(act: str) -> Act:
    try:
        return Act(act)
    except ValueError as error:
        raise NotFound("no_such_act", f"没有“{act}”这个操作", f"there is no act {act!r}") from error


def roles_of(act: Act) -> frozenset[Role]:
    """Empty for what only the service does."""
    return MAY.get(f"order.{act}", frozenset())


def acts_for(order: Order, actor: Actor) -> tuple[str, ...]:
    """What this person may do next, in the order of the table. Closing against a standing alarm is among it: it
    needs a reason (`needs_reason`)."""
    return tuple(
        act
        for act in Act
        if (order.state, act) in MOVES and _allowed(act, actor) and _personal(order, act, actor) is None
    )


def needs_reason(order: Order, act: Act) -> bool:
    """Closing needs one where the sensor has a say and still says no: the checker overrides it."""
    return act in NEEDS_REASON or (act is A.CLOSE and order.close_by is not CloseBy.PERSON and order.standing)


def decide(
    order: Order, act: Act, actor: Actor | None, *, version: int | None = None, reason: str | None = None
) -> OrderState:
    """The state after the act. `actor` None is the service; `version` None does not ask which version was seen.

    Raises NotAllowed (role, then person), Conflict (version, then table) or Invalid (reason), the first that applies.
    """
    if not (act in SERVICE_MAY if actor is None else _allowed(act, actor)):
        raise NotAllowed("not_allowed", f"无权执行“{act}”", f"you may not {act} an order")
    if version is not None and version != order.version:
        raise Conflict(
            "version_changed",
            f"工单已有新变化（版本 {order.version}），请刷新后再操作",
            f"the order has changed meanwhile (version {order.version}): look again",
        )
    to = MOVES.get((order.state, act))
    if to is None:
        raise Conflict(
            "not_in_this_state",
            f"工单处于“{order.state}”状态，不能执行“{act}”",
            f"{act} is not possible while the order is {order.state}",
        )
    if actor is not None and (refusal := _personal(order, act, actor)) is not None:
        raise refusal
    if actor is not None and needs_reason(order, act) and not (reason and reason.strip()):
        raise Invalid("reason_required", f"“{act}”需要填写理由", f"{act} needs a reason")
    return to


def _allowed(act: Act, actor: Actor) -> bool:
    return not actor.read_only and actor.role in roles_of(act)


def _personal(order: Order, act: Act, actor: Actor) -> NotAllowed | None:
    if act in _CHECKERS and actor.name in {order.handled_by, order.assignee}:
        return NotAllowed(
            "handler_may_not_check", "处置人不得核查自己的工单", "the handler may not check his own order"
        )
    if act is A.SELF_HANDLE and actor.name != order.reporter:
        return NotAllowed("not_the_reporter", "只有上报人可以自行处置", "only who reported it may handle it himself")
    if act in _ASSIGNEES_OWN and actor.name != order.assignee:
        unassigned = act is A.ACCEPT and order.assignee is None
        return None if unassigned else NotAllowed("not_the_assignee", "工单不是派给您的", "it is not assigned to you")
    return None

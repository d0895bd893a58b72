"""The life of an alarm as a table: ISA-18.2-2016 / IEC 62682 states by mnemonic, and what leads from one to another.

Two happenings are two steps. Coming back from suppression (unshelved, expired, …) leads to NORM and, where the
condition still stands, is raised again at once: what was acknowledged before shelving is asked again, for nobody knows
whether the person who knew is still on duty. And an alarm of priority `notice` acknowledges itself as it is raised
(UNACK → ACKED): it is listed while it stands and never waits for anyone. No alarm is latched. A rise of severity
re-alarms, as ISA-18.2 has it; a fall asks nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from alerts.refusals import Conflict, Invalid
from devices.instants import DAY
from rules.rule import Priority


class AlarmState(StrEnum):
    NORM = "NORM"
    UNACK = "UNACK"
    ACKED = "ACKED"
    RTNUN = "RTNUN"  # returned to normal, unacknowledged
    SHLVD = "SHLVD"  # shelved by a person, for a time
    DSUPR = "DSUPR"  # suppressed by design
    OOSRV = "OOSRV"  # out of service


class Happening(StrEnum):
    RAISED = "raised"
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    UNSUPPRESSED = "unsuppressed"
    REMOVED = "removed"  # from service
    RESTORED = "restored"  # to service
    COMMENTED = "commented"
    WORSENED = "worsened"  # its severity rose while it stands
    EASED = "eased"


S, H = AlarmState, Happening

# Shown on the board: somebody has to see them, or they still stand.
STANDING = frozenset({S.UNACK, S.ACKED, S.RTNUN})
SUPPRESSED = frozenset({S.SHLVD, S.DSUPR, S.OOSRV})
RETURNS = frozenset({H.UNSHELVED, H.EXPIRED, H.UNSUPPRESSED, H.RESTORED})
NEEDS_REASON = frozenset({H.SHELVED, H.REMOVED})
# Their history says from which priority to which: `medium → critical`.
SEVERITY_ACTS = frozenset({H.WORSENED, H.EASED})
# Longer is not shelving any more but a rule that wants changing (OPC UA Part 9 calls it MaxTimeShelved).
MAX_SHELVED = 7 * DAY

_ROWS: tuple[tuple[tuple[AlarmState, ...], Happening, AlarmState], ...] = (
    ((S.NORM, S.UNACK, S.ACKED, S.RTNUN), H.RAISED, S.UNACK),  # ACKED: a new occurrence re-alarms
    ((S.NORM, S.ACKED), H.CLEARED, S.NORM),
    ((S.UNACK, S.RTNUN), H.CLEARED, S.RTNUN),
    ((S.UNACK,), H.ACKNOWLEDGED, S.ACKED),
    ((S.RTNUN,), H.ACKNOWLEDGED, S.NORM),
    ((S.NORM, S.UNACK, S.ACKED, S.RTNUN, S.SHLVD), H.SHELVED, S.SHLVD),  # SHLVD: until another time
    ((S.SHLVD,), H.UNSHELVED, S.NORM),
    ((S.SHLVD,), H.EXPIRED, S.NORM),
    ((S.NORM, S.UNACK, S.ACKED, S.RTNUN, S.SHLVD), H.SUPPRESSED, S.DSUPR),
    ((S.DSUPR,), H.UNSUPPRESSED, S.NORM),
    ((S.NORM, S.UNACK, S.ACKED, S.RTNUN, S.SHLVD, S.DSUPR), H.REMOVED, S.OOSRV),
    ((S.OOSRV,), H.RESTORED, S.NORM),
    ((S.UNACK, S.ACKED), H.WORSENED, S.UNACK),  # who acknowledged it knew of less
)
# While suppressed the condition goes on being followed; the state does not. What gets milder is for the history.
_STAYING = (
    tuple(((s,), h, s) for s in sorted(SUPPRESSED) for h in (H.RAISED, H.CLEARED, H.WORSENED, H.EASED))
    + tuple(((s,), H.EASED, s) for s in (S.UNACK, S.ACKED))
    + tuple(((s,), H.COMMENTED, s) for s in S)
)

MOVES: Mapping[tuple[AlarmState, Happening], AlarmState] = MappingProxyType(
    {(state, happening): to for froms, happening, to in (*_ROWS, *_STAYING) for state in froms}
)
# For lists: worst first.
RANK: Mapping[Priority, int] = MappingProxyType({priority: rank for rank, priority in enumerate(Priority)})


def settle(state: AlarmState, happening: Happening, *, standing: bool, priority: Priority) -> AlarmState:
    """The state after the happening; `standing`: the condition holds after it. Raises Conflict if the table has no
    such move."""
    to = MOVES.get((state, happening))
    if to is None:
        raise Conflict(
            "not_in_this_state",
            f"告警处于 {state} 状态，不能执行此操作（{happening}）",
            f"an alarm in {state} cannot be {happening}",
        )
    if happening in RETURNS and standing:
        to = MOVES[to, H.RAISED]
    if priority is Priority.NOTICE and (to, H.ACKNOWLEDGED) in MOVES:
        to = MOVES[to, H.ACKNOWLEDGED]
    return to


def check_shelving(now: int, until: int, reason: str) -> None:
    """Raises Invalid: shelving needs a reason and ends by itself."""
    if not reason.strip():
        raise Invalid("reason_required", "搁置需要填写理由", "shelving needs a reason")
    if not now < until <= now + MAX_SHELVED:
        raise Invalid(
            "bad_expiry", "搁置到期时间应在当前时间之后、7 天之内", "shelving must end after now and within 7 days"
        )

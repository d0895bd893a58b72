"""Roles, the people who act in them, and who may do which act: one table for alarms, orders, devices and users.

An admin may do what a duty officer may, and manage users; he is neither handler nor checker. The service is no role:
what it may do by itself stands in the tables of `alerts.alarms` and `alerts.orders`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from alerts.refusals import NotAllowed

# `by` and `post` of every history row the service writes. No user can have this name: see `flow.access`.
SERVICE = "service"


class Role(StrEnum):
    VIEWER = "viewer"
    HANDLER = "handler"
    CHECKER = "checker"
    DUTY_OFFICER = "duty_officer"
    ADMIN = "admin"


ROLE_NAMES: Mapping[Role, tuple[str, str]] = MappingProxyType({
    Role.VIEWER: ("观看", "viewer"),
    Role.HANDLER: ("处置员", "handler"),
    Role.CHECKER: ("核查员", "checker"),
    Role.DUTY_OFFICER: ("值班长", "duty officer"),
    Role.ADMIN: ("管理员", "admin"),
})  # fmt: skip

_ANYONE = frozenset(Role)
_DESK = frozenset({Role.DUTY_OFFICER, Role.ADMIN})
_CENTRE = _DESK | {Role.CHECKER}
_STAFF = _CENTRE | {Role.HANDLER}
_HANDLER = frozenset({Role.HANDLER})
_CHECKER = frozenset({Role.CHECKER})

# Whose act it is, before what `alerts.orders` asks besides: the assignee's own acts, handler ≠ checker.
MAY: Mapping[str, frozenset[Role]] = MappingProxyType({
    "alarm.acknowledge": _CENTRE,
    "alarm.shelve": _DESK,
    "alarm.unshelve": _DESK,
    "alarm.comment": _STAFF,
    "order.report": _STAFF,  # file by hand: POST /orders
    "order.verify": _DESK,
    "order.file": _DESK,
    "order.self_handle": _HANDLER,
    "order.dispatch": _DESK,
    "order.accept": _HANDLER,
    "order.arrive": _HANDLER,
    "order.handle": _HANDLER,
    "order.check": _CHECKER,
    "order.close": _CHECKER,
    "order.reject": _CHECKER,
    "order.reopen": _CHECKER,
    "order.archive": _DESK,
    "order.return": _HANDLER,
    "order.suspend": _DESK,
    "order.resume": _HANDLER,
    "order.send_up": _DESK,
    "order.void": _DESK,
    "order.merge": _DESK,
    "order.extend": _DESK,
    "order.comment": _STAFF,
    "device.approve": _DESK,
    "device.reject": _DESK,
    "rules.try": _DESK,  # on history: seconds to a minute of one core
    "response.declare": _DESK,  # a leader decides it, by name; the desk enters it
    "drill.declare": _DESK,
    "command.send": _DESK,  # to a device: it may open a gate
    "pause.set": _DESK,  # of a device or of all devices of a person
    "rules.reload": frozenset({Role.ADMIN}),
    "intake.see": _STAFF,
    "ledger.verify": frozenset({Role.ADMIN}),  # all of the stores are counted, and nothing is settled meanwhile
    "refused.retry": frozenset({Role.ADMIN}),
    "refused.purge": frozenset({Role.ADMIN}),
    "person.see": _STAFF,  # who lives behind a door sensor; the viewing is recorded
    "wall.issue": _DESK,
    "backup.make": frozenset({Role.ADMIN}),  # it writes to the server's disk
    "users.manage": frozenset({Role.ADMIN}),
    "see": _ANYONE,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Actor:
    """Someone signed in. `read_only`: a session of the wall, which sees what a viewer sees and does nothing."""

    name: str
    role: Role
    read_only: bool = False

    def allows(self, act: str) -> bool:
        """Whether the role may do the act at all. `act` is a key of MAY; KeyError for a misspelt one."""
        roles = MAY[act]
        return act == "see" or (not self.read_only and self.role in roles)

    def require(self, act: str) -> None:
        """Raises NotAllowed where `allows` is false."""
        if not self.allows(act):
            zh, en = ROLE_NAMES[self.role]
            raise NotAllowed("not_allowed", f"{zh}无权执行此操作（{act}）", f"a {en} may not do this ({act})")

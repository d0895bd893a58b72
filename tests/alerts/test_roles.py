"""Who may do which act."""

from __future__ import annotations

import pytest

from alerts.orders import SERVICE_MAY, Act
from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound, NotSignedIn, Refusal
from alerts.roles import MAY, ROLE_NAMES, Actor, Role

OFFICERS = {"alarm.shelve", "alarm.unshelve", "order.dispatch", "order.void", "device.approve", "device.reject"}


def allowed(role: Role) -> set[str]:
    return {act for act in MAY if Actor("x", role).allows(act)}


def test_a_viewer_only_sees() -> None:
    assert allowed(Role.VIEWER) == {"see"}


def test_the_wall_only_sees_whatever_its_role() -> None:
    for role in Role:
        assert {act for act in MAY if Actor("wall", role, read_only=True).allows(act)} == {"see"}


def test_an_admin_may_what_a_duty_officer_may_and_manage_users_and_rules() -> None:
    own = {"users.manage", "rules.reload", "backup.make", "ledger.verify", "refused.retry", "refused.purge"}
    assert allowed(Role.ADMIN) == allowed(Role.DUTY_OFFICER) | own
    assert allowed(Role.DUTY_OFFICER) >= OFFICERS


def test_handling_and_checking_are_of_different_roles() -> None:
    for role in Role:
        acts = allowed(role)
        assert not ({"order.handle", "order.self_handle"} & acts and {"order.check", "order.close"} & acts)


def test_every_act_of_the_order_table_is_somebodys() -> None:
    for act in Act:
        assert f"order.{act}" in MAY or act in SERVICE_MAY


def test_a_misspelt_act_is_a_fault_not_a_refusal() -> None:
    with pytest.raises(KeyError):
        Actor("x", Role.ADMIN).allows("alarm.aknowledge")


def test_a_refusal_names_itself_in_both_languages() -> None:
    with pytest.raises(NotAllowed) as caught:
        Actor("guest", Role.VIEWER).require("alarm.acknowledge")
    refusal = caught.value
    assert (refusal.code, refusal.status) == ("not_allowed", 403)
    assert "观看" in refusal.zh
    assert "viewer" in refusal.en
    assert set(ROLE_NAMES) == set(Role)


def test_every_refusal_has_its_own_status() -> None:
    statuses = {kind: kind.status for kind in (NotSignedIn, NotAllowed, NotFound, Conflict, Invalid)}
    assert list(statuses.values()) == [401, 403, 404, 409, 422]
    assert all(issubclass(kind, Refusal) for kind in statuses)

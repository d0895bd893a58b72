"""Every route and every role: who is let in, who is told to sign in, who is told no. A route not listed here fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from alerts.roles import Actor, Role
from devices.instants import HOUR, to_iso
from flow import access, desk
from store.records.refused import Wanted, number_refused
from tests.api.centre import PEOPLE, START, Centre
from tests.installed import ADMIN, PASSWORD

EVERYONE = frozenset({"viewer", "handler", "checker", "officer", "admin", "wall"})
SIGNED_IN = EVERYONE - {"wall"}
STAFF = SIGNED_IN - {"viewer"}
CENTRE = STAFF - {"handler"}
DESK = CENTRE - {"checker"}
ADMINS = frozenset({"admin"})
ANYONE = EVERYONE | {None}

_numbers = count()


@dataclass(frozen=True)
class Route:
    """`prepare` makes what the route needs afresh and gives the values of its path and its body."""

    method: str
    path: str
    who: frozenset[str | None]
    prepare: Callable[[Centre], tuple[dict[str, Any], Any]] = lambda _: ({}, None)
    query: str = ""


def quarantined(centre: Centre) -> tuple[dict[str, Any], Any]:
    device = f"new-{next(_numbers)}"
    centre.send(device, {"level_inside": 1.0})
    return {"device_id": device}, None


def raised(body: Any = None) -> Callable[[Centre], tuple[dict[str, Any], Any]]:
    def prepare(centre: Centre) -> tuple[dict[str, Any], Any]:
        centre.level(3.0)
        centre.level(3.8)
        return {"alarm_id": 1}, body

    return prepare


def shelving(centre: Centre) -> tuple[dict[str, Any], Any]:
    return {"alarm_id": 1}, {"until": to_iso(centre.now + HOUR), "reason": "维修"}


def shelved(centre: Centre) -> tuple[dict[str, Any], Any]:
    desk.shelve(centre.records, centre.now, ADMIN, alarm=1, until=centre.now + HOUR, reason="维修")
    return {"alarm_id": 1}, None


def commented(centre: Centre) -> tuple[dict[str, Any], Any]:
    version = centre.get("admin", "/orders/1")["version"]
    return {"order_id": 1, "act": "comment"}, {"version": version, "reason": "看过了"}


def ordered(_: Centre) -> tuple[dict[str, Any], Any]:
    return {}, {"category": "resident.report", "title": "路灯不亮", "source": "hotline"}


def new_user(_: Centre) -> tuple[dict[str, Any], Any]:
    return {}, {"name": f"user-{next(_numbers)}", "password": PASSWORD, "role": "viewer"}


def wall_token(centre: Centre) -> tuple[dict[str, Any], Any]:
    made = access.make_wall_token(centre.records, centre.now, ADMIN, label="x")
    session = access.session_of(centre.records, centre.now, made.token)
    assert session is not None
    return {"token_id": session.id}, None


def fixed(body: Any = None, **path: Any) -> Callable[[Centre], tuple[dict[str, Any], Any]]:
    return lambda _: (path, body)


def tried(kind: str) -> Callable[[Centre], tuple[dict[str, Any], Any]]:
    def prepare(centre: Centre) -> tuple[dict[str, Any], Any]:
        person = Actor(f"someone-{next(_numbers)}", Role.ADMIN)
        started = centre.installation.trials.start(person, centre.installation.wall, kind, lambda _: 1)
        return {"trial_id": started.id}, None

    return prepare


def declared(kind: str) -> Callable[[Centre], tuple[dict[str, Any], Any]]:
    """One that goes on, to be ended."""

    def prepare(centre: Centre) -> tuple[dict[str, Any], Any]:
        return {"number": centre.post("officer", *DECLARING[kind], status=201)["id"]}, None

    return prepare


def unreadable(centre: Centre) -> tuple[dict[str, Any], Any]:
    centre.send("ps-1", b"x")
    with centre.records.connect() as tx:
        _, newest = number_refused(tx, Wanted())
    return {"number": newest}, {"ids": [newest]}


def commanded(centre: Centre) -> tuple[dict[str, Any], Any]:
    asked = centre.post("officer", "/devices/ps-1/commands", COMMAND, status=201)
    return {"device_id": "ps-1", "command_id": asked["id"]}, None


def backed_up(centre: Centre) -> tuple[dict[str, Any], Any]:
    """Of a folder that is not to be had, which does no harm and is over at once."""
    assert centre.installation.backups is not None
    centre.installation.backups.close()
    return {}, {"folder": str(centre.folder)}


def backed_up_before(centre: Centre) -> tuple[dict[str, Any], Any]:
    path, body = backed_up(centre)
    centre.ask("POST", f"{V1}/backup", token=centre.token("admin"), json=body)
    return path, None


COMMAND = {"command": "start_pump", "why": "水位超限"}
LATER = to_iso(START + 10 * HOUR)
RESPONSE = {"level": 4, "why": "台风", "ordered_by": "王镇长"}
DRILL = {"why": "防汛演练", "end": LATER}
PAUSE = {"device": "cam-1", "why": "检修", "end": LATER}
DECLARING = {
    "response": ("/declarations/response", RESPONSE),
    "drill": ("/declarations/drill", DRILL),
    "pause": ("/pauses", PAUSE),
}
A_DAY = {"from": to_iso(START - HOUR), "to": to_iso(START + HOUR)}
V1 = "/api/v1"
ROUTES = (
    Route("POST", f"{V1}/session", ANYONE, fixed({"username": "viewer", "password": PASSWORD})),
    Route("GET", f"{V1}/session", EVERYONE),
    Route("DELETE", f"{V1}/session", SIGNED_IN),
    Route("POST", f"{V1}/session/password", SIGNED_IN, fixed({"old": PASSWORD, "new": PASSWORD})),
    Route("GET", f"{V1}/tokens", DESK),
    Route("POST", f"{V1}/tokens", DESK, fixed({"label": "大厅"})),
    Route("DELETE", f"{V1}/tokens/{{token_id}}", DESK, wall_token),
    Route("GET", f"{V1}/users", ADMINS),
    Route("POST", f"{V1}/users", ADMINS, new_user),
    Route("PATCH", f"{V1}/users/{{name}}", ADMINS, fixed({"display_name": "新名"}, name="viewer")),
    Route("GET", f"{V1}/devices", EVERYONE),
    Route("GET", f"{V1}/devices/{{device_id}}", EVERYONE, fixed(device_id="ps-1")),
    Route("GET", f"{V1}/devices/{{device_id}}/person", STAFF, fixed(device_id="door-1")),
    Route("GET", f"{V1}/devices/{{device_id}}/sources", EVERYONE, fixed(device_id="ps-1")),
    Route("POST", f"{V1}/devices/{{device_id}}/approve", DESK, quarantined),
    Route("POST", f"{V1}/devices/{{device_id}}/reject", DESK, quarantined),
    Route("POST", f"{V1}/devices/{{device_id}}/commands", DESK, fixed(COMMAND, device_id="ps-1")),
    Route("GET", f"{V1}/devices/{{device_id}}/commands", EVERYONE, fixed(device_id="ps-1")),
    Route("GET", f"{V1}/devices/{{device_id}}/commands/{{command_id}}", EVERYONE, commanded),
    Route("GET", f"{V1}/grids", EVERYONE),
    Route("GET", f"{V1}/readings", EVERYONE, query="device=ps-1&metric=level_inside"),
    Route("GET", f"{V1}/readings/latest", EVERYONE),
    Route("GET", f"{V1}/alarms", EVERYONE),
    Route("GET", f"{V1}/alarms/{{alarm_id}}", EVERYONE, fixed(alarm_id=1)),
    Route("POST", f"{V1}/alarms/{{alarm_id}}/acknowledge", CENTRE, raised()),
    Route("POST", f"{V1}/alarms/acknowledge", CENTRE, raised({"ids": [1, 2]})),
    Route("POST", f"{V1}/alarms/{{alarm_id}}/shelve", DESK, shelving),
    Route("POST", f"{V1}/alarms/{{alarm_id}}/unshelve", DESK, shelved),
    Route("POST", f"{V1}/alarms/{{alarm_id}}/comment", STAFF, fixed({"comment": "已通知"}, alarm_id=1)),
    Route("GET", f"{V1}/occurrences", EVERYONE),
    Route("GET", f"{V1}/orders", EVERYONE),
    Route("POST", f"{V1}/orders", STAFF, ordered),
    Route("GET", f"{V1}/orders/{{order_id}}", EVERYONE, fixed(order_id=1)),
    Route("POST", f"{V1}/orders/{{order_id}}/{{act}}", STAFF, commented),
    Route("GET", f"{V1}/alarms/{{alarm_id}}/explain", EVERYONE, fixed(alarm_id=1)),
    Route("GET", f"{V1}/rules/{{rule_id}}/explain", EVERYONE, fixed(rule_id="high"), query="device=ps-1"),
    Route("POST", f"{V1}/rules/backtest", DESK, fixed(A_DAY)),
    Route("GET", f"{V1}/rules/backtest/{{trial_id}}", DESK, tried("backtest")),
    Route("DELETE", f"{V1}/rules/backtest/{{trial_id}}", DESK, tried("backtest")),
    Route("POST", f"{V1}/rules/suggest", DESK, fixed(A_DAY | {"rule": "high"})),
    Route("GET", f"{V1}/rules/suggest/{{trial_id}}", DESK, tried("suggest")),
    Route("DELETE", f"{V1}/rules/suggest/{{trial_id}}", DESK, tried("suggest")),
    Route("GET", f"{V1}/rules", EVERYONE),
    Route("POST", f"{V1}/rules/reload", ADMINS),
    Route("POST", f"{V1}/backup", ADMINS, backed_up),
    Route("GET", f"{V1}/backup", ADMINS, backed_up_before),
    Route("GET", f"{V1}/declarations/response", EVERYONE),
    Route("POST", f"{V1}/declarations/response", DESK, fixed(RESPONSE)),
    Route("POST", f"{V1}/declarations/response/{{number}}/end", DESK, declared("response")),
    Route("GET", f"{V1}/declarations/drill", EVERYONE),
    Route("POST", f"{V1}/declarations/drill", DESK, fixed(DRILL)),
    Route("POST", f"{V1}/declarations/drill/{{number}}/end", DESK, declared("drill")),
    Route("GET", f"{V1}/pauses", EVERYONE),
    Route("POST", f"{V1}/pauses", DESK, fixed(PAUSE)),
    Route("POST", f"{V1}/pauses/{{number}}/end", DESK, declared("pause")),
    Route("GET", f"{V1}/refused", STAFF),
    Route("GET", f"{V1}/refused/{{number}}", STAFF, unreadable),
    Route("POST", f"{V1}/refused/retry", ADMINS, unreadable),
    Route("POST", f"{V1}/refused/purge", ADMINS, fixed({"reason": "bad_topic"})),
    Route("GET", f"{V1}/ledger", EVERYONE),
    Route("POST", f"{V1}/ledger/verify", ADMINS),
    Route("GET", f"{V1}/stream", EVERYONE),
    Route("GET", "/healthz", ANYONE),
    Route("GET", "/readyz", ANYONE),
    Route("GET", "/metrics", ANYONE),
)
# Ends sessions of the one who asks: their token must not be used again.
ENDS_SESSIONS = {("DELETE", f"{V1}/session"), ("POST", f"{V1}/session/password")}


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory, peopled: Path) -> Iterator[Centre]:
    centre = Centre(tmp_path_factory.mktemp("routes"), peopled).start()
    centre.level(3.8)
    # A stream then ends at once instead of never.
    centre.hub.close()
    yield centre
    centre.stop()


def test_every_route_is_in_the_table(centre: Centre) -> None:
    described = {
        (method.upper(), path) for path, operations in centre.app.openapi()["paths"].items() for method in operations
    }
    assert {(route.method, route.path) for route in ROUTES} == described


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_who_may(centre: Centre, route: Route) -> None:
    found = {}
    for person in (None, *PEOPLE, "admin", "wall"):
        if person == "handler2":
            continue
        path, body = route.prepare(centre)
        answer = centre.ask(
            route.method,
            route.path.format(**path) + (f"?{route.query}" if route.query else ""),
            token=None if person is None else centre.token(person),
            json=body,
        )
        found[person] = answer.status_code
        if not answer.is_success:
            assert answer.headers["content-type"] == "application/problem+json"
        if (route.method, route.path) in ENDS_SESSIONS:
            centre.tokens.clear()
    expected = {p: 401 if p is None else 403 for p in found if p not in route.who}
    assert {p: status for p, status in found.items() if p not in route.who} == expected
    assert all(200 <= found[p] < 300 for p in found if p in route.who), found


def test_what_one_may_not_do_is_refused_before_it_is_judged(centre: Centre) -> None:
    """The shape of a body is nobody's business who may not send it."""
    for token, status in ((None, 401), (centre.token("viewer"), 403), (centre.token("admin"), 422)):
        assert centre.ask("POST", f"{V1}/users", token=token, json={"nonsense": 1}).status_code == status


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer x", "Basic YWRtaW46eA==", "Bearer " + "a" * 5000, "x"])
def test_what_is_no_token_opens_nothing(centre: Centre, header: str) -> None:
    answer = centre.ask("GET", f"{V1}/devices", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_token_that_expired_opens_nothing(centre: Centre) -> None:
    made = access.sign_in(centre.records, centre.now - 13 * HOUR, "viewer", PASSWORD, "api")
    assert centre.ask("GET", f"{V1}/devices", token=made.token).status_code == 401

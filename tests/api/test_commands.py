"""Commands over the API: what is asked, what is refused, who may, and what is told on the event stream."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from devices.instants import MINUTE, to_iso
from flow.commands import MOST_OPEN, expire
from flow.stream import Event
from store.records.database import write
from store.records.tables import audit, commands, stream
from tests.api.centre import START, Centre


def ask(centre: Centre, device: str = "ps-1", **body: Any) -> Any:
    return centre.post(
        "officer", f"/devices/{device}/commands", {"command": "start_pump", "why": "x", **body}, status=201
    )


def test_a_command_is_asked_answered_and_listed(centre: Centre) -> None:
    asked = ask(centre, arguments={"pump": 2}, why="水位超限")
    assert asked == {
        "id": asked["id"], "device": "ps-1", "command": "start_pump", "arguments": {"pump": 2}, "state": "pending",
        "by": "officer", "why": "水位超限", "at": to_iso(START), "expires_at": to_iso(START + MINUTE), "sent_at": None,
        "ended_at": None, "reply": None, "late": False,
    }  # fmt: skip
    reply = {"id": asked["id"], "ok": True, "result": "running"}
    centre.send("ps-1", reply, channel="commands/reply")
    (listed,) = centre.get("viewer", "/devices/ps-1/commands")["items"]
    assert (listed["state"], listed["reply"]) == ("replied", reply)
    assert centre.get("viewer", f"/devices/ps-1/commands/{asked['id']}") == listed
    assert centre.get("viewer", "/ledger")["items"] == []


def test_last_asked_first_in_pages(centre: Centre) -> None:
    asked = [ask(centre)["id"] for _ in range(5)]
    first = centre.get("viewer", "/devices/ps-1/commands", limit=3)
    rest = centre.get("viewer", "/devices/ps-1/commands", limit=3, cursor=first["next"])
    assert [c["id"] for c in first["items"] + rest["items"]] == asked[::-1]
    assert centre.get("viewer", "/devices/ps-2/commands")["items"] == []
    other = centre.ask("GET", f"/api/v1/devices/ps-2/commands/{asked[0]}", token=centre.token("viewer"))
    assert other.status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"command": ""}, "invalid_request"),
        ({"command": "Start"}, "invalid_request"),
        ({"command": "a" * 65}, "invalid_request"),
        ({"why": " "}, "reason_required"),
        ({"expires_s": 0}, "invalid_request"),
        ({"expires_s": 604801}, "invalid_request"),
        ({"arguments": [1]}, "invalid_request"),
        ({"arguments": {"a": "x" * 4096}}, "bad_arguments"),
        ({"retain": True}, "invalid_request"),
    ],
)
def test_what_is_wrong_is_refused(centre: Centre, body: dict[str, Any], code: str) -> None:
    wanted = {"command": "start_pump", "why": "x", **body}
    answer = centre.post("officer", "/devices/ps-1/commands", wanted, status=422)
    assert answer["type"].endswith(f":{code}")
    assert centre.get("officer", "/devices/ps-1/commands")["items"] == []


@pytest.mark.parametrize("value", [b"NaN", b"1e999", b'"\\ud800"', b"[" * 4000 + b"]" * 4000, b"[" * 20 + b"]" * 20])
def test_arguments_that_nobody_could_keep_are_refused(centre: Centre, value: bytes) -> None:
    answer = centre.ask(
        "POST", "/api/v1/devices/ps-1/commands", token=centre.token("officer"),
        content=b'{"command": "a", "why": "x", "arguments": {"a": %s}}' % value,
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert answer.status_code in (400, 422), answer.text


def test_only_registered_active_devices_are_asked(centre: Centre) -> None:
    centre.send("new-1", {"level_inside": 1})
    body = {"command": "start", "why": "x"}
    assert centre.post("officer", "/devices/new-1/commands", body, status=409)["type"].endswith(":not_active")
    assert centre.post("officer", "/devices/nobody/commands", body, status=404)["type"].endswith(":no_such_device")


def test_a_script_that_does_not_stop_is_stopped(centre: Centre) -> None:
    asked = ask(centre)
    with write(centre.records) as tx:
        (row,) = tx.execute(select(commands)).mappings()
        tx.execute(commands.insert(), [dict(row) | {"number": n, "id": str(n)} for n in range(2, MOST_OPEN + 1)])
    body = {"command": "start", "why": "x"}
    assert centre.post("officer", "/devices/ps-2/commands", body, status=409)["type"].endswith(":too_many_commands")
    while expire(centre.records, START + MINUTE, heard=True):
        pass
    assert centre.get("viewer", f"/devices/ps-1/commands/{asked['id']}")["state"] == "expired"
    ask(centre, "ps-2")


def test_the_commands_of_a_home_are_for_handlers_and_above_on_the_stream_too(centre: Centre) -> None:
    ask(centre, "door-1")
    assert centre.ask("GET", "/api/v1/devices/door-1/commands", token=centre.token("viewer")).status_code == 403
    assert len(centre.get("handler", "/devices/door-1/commands")["items"]) == 1
    ask(centre, "ps-1")
    with centre.records.connect() as tx:
        rows = tx.execute(select(stream).where(stream.c.kind == "command")).all()

    shown = [centre.hub.shown(Event(row.id, row.kind, row.body), personal=False) for row in rows]
    assert shown[0] is None
    assert shown[1] is not None
    assert (shown[1]["device"], shown[1]["state"]) == ("ps-1", "pending")


def test_every_command_is_one_audit_row(centre: Centre) -> None:
    asked = ask(centre, arguments={"pump": 2}, why="水位超限")
    centre.send("ps-1", {"id": asked["id"], "ok": False}, channel="commands/reply")
    with centre.records.connect() as tx:
        (row,) = tx.execute(select(audit).where(audit.c.subject == "ps-1")).all()
    assert (row.by, row.act) == ("officer", "command_asked")
    assert row.why == f'{asked["id"]} start_pump {{"pump": 2}}: 水位超限'

"""The event stream over real HTTP: live without reload, resumed without loss, ended with the session."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from flow import access, stream
from tests.api.centre import PRIVATE, Centre
from tests.installed import PASSWORD


class Listener:
    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.last_id: str | None = None
        self.text = ""

    def message(self) -> tuple[str, Any]:
        """The next event and its data."""
        fields: dict[str, str] = {}
        deadline = time.monotonic() + 10
        for line in self._lines:
            assert time.monotonic() < deadline, "nothing but heartbeats"
            self.text += line + "\n"
            if not line and "event" in fields:
                self.last_id = fields.get("id", self.last_id)
                return fields["event"], json.loads(fields["data"])
            if ": " in line and not line.startswith(":"):
                name, value = line.split(": ", 1)
                fields[name] = value
        raise EOFError

    def next(self, kind: str) -> Any:
        while True:
            found, data = self.message()
            if found == kind:
                return data


@contextmanager
def listening(url: str, *, query: str = "values=false", **headers: str) -> Iterator[Listener]:
    address = f"{url}/api/v1/stream?{query}"
    with httpx.Client(timeout=5) as client, client.stream("GET", address, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        yield Listener(answer.iter_lines())


def bearer(centre: Centre, who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {centre.token(who)}"}


def test_a_reading_becomes_an_alarm_and_an_order_before_ones_eyes(centre: Centre) -> None:
    with centre.served() as url, listening(url, **bearer(centre, "viewer")) as listener:
        assert listener.message()[0] == "ready"
        centre.level(3.8)
        centre.hub.poke()
        alarm = listener.next("alarm")
        assert (alarm["rule"], alarm["device"], alarm["state"]) == ("high", "ps-1", "UNACK")
        assert listener.next("order")["state"] == "filed"
        httpx.post(f"{url}/api/v1/alarms/1/acknowledge", headers=bearer(centre, "officer")).raise_for_status()
        assert listener.next("alarm")["state"] == "ACKED"


@pytest.mark.parametrize("how", ["header", "query"])
def test_one_who_comes_back_misses_nothing(centre: Centre, how: str) -> None:
    auth = bearer(centre, "officer")
    with centre.served() as url:
        with listening(url, **auth) as listener:
            assert listener.message()[0] == "ready"
        for value in (3.8, 3.0, 3.8, 3.0):
            centre.level(value)
        if how == "header":
            auth |= {"Last-Event-ID": str(listener.last_id)}
        query = "values=false" + (f"&last_event_id={listener.last_id}" if how == "query" else "")
        with listening(url, query=query, **auth) as listener:
            assert [listener.next("alarm")["state"] for _ in range(4)] == ["UNACK", "RTNUN", "UNACK", "RTNUN"]
        with listening(url, **bearer(centre, "officer"), **{"Last-Event-ID": "987654"}) as listener:
            assert listener.message()[0] == "reset"


def test_latest_values_are_on_it_unless_unwanted(centre: Centre) -> None:
    centre.level(3.1)
    centre.door_opens()
    centre.send("door-1", {"open": True, "battery": 80}, kind="door_sensor")
    with centre.served() as url:
        with listening(url, query="", **bearer(centre, "viewer")) as listener:
            items = listener.next("latest")["items"]
            assert [(i["device"], i["value"], i["quality"]) for i in items] == [("ps-1", 3.1, "good")]
        with listening(url, query="device=door-1", **bearer(centre, "handler")) as listener:
            assert {i["metric"] for i in listener.next("latest")["items"]} == {"battery"}


def test_a_viewer_hears_nothing_of_an_elders_door(centre: Centre) -> None:
    with centre.served() as url, listening(url, query="", **bearer(centre, "viewer")) as listener:
        listener.next("ready")
        centre.door_opens()
        centre.send("door-1", {"open": True, "tamper": True}, kind="door_sensor")
        centre.level(3.8)
        centre.hub.poke()
        heard = [listener.next("alarm") for _ in range(2)]
        assert [(a["rule"], a.get("device"), a["grid"]) for a in heard] == [
            ("tamper", None, "east"), ("high", "ps-1", "east"),
        ]  # fmt: skip
        assert not [word for word in PRIVATE if word in listener.text]


def test_a_page_listens_with_its_session_cookie(centre: Centre) -> None:
    console = access.sign_in(centre.records, centre.now, "viewer", PASSWORD, "console").token
    with centre.served() as url:
        cookie = {"Cookie": f"{access.SESSION_COOKIE}={console}"}
        with listening(url, **cookie) as listener:
            assert listener.message()[0] == "ready"
        stranger = {"Cookie": f"{access.SESSION_COOKIE}={centre.token('viewer')}"}
        assert httpx.get(f"{url}/api/v1/stream", headers=stranger).status_code == 401, "a token is no cookie"
        assert httpx.get(f"{url}/api/v1/devices", headers=cookie).status_code == 401, "the cookie opens the stream only"


def test_signing_out_ends_the_stream(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)
    auth = bearer(centre, "viewer")
    with centre.served() as url, listening(url, **auth) as listener:
        listener.next("ready")
        httpx.delete(f"{url}/api/v1/session", headers=auth).raise_for_status()
        with pytest.raises(EOFError):
            listener.message()


def test_as_many_as_can_be_served_listen(centre: Centre) -> None:
    centre.hub.clients = stream.MAX_CLIENTS
    answer = centre.ask("GET", "/api/v1/stream", token=centre.token("viewer"))
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")

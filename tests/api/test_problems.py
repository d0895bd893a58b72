"""Errors: always problem+json, in both languages, with the place of every mistake and nothing of our insides."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from sqlalchemy import text

from api.bodies import MAX_BODY
from api.problems import Problem
from console.application import attach
from store.readings import StoreUnavailable
from store.records.database import write
from tests.api.centre import Centre


def check(answer: Any, status: int) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.request.method == "HEAD":
        return None
    problem = answer.json()
    assert problem["type"].startswith("urn:gridwhistle:problem:")
    assert problem["status"] == status
    assert problem["instance"] == answer.request.url.path
    assert problem["zh"] in problem["detail"]
    assert problem["en"] in problem["detail"]
    assert any("\u4e00" <= c <= "\u9fff" for c in problem["zh"])
    return problem


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/api", "/api/v1/nothing", "/docs", "/redoc", "/api/v1/orders/x/y/z"]
)
def test_an_unknown_address(centre: Centre, path: str) -> None:
    check(centre.ask("GET", path), 404)


def test_a_method_an_address_does_not_take(centre: Centre) -> None:
    answer = centre.ask("PUT", "/api/v1/orders")
    check(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v2/alarms", "/api/v1/nothing", "/api/v1/orders/"])
def test_an_unknown_address_of_the_api_is_no_page_of_the_console(centre: Centre, method: str, path: str) -> None:
    attach(centre.app, centre.installation)
    check(centre.ask(method, path, headers={"Accept": "text/html"}), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/orders", "GET, POST"),
        ("HEAD", "/api/v1/orders", "GET, POST"),
        ("DELETE", "/api/v1/orders/1", "GET"),
        ("POST", "/api/v1/openapi.json", "GET, HEAD"),
        ("POST", "/healthz", "GET"),
        ("DELETE", "/readyz", "GET"),
        ("PUT", "/metrics", "GET"),
    ],
)
def test_a_wrong_method_is_told_with_the_console_attached(centre: Centre, method: str, path: str, allowed: str) -> None:
    attach(centre.app, centre.installation)
    answer = centre.ask(method, path)
    check(answer, 405)
    assert answer.headers["allow"] == allowed
    assert centre.ask("GET", "/healthz").status_code == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/devices/nowhere", "no_such_device"),
        ("/alarms/99", "no_such_alarm"),
        ("/orders/99", "no_such_order"),
        ("/readings?device=nowhere&metric=level_inside", "no_such_device"),
        ("/readings?device=ps-1&metric=rain", "no_such_metric"),
        ("/devices/ps-1/person", "no_person"),
        ("/ledger?device=nowhere", "no_such_device"),
    ],
)
def test_a_thing_that_is_not_there(centre: Centre, path: str, code: str) -> None:
    problem = check(centre.ask("GET", f"/api/v1{path}", token=centre.token("officer")), 404)
    assert problem["type"].endswith(code)


def test_every_mistake_is_told_with_its_place_and_never_the_value(centre: Centre) -> None:
    body = {"username": 5, "password": "", "secret": "hunter2"}
    answer = centre.ask("POST", "/api/v1/session", json=body)
    problem = check(answer, 422)
    assert {(e["place"], e["field"]) for e in problem["errors"]} == {
        ("body", "username"), ("body", "password"), ("body", "secret"),
    }  # fmt: skip
    assert all(e["zh"] and e["en"] for e in problem["errors"])
    assert "hunter2" not in answer.text


def test_a_query_parameter_nobody_knows_is_no_filter_left_out(centre: Centre) -> None:
    answer = centre.ask("GET", "/api/v1/alarms?prioritty=high&state=UNACK", token=centre.token("viewer"))
    problem = check(answer, 422)
    assert [(e["place"], e["field"]) for e in problem["errors"]] == [("query", "prioritty")]
    assert centre.ask("GET", "/api/v1/occurrences?from=0&to=9", token=centre.token("viewer")).status_code == 200


def test_an_empty_cursor_is_the_first_page(centre: Centre) -> None:
    for path in ("/alarms", "/orders", "/occurrences", "/devices", "/grids", "/ledger", "/readings/latest"):
        assert centre.get("viewer", path, cursor="") == centre.get("viewer", path)


@pytest.mark.parametrize("sign", ["\x00", "\x07", "\x1b[2J", "\x7f"])
def test_control_characters_are_in_no_text(centre: Centre, sign: str) -> None:
    order = {"category": "resident.report", "title": "路灯不亮", "description": "第一行\n第二行"}
    filed = centre.post("officer", "/orders", order, status=201)
    for name in ("title", "description", "external_id"):
        answer = centre.ask("POST", "/api/v1/orders", token=centre.token("officer"), json=order | {name: f"路{sign}灯"})
        problem = check(answer, 422)
        assert [e["field"] for e in problem["errors"]] == [name]
    answer = centre.ask(
        "POST", f"/api/v1/orders/{filed['id']}/void", token=centre.token("officer"),
        json={"version": filed["version"], "reason": f"误{sign}报"},
    )  # fmt: skip
    check(answer, 422)
    check(centre.ask("POST", "/api/v1/orders", token=centre.token("officer"), json=order | {"title": "一\n二"}), 422)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=501", "limit=x", "cursor=%00", "cursor=garbage", "cursor=WzFd", "cursor=" + "a" * 2000,
        "state=ALARMED", "priority=urgent", "state=%27%20or%201=1",
    ],
)  # fmt: skip
def test_a_query_that_cannot_be(centre: Centre, query: str) -> None:
    check(centre.ask("GET", f"/api/v1/alarms?{query}", token=centre.token("viewer")), 422)


@pytest.mark.parametrize("path", ["users", "devices", "readings/latest", "occurrences", "orders", "refused", "ledger"])
def test_a_cursor_from_a_stranger(centre: Centre, path: str) -> None:
    for cursor in ("garbage", "W10", "WzEsMl0x", "e30"):
        problem = check(centre.ask("GET", f"/api/v1/{path}?cursor={cursor}", token=centre.token("admin")), 422)
        assert problem["type"].endswith("bad_cursor")


@pytest.mark.parametrize("order", ["0", "-1", "x", "9" * 30, "1.5"])
def test_a_number_that_cannot_be_one(centre: Centre, order: str) -> None:
    check(centre.ask("GET", f"/api/v1/orders/{order}", token=centre.token("viewer")), 422)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"username": "a", "username": NaN}']
)
def test_a_body_that_is_not_what_it_says(centre: Centre, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = centre.ask("POST", "/api/v1/session", content=body, headers=headers)
    assert answer.status_code in {400, 422}
    check(answer, answer.status_code)


def test_a_body_of_another_type(centre: Centre) -> None:
    check(centre.ask("POST", "/api/v1/session", data={"username": "a", "password": "b"}), 422)


def test_numbers_are_finite(centre: Centre) -> None:
    body = b'{"category": "other", "title": "x", "latitude": NaN, "longitude": Infinity}'
    headers = {"Content-Type": "application/json"}
    token = centre.token("officer")
    problem = check(centre.ask("POST", "/api/v1/orders", content=body, headers=headers, token=token), 422)
    assert {e["field"] for e in problem["errors"]} == {"latitude", "longitude"}


def test_a_body_is_bounded_whether_or_not_it_says_how_long_it_is(centre: Centre) -> None:
    big = b'{"username": "' + b"a" * MAX_BODY + b'"}'
    check(centre.ask("POST", "/api/v1/session", content=big, headers={"Content-Type": "application/json"}), 413)

    read = 0

    async def chunks() -> Any:
        nonlocal read
        for _ in range(1000):
            read += 10_000
            yield b" " * 10_000

    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    check(centre.ask("POST", "/api/v1/session", content=chunks(), headers=headers), 413)
    assert read < 1.1 * MAX_BODY


def test_a_body_just_below_the_bound_is_read(centre: Centre) -> None:
    body = b'{"username": "a", "password": "b"' + b" " * (MAX_BODY - 40) + b"}"
    problem = check(
        centre.ask("POST", "/api/v1/session", content=body, headers={"Content-Type": "application/json"}), 401
    )
    assert problem["type"].endswith("wrong_name_or_password")


def test_a_refusal_says_why(centre: Centre) -> None:
    centre.level(3.8)
    problem = check(
        centre.ask("POST", "/api/v1/orders/1/close", token=centre.token("checker"), json={"version": 1}), 409
    )
    assert problem["type"].endswith("not_in_this_state")


def test_an_error_of_ours_tells_nothing(centre: Centre) -> None:
    app: FastAPI = centre.app

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the secret path /var/lib")

    answer = centre.ask("GET", "/broken")
    check(answer, 500)
    assert "secret" not in answer.text
    assert "RuntimeError" not in answer.text


def test_a_store_that_is_away_is_503(centre: Centre) -> None:
    @centre.app.get("/away")
    def away() -> None:
        raise StoreUnavailable("/data/readings.duckdb is locked")

    answer = centre.ask("GET", "/away")
    check(answer, 503)
    assert "duckdb" not in answer.text
    token = centre.token("viewer")
    with write(centre.records) as tx:
        tx.execute(text("DROP TABLE order_occurrences"))
    check(centre.ask("GET", "/api/v1/orders", token=token), 503)


def test_a_page_may_show_a_problem_its_own_way(centre: Centre) -> None:
    def show(_request: Request, problem: Problem) -> Response:
        return Response(f"<p>{problem.zh}</p>", problem.status, media_type="text/html")

    centre.app.state.show_problem = show
    html = {"Accept": "text/html,*/*"}
    assert centre.ask("GET", "/nothing", headers=html).text == "<p>没有这个地址</p>"
    check(centre.ask("GET", "/api/v1/nothing", headers=html), 404)
    check(centre.ask("GET", "/nothing"), 404)


def test_answers_are_neither_kept_nor_guessed_at(centre: Centre) -> None:
    for answer in (centre.ask("GET", "/api/v1/nothing"), centre.ask("GET", "/api/v1/openapi.json")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"

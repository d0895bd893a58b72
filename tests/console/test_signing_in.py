"""Who may come in, how, and what a browser is told to keep."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import select

import console
from console.application import ROUTERS
from devices.instants import HOUR
from flow import access
from store.records.tables import sessions
from tests.console.conftest import token_of
from tests.console.township import Township
from tests.installed import ADMIN, PASSWORD

Visitor = Callable[..., httpx.Client]
PAGES = ("/", "/pumps", "/orders", "/orders/new", "/orders/1", "/devices", "/devices/ps-1", "/intake", "/map", "/wall",
         "/password", "/standing", "/map/data", "/devices/ps-1/chart?metric=level_inside", "/events")  # fmt: skip


def test_a_stranger_is_sent_to_the_sign_in_and_back(visitor: Visitor) -> None:
    client = visitor()
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/sign-in"), path
    assert client.get("/orders/1").headers["location"] == "/sign-in?to=/orders/1"


def test_htmx_is_told_to_go_to_the_sign_in(visitor: Visitor, township: Township) -> None:
    current = f"{township.url}/orders?show=mine"
    answer = visitor().get("/orders", headers={"HX-Request": "true", "HX-Current-URL": current})
    assert answer.status_code == 401
    assert answer.headers["hx-redirect"] == "/sign-in?to=/orders%3Fshow%3Dmine"


def test_after_signing_in_the_page_that_was_wanted(visitor: Visitor) -> None:
    client = visitor()
    csrf = token_of(client, "/sign-in?to=/pumps")
    answer = client.post("/sign-in", data={"username": "wang", "password": PASSWORD, "csrf": csrf, "to": "/pumps"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/pumps")


def test_never_to_another_site(visitor: Visitor) -> None:
    client = visitor()
    csrf = token_of(client, "/sign-in?to=//evil.example")
    form = {"username": "wang", "password": PASSWORD, "csrf": csrf, "to": "//evil.example/x"}
    assert client.post("/sign-in", data=form).headers["location"] == "/"


def test_the_session_cookie_is_for_the_server_alone(visitor: Visitor) -> None:
    client = visitor()
    form = {"username": "wang", "password": PASSWORD, "csrf": token_of(client, "/sign-in")}
    cookies = client.post("/sign-in", data=form).headers.get_list("set-cookie")
    (cookie,) = [c for c in cookies if c.startswith("gw_session=")]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/;" in cookie + ";"
    assert "Secure" not in cookie, "plain http: the browser would not send it back"


def test_over_https_the_cookie_is_secure(township: Township) -> None:
    transport = httpx.ASGITransport(township.app)

    async def sign_in() -> list[str]:
        async with httpx.AsyncClient(transport=transport, base_url="https://desk.test") as client:
            page = (await client.get("/sign-in")).text
            csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
            form = {"username": "wang", "password": PASSWORD, "csrf": csrf}
            return (await client.post("/sign-in", data=form)).headers.get_list("set-cookie")

    (cookie,) = [c for c in asyncio.run(sign_in()) if c.startswith("gw_session=")]
    assert "Secure" in cookie


def test_a_wrong_password_says_so_in_both_languages_and_names_nobody(visitor: Visitor) -> None:
    client = visitor()
    form = {"username": "wang", "password": "wrong", "csrf": token_of(client, "/sign-in")}
    answer = client.post("/sign-in", data=form)
    assert answer.status_code == 401
    assert "用户名或密码错误" in answer.text
    assert "wrong user name or password" in answer.text
    assert "gw_session" not in client.cookies


def test_five_wrong_passwords_lock_the_name(visitor: Visitor) -> None:
    client = visitor()
    for _ in range(5):
        client.post("/sign-in", data={"username": "li", "password": "x", "csrf": token_of(client, "/sign-in")})
    form = {"username": "li", "password": PASSWORD, "csrf": token_of(client, "/sign-in")}
    answer = client.post("/sign-in", data=form)
    assert answer.status_code == 401
    assert "locked_out" in answer.text


def test_a_sign_in_form_of_another_browser_is_refused(visitor: Visitor) -> None:
    mine, theirs = visitor(), visitor()
    form = {"username": "wang", "password": PASSWORD, "csrf": token_of(theirs, "/sign-in")}
    assert mine.post("/sign-in", data=form).status_code == 403
    token_of(mine, "/sign-in")
    assert mine.post("/sign-in", data=form).status_code == 403
    assert "gw_session" not in mine.cookies


POSTS = (
    "/sign-out", "/password", "/alarms/acknowledge", "/alarms/1/acknowledge", "/alarms/1/shelve", "/alarms/1/unshelve",
    "/alarms/1/comment", "/orders/new", "/orders/1/dispatch", "/devices/door-1/person", "/devices/new-1/approve",
    "/devices/new-1/reject", "/modes/response", "/modes/drill", "/modes/pause", "/modes/pause/1/end",
    "/modes/response/1/end", "/rules/reload", "/rules/try", "/rules/try/1/cancel", "/devices/door-1/commands",
    "/intake/retry",
)  # fmt: skip


def test_every_form_needs_its_token(visitor: Visitor) -> None:
    client = visitor("wang")
    rest = {"version": "1", "span": "1", "alarm": "1", "reason": "x", "text": "x"}
    for path in POSTS:
        for token in ({}, {"csrf": ""}, {"csrf": "wrong"}):
            answer = client.post(path, data={**rest, **token})
            assert answer.status_code == 403, f"{path} {token}"
            assert 'data-code="csrf"' in answer.text
        assert client.post(path, data=rest, headers={"X-CSRF-Token": "wrong"}).status_code == 403


def test_no_route_that_changes_something_was_forgotten_above() -> None:
    """Signing in has a token of its own kind, tested below."""
    named = re.compile(r"/(1|door-1|new-1|response(?=/1))(?=/)")
    asked = {named.sub("/{}", path).replace("/dispatch", "/{}") for path in POSTS}
    known = {
        re.sub(r"{\w+}", "{}", route.path)
        for module in ROUTERS
        for route in module.router.routes
        if isinstance(route, APIRoute) and {"POST", "PUT", "PATCH", "DELETE"} & (route.methods or set())
    }
    assert known - asked == {"/sign-in", "/sign-in/wall"}


def test_nothing_is_done_by_looking(visitor: Visitor, township: Township) -> None:
    """No path that changes something answers GET with the change."""
    township.flood()
    client = visitor("wang")
    for path in POSTS:
        assert client.get(path).status_code in {200, 303, 404, 405, 422}
    assert "UNACK" in client.get("/").text
    assert client.get("/password").status_code == 200, "still signed in"


def test_signing_out_ends_the_session_itself(visitor: Visitor, township: Township) -> None:
    client = visitor("wang")
    token = client.cookies["gw_session"]
    client.post("/sign-out", data={"csrf": token_of(client, "/")})
    assert "gw_session" not in client.cookies
    stolen = visitor()
    stolen.cookies.set("gw_session", token)
    assert stolen.get("/").status_code == 303


def test_a_session_ends_by_itself(visitor: Visitor, township: Township) -> None:
    client = visitor("wang")
    township.now += 13 * HOUR
    assert client.get("/").status_code == 303


def test_a_token_of_the_api_opens_no_page(visitor: Visitor, township: Township) -> None:
    made = access.sign_in(township.records, township.now, "wang", PASSWORD, "api")
    client = visitor()
    client.cookies.set("gw_session", made.token)
    assert client.get("/").status_code == 303


def test_changing_the_password(visitor: Visitor) -> None:
    client, other = visitor("wang"), visitor("wang")
    form = {"old": PASSWORD, "new": "a new password", "again": "a newer password"}

    def change(**changes: str) -> httpx.Response:
        return client.post("/password", data=form | changes | {"csrf": token_of(client, "/password")})

    assert change().status_code == 422
    assert change(again="a new password", old="wrong").status_code == 422
    assert change(again="short", new="short").status_code == 422
    assert change(again="a new password").status_code == 200
    assert client.get("/").status_code == 200
    assert other.get("/").status_code == 303, "other sessions end"


def test_a_wall_token_opens_the_wall_and_presses_nothing(visitor: Visitor, township: Township) -> None:
    township.flood()
    made = access.make_wall_token(township.records, township.now, ADMIN, label="大厅")
    client = visitor()
    answer = client.post("/sign-in/wall", data={"token": made.token, "csrf": token_of(client, "/sign-in")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/wall")
    assert client.get("/wall").status_code == 200
    assert client.get("/devices/door-1").status_code == 200
    csrf = token_of(client, "/")
    assert client.post("/alarms/1/acknowledge", data={"csrf": csrf}).status_code == 403
    client.post("/sign-out", data={"csrf": csrf})
    with township.records.connect() as tx:
        assert "wall" in tx.scalars(select(sessions.c.kind)).all(), "the other screens go on"


def test_a_wrong_wall_token_is_refused(visitor: Visitor) -> None:
    own = visitor("wang").cookies["gw_session"]
    client = visitor()
    for token in ("", "nonsense", "x" * 5000, own):
        answer = client.post("/sign-in/wall", data={"token": token, "csrf": token_of(client, "/sign-in")})
        assert answer.status_code == 401
        assert "gw_session" not in client.cookies


def test_every_answer_carries_the_policy(visitor: Visitor) -> None:
    client = visitor("wang")
    for path in ("/", "/sign-in", "/nowhere", "/static/gridwhistle.css", "/map/data"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers.get_list("x-content-type-options") == ["nosniff"]
        assert [name for name, _ in headers.raw if name != name.lower()] == [], "a second one would be added beside it"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


def test_files_under_their_digest_are_kept(visitor: Visitor) -> None:
    page = visitor().get("/sign-in").text
    address = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert "immutable" in visitor().get(address).headers["cache-control"]
    assert visitor().get("/static/../texts.json").status_code == 404
    assert visitor().get("/static/%2e%2e/texts.json").status_code == 404


def test_an_unknown_page_is_a_page(visitor: Visitor) -> None:
    answer = visitor("wang").get("/nowhere")
    assert answer.status_code == 404
    assert "没有这个页面" in answer.text
    assert visitor().get("/nowhere").status_code == 404
    assert visitor("wang").get("/api/v1/nowhere").headers["content-type"].startswith("text/plain")


def test_a_body_too_long_is_refused(visitor: Visitor) -> None:
    client = visitor("wang")
    answer = client.post("/orders/new", data={"csrf": token_of(client, "/orders/new"), "description": "x" * 100_000})
    assert answer.status_code in {400, 413, 422}


def test_what_was_added_before_the_console_stays(township: Township) -> None:
    app = FastAPI()

    @app.get("/healthz")
    def health() -> str:
        return "well"

    console.attach(app, township.installation)

    async def ask() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://desk.test") as client:
            return (await client.get("/healthz")).text

    assert asyncio.run(ask()) == '"well"'


def test_language_and_theme_are_cookies_and_lead_back(visitor: Visitor) -> None:
    client = visitor("wang")
    answer = client.get("/language/en?to=/orders?show=all")
    assert answer.headers["location"] == "/orders?show=all"
    assert "Orders in four steps" in client.get("/orders").text
    client.get("/theme/dark")
    assert 'data-theme="dark"' in client.get("/").text
    assert client.get("/language/en?to=//evil.example").headers["location"] == "/"
    assert client.get("/language/fr").status_code == 422

"""Signing in and out, the wall's token, one's own password, language and theme."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from alerts.refusals import Invalid, NotSignedIn, Refusal
from console.pages import page
from console.texts import Language
from console.visits import (
    FORM_COOKIE,
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    THEMES,
    Anyone,
    Posted,
    Signed,
    SignedVisit,
    Visit,
    check_csrf,
    forget,
    keep,
    new_form_token,
    safe_path,
    seconds_left,
    visit_of,
)
from flow.access import SESSION_COOKIE, change_password, session_of, sign_in, sign_out

router = APIRouter()

# Longer than any token of ours: not worth hashing.
_MAX_TOKEN = 200


@router.get("/sign-in")
def see_sign_in(request: Request, visit: Anyone, to: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    if isinstance(visit, SignedVisit):
        return RedirectResponse(safe_path(to), 303)
    return _form(request, to=safe_path(to), status=200)


@router.post("/sign-in")
async def enter(
    request: Request,
    visit: Anyone,
    *,
    username: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    csrf: Annotated[str, Form()] = "",
    to: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    # A second sign-in over a session is allowed: the form then carries that session's token.
    check_csrf(request, visit.csrf, csrf)
    installation = visit.installation
    try:
        entered = await to_thread.run_sync(
            lambda: sign_in(
                installation.records,
                installation.wall(),
                username,
                password,
                "console",
                lasts=installation.session_span,
            ),
            limiter=request.app.state.sign_ins,
        )
    except NotSignedIn as refused:
        return await run_in_threadpool(_form, request, to=safe_path(to), status=401, refused=refused, username=username)
    return _entered(request, visit, entered.token, entered.expires_at, to=safe_path(to))


@router.post("/sign-in/wall")
def enter_wall(
    request: Request, visit: Anyone, token: Annotated[str, Form()] = "", csrf: Annotated[str, Form()] = ""
) -> Response:
    """The token goes from the form into the cookie, never into an address, where logs would keep it."""
    check_csrf(request, visit.csrf, csrf)
    installation = visit.installation
    token = token.strip()
    session = None
    if 0 < len(token) <= _MAX_TOKEN:
        session = session_of(installation.records, installation.wall(), token)
    if session is None or session.kind != "wall":
        refused = NotSignedIn("no_such_token", "大屏令牌无效或已过期", "this wall token is unknown or has expired")
        return _form(request, to="/wall", status=401, refused=refused, wall_way=True)
    return _entered(request, visit, token, session.expires_at, to="/wall")


@router.post("/sign-out")
def leave(request: Request, visit: Posted) -> Response:
    # A wall's token is for years and perhaps for several screens: this screen forgets it, the token stays.
    if not visit.actor.read_only:
        sign_out(visit.installation.records, visit.installation.wall(), visit.token)
    response = RedirectResponse("/sign-in", 303)
    forget(request, response, SESSION_COOKIE)
    return response


@router.get("/password")
def see_password(request: Request, visit: Signed) -> Response:
    return page(request, visit, "password.html", refused=None, changed=False)


@router.post("/password")
def set_password(
    request: Request,
    visit: Posted,
    *,
    old: Annotated[str, Form(max_length=1000)] = "",
    new: Annotated[str, Form(max_length=1000)] = "",
    again: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    installation = visit.installation
    try:
        if new != again:
            raise Invalid("passwords_differ", "两次输入的新密码不一致", "the two new passwords differ")
        change_password(installation.records, installation.wall(), visit.actor, old=old, new=new, keep=visit.token)
    except Refusal as refused:
        # A wrong old password is 401 for the API; here the session itself is still good.
        status = 422 if isinstance(refused, NotSignedIn) else refused.status
        return page(request, visit, "password.html", status=status, refused=refused, changed=False)
    return page(request, visit, "password.html", refused=None, changed=True)


@router.get("/language/{language}")
def set_language(request: Request, language: Language, to: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    response = RedirectResponse(_back(to), 303)
    keep(request, response, LANGUAGE_COOKIE, language.value)
    return response


@router.get("/theme/{theme}")
def set_theme(request: Request, theme: str, to: Annotated[str, Query(max_length=2000)] = "/") -> Response:
    response = RedirectResponse(_back(to), 303)
    if theme in THEMES:
        keep(request, response, THEME_COOKIE, theme)
    return response


def _back(to: str) -> str:
    return to if to.startswith("/sign-in") and safe_path("/x" + to) != "/" else safe_path(to)


def _form(
    request: Request,
    *,
    to: str,
    status: int,
    refused: Refusal | None = None,
    username: str = "",
    wall_way: bool = False,
) -> Response:
    """The sign-in form with a fresh token of its own."""
    token = new_form_token()
    visit = visit_of(request)
    fresh = Visit(visit.installation, visit.language, visit.theme, token="", csrf=token, actor=None)
    response = page(
        request, fresh, "sign_in.html", status=status, refused=refused, username=username, to=to, wall_way=wall_way
    )
    keep(request, response, FORM_COOKIE, token, seconds=None)
    return response


def _entered(request: Request, visit: Visit, token: str, expires_at: int, *, to: str) -> Response:
    response = RedirectResponse(to, 303)
    seconds = seconds_left(expires_at, visit.installation.wall())
    keep(request, response, SESSION_COOKIE, token, seconds=seconds)
    forget(request, response, FORM_COOKIE)
    return response

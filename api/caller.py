"""Who is calling and what of the installation they may use: the dependencies every route is built from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from alerts.refusals import NotAllowed, NotSignedIn
from alerts.roles import Actor
from flow.access import SESSION_COOKIE, actor_of, session_of
from flow.installation import Installation

_SAFE = frozenset({"GET", "HEAD"})
# Longer than any token of ours: a stranger's header is not worth hashing.
_MAX_TOKEN = 200

_bearer = HTTPBearer(auto_error=False, description="The token of POST /api/v1/session, or a wall token (GET only).")


def installation_of(request: Request) -> Installation:
    found = request.app.state.installation
    assert isinstance(found, Installation)
    return found


Here = Annotated[Installation, Depends(installation_of)]


def token_of(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    if given is None or not given.credentials or len(given.credentials) > _MAX_TOKEN:
        raise NotSignedIn("not_signed_in", "请先登录", "sign in first: POST /api/v1/session")
    return given.credentials


Token = Annotated[str, Depends(token_of)]


def caller_of(request: Request, here: Here, token: Token) -> Actor:
    actor = actor_of(here.records, here.wall(), token)
    if actor is None:
        raise NotSignedIn("session_over", "登录已失效，请重新登录", "this session is over or unknown: sign in again")
    if actor.read_only and request.method not in _SAFE:
        raise NotAllowed("read_only_token", "只读令牌只能查看", "a read-only token may only look")
    return actor


def listener_of(
    request: Request, here: Here, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> tuple[Actor, str]:
    """The caller and their token. EventSource cannot send a header, so a page listens with its console session; the
    route changes nothing and answers no other origin, so the cookie needs no CSRF token here."""
    cookie = request.cookies.get(SESSION_COOKIE, "")
    if given is None and 0 < len(cookie) <= _MAX_TOKEN:
        session = session_of(here.records, here.wall(), cookie)
        if session is not None and session.kind == "console":
            return session.actor, cookie
    token = token_of(given)
    return caller_of(request, here, token), token


Listener = Annotated[tuple[Actor, str], Depends(listener_of)]
Caller = Annotated[Actor, Depends(caller_of)]


def may(act: str) -> Callable[[Actor], Actor]:
    """A dependency: the caller, refused where `alerts.roles.MAY` does not give them the act.

    It runs before the body is judged, so who may not do a thing learns nothing from its validation.
    """

    def allowed(actor: Caller) -> Actor:
        actor.require(act)
        return actor

    return allowed

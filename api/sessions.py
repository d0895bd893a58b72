"""Signing in and out, one's password, the long-lived tokens of the wall."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from alerts.roles import Actor, Role
from api.caller import Caller, Here, Token, may
from api.problems import describe
from api.shapes import MAX_ID, Cursor, Duration, In, Instant, Limit, Line, Listed, Name, Out, listed
from devices.instants import DAY, HOUR
from flow import access
from store.records.access import list_wall_sessions
from store.records.pages import decode_id, page_of

router = APIRouter(tags=["session"])

Password = Annotated[str, Field(min_length=1, max_length=256)]
WallIssuer = Annotated[Actor, Depends(may("wall.issue"))]


class Credentials(In):
    username: Name
    password: Password


class SessionMade(Out):
    token: str = Field(description="Send as `Authorization: Bearer …`")
    expires_at: Instant
    name: str
    role: Role


class SessionSeen(Out):
    name: str
    role: Role
    read_only: bool
    kind: str = Field(description="api, console or wall")
    expires_at: Instant


class PasswordChange(In):
    old: Password
    new: Password


class WallTokenWanted(In):
    label: Line = Field(default="", max_length=64, examples=["大厅大屏"])
    lasts: Duration = Field(default=365 * DAY, ge=HOUR, le=access.MAX_WALL)


class WallTokenMade(Out):
    token: str
    expires_at: Instant


class WallToken(Out):
    id: int
    label: str
    user: str = Field(description="Who issued it")
    created_at: Instant
    expires_at: Instant


@router.post("/session", summary="Sign in / 登录", responses=describe(401, 422))
async def sign_in(request: Request, here: Here, given: Credentials) -> SessionMade:
    """Five failures in a row lock the name for 15 minutes, whether or not anyone has it."""
    # A few threads of their own: people guessing passwords must not take those that answer everyone else.
    enter = partial(
        access.sign_in,
        here.records,
        here.wall(),
        given.username,
        given.password,
        "api",
        lasts=here.session_span,
    )
    made = await to_thread.run_sync(enter, limiter=request.app.state.sign_ins)
    return SessionMade(token=made.token, expires_at=made.expires_at, name=made.actor.name, role=made.actor.role)


@router.get("/session", summary="Who am I / 我是谁", responses=describe(401))
def see_session(here: Here, token: Token, caller: Caller) -> SessionSeen:
    session = access.session_of(here.records, here.wall(), token)
    assert session is not None, "the caller was let in by it"
    return SessionSeen(
        name=caller.name, role=caller.role, read_only=caller.read_only, kind=session.kind, expires_at=session.expires_at
    )


@router.delete("/session", summary="Sign out / 退出", status_code=204, responses=describe(401, 403))
def sign_out(here: Here, token: Token, _caller: Caller) -> Response:
    access.sign_out(here.records, here.wall(), token)
    return Response(status_code=204)


@router.post(
    "/session/password", summary="Change my password / 修改密码", status_code=204, responses=describe(401, 403, 422)
)
async def change_password(
    request: Request, here: Here, token: Token, caller: Caller, given: PasswordChange
) -> Response:
    """Every other session of mine ends; wall tokens stay."""
    change = partial(
        access.change_password, here.records, here.wall(), caller, old=given.old, new=given.new, keep=token
    )
    await to_thread.run_sync(change, limiter=request.app.state.sign_ins)
    return Response(status_code=204)


@router.post("/tokens", summary="Issue a wall token / 签发大屏令牌", status_code=201, responses=describe(401, 403, 422))
def make_wall_token(here: Here, caller: WallIssuer, given: WallTokenWanted) -> WallTokenMade:
    """Long-lived and read-only: it sees what a viewer sees. It is shown once."""
    made = access.make_wall_token(here.records, here.wall(), caller, label=given.label, lasts=given.lasts)
    return WallTokenMade(token=made.token, expires_at=made.expires_at)


@router.get("/tokens", summary="Wall tokens in force / 有效的大屏令牌", responses=describe(401, 403, 422))
def list_wall_tokens(here: Here, _caller: WallIssuer, limit: Limit = 100, cursor: Cursor = None) -> Listed[WallToken]:
    """Newest first."""
    before = MAX_ID + 1 if cursor is None else decode_id(cursor)
    with here.records.connect() as tx:
        found = [row for row in list_wall_sessions(tx, here.wall()) if row.id < before]
    return listed(page_of(found, limit, lambda row: [row.id]), WallToken.model_validate)


@router.delete(
    "/tokens/{token_id}", summary="Withdraw a wall token / 收回大屏令牌", status_code=204,
    responses=describe(401, 403, 404),
)  # fmt: skip
def end_wall_token(here: Here, caller: WallIssuer, token_id: Annotated[int, Field(ge=1, le=MAX_ID)]) -> Response:
    access.end_wall_token(here.records, here.wall(), caller, session=token_id)
    return Response(status_code=204)

"""Users, for the admin."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from alerts.roles import Actor, Role
from api.caller import Here, may
from api.problems import describe
from api.shapes import Cursor, In, Instant, Limit, Line, Listed, Name, Out, listed
from flow import access
from store.records.access import list_users

router = APIRouter(tags=["users"], responses=describe(401, 403))

Manager = Annotated[Actor, Depends(may("users.manage"))]
NewPassword = Annotated[str, Field(min_length=8, max_length=256)]
DisplayName = Annotated[Line, Field(max_length=64)]


class User(Out):
    name: str
    role: Role
    display_name: str
    created_at: Instant
    locked_until: Instant | None
    disabled: bool


class UserWanted(In):
    name: Name = Field(examples=["wang.min"])
    password: NewPassword
    role: Role
    display_name: DisplayName = ""


class UserChange(In):
    """What is left out stays as it is."""

    role: Role | None = None
    password: NewPassword | None = None
    disabled: bool | None = None
    display_name: DisplayName | None = None


@router.get("/users", summary="Users / 用户")
def see_users(here: Here, _caller: Manager, limit: Limit = 100, cursor: Cursor = None) -> Listed[User]:
    with here.records.connect() as tx:
        return listed(list_users(tx, limit=limit, cursor=cursor), User.model_validate)


@router.post("/users", summary="Add a user / 添加用户", status_code=201, responses=describe(409, 422))
def add_user(here: Here, caller: Manager, given: UserWanted) -> User:
    added = access.add_user(
        here.records,
        here.wall(),
        caller,
        name=given.name,
        password=given.password,
        role=given.role,
        display_name=given.display_name,
    )
    return User.model_validate(added)


@router.patch("/users/{name}", summary="Change a user / 修改用户", responses=describe(404, 409, 422))
def change_user(here: Here, caller: Manager, name: Name, given: UserChange) -> User:
    """Ends the user's sessions, except for a mere display name. A new password also ends a lockout."""
    changed = access.change_user(
        here.records,
        here.wall(),
        caller,
        name=name,
        role=given.role,
        password=given.password,
        disabled=given.disabled,
        display_name=given.display_name,
    )
    return User.model_validate(changed)

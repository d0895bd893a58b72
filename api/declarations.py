"""Response levels and drills of the whole town, pauses of devices and persons: declared, listed, ended."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from alerts.refusals import NotFound
from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.privacy import hidden_kinds, hides, refuse_hidden
from api.problems import describe
from api.shapes import MAX_ID, Cursor, In, Instant, InstantGiven, Limit, Line, Listed, Name, Note, Out, listed
from flow import declare
from flow.installation import Installation
from store.records.declarations import (
    DeclarationRow,
    Declaring,
    get_declaration,
    get_pause,
    list_declarations,
    list_pauses,
)

router = APIRouter(tags=["declarations"], responses=describe(401, 403, 422))

Number = Annotated[int, Path(ge=1, le=MAX_ID)]
Standing = Annotated[bool, Query(description="Only what holds now or will")]


class Declaration(Out):
    id: int
    start: Instant
    end: Instant | None = Field(description="Null: until it is ended")
    why: str
    by: str = Field(description="Who entered it")
    declared_at: Instant
    ended_by: str | None = Field(description="Who ended it before its time, or replaced it")
    ended_at: Instant | None


class Response(Declaration):
    level: int = Field(description="1 (Ⅰ级, the most severe) to 4 (Ⅳ级)")
    ordered_by: str = Field(description="The leader whose decision it is")


class Drill(Declaration):
    pass


class Pause(Declaration):
    device: str
    of_person: bool = Field(description="Of every device of the person behind this one")
    rules: list[str] | None = Field(description="Null: every rule, and silence too")


class _Given(In):
    why: Note
    start: InstantGiven | None = Field(default=None, description="Null, or before now: now")


class ResponseGiven(_Given):
    level: int = Field(ge=1, le=4)
    ordered_by: Annotated[Line, Field(min_length=1, max_length=200)]
    end: InstantGiven | None = None


class DrillGiven(_Given):
    end: InstantGiven = Field(description="At most seven days after its start")


class PauseGiven(_Given):
    device: Name
    of_person: bool = False
    rules: Annotated[list[Name], Field(min_length=1, max_length=declare.MOST_RULES)] | None = None
    end: InstantGiven = Field(description="At most 366 days after its start")


@router.get("/declarations/response", summary="Response levels / 应急响应")
def see_responses(
    here: Here, _caller: Caller, *, standing: Standing = False, limit: Limit = 100, cursor: Cursor = None
) -> Listed[Response]:
    """Last declared first. Of several that hold at once the most severe counts."""
    with here.records.connect() as tx:
        after = here.now() if standing else None
        found = list_declarations(tx, Declaring.RESPONSE, limit=limit, cursor=cursor, after=after)
    return listed(found, Response.model_validate)


@router.post("/declarations/response", summary="Declare a response level / 启动或调整响应", status_code=201)
async def declare_response(
    here: Here, caller: Annotated[Actor, Depends(may("response.declare"))], given: ResponseGiven
) -> Response:
    """In place of the level that holds at its start."""
    number = await here.declare(
        lambda tx, now: declare.declare_response(
            tx, now, caller, level=given.level, why=given.why, ordered_by=given.ordered_by, start=given.start,
            end=given.end,
        )
    )  # fmt: skip
    return Response.model_validate(await _declared(here, Declaring.RESPONSE, number))


@router.post("/declarations/response/{number}/end", summary="End a response / 结束响应", responses=describe(404, 409))
async def end_response(
    here: Here, caller: Annotated[Actor, Depends(may("response.declare"))], number: Number
) -> Response:
    return Response.model_validate(await _end(here, caller, Declaring.RESPONSE, number))


@router.get("/declarations/drill", summary="Drills / 演练")
def see_drills(
    here: Here, _caller: Caller, *, standing: Standing = False, limit: Limit = 100, cursor: Cursor = None
) -> Listed[Drill]:
    """Last declared first."""
    with here.records.connect() as tx:
        after = here.now() if standing else None
        found = list_declarations(tx, Declaring.DRILL, limit=limit, cursor=cursor, after=after)
    return listed(found, Drill.model_validate)


@router.post("/declarations/drill", summary="Declare a drill / 宣布演练", status_code=201)
async def declare_drill(
    here: Here, caller: Annotated[Actor, Depends(may("drill.declare"))], given: DrillGiven
) -> Drill:
    number = await here.declare(
        lambda tx, now: declare.declare_drill(tx, now, caller, why=given.why, start=given.start, end=given.end)
    )
    return Drill.model_validate(await _declared(here, Declaring.DRILL, number))


@router.post("/declarations/drill/{number}/end", summary="End a drill / 结束演练", responses=describe(404, 409))
async def end_drill(here: Here, caller: Annotated[Actor, Depends(may("drill.declare"))], number: Number) -> Drill:
    return Drill.model_validate(await _end(here, caller, Declaring.DRILL, number))


@router.get("/pauses", summary="Pauses / 停用", responses=describe(404))
def see_pauses(
    here: Here,
    caller: Caller,
    *,
    device: Annotated[
        str | None, Query(max_length=64, description="Of this device, or of the person behind it")
    ] = None,
    standing: Standing = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Pause]:
    """Last declared first. Those of personal devices are for handlers and above."""
    known = None if device is None else here.registry.get(device)
    if device is not None and known is None:
        raise NotFound("no_such_device", f"没有设备 {device}", f"there is no device {device}")
    refuse_hidden(caller, known)
    with here.records.connect() as tx:
        found = list_pauses(
            tx,
            device=known,
            after=here.now() if standing else None,
            hide_kinds=hidden_kinds(caller),
            limit=limit,
            cursor=cursor,
        )
    return listed(found, Pause.model_validate)


@router.post("/pauses", summary="Pause a device or a person / 停用", status_code=201, responses=describe(404))
async def pause(here: Here, caller: Annotated[Actor, Depends(may("pause.set"))], given: PauseGiven) -> Pause:
    """Nothing is judged of it until the end; what stands is cleared."""
    known = here.rulebook().rules
    number = await here.declare(
        lambda tx, now: declare.pause(
            tx, now, caller, here.registry, device=given.device, why=given.why, start=given.start, end=given.end,
            of_person=given.of_person, rules=given.rules, known_rules=known,
        )
    )  # fmt: skip
    return await to_thread.run_sync(_pause, here, caller, number)


@router.post("/pauses/{number}/end", summary="End a pause / 恢复", responses=describe(404, 409))
async def end_pause(here: Here, caller: Annotated[Actor, Depends(may("pause.set"))], number: Number) -> Pause:
    """What is absent counts anew from here."""
    await here.declare(lambda tx, now: declare.unpause(tx, now, caller, number=number))
    return await to_thread.run_sync(_pause, here, caller, number)


async def _end(here: Installation, actor: Actor, kind: Declaring, number: int) -> DeclarationRow:
    await here.declare(lambda tx, now: declare.end_declaration(tx, now, actor, kind=kind, number=number))
    return await _declared(here, kind, number)


async def _declared(here: Installation, kind: Declaring, number: int) -> DeclarationRow:
    def read() -> DeclarationRow:
        with here.records.connect() as tx:
            row = get_declaration(tx, kind, number)
        assert row is not None
        return row

    here.hub.poke()
    return await to_thread.run_sync(read)


def _pause(here: Installation, actor: Actor, number: int) -> Pause:
    with here.records.connect() as tx:
        row = get_pause(tx, number)
    if row is None or hides(actor, here.registry, row.device):
        raise NotFound("no_such_pause", f"没有这条停用记录 {number}", f"there is no pause {number}")
    here.hub.poke()
    return Pause.model_validate(row)

"""What the town is in and what is paused: response level, drill, flood season, devices and homes nobody judges.

The reason of a pause of a home may be an illness: it stands on that device's page, for handlers and above, and in no
list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection

from alerts.refusals import Invalid
from console.pages import done, page_or_part, part
from console.places import is_personal, shown_name
from console.standing import standing_of
from console.visits import Posted, Signed, SignedVisit, is_fragment, safe_path
from devices.instants import from_datetime
from devices.kinds import KINDS
from devices.registry import Device, DeviceStatus
from flow import declare
from rules.outcome import FAR
from store.records.declarations import (
    DeclarationRow,
    Declaring,
    PauseRow,
    list_declarations,
    list_pauses,
    paused_devices,
    read_declared,
)

router = APIRouter()

LEVELS = (4, 3, 2, 1)
MOST_LINES = 30


@dataclass(frozen=True, slots=True)
class Line:
    """A response level or a drill. `state` is on, coming or over."""

    id: int
    kind: Declaring
    level: int | None
    state: str
    start: int
    end: int | None
    why: str
    ordered_by: str
    by: str
    ended_by: str


@dataclass(frozen=True, slots=True)
class PauseLine:
    """`why` is empty where it is for the device's own page. `devices` is how many it is of."""

    id: int
    device: str
    name: str
    of_person: bool
    devices: int
    rules: Sequence[str]
    state: str
    start: int
    end: int
    why: str
    by: str
    ended_by: str


@dataclass(frozen=True, slots=True)
class Modes:
    """`level` None: no response. `season` None: the calendar names none; `season_turns` when that changes."""

    level: int | None
    drill: bool
    season: bool | None
    season_turns: int | None
    day_off: bool
    year_known: bool
    declared: Sequence[Line]
    pauses: Sequence[PauseLine]
    device: str
    devices: Sequence[tuple[str, str]]
    rules: Sequence[str]
    levels: Sequence[int] = LEVELS


def modes_of(visit: SignedVisit, device: str = "") -> Modes:
    """`device`: the one whose pause is to be filled in."""
    here, now = visit.installation, visit.now
    hidden = frozenset() if visit.allows("person.see") else frozenset(k.name for k in KINDS.values() if k.personal)
    with here.records.connect() as tx:
        rows = [r for kind in Declaring for r in list_declarations(tx, kind, limit=MOST_LINES).items]
        declared = read_declared(tx, here.registry, now)
        pauses = list_pauses(tx, hide_kinds=hidden, limit=MOST_LINES).items
    at = np.array([now], np.int64)
    level = int(declared.level_at(at)[0])
    site = here.site()
    turns = int(site.next_flood_season(at)[0])
    lines = [_line(row, now) for row in rows]
    listed = [d for d in here.registry.devices if d.status is DeviceStatus.ACTIVE]
    return Modes(
        level=level or None,
        drill=bool(declared.drill_at(at)[0]),
        season=None if site.calendar.flood_season is None else bool(site.flood_season(at)[0]),
        season_turns=None if turns == FAR else turns,
        day_off=bool(site.holiday(at)[0]),
        year_known=not site.missing_years(now, now),
        declared=sorted(lines, key=lambda line: (_ORDER[line.state], -line.start)),
        pauses=sorted(
            (pause_line(visit, row, listing=True) for row in pauses), key=lambda line: (_ORDER[line.state], line.end)
        ),
        device=device if here.registry.get(device) is not None else "",
        devices=[(d.id, shown_name(visit, d)) for d in listed if not is_personal(d.kind) or visit.allows("person.see")],
        rules=list(here.rulebook().rules),
    )


_ORDER = {"on": 0, "coming": 1, "over": 2}


def pause_line(visit: SignedVisit, row: PauseRow, *, listing: bool = False) -> PauseLine:
    """`listing`: among others, where a home's reason is not told."""
    device = visit.installation.registry.get(row.device)
    return PauseLine(
        id=row.id,
        device=row.device,
        name=row.device if device is None else shown_name(visit, device),
        of_person=row.of_person,
        devices=len(paused_devices(row, visit.installation.registry)),
        rules=row.rules or (),
        state=_state(row.start, row.end, visit.now),
        start=row.start,
        end=row.end,
        why="" if listing and is_personal(row.kind) else row.why,
        by=row.by,
        ended_by=row.ended_by or "",
    )


def pauses_of(tx: Connection, visit: SignedVisit, device: Device) -> list[PauseLine]:
    """Those of the device that hold or will, for its own page."""
    found = list_pauses(tx, device=device, after=visit.now, limit=MOST_LINES).items
    return [pause_line(visit, row) for row in found if row.start < row.end]


def paused_now(tx: Connection, visit: SignedVisit) -> frozenset[str]:
    """The ids of devices of which nothing at all is judged now."""
    pauses = read_declared(tx, visit.installation.registry, visit.now).pauses
    return frozenset(p.device for p in pauses if p.rules is None and p.start <= visit.now < p.end)


def _line(row: DeclarationRow, now: int) -> Line:
    state = _state(row.start, row.end, now)
    return Line(
        row.id, row.kind, row.level, state, row.start, row.end, row.why, row.ordered_by, row.by, row.ended_by or ""
    )


def _state(start: int, end: int | None, now: int) -> str:
    if end is not None and (end <= now or end <= start):
        return "over"
    return "coming" if now < start else "on"


@router.get("/modes")
def see_modes(request: Request, visit: Signed, device: Annotated[str, Query(max_length=64)] = "") -> Response:
    view = modes_of(visit, device)
    return page_or_part(request, visit, "modes.html", "parts/modes.html", here="modes", view=view, done="")


@router.post("/modes/response")
async def respond(
    request: Request,
    visit: Posted,
    *,
    level: Annotated[int, Form()],
    ordered_by: Annotated[str, Form(max_length=200)] = "",
    why: Annotated[str, Form(max_length=2000)] = "",
    end: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    until = _moment(visit, end)
    return await _do(
        request, visit, "modes.response_declared",
        lambda tx, now: declare.declare_response(
            tx, now, visit.actor, level=level, why=why, ordered_by=ordered_by, end=until
        ),
    )  # fmt: skip


@router.post("/modes/drill")
async def drill(
    request: Request,
    visit: Posted,
    *,
    why: Annotated[str, Form(max_length=2000)] = "",
    end: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    until = _needed(_moment(visit, end))
    return await _do(
        request, visit, "modes.drill_declared",
        lambda tx, now: declare.declare_drill(tx, now, visit.actor, why=why, end=until),
    )  # fmt: skip


@router.post("/modes/pause")
async def pause(
    request: Request,
    visit: Posted,
    *,
    device: Annotated[str, Form(max_length=64)] = "",
    why: Annotated[str, Form(max_length=2000)] = "",
    end: Annotated[str, Form(max_length=40)] = "",
    rules: Annotated[str, Form(max_length=2000)] = "",
    of_person: Annotated[bool, Form()] = False,
) -> Response:
    here, until = visit.installation, _needed(_moment(visit, end))
    wanted = [name.strip() for name in rules.replace("，", ",").split(",") if name.strip()] or None
    known = here.rulebook().rules
    return await _do(
        request, visit, "modes.paused",
        lambda tx, now: declare.pause(
            tx, now, visit.actor, here.registry, device=device.strip(), why=why, end=until, of_person=of_person,
            rules=wanted, known_rules=known,
        ),
    )  # fmt: skip


@router.post("/modes/pause/{number}/end")
async def unpause(
    request: Request, visit: Posted, number: int, back: Annotated[str, Form(max_length=512)] = "/modes"
) -> Response:
    """`back` is the page it was pressed on: this one, or that of the device."""
    return await _do(
        request, visit, "modes.unpaused", lambda tx, now: declare.unpause(tx, now, visit.actor, number=number),
        back=safe_path(back, "/modes"),
    )  # fmt: skip


@router.post("/modes/{kind}/{number}/end")
async def end_declared(request: Request, visit: Posted, kind: Declaring, number: int) -> Response:
    return await _do(
        request, visit, "modes.ended",
        lambda tx, now: declare.end_declaration(tx, now, visit.actor, kind=kind, number=number),
    )  # fmt: skip


@router.get("/modes/banner")
def see_banner(request: Request, visit: Signed) -> Response:
    return part(request, visit, "parts/declared.html", standing=standing_of(visit))


@router.get("/modes/{rest:path}")
def see_after_act(rest: str) -> Response:
    """A form sent without scripts and then reloaded ends here."""
    del rest
    return RedirectResponse("/modes", 303)


async def _do(
    request: Request, visit: SignedVisit, said: str, act: Callable[[Connection, int], object], *, back: str = "/modes"
) -> Response:
    declaring: Awaitable[object] = visit.installation.declare(act)
    await declaring
    visit.installation.hub.poke()
    if not is_fragment(request.headers):
        return RedirectResponse(back, 303)

    def answer() -> Response:
        return part(request, visit, "parts/modes.html", view=modes_of(visit), done=done(request, visit, said))

    return await run_in_threadpool(answer)


def _moment(visit: SignedVisit, written: str) -> int | None:
    """A local time of the site, as a form sends it; None for none."""
    if not written.strip():
        return None
    try:
        local = datetime.fromisoformat(written.strip())
        return from_datetime(local if local.tzinfo else local.replace(tzinfo=visit.installation.zone))
    except (ValueError, OverflowError) as error:
        raise Invalid("bad_time", "时间格式不对", "this is no date and time") from error


def _needed(end: int | None) -> int:
    if end is None:
        raise Invalid("end_required", "请填写结束时间", "say when it ends")
    return end

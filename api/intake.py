"""What came in and went wrong, and the count of everything: refused packets and the ledger."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from alerts.refusals import Invalid, NotFound
from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.privacy import hides, is_personal, kind_is_personal, refuse_hidden
from api.problems import describe
from api.shapes import Cursor, Instant, InstantGiven, Limit, Listed, Out, listed
from devices.instants import DAY
from devices.kinds import KINDS
from flow.installation import Installation
from flow.ledger import COLUMNS, LedgerRow
from store.records.pages import decode_cursor, encode_cursor
from store.records.refused import RefusedRow, Wanted, list_refused

router = APIRouter(tags=["intake"], responses=describe(401, 403, 422))


class RefusedPacket(Out):
    id: int
    at: Instant
    topic: str
    reason: str = Field(description="Machine name")
    detail: str
    device: str | None = Field(description="null where it could not be told")
    payload: str = Field(description="As text, undecodable bytes replaced")
    payload_base64: str = Field(description="As it came")
    masked: bool = Field(description="About a personal device: topic, detail and payload are left empty for everyone")


class Counts(Out):
    """received = stored + duplicate + replaced + refused; late, flagged and quarantined are among stored."""

    received: int
    stored: int
    duplicate: int
    replaced: int
    refused: int
    late: int
    flagged: int
    quarantined: int
    deleted: int


class LedgerHour(Counts):
    device: str | None = Field(description="null: no device could be told")
    hour: Instant


class LedgerPage(Listed[LedgerHour]):
    total: Counts = Field(description="Sum over the whole span, not only this page, of what the caller may see")


@router.get("/refused", summary="Refused packets / 拒收记录")
def see_refused(
    here: Here,
    _caller: Annotated[Actor, Depends(may("intake.see"))],
    *,
    reason: Annotated[str | None, Query(max_length=64)] = None,
    device: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[RefusedPacket]:
    """Newest first."""
    number = None if device is None else _number(here, device)
    with here.records.connect() as tx:
        found = list_refused(tx, Wanted(reason=reason, device=number), limit=limit, cursor=cursor)
    return listed(found, lambda row: _packet(here, row))


@router.get("/ledger", summary="The ledger / 收发台账")
def see_ledger(
    here: Here,
    caller: Caller,
    *,
    device: Annotated[str | None, Query(max_length=64)] = None,
    start: Annotated[InstantGiven | None, Query(alias="from", description="Default: a day before `to`")] = None,
    end: Annotated[InstantGiven | None, Query(alias="to", description="Not included; default: now")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> LedgerPage:
    """By hour of arrival and device. The hours of personal devices are for handlers and above."""
    number = None if device is None else _number(here, device)
    if number is not None:
        refuse_hidden(caller, here.registry.devices[number])
    end = here.now() + 1 if end is None else end
    start = max(0, end - DAY) if start is None else start
    if start >= end:
        raise Invalid("empty_span", "from 必须早于 to", "`from` must be earlier than `to`")
    everything = here.ledger(device=number, start=start, end=end)
    rows = [row for row in everything if not hides(caller, here.registry, _id(here, row.device))]
    total = Counts(**{name: sum(getattr(row, name) for row in rows) for name in COLUMNS})
    after = (-1, -2) if cursor is None else decode_cursor(cursor, int, int)
    shown = [row for row in rows if (row.hour, row.device) > after]
    last = shown[limit - 1] if len(shown) > limit else None
    return LedgerPage(
        items=[_hour(here, row) for row in shown[:limit]],
        next=None if last is None else encode_cursor([last.hour, last.device]),
        total=total,
    )


def _packet(here: Installation, row: RefusedRow) -> RefusedPacket:
    masked = _about_a_person(here, row)
    payload = b"" if masked else row.payload
    return RefusedPacket(
        id=row.id,
        at=row.at,
        topic="" if masked else row.topic,
        reason=row.reason,
        detail="" if masked else row.detail,
        device=_id(here, row.device),
        payload=payload.decode(errors="replace"),
        payload_base64=base64.b64encode(payload).decode(),
        masked=masked,
    )


def _about_a_person(here: Installation, row: RefusedRow) -> bool:
    """By its device, or where that could not be told by the kind in its topic."""
    if row.device >= 0 and is_personal(here.registry.devices[row.device]):
        return True
    return any(kind_is_personal(part) for part in row.topic.split("/") if part in KINDS)


def _hour(here: Installation, row: LedgerRow) -> LedgerHour:
    counts = {name: getattr(row, name) for name in COLUMNS}
    return LedgerHour(device=_id(here, row.device), hour=row.hour, **counts)


def _number(here: Installation, device_id: str) -> int:
    device = here.registry.get(device_id)
    if device is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    return device.number


def _id(here: Installation, number: int) -> str | None:
    return here.registry.devices[number].id if number >= 0 else None

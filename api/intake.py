"""Refused packets: what came in and could not be stored, looked at, read again, thrown away."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field, model_validator

from alerts.refusals import NotFound
from alerts.roles import Actor
from api.caller import Here, may
from api.ledger import device_number
from api.privacy import is_personal, kind_is_personal
from api.problems import describe
from api.shapes import MAX_ID, Cursor, In, Instant, InstantGiven, Limit, Listed, Out, listed
from devices.kinds import KINDS
from devices.registry import Registry
from flow import redriving
from store.records.pages import MAX_LIMIT, decode_cursor, encode_cursor
from store.records.refused import RefusedRow, Wanted, get_refused, list_refused

router = APIRouter(tags=["intake"], responses=describe(401, 403, 422))

Number = Annotated[int, Path(ge=1, le=MAX_ID)]
Ids = Annotated[list[Annotated[int, Field(ge=1, le=MAX_ID)]], Field(min_length=1, max_length=MAX_LIMIT)]
Reason = Annotated[str, Field(min_length=1, max_length=64)]
Device = Annotated[str, Field(min_length=1, max_length=64)]


class RefusedPacket(Out):
    id: int
    at: Instant = Field(description="When it came")
    topic: str
    reason: str = Field(description="Machine name")
    detail: str
    device: str | None = Field(description="null where it could not be told")
    count: int = Field(description="Values and events that the ledger counts for it")
    whole: bool = Field(description="False: not all its bytes were kept, so it cannot be read again")
    payload: str = Field(description="As text, undecodable bytes replaced")
    payload_base64: str = Field(description="As it came")
    masked: bool = Field(description="About a personal device: topic, detail and payload are left empty for everyone")


class _Chosen(In):
    """Which packets; all of these that are given must hold. `all` is for when nothing else is said."""

    reason: Reason | None = None
    device: Device | None = None
    all: bool = False

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        narrowed = bool(self.model_dump(exclude={"all", "cursor"}, exclude_none=True))
        if self.all == narrowed:
            raise ValueError("say which packets, or all: true, and not both")
        return self


class RetryGiven(_Chosen):
    ids: Ids | None = None
    cursor: str | None = Field(default=None, max_length=1024, description="`next` of the answer before")


class PurgeGiven(_Chosen):
    before: InstantGiven | None = None


class ByReason(Out):
    reason: str
    count: int


class Retried(Out):
    """What became of the first packets of those wanted, oldest first, at most 500 a request."""

    taken: int = Field(description="Packets read without complaint")
    refused_again: list[ByReason] = Field(description="Packets refused anew, by the reason of today")
    left: list[ByReason] = Field(
        description="Packets that were not read and stay: `cut` not all bytes kept, `status` says how a device was "
        "then, `timeless` came without a time that could be known"
    )
    waiting: int = Field(description="Packets not looked at yet")
    next: str | None = Field(description="Give it back as `cursor` to go on; null at the end")


class Purged(Out):
    purged: int


@router.get("/refused", summary="Refused packets / 拒收记录")
def see_refused(
    here: Here,
    _caller: Annotated[Actor, Depends(may("intake.see"))],
    *,
    reason: Annotated[str | None, Query(max_length=64)] = None,
    device: Annotated[str | None, Query(max_length=64)] = None,
    since: Annotated[InstantGiven | None, Query(description="Of arrival")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[RefusedPacket]:
    """Newest first."""
    wanted = Wanted(reason=reason, device=device_number(here.registry, device), since=since)
    with here.records.connect() as tx:
        found = list_refused(tx, wanted, limit=limit, cursor=cursor)
    return listed(found, lambda row: packet_of(here.registry, row))


@router.get("/refused/{number}", summary="One refused packet / 一条拒收记录", responses=describe(404))
def see_one_refused(here: Here, _caller: Annotated[Actor, Depends(may("intake.see"))], number: Number) -> RefusedPacket:
    with here.records.connect() as tx:
        row = get_refused(tx, number)
    if row is None:
        raise no_such_packet(number)
    return packet_of(here.registry, row)


@router.post("/refused/retry", summary="Read refused packets again / 重新处理拒收数据", responses=describe(404))
async def retry_refused(
    here: Here, caller: Annotated[Actor, Depends(may("refused.retry"))], given: RetryGiven
) -> Retried:
    """Once a format, a rule or a device is mended: each goes the way of every reading, with the time it came. Those
    that are refused again stand in the list anew. Go on with `cursor` until `next` is null."""
    ids, device = None if given.ids is None else tuple(given.ids), device_number(here.registry, given.device)
    wanted = Wanted(ids=ids, reason=given.reason, device=device)
    after = None
    if given.cursor is not None:
        first, through = decode_cursor(given.cursor, int, int)
        after = (int(first), int(through))
    done = await redriving.retry(here.records, here.read_again, here.wall(), caller, wanted, after=after)
    here.hub.poke()
    return Retried(
        taken=done.taken,
        refused_again=_by_reason(done.again),
        left=_by_reason(done.left),
        waiting=done.waiting,
        next=None if done.next is None else encode_cursor(done.next),
    )


@router.post("/refused/purge", summary="Throw refused packets away / 清除拒收数据")
def purge_refused(here: Here, caller: Annotated[Actor, Depends(may("refused.purge"))], given: PurgeGiven) -> Purged:
    """That they were refused stays in the ledger."""
    wanted = Wanted(reason=given.reason, device=device_number(here.registry, given.device), before=given.before)
    return Purged(purged=redriving.purge(here.records, here.wall(), caller, wanted))


def packet_of(registry: Registry, row: RefusedRow) -> RefusedPacket:
    """As it is shown to anyone."""
    masked = _about_a_person(registry, row)
    payload = b"" if masked else row.payload
    return RefusedPacket(
        id=row.id,
        at=row.arrived_at,
        topic="" if masked else row.topic,
        reason=row.reason,
        detail="" if masked else row.detail,
        device=registry.devices[row.device].id if row.device >= 0 else None,
        count=row.count,
        whole=row.whole,
        payload=payload.decode(errors="replace"),
        payload_base64=base64.b64encode(payload).decode(),
        masked=masked,
    )


def no_such_packet(number: int) -> NotFound:
    return NotFound("no_such_packet", f"没有第 {number} 号拒收数据", f"no refused packet {number} is kept")


def _by_reason(found: Mapping[str, int]) -> list[ByReason]:
    """Most first."""
    return [ByReason(reason=name, count=n) for name, n in sorted(found.items(), key=lambda item: -item[1])]


def _about_a_person(registry: Registry, row: RefusedRow) -> bool:
    """By its device, or where that could not be told by the kind in its topic."""
    if row.device >= 0 and is_personal(registry.devices[row.device]):
        return True
    return any(kind_is_personal(part) for part in row.topic.split("/") if part in KINDS)

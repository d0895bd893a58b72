"""The ledger over the API: what became of everything that was received, by hour and device."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from alerts.refusals import Invalid, NotFound
from api.caller import Caller, Here
from api.privacy import hides, refuse_hidden
from api.problems import describe
from api.shapes import Cursor, Instant, InstantGiven, Limit, Listed, Out
from devices.instants import DAY
from flow.installation import Installation
from flow.ledger import COLUMNS, LedgerRow
from store.records.pages import decode_cursor, encode_cursor

router = APIRouter(tags=["intake"], responses=describe(401, 403, 422))


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

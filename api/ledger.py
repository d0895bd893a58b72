"""The ledger over the API: what became of everything received, by hour and device, and the stores counted again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import ConfigDict, Field

from alerts.refusals import Invalid, NotFound
from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.privacy import is_personal, refuse_hidden, sees_personal
from api.problems import describe
from api.shapes import Cursor, Instant, InstantGiven, Limit, Listed, Out
from devices.instants import DAY, HOUR, MAX_INSTANT
from devices.registry import Registry
from flow.ledger import COLUMNS, LedgerRow, Reason
from flow.ledger_book import LedgerBook, Recount, Span, Sums, total
from store.records.pages import MAX_LIMIT, decode_cursor, encode_cursor

router = APIRouter(tags=["intake"], responses=describe(401, 403, 422))

DeviceGiven = Annotated[str | None, Query(max_length=64)]


class Counts(Out):
    """received = stored + duplicate + replaced + refused; late, flagged, quarantined and evaluated are among stored."""

    received: int
    stored: int
    duplicate: int
    replaced: int
    refused: int
    late: int
    flagged: int
    quarantined: int
    deleted: int
    evaluated: int = Field(description="Values and events that the rules saw")
    gaps: int = Field(description="Messages that are missing where a device numbers its own")
    gaps_filled: int = Field(description="Of these, found after all")
    refused_by: dict[str, int] = Field(description="`refused` by reason")
    flagged_by: dict[str, int] = Field(description="`flagged` by reason")


class LedgerHour(Counts):
    device: str | None = Field(description="null: no device could be told")
    hour: Instant


class LedgerPage(Listed[LedgerHour]):
    model_config = ConfigDict(serialize_by_alias=True)

    total: Counts | None = Field(
        description="Sum over the whole span of what the caller may see; on the first page, null on those after it"
    )
    start: Instant = Field(serialization_alias="from", description="Of the first hour that is counted")
    end: Instant = Field(serialization_alias="to", description="End of the last hour that is counted")
    now: Instant = Field(description="By the clock of the rules")


class LedgerDifference(Out):
    device: str | None
    ledger: int = Field(description="Stored less deleted, by the ledger")
    counted: int = Field(description="Readings and events in the stores")


class LedgerVerified(Out):
    ok: bool = Field(description="No difference")
    devices: int
    stored: int = Field(description="Values and events that the ledger says are stored")
    differences: list[LedgerDifference]


@router.get("/ledger", summary="The ledger / 收发台账")
def see_ledger(
    here: Here,
    caller: Caller,
    *,
    device: DeviceGiven = None,
    start: Annotated[InstantGiven | None, Query(alias="from", description="Default: a day before `to`")] = None,
    end: Annotated[InstantGiven | None, Query(alias="to", description="Not included; default: now")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> LedgerPage:
    """By hour of arrival and device. The hours of personal devices are for handlers and above."""
    number = device_number(here.registry, device)
    if number is not None:
        refuse_hidden(caller, here.registry.devices[number])
    now = here.now()
    end = now + 1 if end is None else end
    start = max(0, end - DAY) if start is None else start
    return ledger_page(
        here.book, here.registry, Span(start, end, number), now, seen=sees_personal(caller), limit=limit, cursor=cursor
    )


@router.post("/ledger/verify", summary="Count the stores again / 核对台账", responses=describe(404))
async def verify_ledger(
    here: Here, _caller: Annotated[Actor, Depends(may("ledger.verify"))], device: DeviceGiven = None
) -> LedgerVerified:
    """What the ledger says is stored, device by device, against what is there; nothing is settled meanwhile."""
    number = device_number(here.registry, device)
    return verified(here.registry, await here.verify_ledger(), number)


def ledger_page(
    book: LedgerBook, registry: Registry, span: Span, now: int, *, seen: bool, limit: int, cursor: str | None
) -> LedgerPage:
    """`seen`: personal devices too. Raises Invalid."""
    end = span.end
    if end is None or span.start >= end:
        raise Invalid("empty_span", "from 必须早于 to", "`from` must be earlier than `to`")

    def shows(device: int) -> bool:
        return seen or device < 0 or not is_personal(registry.devices[device])

    after = None
    if cursor is not None:
        hour, device = decode_cursor(cursor, int, int)
        after = (int(hour), int(device))
    rows: list[LedgerRow] = []
    more = True
    while more and len(rows) <= limit:
        found = book.page(span, after=after, limit=MAX_LIMIT + 1)
        rows += [row for row in found if shows(row.device)]
        more = len(found) > MAX_LIMIT
        after = (found[-1].hour, found[-1].device) if found else None
    last = rows[limit - 1] if len(rows) > limit else None
    summed = None
    if cursor is None:
        summed = total({device: sums for device, sums in book.by_device(span).items() if shows(device)})
    return LedgerPage(
        items=[_hour(registry, row) for row in rows[:limit]],
        next=None if last is None else encode_cursor([last.hour, last.device]),
        total=None if summed is None else _counts(summed),
        start=span.start // HOUR * HOUR,
        end=min(-(-end // HOUR) * HOUR, MAX_INSTANT),
        now=now,
    )


def verified(registry: Registry, found: Recount, device: int | None) -> LedgerVerified:
    """Of one device, or all."""
    differences = [
        LedgerDifference(device=_id(registry, d.device), ledger=d.ledger_stored, counted=d.counted)
        for d in found.differences
        if device is None or d.device == device
    ]
    stored = [n for number, n in found.stored.items() if n and (device is None or number == device)]
    return LedgerVerified(ok=not differences, devices=len(stored), stored=sum(stored), differences=differences)


def device_number(registry: Registry, device_id: str | None) -> int | None:
    """Raises NotFound."""
    if device_id is None:
        return None
    device = registry.get(device_id)
    if device is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    return device.number


def _hour(registry: Registry, row: LedgerRow) -> LedgerHour:
    counts = {name: getattr(row, name) for name in COLUMNS}
    said = {"device": _id(registry, row.device), "hour": row.hour, **counts, **_by_reason(row.reasons)}
    return LedgerHour.model_validate(said)


def _counts(sums: Sums) -> Counts:
    return Counts.model_validate({**sums.counts, **_by_reason(sums.reasons)})


def _by_reason(reasons: Mapping[Reason, int]) -> dict[str, dict[str, int]]:
    """Most first."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return {
        f"{column}_by": {reason: n for (of, reason), n in ordered if of == column and n}
        for column in ("refused", "flagged")
    }


def _id(registry: Registry, number: int) -> str | None:
    return registry.devices[number].id if number >= 0 else None

"""Occurrences: every time an alarm was raised, as `gridwhistle backtest` prints it and with what the service knows."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from api.caller import Caller, Here
from api.privacy import hidden_kinds, refuse_hidden
from api.problems import describe
from api.shapes import Cursor, Instant, InstantGiven, Limit, Listed, Out, listed
from rules.rule import Priority
from store.records.alarms import list_occurrences

router = APIRouter(tags=["alarms"], responses=describe(401, 403, 422))


class Severity(Out):
    at: Instant
    priority: Priority
    reason: dict[str, Any] = Field(description="The condition of that severity and the values it saw")


class Occurrence(Out):
    id: int
    alarm: int
    rule: str
    device: str
    metric: str | None
    since: Instant
    raised_at: Instant
    cleared_at: Instant | None
    first_value: float | None
    peak_value: float | None
    early: bool = Field(description="A forecast: what may come, not the alarm itself")
    retroactive: bool = Field(description="Found when it was over already; nobody was told")
    severities: list[Severity] = Field(description="How severe it was from when on, and why")


@router.get("/occurrences", summary="Occurrences / 告警发生记录")
def see_occurrences(
    here: Here,
    caller: Caller,
    *,
    rule: Annotated[str | None, Query(max_length=200)] = None,
    device: Annotated[str | None, Query(max_length=80, description="Or `grid:<id>`, `group:<tag>`")] = None,
    start: Annotated[InstantGiven | None, Query(alias="from", description="Of raised_at")] = None,
    end: Annotated[InstantGiven | None, Query(alias="to", description="Of raised_at, not included")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Occurrence]:
    """In order of raising. The service's own (`gw-…`) only where `rule` asks for them; those of personal devices for
    handlers and above."""
    if device is not None:
        refuse_hidden(caller, here.registry.get(device))
    with here.records.connect() as tx:
        found = list_occurrences(
            tx,
            rule=rule,
            device=device,
            start=start,
            end=end,
            hide_kinds=hidden_kinds(caller),
            limit=limit,
            cursor=cursor,
        )
    return listed(found, Occurrence.model_validate)

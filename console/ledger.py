"""The ledger of the last 24 hours, hour by hour: of one device on its page, of all on the Intake page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from console.pages import part, render
from console.visits import Signed, SignedVisit
from devices.instants import DAY, HOUR
from flow.ledger import COLUMNS, WITH_REASONS
from flow.ledger_book import Span, total

router = APIRouter()

IDENTITY = frozenset({"received", "stored", "duplicate", "replaced", "refused"})


@dataclass(frozen=True, slots=True)
class LedgerView:
    """`columns` are those with anything in them, and those that the sum needs; `hours` are (start, counts), the newest
    first; `reasons` are (column, (reason, count) most first)."""

    columns: Sequence[str]
    total: Sequence[int]
    hours: Sequence[tuple[int, Sequence[int]]]
    reasons: Sequence[tuple[str, Sequence[tuple[str, int]]]]


def ledger_of(visit: SignedVisit, device: int | None = None) -> LedgerView:
    """`device` is a device number; None: all that was received."""
    span = Span(start=(visit.now - DAY) // HOUR * HOUR + HOUR, device=device)
    by_hour = visit.installation.book.by_hour(span)
    whole = total(by_hour)
    columns = [name for name in COLUMNS if whole.counts[name] or name in IDENTITY]
    reasons = sorted(whole.reasons.items(), key=lambda item: -item[1])
    told = [(column, [(reason, n) for (of, reason), n in reasons if of == column and n]) for column in WITH_REASONS]
    return LedgerView(
        columns=columns,
        total=[whole.counts[name] for name in columns],
        hours=[(hour, [sums.counts[name] for name in columns]) for hour, sums in reversed(by_hour.items())],
        reasons=[(column, found) for column, found in told if found],
    )


def again(request: Request, visit: SignedVisit) -> Markup:
    """The ledger of the Intake page as it is now, for the end of another fragment."""
    return Markup(render(visit, "parts/intake_ledger.html", request, here="", ledger=ledger_of(visit), oob=True))


@router.get("/intake/ledger")
def see_ledger(request: Request, visit: Signed) -> Response:
    visit.actor.require("intake.see")
    return part(request, visit, "parts/intake_ledger.html", ledger=ledger_of(visit))

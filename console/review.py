"""Rule review: what the alarms of a period meant for the desk, against what EEMUA 191 calls acceptable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from alerts.service_rules import SERVICE_RULES
from console.pages import page_or_part
from console.periods import Period, period_of
from console.places import shown_name
from console.texts import Language, say
from console.visits import Signed, SignedVisit
from console.why import name_of
from console.words import moment
from devices.instants import to_datetime
from devices.kinds import KINDS
from flow.reviewing import review_recorded
from rules.review import TARGETS, Review

router = APIRouter()

_MOST_CHATTERING = 20


@dataclass(frozen=True, slots=True)
class Measure:
    """One number; `before` of the other rules where two are compared, else empty. `over`: worse than acceptable."""

    key: str
    found: str
    before: str
    target: str
    note: str
    over: bool


@dataclass(frozen=True, slots=True)
class Noisy:
    rule: str
    name: str
    device: str
    count: int
    share: str
    can_try: bool


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """`days` are (local date, alarms) for the chart."""

    path: str
    period: Period
    measures: Sequence[Measure]
    worst: Sequence[Noisy]
    chattering: Sequence[Noisy]
    days: Sequence[tuple[str, int]]
    target_per_day: int
    alarms: int


def review_page(visit: SignedVisit, period: Period) -> ReviewPage:
    here = visit.installation
    hidden = () if visit.allows("person.see") else [name for name, kind in KINDS.items() if kind.personal]
    found = review_recorded(here, period.start, period.end, hide_kinds=hidden)
    return ReviewPage(
        path="/rules/review",
        period=period,
        measures=measures(visit, found),
        worst=[_noisy(visit, w.rule, "", w.alarms, f"{w.share:.0%}") for w in found.worst_rules],
        chattering=[_noisy(visit, c.rule, c.device, c.activations, "") for c in found.chattering[:_MOST_CHATTERING]],
        days=_every_day(visit, found),
        target_per_day=round(TARGETS["per_day"]),
        alarms=found.alarms,
    )


def _every_day(visit: SignedVisit, found: Review) -> list[tuple[str, int]]:
    """Local dates of the whole period, those without alarms too; none where there was none at all."""
    if not found.days:
        return []
    zone = visit.installation.zone
    day, last = (to_datetime(at).astimezone(zone).date() for at in (found.start, found.end - 1))
    days: list[tuple[str, int]] = []
    while day <= last:
        days.append((day.isoformat(), found.days.get(day.isoformat(), 0)))
        day += timedelta(days=1)
    return days


def measures(visit: SignedVisit, found: Review, before: Review | None = None) -> list[Measure]:
    """The measures of the review with their targets; `before` is of the rules compared with."""
    zone, language = visit.installation.zone, visit.language
    at = found.worst_ten_minutes_at
    busiest = max(found.days.items(), key=lambda day: day[1], default=None)
    notes = {
        "alarms": say(language, "review.notices", n=found.notices) if found.notices else "",
        "per_day": "" if busiest is None else say(language, "review.busiest", day=busiest[0], n=busiest[1]),
        "worst_ten_minutes": "" if at is None else moment(at, zone, visit.now),
    }
    numbers, old = _numbers(found), None if before is None else _numbers(before)
    return [
        Measure(
            key=key,
            found=_written(key, value),
            before="" if old is None else _written(key, old[key]),
            target="" if key not in TARGETS else _written(key, TARGETS[key]),
            note=notes.get(key, ""),
            over=key in TARGETS and value > TARGETS[key],
        )
        for key, value in numbers.items()
    ]


def _numbers(found: Review) -> dict[str, float]:
    return {
        "alarms": found.alarms,
        "per_day": found.per_day,
        "worst_ten_minutes": found.worst_ten_minutes,
        "chattering": len(found.chattering),
        "fleeting": found.fleeting,
        "stale": found.stale,
    }


def _written(key: str, value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0") if key == "per_day" else f"{value:,.0f}"


def _noisy(visit: SignedVisit, rule_id: str, device_id: str, count: int, share: str) -> Noisy:
    here = visit.installation
    rule, device, own = here.rulebook().rules.get(rule_id), here.registry.get(device_id), SERVICE_RULES.get(rule_id)
    name = rule_id
    if rule is not None:
        name = name_of(visit, rule)
    elif own is not None:
        name = own.name_zh if visit.language is Language.ZH else own.name_en
    shown = device_id if device is None else shown_name(visit, device)
    return Noisy(rule_id, name, shown, count, share, can_try=rule is not None and visit.allows("rules.try"))


@router.get("/rules/review")
def see_review(
    request: Request,
    visit: Signed,
    *,
    days: Annotated[int, Query(ge=0, le=366)] = 0,
    start: Annotated[str, Query(alias="from", max_length=40)] = "",
    end: Annotated[str, Query(alias="to", max_length=40)] = "",
) -> Response:
    period = period_of(
        visit.now, visit.installation.zone, days=days, start="" if days else start, end="" if days else end
    )
    view = review_page(visit, period)
    return page_or_part(request, visit, "review.html", "parts/review.html", here="rules", view=view)

"""One alarm: why it was raised and by which rule, what was done about it, and what may be done now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection

from alerts.alarms import SEVERITY_ACTS, Happening
from alerts.refusals import NotFound
from console.board import Row, board_after, peak_of, row_of, sees, words_of
from console.pages import done, page_or_part, part
from console.places import read_places
from console.reasons import raw_cause
from console.subjects import MANY, Member, children_of, members_of, suppressed_note
from console.texts import Language, say, say_or
from console.visits import Posted, Signed, SignedVisit, is_fragment
from console.words import end_of, severities
from devices.instants import HOUR, MINUTE
from flow import desk
from rules.rule import Priority
from store.records.alarms import (
    AlarmHistoryRow,
    AlarmRow,
    OccurrenceRow,
    Parent,
    alarm_history,
    find_alarm,
    get_alarm,
    list_occurrences,
    suppressed_under,
)
from store.records.orders import states_of

router = APIRouter()

SHELVE_SPANS = (30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 24 * HOUR)
_MOST_OCCURRENCES = 20
_MAX_ALARM = 2**53


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the alarm's history."""

    at: int
    what: str
    by: str
    states: str
    why: str
    service: bool


@dataclass(frozen=True, slots=True)
class Grade:
    """How severe it was from `at` on, and why."""

    at: int
    priority: Priority
    reason: str


@dataclass(frozen=True, slots=True)
class Raised:
    """One occurrence. `ended` None: it stands. `grades` is empty where its rule has one severity."""

    at: int
    ended: int | None
    peak: str
    retroactive: bool
    grades: Sequence[Grade]


@dataclass(frozen=True, slots=True)
class AlarmPage:
    row: Row
    kind: str
    rule_text: str
    history: Sequence[Line]
    raised: Sequence[Raised]
    raised_count: int
    cause: str
    members: Sequence[Member]
    of: int
    parent: Parent | None
    path: str
    shelve_spans: Sequence[int] = SHELVE_SPANS


def alarm_page(visit: SignedVisit, number: int) -> AlarmPage:
    """Raises NotFound, also for the alarm of a personal device where the person may not see it."""
    with visit.installation.records.connect() as tx:
        alarm = get_alarm(tx, number) if 0 < number < _MAX_ALARM else None
        if alarm is None or not sees(visit, alarm):
            raise NotFound("no_such_alarm", f"没有编号为 {number} 的告警", f"there is no alarm {number}")
        places = read_places(tx)
        history = alarm_history(tx, number)
        latest = alarm.occurrence.raised_at if alarm.occurrence else 0
        # The list is in order of raising: the end of it is asked for by its beginning.
        start = max(0, latest - 30 * 24 * HOUR)
        found = list_occurrences(tx, alarm=number, start=start, include_service=True, limit=500).items
        states = states_of(tx, {alarm.order} if alarm.order is not None else set())
        children = children_of(visit, suppressed_under(tx, [number], limit=MANY)) if alarm.suppresses else {}
        names = _parents(tx, visit, history)
    row = row_of(visit, alarm, places, order_state=states.get(alarm.order or 0))
    return AlarmPage(
        row=replace(row, children=children.get(number, ())),
        kind=alarm.kind,
        rule_text=alarm.rule_text,
        history=[_line(visit, line, names) for line in reversed(history)],
        raised=[_raised(visit, alarm, o) for o in reversed(found[-_MOST_OCCURRENCES:])],
        raised_count=alarm.raised_count,
        cause=raw_cause(alarm.rule, alarm.occurrence.reason) if alarm.occurrence else "",
        members=members_of(visit, alarm),
        of=_of(alarm),
        parent=alarm.suppressed_by,
        path=f"/alarms/{number}",
    )


def _of(alarm: AlarmRow) -> int:
    of = alarm.occurrence.reason.get("of") if alarm.occurrence is not None else None
    return of if isinstance(of, int) else 0


def _parents(tx: Connection, visit: SignedVisit, history: Sequence[AlarmHistoryRow]) -> dict[str, str]:
    """What held it back, as the history has it and as people call it."""
    named = {row.why for row in history if row.act == Happening.SUPPRESSED and row.why}
    found: dict[str, str] = {}
    for why in named:
        rule, _, subject = why.partition(" ")
        parent = find_alarm(tx, rule, subject)
        if parent is not None:
            found[why] = suppressed_note(visit, parent.as_parent())
    return found


def _line(visit: SignedVisit, row: AlarmHistoryRow, parents: Mapping[str, str]) -> Line:
    language = visit.language
    service = row.by == "service"
    names = [say_or(language, f"alarm.{state}", state) for state in (row.from_state, row.to_state) if state]
    return Line(
        at=row.at,
        what=say_or(language, f"chain.{row.act}", row.act),
        by=say(language, "role.service") if service else row.by,
        states=" → ".join(names) if row.from_state != row.to_state else "",
        why=_why(row, language, parents),
        service=service,
    )


def _why(row: AlarmHistoryRow, language: Language, parents: Mapping[str, str]) -> str:
    why = row.why or ""
    if row.act in SEVERITY_ACTS:
        return severities(why, language)
    return end_of(why, language) if row.act == Happening.CLEARED else parents.get(why, why)


def _raised(visit: SignedVisit, alarm: AlarmRow, occurrence: OccurrenceRow) -> Raised:
    peak = peak_of(visit, alarm.kind, occurrence)
    grades = [
        Grade(known["at"], Priority(known["priority"]), words_of(visit, alarm, known["reason"]))
        for known in occurrence.severity or ()
    ]
    return Raised(occurrence.raised_at, occurrence.cleared_at, peak, occurrence.retroactive, grades)


@router.get("/alarms/{alarm}")
def see_alarm(request: Request, visit: Signed, alarm: int) -> Response:
    view = alarm_page(visit, alarm)
    return page_or_part(request, visit, "alarm.html", "parts/alarm.html", here="board", view=view, done="")


@router.get("/alarms/{alarm}/{act}")
def see_after_act(alarm: int, act: str) -> Response:
    """A form sent without scripts and then reloaded ends here."""
    del act
    return RedirectResponse(f"/alarms/{alarm}", 303)


@router.post("/alarms/{alarm}/acknowledge")
def acknowledge(request: Request, visit: Posted, alarm: int, back: Annotated[str, Form()] = "/") -> Response:
    """`back` is where it was pressed: this page, or the board with its filter."""
    desk.acknowledge(visit.installation.records, visit.now, visit.actor, alarm=alarm)
    if back == f"/alarms/{alarm}":
        return after(request, visit, alarm, lambda: "")
    return board_after(request, visit, back, lambda: "")


@router.post("/alarms/{alarm}/shelve")
def shelve(
    request: Request,
    visit: Posted,
    alarm: int,
    *,
    span: Annotated[int, Form()],
    reason: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    now = visit.now
    desk.shelve(visit.installation.records, now, visit.actor, alarm=alarm, until=now + span, reason=reason)
    return after(request, visit, alarm, lambda: done(request, visit, "board.shelved"))


@router.post("/alarms/{alarm}/unshelve")
def unshelve(request: Request, visit: Posted, alarm: int) -> Response:
    desk.unshelve(visit.installation.records, visit.now, visit.actor, alarm=alarm)
    return after(request, visit, alarm, lambda: done(request, visit, "board.unshelved"))


@router.post("/alarms/{alarm}/comment")
def comment(request: Request, visit: Posted, alarm: int, text: Annotated[str, Form(max_length=2000)] = "") -> Response:
    desk.comment(visit.installation.records, visit.now, visit.actor, alarm=alarm, text=text)
    return after(request, visit, alarm, lambda: done(request, visit, "board.commented"))


def after(request: Request, visit: SignedVisit, alarm: int, message: Callable[[], str]) -> Response:
    """The alarm as it is now."""
    visit.installation.hub.poke()
    if not is_fragment(request.headers):
        return RedirectResponse(f"/alarms/{alarm}", 303)
    return part(request, visit, "parts/alarm.html", view=alarm_page(visit, alarm), done=message())

"""The Board: standing alarms worst first, why each was raised, and acknowledging one in one press or many in two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import Connection

from alerts.alarms import AlarmState
from alerts.orders import OrderState
from alerts.refusals import Invalid
from console.pages import done, page_or_part, part
from console.places import Choice, Places, device_name, is_personal, read_places
from console.reasons import explain
from console.standing import UNACKNOWLEDGED, Counts, count, standing_of
from console.subjects import Child, children_of, members_note, suppressed_note
from console.texts import Language, say
from console.visits import Posted, Signed, SignedVisit, is_fragment, safe_path
from console.words import metric_of, moment, quantity
from devices.subjects import is_group
from flow import desk
from rules.rule import Priority
from store.records.alarms import AlarmRow, OccurrenceRow, counts_standing, list_alarms, standing, suppressed_under
from store.records.orders import states_of

router = APIRouter()

# A board longer than this is not read any more; the filter is.
MOST_ROWS = 200
# Alarms held back that are named below the one that holds them back; its own page names all.
MOST_CHILDREN = 20
SHOWS = ("", "unacknowledged", "shelved", "suppressed", "early")


@dataclass(frozen=True, slots=True)
class Filter:
    """What the address asks for; empty means everything."""

    show: str = ""
    priority: str = ""
    grid: str = ""

    @property
    def path(self) -> str:
        given = {k: v for k, v in (("show", self.show), ("priority", self.priority), ("grid", self.grid)) if v}
        return "/?" + urlencode(given) if given else "/"


@dataclass(frozen=True, slots=True)
class Row:
    """One alarm as the desk sees it. `notes` are lines about who did what; `ended` None: it stands; `early`: it is a
    forecast. `suppresses` alarms are held back by this one, `children` are the first of them."""

    id: int
    rule: str
    rule_name: str
    reason: str
    notes: Sequence[str]
    device: str
    device_name: str
    has_device: bool
    grid_name: str
    priority: Priority
    state: AlarmState
    raised_at: int
    ended: int | None
    keeper: str
    keeper_phone: str
    order: int | None
    order_state: str
    can_acknowledge: bool
    can_shelve: bool
    can_unshelve: bool
    can_comment: bool
    early: bool
    suppresses: int
    children: Sequence[Child] = ()


@dataclass(frozen=True, slots=True)
class PersonalCount:
    """Alarms of personal devices of one grid, for whoever may not see more."""

    grid_name: str
    count: int
    worst: Priority


@dataclass(frozen=True, slots=True)
class Board:
    """`total` and `counts` are of the whole board, `rows` of what the filter lets through."""

    path: str
    show: str
    priority: str
    grid: str
    rows: Sequence[Row]
    more: int
    personal: Sequence[PersonalCount]
    counts: Counts
    total: int
    unacknowledged: int
    shelved: int
    suppressed: int
    early: int
    grids: Sequence[Choice]
    can_acknowledge: bool
    selectable: int

    @property
    def filtered(self) -> bool:
        return self.path != "/"


def board_of(visit: SignedVisit, wanted: Filter) -> Board:
    with visit.installation.records.connect() as tx:
        places = read_places(tx)
        counted = counts_standing(tx)
        everything = standing(tx)
        shelved = list_alarms(tx, state=AlarmState.SHLVD, limit=MOST_ROWS).items
        suppressed = [a for a in list_alarms(tx, state=AlarmState.DSUPR, limit=MOST_ROWS).items if a.active]
        shown = {"shelved": shelved, "suppressed": suppressed}.get(wanted.show, everything)
        found = [a for a in shown if _wanted(a, wanted, places)]
        seen = [a for a in found if sees(visit, a)]
        states = states_of(tx, {a.order for a in seen[:MOST_ROWS] if a.order is not None})
        children = _children(tx, visit, seen)
    counts = count(counted, [a for a in everything if a.priority is not Priority.NOTICE])
    rows = [row_of(visit, alarm, places, order_state=states.get(alarm.order or 0)) for alarm in seen[:MOST_ROWS]]
    return Board(
        path=wanted.path,
        show=wanted.show,
        priority=wanted.priority,
        grid=wanted.grid,
        rows=[replace(row, children=children.get(row.id, ())) for row in rows],
        more=len(seen) - len(rows),
        personal=personal_counts(visit, [a for a in found if not sees(visit, a)], places),
        counts=counts,
        total=sum(counted.values()),
        unacknowledged=counts.unacknowledged,
        shelved=len(shelved),
        suppressed=len(suppressed),
        early=sum(a.early for a in everything),
        grids=places.choices(),
        can_acknowledge=visit.allows("alarm.acknowledge"),
        selectable=sum(row.can_acknowledge for row in rows),
    )


def _children(tx: Connection, visit: SignedVisit, seen: Sequence[AlarmRow]) -> dict[int, list[Child]]:
    parents = [alarm.id for alarm in seen if alarm.suppresses]
    found = children_of(visit, suppressed_under(tx, parents, limit=MOST_ROWS)) if parents else {}
    return {parent: children[:MOST_CHILDREN] for parent, children in found.items()}


def row_of(visit: SignedVisit, alarm: AlarmRow, places: Places, *, order_state: OrderState | None = None) -> Row:
    shelved = alarm.state is AlarmState.SHLVD
    occurrence = alarm.occurrence
    of_a_device = bool(alarm.kind) and not is_group(alarm.device)
    return Row(
        id=alarm.id,
        rule=alarm.rule,
        rule_name=rule_name(visit, alarm),
        reason=reason_of(visit, alarm),
        notes=_notes(visit, alarm),
        device=alarm.device,
        device_name=_device_name(visit, alarm),
        has_device=of_a_device,
        grid_name=places.name(alarm.grid, visit.language) if of_a_device else "",
        priority=alarm.priority,
        state=alarm.state,
        raised_at=occurrence.raised_at if occurrence else alarm.changed_at,
        ended=occurrence.cleared_at if occurrence else None,
        keeper=alarm.keeper,
        keeper_phone=alarm.keeper_phone,
        order=alarm.order,
        order_state=order_state or "",
        can_acknowledge=alarm.state in UNACKNOWLEDGED and visit.allows("alarm.acknowledge"),
        can_shelve=alarm.state not in {AlarmState.SHLVD, AlarmState.DSUPR} and visit.allows("alarm.shelve"),
        can_unshelve=shelved and visit.allows("alarm.unshelve"),
        can_comment=visit.allows("alarm.comment"),
        early=alarm.early,
        suppresses=alarm.suppresses,
    )


def rule_name(visit: SignedVisit, alarm: AlarmRow) -> str:
    return alarm.rule_zh if visit.language is Language.ZH else alarm.rule_en


def reason_of(visit: SignedVisit, alarm: AlarmRow) -> str:
    """Why it is as severe as it is."""
    occurrence = alarm.occurrence
    if occurrence is None:
        return ""
    return words_of(visit, alarm, occurrence.severity[-1]["reason"] if occurrence.severity else occurrence.reason)


def words_of(visit: SignedVisit, alarm: AlarmRow, reason: Mapping[str, object]) -> str:
    zone, now = visit.installation.zone, visit.now
    return explain(alarm.kind, alarm.rule, reason, visit.language, zone=zone, now=now)


def personal_counts(visit: SignedVisit, alarms: Sequence[AlarmRow], places: Places) -> list[PersonalCount]:
    """By grid. Notices are left out: they would tell when a door opens. So are forecasts, which are no alarm."""
    by_grid: dict[str | None, list[Priority]] = {}
    for alarm in alarms:
        if alarm.priority is not Priority.NOTICE and not alarm.early:
            by_grid.setdefault(alarm.grid, []).append(alarm.priority)
    order = list(Priority)
    return [
        PersonalCount(places.name(grid, visit.language), len(found), min(found, key=order.index))
        for grid, found in by_grid.items()
    ]


def peak_of(visit: SignedVisit, kind: str, occurrence: OccurrenceRow) -> str:
    """The worst value of the occurrence; yes and no have none."""
    known = metric_of(kind, occurrence.metric) if occurrence.metric else None
    if occurrence.peak_value is None or (known and known.boolean):
        return ""
    return quantity(occurrence.peak_value, known.unit if known else "", visit.language)


def sees(visit: SignedVisit, alarm: AlarmRow) -> bool:
    return not is_personal(alarm.kind) or visit.allows("person.see")


def _wanted(alarm: AlarmRow, wanted: Filter, places: Places) -> bool:
    if wanted.show == "unacknowledged" and (alarm.early or alarm.state not in UNACKNOWLEDGED):
        return False
    if wanted.show == "early" and not alarm.early:
        return False
    if wanted.priority and alarm.priority != wanted.priority:
        return False
    return not wanted.grid or alarm.grid in places.under(wanted.grid)


def _device_name(visit: SignedVisit, alarm: AlarmRow) -> str:
    if not alarm.kind and not is_group(alarm.device):
        return say(visit.language, "board.installation")
    return device_name(visit, alarm.device, alarm.device_name, alarm.kind)


def _notes(visit: SignedVisit, alarm: AlarmRow) -> list[str]:
    """What has happened since it was raised."""
    language, zone, now = visit.language, visit.installation.zone, visit.now
    occurrence = alarm.occurrence
    notes = [members] if (members := members_note(visit, alarm)) else []
    if alarm.suppressed_by is not None:
        notes.append(suppressed_note(visit, alarm.suppressed_by))
    if occurrence is not None and occurrence.cleared_at is not None:
        notes.append(say(language, "board.cleared_at", at=moment(occurrence.cleared_at, zone, now)))
    if occurrence is not None and occurrence.peak_value != occurrence.first_value:
        peak = peak_of(visit, alarm.kind, occurrence)
        notes += [say(language, "board.peak", value=peak)] if peak else []
    if alarm.raised_count > 1:
        notes.append(say(language, "board.times", n=alarm.raised_count))
    if alarm.acknowledged_by and alarm.state not in UNACKNOWLEDGED:
        at = moment(alarm.acknowledged_at, zone, now)
        notes.append(say(language, "board.acknowledged_by", who=alarm.acknowledged_by, at=at))
    if alarm.state is AlarmState.SHLVD:
        at = moment(alarm.shelved_until, zone, now)
        notes.append(say(language, "board.shelved_until", at=at, why=alarm.shelve_reason or ""))
    return [" · ".join(notes)] if notes else []


@router.get("/")
def see_board(
    request: Request,
    visit: Signed,
    *,
    show: Annotated[str, Query(max_length=20)] = "",
    priority: Annotated[str, Query(max_length=20)] = "",
    grid: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    wanted = Filter(show if show in SHOWS else "", priority if priority in set(Priority) else "", grid)
    view = board_of(visit, wanted)
    return page_or_part(request, visit, "board.html", "parts/board.html", here="board", view=view, done="")


@router.get("/standing")
def see_standing(request: Request, visit: Signed) -> Response:
    return part(request, visit, "parts/standing.html", standing=standing_of(visit))


@router.post("/alarms/acknowledge")
def acknowledge_selected(
    request: Request,
    visit: Posted,
    alarm: Annotated[list[int] | None, Form()] = None,
    back: Annotated[str, Form()] = "/",
) -> Response:
    if not alarm:
        raise Invalid("nothing_selected", "请先选择告警", "select the alarms first")
    outcomes = desk.acknowledge_many(visit.installation.records, visit.now, visit.actor, alarms=alarm)
    failed = sum(outcome.refusal is not None for outcome in outcomes)
    n = len(outcomes) - failed
    key = "board.acknowledged_some" if failed else "board.acknowledged"
    return board_after(request, visit, back, lambda: done(request, visit, key, n=n, failed=failed))


def board_after(request: Request, visit: SignedVisit, back: str, message: Callable[[], str]) -> Response:
    """The board as it is now, with the filter it had."""
    visit.installation.hub.poke()
    if not is_fragment(request.headers):
        return RedirectResponse(safe_path(back), 303)
    return part(request, visit, "parts/board.html", view=board_of(visit, _filter_of(back)), done=message())


def _filter_of(path: str) -> Filter:
    query = dict(pair.partition("=")[::2] for pair in path.partition("?")[2].split("&") if pair)
    show, priority = query.get("show", ""), query.get("priority", "")
    return Filter(
        show if show in SHOWS else "", priority if priority in set(Priority) else "", query.get("grid", "")[:64]
    )

"""The wall: one dark screen without scrolling, read from five metres, showing no more than a viewer may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from alerts.orders import OPEN, Step
from alerts.roles import Role
from console.board import PersonalCount, Row, personal_counts, row_of
from console.devices import presence_of
from console.orders import Card, Filter, lane_of
from console.pages import page, part
from console.places import is_personal, read_places
from console.pumps import Row as Station
from console.pumps import pumps_of
from console.standing import Counts, count, ill_parts
from console.visits import Signed, SignedVisit, is_fragment
from devices.registry import DeviceStatus
from store.records.alarms import counts_standing, silent_devices, standing
from store.records.devices import online_of
from store.records.orders import count_overdue, counts_by_state, counts_by_step

router = APIRouter()

# What fits on 1920×1080 without scrolling.
MOST_ALARMS, MOST_STATIONS, MOST_CARDS = 12, 14, 5


@dataclass(frozen=True, slots=True)
class WallLane:
    step: Step
    count: int
    cards: Sequence[Card]


@dataclass(frozen=True, slots=True)
class Wall:
    counts: Counts
    alarms: Sequence[Row]
    personal: Sequence[PersonalCount]
    levels: Sequence[Station]
    lanes: Sequence[WallLane]
    open_orders: int
    overdue: int
    reporting: int
    devices: int


def wall_of(visit: SignedVisit) -> Wall:
    """A wall hangs where everybody sees it: a handler's own rights do not count on it."""
    visit = replace(visit, actor=replace(visit.actor, role=Role.VIEWER, read_only=True))
    with visit.installation.records.connect() as tx:
        places, online, silent = read_places(tx), online_of(tx), silent_devices(tx)
        found = standing(tx, notices=False)
        counts = replace(count(counts_standing(tx), found), ill=ill_parts(visit))
        steps, overdue = counts_by_step(tx), count_overdue(tx)
        open_orders = sum(n for state, n in counts_by_state(tx).items() if state in OPEN)
        lanes = [
            WallLane(step, steps[step], lane_of(tx, visit, step, Filter(), limit=50).cards[:MOST_CARDS])
            for step in Step
        ]
    public = [a for a in found if not is_personal(a.kind)]
    personal = personal_counts(visit, [a for a in found if is_personal(a.kind)], places)
    active = [d for d in visit.installation.registry.devices if d.status is DeviceStatus.ACTIVE]
    latest = visit.installation.latest()
    heard = [
        presence_of(d, max((v[0] for v in latest.of(d.number).values()), default=None), silent=silent, online=online)
        for d in active
    ]
    return Wall(
        counts=counts,
        alarms=[row_of(visit, a, places) for a in public[: MOST_ALARMS - min(3, len(personal))]],
        personal=personal[:3],
        levels=pumps_of(visit).rows[:MOST_STATIONS],
        lanes=lanes,
        open_orders=open_orders,
        overdue=overdue,
        reporting=sum(presence in {"heard", "online"} for presence in heard),
        devices=len(active),
    )


@router.get("/wall")
def see_wall(request: Request, visit: Signed) -> Response:
    # A wall is dark whatever theme the desk has.
    dark = replace(visit, theme="dark")
    view = wall_of(dark)
    if is_fragment(request.headers):
        return part(request, dark, "parts/wall.html", view=view, standing=view.counts)
    return page(request, dark, "wall.html", here="wall", view=view)

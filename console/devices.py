"""Devices and one device: newest values with units, a day's chart, presence, what was received and refused.

What a personal device measures says who is at home. It is in no list; the person and the state of the door are on a
page of their own, for handlers and above, and every viewing of it is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from alerts.alarms import AlarmState
from alerts.refusals import NotFound
from console.board import Row as AlarmLine
from console.board import row_of
from console.charts import chart_of, charted
from console.commands import commands_of
from console.elements import Element, elements_of
from console.ledger import LedgerView, ledger_of
from console.modes import PauseLine, paused_now, pauses_of
from console.packets import Packet, packets_of
from console.pages import page, page_or_part
from console.places import Choice, Places, is_personal, read_places, shown_name
from console.pumps import STALE_INTERVALS, is_stale
from console.sources import Station, first_of, station_of
from console.texts import say_or
from console.visits import Posted, Signed, SignedVisit
from console.words import metric_name, metric_of, quantity
from devices.attributes import to_come, value_at
from devices.instants import SECOND
from devices.kinds import KINDS
from devices.registry import EVENT, Device, DeviceStatus
from flow.persons import see_person
from rules.book import SILENCE
from rules.rule import Priority
from store.records.alarms import AlarmRow, list_alarms, silent_devices, standing
from store.records.devices import get_device, online_of

router = APIRouter()

MOST_ROWS = 200
_VALUES_IN_LIST = 3


@dataclass(frozen=True, slots=True)
class Value:
    metric: str
    name: str
    shown: str
    quality: int
    at: int
    stale: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One device in the list. `presence` is silent, offline, online, heard or never; `second_of` the name of the device
    it is the second source of, else empty."""

    id: str
    name: str
    kind: str
    personal: bool
    grid_name: str
    presence: str
    values: Sequence[Value]
    at: int | None
    stale: bool
    keeper: str
    keeper_phone: str
    worst: Priority | None
    paused: bool
    second_of: str


@dataclass(frozen=True, slots=True)
class PersonalGroup:
    grid_name: str
    count: int
    silent: int
    alarms: int


@dataclass(frozen=True, slots=True)
class Devices:
    path: str
    kind: str
    grid: str
    find: str
    kinds: Sequence[tuple[str, int]]
    grids: Sequence[Choice]
    rows: Sequence[Row]
    more: int
    personal: Sequence[PersonalGroup]


@dataclass(frozen=True, slots=True)
class Fact:
    """An attribute as it holds now, and (value, from when) of what is to come."""

    name: str
    shown: str
    coming: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class DevicePage:
    id: str
    name: str
    kind: str
    status: str
    personal: bool
    grid_name: str
    presence: str
    at: int | None
    keeper: str
    keeper_phone: str
    interval: int
    attributes: Sequence[Fact]
    position: str
    tags: Sequence[str]
    values: Sequence[Value]
    pauses: Sequence[PauseLine]
    charts: Sequence[str]
    alarms: Sequence[AlarmLine]
    refused: Sequence[Packet]
    ledger: LedgerView | None
    elements: Sequence[Element]
    station: Station


@dataclass(frozen=True, slots=True)
class PersonPage:
    device: str
    person: str
    address: str
    grid_name: str
    position: str
    keeper: str
    keeper_phone: str
    values: Sequence[Value]
    pauses: Sequence[PauseLine]


def devices_of(visit: SignedVisit, *, kind: str, grid: str, find: str) -> Devices:
    with visit.installation.records.connect() as tx:
        places, online = read_places(tx), online_of(tx)
        alarms, silent, paused = standing(tx, early=False), silent_devices(tx), paused_now(tx, visit)
    active = [d for d in visit.installation.registry.devices if d.status is DeviceStatus.ACTIVE]
    within = places.under(grid) if grid else None
    wanted = [
        d
        for d in active
        if (not kind or d.kind == kind)
        and (within is None or d.grid in within)
        and (not find or find.lower() in d.id or (not is_personal(d.kind) and find.lower() in d.name.lower()))
    ]
    listed = [d for d in wanted if not is_personal(d.kind) or visit.allows("person.see")]
    worst = _worst(alarms)
    listed.sort(key=lambda d: (_rank(worst.get(d.id)), d.id))
    counts = {k: sum(d.kind == k for d in active) for k in KINDS}
    query = {k: v for k, v in (("kind", kind), ("grid", grid), ("find", find)) if v}
    return Devices(
        path="/devices" + ("?" + urlencode(query) if query else ""),
        kind=kind,
        grid=grid,
        find=find,
        kinds=[(k, n) for k, n in counts.items() if n],
        grids=places.choices(),
        rows=[
            _row(visit, d, places, silent=silent, online=online, worst=worst, paused=d.id in paused)
            for d in listed[:MOST_ROWS]
        ],
        more=max(0, len(listed) - MOST_ROWS),
        personal=_personal(visit, [d for d in wanted if is_personal(d.kind)], places, silent=silent, alarms=alarms),
    )


def device_page(visit: SignedVisit, device_id: str) -> DevicePage:
    """Raises NotFound."""
    device, places = find_device(visit, device_id)
    installation = visit.installation
    with installation.records.connect() as tx:
        online = online_of(tx).get(device.number)
        found = list_alarms(tx, device=device.id, limit=50).items
        personal = is_personal(device.kind)
        hidden = personal and not visit.allows("person.see")
        pauses = [] if hidden else pauses_of(tx, visit, device)
    alarms = [a for a in found if a.state is not AlarmState.NORM]
    latest = installation.latest().of(device.number)
    heard = max((row[0] for row in latest.values()), default=None)
    silent = {a.device for a in found if a.rule == SILENCE and a.active}
    metrics = [] if hidden else charted(device, list(latest))
    values = values_of(visit, device, metrics if personal else None)
    return DevicePage(
        id=device.id,
        name=shown_name(visit, device),
        kind=device.kind,
        status=device.status.value,
        personal=personal,
        grid_name=places.name(device.grid, visit.language),
        presence=presence_of(
            device, heard, silent=silent, online={device.number: online} if online is not None else {}
        ),
        # When a door sensor last spoke is when its door last moved: of it only battery and signal have a time.
        at=max((v.at for v in values), default=None) if personal else heard,
        keeper=device.keeper,
        keeper_phone=device.keeper_phone,
        interval=round(device.interval_s * SECOND),
        attributes=[] if hidden else _attributes(visit, device),
        position=_position(device) if not personal else "",
        tags=[] if hidden else sorted(device.tags),
        values=values,
        pauses=pauses,
        charts=metrics,
        alarms=[] if hidden else [row_of(visit, alarm, places) for alarm in alarms],
        refused=packets_of(visit, device=device.number, limit=5)[0] if visit.allows("intake.see") else [],
        ledger=None if hidden else ledger_of(visit, device.number),
        elements=elements_of(visit, device, metrics if personal else list(latest)),
        station=station_of(visit, device),
    )


def find_device(visit: SignedVisit, device_id: str) -> tuple[Device, Places]:
    """Raises NotFound."""
    with visit.installation.records.connect() as tx:
        row, places = get_device(tx, device_id), read_places(tx)
    if row is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    return row.device, places


def values_of(visit: SignedVisit, device: Device, only: Sequence[str] | None = None) -> list[Value]:
    """The newest value of every metric, in the order of the kind; `only` narrows them. Events are no values."""
    latest = visit.installation.latest().of(device.number)
    order = {metric: i for i, metric in enumerate(KINDS[device.kind].metrics)}
    names = [m for m in latest if not m.startswith(EVENT) and (only is None or m in only)]
    return [_value(visit, device, m, latest[m]) for m in sorted(names, key=lambda m: order.get(m, 99))]


def presence_of(device: Device, at: int | None, *, silent: AbstractSet[str], online: Mapping[int, bool]) -> str:
    """Silence as judged; else what the device (or its last will) said of itself; else whether it was ever heard."""
    if device.id in silent:
        return "silent"
    said = online.get(device.number)
    if said is not None:
        return "online" if said else "offline"
    return "never" if at is None else "heard"


def _value(visit: SignedVisit, device: Device, metric: str, row: tuple[int, float, int]) -> Value:
    at, value, quality = row
    known = metric_of(device.kind, metric)
    shown = quantity(value, known.unit if known else "", visit.language)
    name = metric_name(device.kind, metric, visit.language)
    return Value(metric, name, shown, quality, at, is_stale(device, at, visit.now))


def _row(
    visit: SignedVisit,
    device: Device,
    places: Places,
    *,
    silent: AbstractSet[str],
    online: Mapping[int, bool],
    worst: Mapping[str, Priority],
    paused: bool,
) -> Row:
    personal = is_personal(device.kind)
    values = values_of(visit, device)
    at = max((v.at for v in values), default=None)
    return Row(
        id=device.id,
        name=shown_name(visit, device),
        kind=device.kind,
        personal=personal,
        grid_name=places.name(device.grid, visit.language),
        presence=presence_of(device, at, silent=silent, online=online),
        values=[] if personal else values[:_VALUES_IN_LIST],
        # When a door sensor last spoke is when its door last moved, or nearly.
        at=None if personal else at,
        stale=not personal and at is not None and visit.now - at > STALE_INTERVALS * device.interval_s * SECOND,
        keeper=device.keeper,
        keeper_phone=device.keeper_phone,
        worst=worst.get(device.id),
        paused=paused and not personal,
        second_of=first_of(visit, device),
    )


def _personal(
    visit: SignedVisit,
    devices: Sequence[Device],
    places: Places,
    *,
    silent: AbstractSet[str],
    alarms: Sequence[AlarmRow],
) -> list[PersonalGroup]:
    by_grid: dict[str | None, list[Device]] = {}
    for device in devices:
        by_grid.setdefault(device.grid, []).append(device)
    alarmed = [a.device for a in alarms if a.priority is not Priority.NOTICE]
    return [
        PersonalGroup(
            places.name(grid, visit.language),
            len(found),
            sum(d.id in silent for d in found),
            sum(alarmed.count(d.id) for d in found),
        )
        for grid, found in sorted(by_grid.items(), key=lambda item: item[0] or "")
    ]


def _worst(alarms: Sequence[AlarmRow]) -> dict[str, Priority]:
    """The worst standing alarm of each device; notices left out. `alarms` come worst first."""
    worst: dict[str, Priority] = {}
    for alarm in alarms:
        if alarm.priority is not Priority.NOTICE:
            worst.setdefault(alarm.device, alarm.priority)
    return worst


def _rank(priority: Priority | None) -> int:
    return 99 if priority is None else list(Priority).index(priority)


def _attributes(visit: SignedVisit, device: Device) -> list[Fact]:
    def show(name: str, value: float | str | None) -> str:
        if not isinstance(value, (int, float)):
            return "—" if value is None else value
        return quantity(value, "m" if name.endswith("_level") else "", visit.language)

    return [
        Fact(
            name,
            show(name, value_at(attribute, visit.now)),
            [(show(name, dated.value), dated.valid_from) for dated in to_come(attribute, visit.now)],
        )
        for name, attribute in device.attributes.items()
    ]


def _position(device: Device) -> str:
    if device.latitude is None or device.longitude is None:
        return ""
    return f"{device.latitude:.5f}, {device.longitude:.5f}"


@router.get("/devices")
def see_devices(
    request: Request,
    visit: Signed,
    *,
    kind: Annotated[str, Query(max_length=64)] = "",
    grid: Annotated[str, Query(max_length=64)] = "",
    find: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    view = devices_of(visit, kind=kind if kind in KINDS else "", grid=grid, find=find.strip())
    return page_or_part(request, visit, "devices.html", "parts/devices.html", here="devices", view=view)


@router.get("/devices/{device_id}")
def see_device(request: Request, visit: Signed, device_id: str) -> Response:
    view = device_page(visit, device_id)
    commands = commands_of(visit, find_device(visit, device_id)[0])
    return page_or_part(
        request, visit, "device.html", "parts/device.html", here="devices", view=view, commands=commands
    )


@router.get("/devices/{device_id}/chart")
def see_chart(visit: Signed, device_id: str, metric: Annotated[str, Query(max_length=64)]) -> Response:
    device, places = find_device(visit, device_id)
    if is_personal(device.kind):
        visit.actor.require("person.see")
    return JSONResponse(chart_of(visit, device, metric, places))


@router.post("/devices/{device_id}/person")
def see_who(request: Request, visit: Posted, device_id: str) -> Response:
    """A press, not a link: nobody looks by accident, and no browser looks ahead."""
    installation = visit.installation
    device = see_person(installation.records, installation.wall(), visit.actor, device=device_id)
    with installation.records.connect() as tx:
        places, pauses = read_places(tx), pauses_of(tx, visit, device)
    view = PersonPage(
        device=device.id,
        person=device.person,
        address=device.person_address,
        grid_name=places.name(device.grid, visit.language),
        position=_position(device),
        keeper=device.keeper,
        keeper_phone=device.keeper_phone,
        values=[*values_of(visit, device), *_events(visit, device)],
        pauses=pauses,
    )
    return page(request, visit, "person.html", here="devices", view=view)


@router.get("/devices/{device_id}/person")
def see_device_again(device_id: str) -> Response:
    return RedirectResponse(f"/devices/{device_id}", 303)


def _events(visit: SignedVisit, device: Device) -> list[Value]:
    """When each event last happened."""
    found = []
    for metric, (at, _, quality) in visit.installation.latest().of(device.number).items():
        if metric.startswith(EVENT):
            name = metric.removeprefix(EVENT)
            found.append(Value(metric, say_or(visit.language, f"event.{name}", name), "", quality, at, stale=False))
    return found

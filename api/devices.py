"""Devices and grids: what is out there, what was approved, and the person behind a door sensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Query
from pydantic import Field

from alerts.refusals import Conflict, NotFound
from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.privacy import hides, is_personal
from api.problems import describe
from api.readings import Value, values_of
from api.shapes import Cursor, Instant, Limit, Listed, Name, Out, listed
from devices.attributes import value_at
from devices.kinds import KINDS
from devices.registry import DeviceStatus
from flow.installation import Installation
from flow.persons import see_person
from store.records.devices import DeviceRow, get_device, grids_under, list_devices, list_grids
from store.records.pages import MAX_LIMIT, decode_cursor, page_of

router = APIRouter(tags=["devices"], responses=describe(401, 403))


# An active device is not rejected: that deletes its readings, and only a stranger's are worth nothing.
_MOVES: Mapping[DeviceStatus, frozenset[DeviceStatus]] = {
    DeviceStatus.QUARANTINED: frozenset({DeviceStatus.ACTIVE, DeviceStatus.REJECTED}),
    DeviceStatus.REJECTED: frozenset({DeviceStatus.ACTIVE}),
    DeviceStatus.ACTIVE: frozenset(),
}


class Dated(Out):
    value: float
    valid_from: Instant


class Device(Out):
    id: str
    site: str
    kind: str
    name: str
    grid: str | None
    status: DeviceStatus
    attributes: dict[str, float | str | None] = Field(
        description="What holds now; null for a dated one that does not hold yet"
    )
    dated: dict[str, list[Dated]] = Field(description="Attributes that change with time: every value and its beginning")
    tags: list[str]
    interval_s: float = Field(description="Seconds between two reports")
    latitude: float | None = Field(description="WGS 84; never of a personal device")
    longitude: float | None
    keeper: str
    keeper_phone: str
    second_of: str | None = Field(description="The device whose station it is another source of: it is never judged")
    online: bool | None = Field(description="What the device said of itself; null where it never did")
    first_seen: Instant
    personal: bool


class Metric(Out):
    name: str
    unit: str = Field(description="UCUM")
    zh: str
    boolean: bool
    plausible: tuple[float, float]


class DeviceView(Device):
    metrics: list[Metric]
    latest: list[Value]


class Person(Out):
    device: str
    name: str = Field(description="Of the device")
    person: str
    address: str
    latitude: float | None
    longitude: float | None


class Grid(Out):
    id: str
    parent: str | None
    name: str
    level: str
    geometry: dict[str, Any] | None = Field(description="GeoJSON")


@router.get("/devices", summary="Devices / 设备", responses=describe(422))
def see_devices(
    here: Here,
    caller: Caller,
    *,
    kind: Annotated[str | None, Query(max_length=64)] = None,
    status: DeviceStatus | None = None,
    grid: Annotated[str | None, Query(max_length=64, description="This grid and all below it")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Device]:
    with here.records.connect() as tx:
        within = None if grid is None else grids_under(tx, grid)
        found = list_devices(tx, kind=kind, status=status, within=within, limit=limit, cursor=cursor)
    return listed(found, lambda row: Device(**_shown(here, caller, row)))


@router.get("/devices/{device_id}", summary="One device / 设备详情", responses=describe(404))
def see_device(here: Here, caller: Caller, device_id: Name) -> DeviceView:
    row = _known(here, device_id)
    metrics = [Metric.model_validate(metric) for metric in KINDS[row.device.kind].metrics.values()]
    latest = [] if hides(caller, here.registry, device_id) else values_of(here, row.device)
    return DeviceView(**_shown(here, caller, row), metrics=metrics, latest=latest)


@router.get("/devices/{device_id}/person", summary="The person behind it / 设备关联人员", responses=describe(404))
def see_device_person(here: Here, caller: Annotated[Actor, Depends(may("person.see"))], device_id: Name) -> Person:
    """For handlers and above; that you looked is recorded."""
    found = see_person(here.records, here.wall(), caller, device=device_id)
    return Person(
        device=found.id,
        name=found.name,
        person=found.person,
        address=found.person_address,
        latitude=found.latitude,
        longitude=found.longitude,
    )


@router.post("/devices/{device_id}/approve", summary="Approve / 批准接入", responses=describe(404, 409))
async def approve_device(
    here: Here, caller: Annotated[Actor, Depends(may("device.approve"))], device_id: Name
) -> Device:
    """Its later readings are judged; what it sent before stays as it is."""
    return await _set_status(here, caller, device_id, DeviceStatus.ACTIVE)


@router.post("/devices/{device_id}/reject", summary="Reject / 拒绝接入", responses=describe(404, 409))
async def reject_device(here: Here, caller: Annotated[Actor, Depends(may("device.reject"))], device_id: Name) -> Device:
    """Its later readings are refused."""
    return await _set_status(here, caller, device_id, DeviceStatus.REJECTED)


@router.get("/grids", summary="The grid tree / 网格", tags=["devices"], responses=describe(422))
def see_grids(here: Here, _caller: Caller, limit: Limit = MAX_LIMIT, cursor: Cursor = None) -> Listed[Grid]:
    """By id; a township has some hundred grids, which are one page."""
    after = "" if cursor is None else decode_cursor(cursor, str)[0]
    with here.records.connect() as tx:
        found = [grid for grid in list_grids(tx) if grid.id > str(after)]
    return listed(page_of(found, limit, lambda grid: [grid.id]), Grid.model_validate)


async def _set_status(here: Installation, actor: Actor, device_id: str, status: DeviceStatus) -> Device:
    device = (await to_thread.run_sync(_known, here, device_id)).device
    if status not in _MOVES[device.status]:
        raise Conflict(
            "not_in_this_state", f"设备状态为 {device.status}，不能这样操作", f"the device is {device.status}"
        )
    await here.set_device_status(device_id, status, actor)
    here.hub.poke()
    row = await to_thread.run_sync(_known, here, device_id)
    return Device(**_shown(here, actor, row))


def _known(here: Installation, device_id: str) -> DeviceRow:
    with here.records.connect() as tx:
        row = get_device(tx, device_id)
    if row is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    return row


def _shown(here: Installation, actor: Actor, row: DeviceRow) -> dict[str, Any]:
    device, personal, now = row.device, is_personal(row.device), here.now()
    hidden = hides(actor, here.registry, device.id)
    return {
        "id": device.id,
        "site": device.site,
        "kind": device.kind,
        # A name given to a door sensor is often the elder's: it goes with the person.
        "name": KINDS[device.kind].zh if personal else device.name,
        "grid": device.grid,
        "status": device.status,
        "attributes": {} if hidden else {name: value_at(known, now) for name, known in device.attributes.items()},
        "dated": {}
        if hidden
        else {name: found for name, found in device.attributes.items() if isinstance(found, tuple)},
        "tags": [] if hidden else sorted(device.tags),
        "interval_s": device.interval_s,
        "latitude": None if personal else device.latitude,
        "longitude": None if personal else device.longitude,
        "keeper": device.keeper,
        "keeper_phone": device.keeper_phone,
        "second_of": device.second_of,
        "online": row.online,
        "first_seen": device.first_seen,
        "personal": personal,
    }

"""The devices and grids of an installation, as rows.

A row holds everything that is known of a device, the person behind a door sensor included: who may see what is for
the caller to decide (`api.devices`, `console`), before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from devices.attributes import from_json, to_json
from devices.registry import Device, DeviceStatus, Registry
from devices.town import Grid
from store.records.pages import Page, decode_cursor, page_of
from store.records.tables import devices, grids, series


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """`online` is what the device's own status topic said last, None where it never said."""

    device: Device
    online: bool | None


def add_devices(tx: Connection, added: Sequence[Device]) -> None:
    """New devices; their numbers must be free."""
    if added:
        tx.execute(insert(devices), [{"number": d.number, **_columns(d)} for d in added])


def put_device(tx: Connection, device: Device) -> None:
    """Replace what is known of the device of this number; `online` stays."""
    tx.execute(update(devices).where(devices.c.number == device.number).values(_columns(device)))


def set_status(tx: Connection, number: int, status: DeviceStatus) -> None:
    tx.execute(update(devices).where(devices.c.number == number).values(status=status.value))


def set_first_seen(tx: Connection, number: int, at: int) -> None:
    """A device of the town, once the clock that rules follow has said what time it is."""
    tx.execute(update(devices).where(devices.c.number == number).values(first_seen=at))


def set_online(tx: Connection, number: int, online: bool) -> bool:
    """Whether that was news."""
    changed = update(devices).where(devices.c.number == number, devices.c.online.is_distinct_from(online))
    return tx.execute(changed.values(online=online)).rowcount > 0


def read_registry(tx: Connection) -> Registry:
    """Every device and series under the numbers it was once given. Raises ValueError where a number is missing."""
    registry = Registry()
    for row in tx.execute(select(devices).order_by(devices.c.number)):
        registry.put(_device(row))
    for number, device, metric in tx.execute(select(series).order_by(series.c.number)):
        if registry.series(device, intern(metric)) != number:
            raise ValueError(f"series number {number} is out of order")
    return registry


def list_devices(
    tx: Connection,
    *,
    kind: str | None = None,
    status: DeviceStatus | None = None,
    within: Set[str] | None = None,
    limit: int,
    cursor: str | None = None,
) -> Page[DeviceRow]:
    """By id. `within` is a set of grid ids."""
    query = select(devices).order_by(devices.c.id).limit(limit + 1)
    query = _narrowed(query, kind=kind, status=status, within=within)
    if cursor is not None:
        query = query.where(devices.c.id > decode_cursor(cursor, str)[0])
    return page_of([_device_row(row) for row in tx.execute(query)], limit, lambda row: [row.device.id])


def get_device(tx: Connection, device_id: str) -> DeviceRow | None:
    row = tx.execute(select(devices).where(devices.c.id == device_id)).one_or_none()
    return None if row is None else _device_row(row)


def online_of(tx: Connection) -> dict[int, bool]:
    """What each device said of itself, by number; those that never said are not in it."""
    found = tx.execute(select(devices.c.number, devices.c.online).where(devices.c.online.is_not(None)))
    return {row.number: row.online for row in found}


def put_grids(tx: Connection, wanted: Iterable[Grid]) -> None:
    """Make the grid tree this one; a grid that is no longer in it goes."""
    tx.execute(grids.delete())
    rows = [{"id": g.id, "parent": g.parent, "name": g.name, "level": g.level, "geometry": g.geometry} for g in wanted]
    if rows:
        tx.execute(insert(grids), rows)


def list_grids(tx: Connection) -> list[Grid]:
    """The whole tree, by id."""
    found = tx.execute(select(grids).order_by(grids.c.id))
    return [Grid(id=r.id, name=r.name, level=r.level, parent=r.parent, geometry=r.geometry) for r in found]


def grids_under(tx: Connection, grid: str) -> frozenset[str]:
    """The grid and every grid below it; only itself where it is not in the tree."""
    below = select(grids.c.id).where(grids.c.id == grid).cte(recursive=True)
    below = below.union(select(grids.c.id).join(below, grids.c.parent == below.c.id))
    return frozenset(tx.execute(select(below.c.id)).scalars()) | {grid}


def _narrowed(
    query: Select[Any], *, kind: str | None, status: DeviceStatus | None, within: Set[str] | None
) -> Select[Any]:
    if kind is not None:
        query = query.where(devices.c.kind == kind)
    if status is not None:
        query = query.where(devices.c.status == status.value)
    return query if within is None else query.where(devices.c.grid.in_(within))


def _columns(device: Device) -> Mapping[str, object]:
    return {
        "id": device.id,
        "site": device.site,
        "kind": device.kind,
        "name": device.name,
        "grid": device.grid,
        "status": device.status.value,
        "attributes": to_json(device.attributes),
        "tags": sorted(device.tags),
        "interval_s": device.interval_s,
        "silent_after_s": device.silent_after_s,
        "latitude": device.latitude,
        "longitude": device.longitude,
        "keeper": device.keeper,
        "keeper_phone": device.keeper_phone,
        "person": device.person,
        "person_address": device.person_address,
        "first_seen": device.first_seen,
        "second_of": device.second_of,
    }


@lru_cache(4096)
def _tags(tags: tuple[str, ...]) -> frozenset[str]:
    return frozenset(tags)


def _device(row: Row[Any]) -> Device:
    known = dict(row._mapping)
    known.pop("online")
    tags = _tags(tuple(known.pop("tags")))
    attributes = from_json(known.pop("attributes"))
    # What many rows have in common is kept once: the registry holds every device there is.
    for name in ("site", "kind", "grid"):
        known[name] = known[name] and intern(known[name])
    return Device(**{**known, "status": DeviceStatus(known["status"]), "tags": tags, "attributes": attributes})


def _device_row(row: Row[Any]) -> DeviceRow:
    return DeviceRow(_device(row), row.online)

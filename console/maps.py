"""The map: grids coloured by their worst standing alarm, devices on them; personal devices are counts, never points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from console.pages import page_or_part
from console.places import Places, is_personal, read_places
from console.sources import first_of
from console.texts import say
from console.visits import Signed, SignedVisit
from devices.registry import Device, DeviceStatus
from rules.rule import Priority
from store.records.alarms import Standing, standing, standing_by_grid

router = APIRouter()


@dataclass(frozen=True, slots=True)
class GridLine:
    """One grid with everything below it. `devices` leaves the personal ones out, `personal` counts them."""

    id: str
    name: str
    level: str
    worst: Priority | None
    alarms: int
    devices: int
    personal: int


@dataclass(frozen=True, slots=True)
class MapView:
    grids: Sequence[GridLine]


def map_of(visit: SignedVisit) -> MapView:
    with visit.installation.records.connect() as tx:
        places, by_grid = read_places(tx), standing_by_grid(tx)
    return MapView(lines_of(visit, places, by_grid))


def lines_of(visit: SignedVisit, places: Places, by_grid: Mapping[str | None, Standing]) -> list[GridLine]:
    """Every grid in the order of the tree; an alarm counts for its own grid and for all above it."""
    active = [d for d in visit.installation.registry.devices if d.status is DeviceStatus.ACTIVE]
    own: dict[str, list[Device]] = {}
    for device in active:
        for wider in places.above(device.grid):
            own.setdefault(wider, []).append(device)
    counts: dict[str, int] = {}
    worst: dict[str, Priority] = {}
    order = list(Priority)
    for grid, found in by_grid.items():
        for wider in places.above(grid):
            counts[wider] = counts.get(wider, 0) + found.count
            worst[wider] = min(worst.get(wider, found.worst), found.worst, key=order.index)
    return [
        GridLine(
            id=grid.id,
            name=grid.name,
            level=grid.level,
            worst=worst.get(grid.id),
            alarms=counts.get(grid.id, 0),
            devices=sum(not is_personal(d.kind) for d in own.get(grid.id, ())),
            personal=sum(is_personal(d.kind) for d in own.get(grid.id, ())),
        )
        for _, grid in places.ordered
    ]


def map_data(visit: SignedVisit) -> dict[str, object]:
    """JSON for map.js: the grids that are drawn as GeoJSON, their state, and the devices that may be shown."""
    with visit.installation.records.connect() as tx:
        places, by_grid = read_places(tx), standing_by_grid(tx)
        worst: dict[str, Priority] = {}
        for alarm in standing(tx, notices=False, early=False):
            worst.setdefault(alarm.device, alarm.priority)
    lines = {line.id: line for line in lines_of(visit, places, by_grid)}
    drawn = _drawn(places)
    features = [
        {"type": "Feature", "properties": {"name": grid, "level": lines[grid].level}, "geometry": geometry}
        for grid, geometry in drawn.items()
    ]
    words = {**{p.value: f"priority.{p}" for p in Priority}, "none": "map.none", "alarms": "map.alarms",
             "empty": "map.empty"}  # fmt: skip
    return {
        "geojson": {"type": "FeatureCollection", "features": features},
        "grids": [_grid(lines[grid], geometry) for grid, geometry in drawn.items()],
        "labels": _labels(places, drawn),
        "devices": [
            _point(visit, d, worst.get(d.id))
            for d in visit.installation.registry.devices
            if d.status is DeviceStatus.ACTIVE and d.longitude is not None and not is_personal(d.kind)
        ],
        "words": {name: say(visit.language, key) for name, key in words.items()},
    }


def _grid(line: GridLine, geometry: Mapping[str, Any]) -> dict[str, object]:
    return {"name": line.id, "label": line.name, "at": _middle(geometry), "worst": line.worst, "alarms": line.alarms}


def _point(visit: SignedVisit, device: Device, worst: Priority | None) -> dict[str, object]:
    """`second`: whose second source it is, in words; empty of a station."""
    at = [device.longitude, device.latitude]
    first = first_of(visit, device)
    second = say(visit.language, "sources.second_of", name=first) if first else ""
    return {"id": device.id, "name": device.name or device.id, "at": at, "kind": device.kind, "worst": worst,
            "second": second}  # fmt: skip


def _labels(places: Places, drawn: Mapping[str, Mapping[str, object]]) -> list[dict[str, object]]:
    """Names of the grids right below the town (those of a hundred small ones would cover the map), each with the drawn
    grids it may stand in, the most central first: the page takes one without a badge."""
    roots = {g.id for g in places.grids.values() if g.parent is None}
    named = [g for g in places.grids.values() if g.parent in roots and g.geometry]
    labels: list[dict[str, object]] = []
    for grid in named or [g for g in places.grids.values() if g.geometry]:
        assert grid.geometry is not None
        x, y = _middle(grid.geometry)
        inside = {g: _middle(drawn[g]) for g in places.under(grid.id) if g in drawn}
        nearest = sorted(inside, key=lambda g: (inside[g][0] - x) ** 2 + (inside[g][1] - y) ** 2)
        labels.append({"name": grid.name, "at": (x, y), "in": [{"grid": g, "at": inside[g]} for g in nearest[:6]]})
    return labels


def _middle(geometry: Mapping[str, Any]) -> tuple[float, float]:
    """The middle of the bounding box of a Polygon or MultiPolygon."""
    rings = (
        geometry["coordinates"] if geometry["type"] == "Polygon" else [r for p in geometry["coordinates"] for r in p]
    )
    xs, ys = zip(*[point[:2] for ring in rings for point in ring], strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def _drawn(places: Places) -> dict[str, Mapping[str, object]]:
    """The deepest grids that have a shape: drawn over their parents they leave no hole, and each is one colour."""
    parents = {g.parent for g in places.grids.values() if g.geometry and g.parent}
    return {g.id: g.geometry for g in places.grids.values() if g.geometry and g.id not in parents}


@router.get("/map")
def see_map(request: Request, visit: Signed) -> Response:
    return page_or_part(
        request, visit, "map.html", "parts/map_table.html", here="map", view=map_of(visit), priorities=_legend()
    )


@router.get("/map/data")
def see_map_data(visit: Signed) -> Response:
    return JSONResponse(map_data(visit))


def _legend() -> list[Priority]:
    return [priority for priority in Priority if priority is not Priority.NOTICE]

"""Readings: the points of one series, in buckets or raw, and the newest value of every series."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from alerts.refusals import Invalid, NotFound
from api.caller import Caller, Here
from api.privacy import hides, is_personal, refuse_hidden
from api.problems import describe
from api.shapes import Cursor, Duration, Instant, InstantGiven, Listed, Out
from devices.batch import Quality
from devices.instants import DAY, HOUR, SECOND
from devices.kinds import KINDS
from devices.registry import EVENT, Device, DeviceStatus
from flow.installation import Installation
from flow.stream import AT_HOME
from store.readings import Fn
from store.records.pages import decode_cursor, decode_id, encode_cursor

router = APIRouter(tags=["readings"], responses=describe(401, 403))

MAX_POINTS = 10_000
# Stretches of readings with nothing between that one page of buckets joins; the rest is the next page's.
_STRETCHES = 16
# What was just measured is meant by "now", also where the device's clock is ahead or its zone was mistaken by little.
AHEAD = HOUR
QUALITY = {quality: quality.name.lower() for quality in Quality}


class Value(Out):
    device: str
    metric: str
    unit: str
    at: Instant
    value: float
    quality: str = Field(description="good, suspect or bad")


class Point(Out):
    at: Instant = Field(description="When it was measured; of a bucket, its start")
    value: float
    quality: str | None = Field(default=None, description="good, suspect or bad; null for a bucket")


class Points(Listed[Point]):
    device: str
    metric: str
    unit: str


class Fold(StrEnum):
    AVG = "avg"
    MIN = "min"
    MAX = "max"
    LAST = "last"
    COUNT = "count"


class _Span:
    """From, to and the cursor of one request: `start` is where this page begins."""

    def __init__(self, now: int, start: int | None, end: int | None, cursor: str | None) -> None:
        self.end = now + AHEAD if end is None else end
        self.first = max(0, (now if end is None else end) - DAY) if start is None else start
        if self.first >= self.end:
            raise Invalid("empty_span", "from 必须早于 to", "`from` must be earlier than `to`")
        self.start = self.first if cursor is None else max(self.first, decode_id(cursor))


@router.get("/readings", summary="Readings of one series / 历史数据", responses=describe(404, 422))
def see_readings(  # noqa: PLR0913 - the arguments of the issue
    here: Here,
    caller: Caller,
    *,
    device: Annotated[str, Query(max_length=64)],
    metric: Annotated[str, Query(max_length=64)],
    start: Annotated[InstantGiven | None, Query(alias="from", description="Default: a day before")] = None,
    end: Annotated[InstantGiven | None, Query(alias="to", description="Not included; default: all there is")] = None,
    every: Annotated[Duration | None, Query(ge=SECOND, le=366 * DAY, description="Width of a bucket")] = None,
    fn: Annotated[Fold | None, Query(description="How to fold a bucket; default avg")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_POINTS)] = MAX_POINTS,
    cursor: Cursor = None,
) -> Points:
    """Oldest first. With `every` one point a bucket (counted from 1970 UTC; empty ones are left out), else every
    reading with its quality. A page of buckets can hold fewer points than `limit` and still have a `next`."""
    known = here.registry.get(device)
    if known is None:
        raise NotFound("no_such_device", f"没有设备 {device}", f"there is no device {device}")
    refuse_hidden(caller, known)
    unit = _unit(known, metric)
    if unit is None:
        raise NotFound("no_such_metric", f"{device} 没有指标 {metric}", f"{device} has no metric {metric}")
    if fn is not None and every is None:
        raise Invalid("fn_without_every", "fn 须与 every 同用", "`fn` needs `every`")
    span = _Span(here.now(), start, end, cursor)
    series = here.registry.find_series(known.number, metric)
    items: list[Point] = []
    following: int | None = None
    if series is not None and every is None:
        items, following = _raw(here, series, span, limit)
    elif series is not None and every is not None:
        items, following = _buckets(here, series, span, limit, every=every, fn=fn or Fold.AVG)
    next_ = None if following is None else encode_cursor([following])
    return Points(items=items, next=next_, device=device, metric=metric, unit=unit)


@router.get("/readings/latest", summary="Newest value of every series / 最新数据", responses=describe(422))
def see_latest(
    here: Here,
    caller: Caller,
    *,
    device: Annotated[str | None, Query(max_length=64)] = None,
    kind: Annotated[str | None, Query(max_length=64)] = None,
    metric: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 500,
    cursor: Cursor = None,
) -> Listed[Value]:
    """By device and metric. What personal devices report is for handlers and above, and whether a door is open or
    somebody moves only where `device` names it."""
    after = ("", "") if cursor is None else tuple(map(str, decode_cursor(cursor, str, str)))
    wanted = [
        d
        for d in list(here.registry.devices)
        if d.id >= after[0] and device in {None, d.id} and kind in {None, d.kind}
        and d.status is not DeviceStatus.REJECTED and not hides(caller, here.registry, d.id)
    ]  # fmt: skip
    wanted.sort(key=lambda d: d.id)
    found = (
        v for d in wanted for v in values_of(here, d)
        if metric in {None, v.metric} and (d.id, v.metric) > after
        and (device is not None or not (is_personal(d) and v.metric in AT_HOME))
    )  # fmt: skip
    items = list(islice(found, limit + 1))
    more = len(items) > limit
    last = items[limit - 1] if more else None
    return Listed(items=items[:limit], next=None if last is None else encode_cursor([last.device, last.metric]))


def values_of(here: Installation, device: Device) -> list[Value]:
    """The newest value of each of its metrics, by name; none of events."""
    latest = here.latest().of(device.number)
    return [
        Value(
            device=device.id, metric=metric, unit=_unit(device, metric) or "", at=at, value=value,
            quality=QUALITY[Quality(quality)],
        )
        for metric, (at, value, quality) in sorted(latest.items())
        if not metric.startswith(EVENT)
    ]  # fmt: skip


def _unit(device: Device, metric: str) -> str | None:
    known = KINDS[device.kind].metrics.get(metric)
    return None if known is None else known.unit


def _raw(here: Installation, series: int, span: _Span, limit: int) -> tuple[list[Point], int | None]:
    found = here.readings.range(series, span.start, span.end, limit + 1)
    columns = zip(found.measured_at.tolist(), found.value.tolist(), found.quality.tolist(), strict=True)
    points = [Point(at=at, value=value, quality=QUALITY[Quality(quality)]) for at, value, quality in columns]
    return points[:limit], points[limit].at if len(points) > limit else None


def _buckets(
    here: Installation, series: int, span: _Span, limit: int, *, every: int, fn: Fold
) -> tuple[list[Point], int | None]:
    points: list[Point] = []
    start = _first(here, series, span.start, span.end)
    for _ in range(_STRETCHES):
        if start is None or len(points) == limit:
            break
        # Whole buckets from the first: a page must not cut one in two.
        stop = min(span.end, start // every * every + (limit - len(points)) * every)
        at, value = here.readings.aggregate(series, start, stop, every, Fn(fn.value))
        points += [Point(at=a, value=v) for a, v in zip(at.tolist(), value.tolist(), strict=True)]
        # Time without readings is skipped: seconds since 1970 are a hundred thousand pages of nothing.
        start = _first(here, series, stop, span.end)
    return points, start


def _first(here: Installation, series: int, start: int, end: int) -> int | None:
    """When the first reading of the span was measured, or what is left of it begins."""
    return here.readings.first(series, start, end) if start < end else None

"""The sources of one station side by side: the device that is judged, those that measure the same, how far apart."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from alerts.refusals import Invalid, NotFound
from api.caller import Caller, Here
from api.privacy import refuse_hidden
from api.problems import describe
from api.readings import AHEAD, QUALITY
from api.shapes import Instant, InstantGiven, Name, Out
from devices.batch import Quality
from devices.instants import DAY, SECOND
from flow.sources import Compared as Found
from flow.sources import Latest, compare

router = APIRouter(tags=["devices"], responses=describe(401, 403))


class SourceValue(Out):
    at: Instant
    value: float
    quality: str = Field(description="good, suspect or bad")


class Compared(Out):
    metric: str
    unit: str = Field(description="UCUM")
    primary: SourceValue | None = Field(description="The newest of the device that is judged")
    second: SourceValue | None
    difference: float | None = Field(
        description="Second minus primary of these two; null where they are further apart in time than `within_s`"
    )
    mean_difference: float | None = Field(
        description="Mean of the absolute differences of all pairs; of a yes or no the share that disagrees"
    )
    largest_difference: float | None = Field(description="The largest absolute difference of a pair")
    largest_at: Instant | None = Field(description="When the second source measured that one")
    pairs: int
    datums: tuple[str, str] | None = Field(
        description="Of the primary and the second, where they are levels above different ones: nothing is subtracted"
    )


class SecondSource(Out):
    device: str
    within_s: float = Field(description="Values of both measured so near each other are a pair: the shorter interval")
    metrics: list[Compared]


class Sources(Out):
    primary: str = Field(description="The device that is judged")
    start: Instant = Field(serialization_alias="from")
    end: Instant = Field(serialization_alias="to", description="Not included")
    seconds: list[SecondSource] = Field(description="By id; empty where the station has one source only")


@router.get("/devices/{device_id}/sources", summary="Two sources compared / 双源比对", responses=describe(404, 422))
def see_sources(
    here: Here,
    caller: Caller,
    device_id: Name,
    *,
    start: Annotated[InstantGiven | None, Query(alias="from", description="Default: a day before")] = None,
    end: Annotated[InstantGiven | None, Query(alias="to", description="Not included; default: all there is")] = None,
) -> Sources:
    """Of the station of this device, whether it is the primary or a second source. At most 31 days."""
    device = here.registry.get(device_id)
    if device is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    refuse_hidden(caller, device)
    until = here.now() + AHEAD if end is None else end
    begin = max(0, (here.now() if end is None else end) - DAY) if start is None else start
    if begin >= until:
        raise Invalid("empty_span", "from 必须早于 to", "`from` must be earlier than `to`")
    found = compare(here, device, begin, until)
    return Sources(
        primary=found.primary.id,
        start=found.start,
        end=found.end,
        seconds=[
            SecondSource(device=s.device.id, within_s=s.within / SECOND, metrics=[_compared(m) for m in s.metrics])
            for s in found.seconds
        ],
    )


def _compared(found: Found) -> Compared:
    return Compared(
        metric=found.metric,
        unit=found.unit,
        primary=_value(found.primary),
        second=_value(found.second),
        difference=found.difference,
        mean_difference=found.mean,
        largest_difference=found.largest,
        largest_at=found.largest_at,
        pairs=found.pairs,
        datums=found.datums,
    )


def _value(latest: Latest | None) -> SourceValue | None:
    if latest is None:
        return None
    return SourceValue(at=latest.at, value=latest.value, quality=QUALITY[Quality(latest.quality)])

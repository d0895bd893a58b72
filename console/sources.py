"""The two sources of one station side by side: a table of both, how far they are apart, whose second source one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response

from alerts.refusals import NotFound
from console.charts import charted
from console.pages import part
from console.places import is_personal, shown_name
from console.pumps import is_stale
from console.texts import say
from console.visits import Signed, SignedVisit
from console.words import NOTHING, decimals_of, metric_name, number, quantity, unit
from devices.instants import DAY, HOUR
from devices.kinds import KINDS
from devices.registry import Device
from flow.second_sources import sources_of
from flow.sources import Compared, Latest, SecondSource, compare, latest_only
from store.readings import StoreUnavailable

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Source:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Station:
    """Whose second source a device is (None: nobody's), and the second sources it has."""

    second_of: Source | None
    seconds: Sequence[Source]

    @property
    def has_two(self) -> bool:
        return self.second_of is not None or len(self.seconds) > 0


@dataclass(frozen=True, slots=True)
class Side:
    shown: str
    quality: int
    at: int
    stale: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One metric. Differences are words, an em dash where there is none; `note` says why nothing is subtracted."""

    metric: str
    name: str
    primary: Side | None
    second: Side | None
    difference: str
    mean: str
    largest: str
    largest_at: int | None
    pairs: int
    note: str


@dataclass(frozen=True, slots=True)
class Beside:
    """One second source beside its primary; `far` how far apart in time a pair may be, microseconds."""

    primary: Source
    second: Source
    far: int
    lines: Sequence[Line]


def station_of(visit: SignedVisit, device: Device) -> Station:
    primary, seconds = sources_of(visit.installation.registry, device)
    others = [_source(visit, second) for second in seconds]
    return Station(None, others) if device.second_of is None else Station(_source(visit, primary), ())


def first_of(visit: SignedVisit, device: Device) -> str:
    """The name of the device it is the second source of; empty of a station, and where nobody knows that one."""
    first = None if device.second_of is None else visit.installation.registry.get(device.second_of)
    return "" if first is None else shown_name(visit, first)


def beside_of(visit: SignedVisit, device: Device) -> list[Beside]:
    """Of the last day; without the store what is latest is there all the same."""
    here = visit.installation
    try:
        found = compare(here, device, visit.now - DAY, visit.now + HOUR)
    except StoreUnavailable:
        found = latest_only(here, device, visit.now)
    primary = _source(visit, found.primary)
    return [
        Beside(primary, _source(visit, second.device), second.within, _lines(visit, found.primary, second))
        for second in found.seconds
    ]


def _source(visit: SignedVisit, device: Device) -> Source:
    return Source(device.id, shown_name(visit, device))


def _lines(visit: SignedVisit, primary: Device, second: SecondSource) -> list[Line]:
    shown = frozenset(charted(primary, [one.metric for one in second.metrics]))
    return [_line(visit, primary, second.device, one) for one in second.metrics if one.metric in shown]


def _line(visit: SignedVisit, primary: Device, second: Device, one: Compared) -> Line:
    boolean = KINDS[primary.kind].metrics[one.metric].boolean
    difference, mean, largest = _disagreeing(visit, one) if boolean else _differing(one)
    return Line(
        metric=one.metric,
        name=metric_name(primary.kind, one.metric, visit.language),
        primary=_side(visit, primary, one.primary, one.unit),
        second=_side(visit, second, one.second, one.unit),
        difference=difference,
        mean=mean,
        largest=largest,
        largest_at=None if boolean else one.largest_at,
        pairs=one.pairs,
        note="" if one.datums is None else say(visit.language, "sources.datums", datums="、".join(one.datums)),
    )


def _differing(one: Compared) -> tuple[str, str, str]:
    difference, mean, largest = (_apart(value, one.unit) for value in (one.difference, one.mean, one.largest))
    return f"+{difference}" if (one.difference or 0) > 0 else difference, mean, largest


def _disagreeing(visit: SignedVisit, one: Compared) -> tuple[str, str, str]:
    """Of a yes or no."""
    language, difference, mean = visit.language, NOTHING, NOTHING
    if one.difference is not None:
        difference = say(language, "sources.differ") if one.difference else say(language, "sources.agree")
    if one.mean is not None:
        mean = say(language, "sources.disagree", share=f"{number(100 * one.mean, decimals=0)} %")
    return difference, mean, NOTHING


def _side(visit: SignedVisit, device: Device, latest: Latest | None, code: str) -> Side | None:
    if latest is None:
        return None
    shown = quantity(latest.value, code, visit.language)
    return Side(shown, latest.quality, latest.at, is_stale(device, latest.at, visit.now))


def _apart(value: float | None, code: str) -> str:
    """One more decimal than the value itself: two gauges that differ by 4 mm differ."""
    said = number(value, code, decimals_of(code) + 1)
    return said if value is None or not unit(code) else f"{said} {unit(code)}"


@router.get("/devices/{device_id}/sources")
def see_sources(request: Request, visit: Signed, device_id: str) -> Response:
    device = visit.installation.registry.get(device_id)
    if device is None:
        raise NotFound("no_such_device", f"没有设备 {device_id}", f"there is no device {device_id}")
    if is_personal(device.kind):
        visit.actor.require("person.see")
    return part(request, visit, "parts/sources.html", device=device.id, pairs=beside_of(visit, device))

"""A day of one series with the lines its rules draw: what the chart of a device asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alerts.refusals import NotFound
from console.places import Places, shown_name
from console.texts import Language
from console.visits import SignedVisit
from console.words import metric_name, metric_of, unit
from devices.instants import DAY, MINUTE
from devices.kinds import KINDS
from devices.registry import Device
from flow.second_sources import sources_of
from rules.rule import AppliesTo, Rule
from store.readings import Fn, StoreUnavailable

# More points than a screen has pixels: beyond this the day is shown by the minute.
MOST_POINTS = 5_000
# What of a personal device says nothing about who is at home.
_HARMLESS = frozenset({"battery", "signal"})


def charted(device: Device, known: Sequence[str]) -> list[str]:
    """The metrics of the device that have values and may be drawn, in the order of its kind."""
    kind = KINDS[device.kind]
    allowed = [m for m in kind.metrics if m in known and (not kind.personal or m in _HARMLESS)]
    # Numbers before yes and no: a chart opens with what has a curve.
    return sorted(allowed, key=lambda m: kind.metrics[m].boolean)


def chart_of(visit: SignedVisit, device: Device, metric: str, places: Places) -> dict[str, object]:
    """JSON for chart.js: points [ms, value, quality], limits, unit; `others` is the same metric of the other sources of
    the station, `dashed` a second source. Raises NotFound for what may not be drawn."""
    installation = visit.installation
    series = installation.registry.find_series(device.number, metric)
    if series is None or metric not in charted(device, [metric]):
        raise NotFound("no_such_series", "没有这条曲线", "there is no such series")
    known = metric_of(device.kind, metric)
    lines = limits_of(visit, device, metric, places)
    newest = installation.latest().of(device.number).get(metric)
    end = max(visit.now, newest[0] if newest else 0) + 1
    above = not any(line["direction"] == "below" for line in lines)
    return {
        "name": metric_name(device.kind, metric, visit.language),
        "unit": unit(known.unit) if known else "",
        "boolean": bool(known and known.boolean),
        "start": (end - DAY) // 1000,
        "end": end // 1000,
        "points": _points(visit, series, end, above=above),
        "limits": lines,
        "label": shown_name(visit, device),
        "dashed": device.second_of is not None,
        "others": list(_others(visit, device, metric, end, above=above)),
    }


def _others(visit: SignedVisit, device: Device, metric: str, end: int, *, above: bool) -> Iterator[dict[str, object]]:
    registry = visit.installation.registry
    primary, seconds = sources_of(registry, device)
    for other in (primary, *seconds):
        series = registry.find_series(other.number, metric)
        if other.number != device.number and series is not None:
            points = _points(visit, series, end, above=above)
            yield {"label": shown_name(visit, other), "dashed": other.second_of is not None, "points": points}


def limits_of(visit: SignedVisit, device: Device, metric: str, places: Places) -> list[dict[str, object]]:
    """Lines of the rules in force for this device, one a value."""
    chinese = visit.language is Language.ZH
    found: dict[float, dict[str, object]] = {}
    for rule in visit.installation.rulebook().rules.values():
        if not applies(rule, device, places):
            continue
        for limit in rule.limits(device, visit.now):
            if limit.metric == metric:
                name = rule.name_zh if chinese else rule.name_en
                line = {"value": limit.value, "direction": limit.direction, "name": name, "priority": rule.priority}
                found.setdefault(limit.value, line)
    return list(found.values())


def applies(rule: Rule, device: Device, places: Places) -> bool:
    to: AppliesTo = rule.applies_to
    if not device.judged:
        return False
    if to.kind is not None and to.kind != device.kind:
        return False
    if to.devices is not None and device.id not in to.devices:
        return False
    if to.grids is not None and not to.grids & set(places.above(device.grid)):
        return False
    return to.tags is None or bool(to.tags & device.tags)


def _points(visit: SignedVisit, series: int, end: int, *, above: bool) -> list[tuple[int, float, int]]:
    readings = visit.installation.readings
    try:
        points = readings.range(series, end - DAY, end, MOST_POINTS)
        if len(points.value) < MOST_POINTS:
            return [
                (int(at) // 1000, float(value), int(quality))
                for at, value, quality in zip(points.measured_at, points.value, points.quality, strict=True)
            ]
        # By the minute, the worse of each: a peak must not be averaged away.
        at, value = readings.aggregate(series, end - DAY, end, MINUTE, Fn.MAX if above else Fn.MIN)
        return [(int(a) // 1000, float(v), 0) for a, v in zip(at, value, strict=True)]
    except StoreUnavailable:
        return []

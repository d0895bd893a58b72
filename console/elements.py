"""The newest elements of a device: what it measured at each of its last instants, as stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.texts import say_or
from console.visits import SignedVisit
from console.words import metric_name, metric_of, quantity
from devices.instants import DAY, HOUR, SECOND
from devices.kinds import KINDS
from devices.registry import EVENT, Device
from store.readings import StoreUnavailable

MOST_ELEMENTS = 10
# Of one series in one look.
_MOST_POINTS = 20_000


@dataclass(frozen=True, slots=True)
class Measured:
    """`shown` is empty for an event, which has no value."""

    name: str
    shown: str
    quality: int


@dataclass(frozen=True, slots=True)
class Element:
    at: int
    values: Sequence[Measured]


def elements_of(visit: SignedVisit, device: Device, metrics: Sequence[str]) -> list[Element]:
    """Newest first; empty where the store does not answer.

    The window grows only while it has too few: a minute's reporter needs ten minutes, a daily one needs days."""
    latest = visit.installation.latest().of(device.number)
    newest = max((latest[m][0] for m in metrics if m in latest), default=None)
    if newest is None:
        return []
    # A bad value is never the newest one, and yet it is what somebody looks for here.
    end = max(visit.now, newest) + 1
    order = {metric: i for i, metric in enumerate(KINDS[device.kind].metrics)}
    wanted = sorted((m for m in metrics if m in latest), key=lambda m: order.get(m, len(order)))
    found: dict[int, list[Measured]] = {}
    interval = round(device.interval_s * SECOND)
    for span in (2 * MOST_ELEMENTS * interval, max(3 * HOUR, 2 * MOST_ELEMENTS * interval), 3 * DAY):
        try:
            found = _between(visit, device, wanted, start=newest - span, end=end)
        except StoreUnavailable:
            return []
        if len(found) >= MOST_ELEMENTS:
            break
    return [Element(at, found[at]) for at in sorted(found, reverse=True)[:MOST_ELEMENTS]]


def _between(
    visit: SignedVisit, device: Device, metrics: Sequence[str], *, start: int, end: int
) -> dict[int, list[Measured]]:
    installation = visit.installation
    found: dict[int, list[Measured]] = {}
    for metric in metrics:
        series = installation.registry.find_series(device.number, metric)
        if series is None:
            continue
        points = installation.readings.range(series, start, end, _MOST_POINTS)
        columns = (points.measured_at[-MOST_ELEMENTS:], points.value[-MOST_ELEMENTS:], points.quality[-MOST_ELEMENTS:])
        for at, value, quality in zip(*columns, strict=True):
            found.setdefault(int(at), []).append(
                _measured(visit, device.kind, metric, value=float(value), quality=int(quality))
            )
    return found


def _measured(visit: SignedVisit, kind: str, metric: str, *, value: float, quality: int) -> Measured:
    if metric.startswith(EVENT):
        name = metric.removeprefix(EVENT)
        return Measured(say_or(visit.language, f"event.{name}", name), "", quality)
    known = metric_of(kind, metric)
    shown = quantity(value, known.unit if known else "", visit.language)
    return Measured(metric_name(kind, metric, visit.language), shown, quality)

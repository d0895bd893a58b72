"""The service's own alarms about devices, as transitions: silence, a wrong clock, an impossible value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devices.faults import Fault
from devices.instants import MINUTE, SECOND, format_duration, to_iso
from devices.presence import Silence
from devices.registry import Registry
from rules.outcome import Edge, Transition

SILENCE, CLOCK, RANGE = "gw-silence", "gw-clock", "gw-range"
LINK, BACKLOG, STORAGE = "gw-link", "gw-backlog", "gw-storage"
# The installation itself, where an alarm is about no device.
INSTALLATION = "gridwhistle"


def silence_transitions(registry: Registry, silences: Iterable[Silence]) -> tuple[Transition, ...]:
    return tuple(
        Transition(
            rule=SILENCE,
            device=registry.devices[s.device].id,
            metric=None,
            edge=Edge.RAISED if s.ended is None else Edge.CLEARED,
            at=s.since if s.ended is None else s.ended,
            since=s.last_seen,
            first_value=None,
            peak_value=None,
            reason={"last_seen": to_iso(s.last_seen), "limit": format_duration(s.since - s.last_seen)},
            element=s.element,
        )
        for s in silences
    )


def clock_transitions(registry: Registry, edges: Iterable[tuple[int, Fault]]) -> list[Transition]:
    """`value` of a clock fault is microseconds ahead of (+) or behind (-) the time of arrival; shown in seconds."""
    return [
        _fault(
            CLOCK, registry.devices[device].id, None, fault, fault.value / SECOND, {"seconds_off": fault.value / SECOND}
        )
        for device, fault in edges
    ]


def range_transitions(
    registry: Registry, standing: Mapping[int, tuple[int, float]], edges: Iterable[tuple[int, Fault]]
) -> list[Transition]:
    """Edges are of series; the alarm is of the device: raised with its first faulty series, cleared with its last."""
    faulty: dict[int, set[int]] = {}
    for series in standing:
        faulty.setdefault(registry.series_device[series], set()).add(series)
    found: list[Transition] = []
    for series, fault in edges:
        device = registry.series_device[series]
        now_faulty = faulty.setdefault(device, set())
        before = len(now_faulty)
        (now_faulty.add if fault.ended is None else now_faulty.discard)(series)
        if (before == 0) != (len(now_faulty) == 0):
            metric = registry.series_metric[series]
            reason: dict[str, object] = {"values": {metric: fault.value}}
            found.append(_fault(RANGE, registry.devices[device].id, metric, fault, fault.value, reason))
    return found


def installation_transition(rule: str, *, raised_at: int, cleared_at: int | None, why: str) -> Transition:
    """gw-link, gw-backlog, gw-storage."""
    return Transition(
        rule=rule,
        device=INSTALLATION,
        metric=None,
        edge=Edge.RAISED if cleared_at is None else Edge.CLEARED,
        at=raised_at if cleared_at is None else cleared_at,
        since=raised_at,
        first_value=None,
        peak_value=None,
        reason={"why": why, "minutes": ((cleared_at or raised_at) - raised_at) / MINUTE},
        element=-1,
    )


def _fault(  # noqa: PLR0917 - one row
    rule: str, device: str, metric: str | None, fault: Fault, value: float, reason: dict[str, object]
) -> Transition:
    return Transition(
        rule=rule,
        device=device,
        metric=metric,
        edge=Edge.RAISED if fault.ended is None else Edge.CLEARED,
        at=fault.since if fault.ended is None else fault.ended,
        since=fault.since,
        first_value=value,
        peak_value=value,
        reason=reason,
        element=fault.element,
    )

"""What a rule may name: the metrics, units and events of one kind of device, or of all kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devices.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Of one kind, or (kind None) of any kind."""

    kind: str | None
    booleans: Mapping[str, bool]
    events: frozenset[str]


def vocabulary(kind: str | None) -> Vocabulary:
    kinds = [KINDS[kind]] if kind is not None else list(KINDS.values())
    booleans = {name: metric.boolean for k in kinds for name, metric in k.metrics.items()}
    return Vocabulary(kind, booleans, frozenset(event for k in kinds for event in k.events))


def kinds_with(series: Sequence[str]) -> list[str]:
    """The kinds that have every one of these metrics and events."""
    return [k.name for k in KINDS.values() if all(has_series(k.name, name) for name in series)]


def has_series(kind: str, name: str) -> bool:
    event = name.removeprefix("event:")
    return event in KINDS[kind].events if event != name else name in KINDS[kind].metrics


def units_of(metric: str, kinds: Sequence[str]) -> dict[str, list[str]]:
    """The units the metric has in those of these kinds that have it, each with the kinds it is the unit of."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        if metric in KINDS[kind].metrics:
            found.setdefault(KINDS[kind].metrics[metric].unit, []).append(kind)
    return found

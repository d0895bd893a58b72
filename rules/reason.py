"""Why: the rule's text and what it saw at that evaluation, as JSON that is kept with the alarm for ever."""

from __future__ import annotations

import math

from devices.instants import format_duration
from devices.registry import Device
from rules.expression import Absent, Attribute, Count, Event, Leaf, Metric, Since, leaves
from rules.logic import Sight
from rules.outcome import NEVER, Edge
from rules.rule import Rule
from rules.shape import BOOLEAN, plan


def reason(rule: Rule, device: Device, edge: Edge, sight: Sight, at: int) -> dict[str, object]:
    """`at` is the evaluation of the sight; a value the rule could not know is None."""
    found: dict[str, object] = {"when": rule.when_text}
    trees = [rule.when]
    if edge is Edge.CLEARED:
        found["clear"] = rule.clear_text or f"not ({rule.when_text})"
        trees += [rule.clear] if rule.clear is not None else []
    slots = {name: slot for slot, name in enumerate(plan(rule).slots)}
    values: dict[str, object] = {}
    for tree in trees:
        for leaf in leaves(tree):
            _tell(values, leaf, device, sight=sight, at=at, slots=slots)
    found["values"] = values
    found["for"] = format_duration(rule.hold_us)
    return found


def _tell(
    values: dict[str, object], leaf: Leaf, device: Device, *, sight: Sight, at: int, slots: dict[str, int]
) -> None:  # fmt: skip
    if isinstance(leaf, Metric):
        value = known(float(sight.values[slots[leaf.name]][at]))
        values[leaf.name] = value if value is None or leaf.name not in BOOLEAN else value >= 0.5
    elif isinstance(leaf, Attribute):
        values[f"attr.{leaf.name}"] = device.attributes.get(leaf.name)
    elif isinstance(leaf, Absent):
        measured = int(sight.measured[slots[leaf.metric]][at])
        silent = None if measured == NEVER else format_duration(int(sight.instant[at]) - measured)
        values[f"silence of {leaf.metric}"] = silent
    elif isinstance(leaf, Event):
        values[f'event("{leaf.name}")'] = bool(sight.here[slots[f"event:{leaf.name}"]][at])
    elif isinstance(leaf, Since):
        measured = int(sight.measured[slots[f"event:{leaf.event}"]][at])
        span = None if measured == NEVER else format_duration(int(sight.instant[at]) - measured)
        values[f'since(event("{leaf.event}"))'] = span
    elif isinstance(leaf, Count):
        slot = slots[f"event:{leaf.event}"]
        count = next(c for (s, k), c in sight.counts.items() if s == slot and float(sight.param(k)[at]) == leaf.us)
        values[f'count(event("{leaf.event}"), {format_duration(leaf.us)})'] = int(count[at])


def known(value: float) -> float | None:
    return None if math.isnan(value) else value

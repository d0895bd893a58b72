"""Why: the rule's text and what it saw at that evaluation, as JSON that is kept with the alarm for ever."""

from __future__ import annotations

import math

import numpy as np

from devices.instants import format_duration
from devices.registry import Device
from rules.expression import Absent, Attribute, Count, DeviceAbsent, Forecast, Metric, Since, Window, leaves
from rules.logic import Sight, compile_condition
from rules.outcome import NEVER, Edge
from rules.rule import Rule
from rules.shape import BOOLEAN, Part, plan
from rules.text import text_of


def reason(rule: Rule, device: Device, edge: Edge, sight: Sight, at: int) -> dict[str, object]:
    """`at` is the evaluation of the sight; a value the rule could not know is None."""
    found: dict[str, object] = {"when": rule.when_text}
    if edge is Edge.CLEARED:
        found["clear"] = rule.clear_text or f"not ({rule.when_text})"
    found["values"] = values(rule, device, sight.only(np.array([at])), clearing=edge is Edge.CLEARED)
    found["for"] = format_duration(rule.hold_us)
    if rule.repeat is not None:
        found["repeat"] = f"{rule.repeat[0]} of {rule.repeat[1]}"
    return found


def values(rule: Rule, device: Device, sight: Sight, *, clearing: bool) -> dict[str, object]:
    """Every metric, attribute and function of `when`, and of `clear` where that is asked, as this one evaluation saw
    it; None is unknown."""
    filled = plan(rule)
    parts = dict(filled.told)
    trees = [rule.when, *([rule.clear] if clearing and rule.clear is not None else [])]
    found: dict[str, object] = {}
    for leaf in (leaf for tree in trees for leaf in leaves(tree)):
        if isinstance(leaf, Metric):
            value = known(float(sight.values[filled.slots.index(leaf.name)][0]))
            found[leaf.name] = value if value is None or leaf.name not in BOOLEAN else value >= 0.5
        elif isinstance(leaf, Attribute):
            found[f"attr.{leaf.name}"] = attribute_at(device, leaf.name, int(sight.instant[0]))
        elif isinstance(leaf, (Absent, DeviceAbsent)):
            slot = parts[leaf][1]
            found[f"silence of {leaf.metric if isinstance(leaf, Absent) else device.id}"] = _past(sight, slot)
        elif isinstance(leaf, Since):
            found[text_of(leaf)] = _past(sight, filled.slots.index(f"event:{leaf.event}"))
        elif isinstance(leaf, Count):
            found[text_of(leaf)] = int(sight.look(parts[leaf])[0])
        elif isinstance(leaf, (Window, Forecast)):
            found[text_of(leaf)] = known(float(sight.look(parts[leaf])[0]))
        elif leaf in parts:
            found[text_of(leaf)] = truth(parts[leaf], sight)
    return found


def truth(part: Part, sight: Sight) -> bool | None:
    """Of a condition at the one evaluation of the sight; None is unknown."""
    if bool(compile_condition(part, True)(sight)[0]):
        return True
    return False if bool(compile_condition(part, False)(sight)[0]) else None


def attribute_at(device: Device, name: str, at: int) -> object:
    """The value valid at the instant; None where there is none."""
    value = device.attributes.get(name)
    if not isinstance(value, tuple):
        return value
    reached = [step.value for step in sorted(value, key=lambda s: s.valid_from) if step.valid_from <= at]
    return reached[-1] if reached else None


def _past(sight: Sight, slot: int) -> str | None:
    measured = int(sight.measured[slot][0])
    return None if measured == NEVER else format_duration(int(sight.instant[0]) - measured)


def known(value: float) -> float | None:
    return None if math.isnan(value) else value

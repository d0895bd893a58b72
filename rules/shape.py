"""A rule's shape: its conditions with metrics, events, numbers and attributes taken out as slots and parameters.

Rules of one shape are judged by one kernel. `since(e) > d` becomes >= and `<=` becomes <: the clock reaches the very
instant at which d is full, and "more than 24 h" begins there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from devices.kinds import KINDS
from rules.expression import (
    MIRROR,
    Absent,
    And,
    Arithmetic,
    Attribute,
    Compare,
    Count,
    Duration,
    Event,
    Expression,
    Metric,
    Negate,
    Not,
    Number,
    Since,
    Truth,
    is_constant,
)
from rules.rule import Rule

# A tree of tuples ("op", …): ("param", k) and ("value", slot) are its leaves among others; rules.logic reads it.
Part = tuple[Any, ...]
BOOLEAN = frozenset(m.name for kind in KINDS.values() for m in kind.metrics.values() if m.boolean)


@dataclass(frozen=True, slots=True)
class Shape:
    """`peak` is the slot of the first metric, -1 where there is none; `windows` the (slot, parameter) of each count."""

    when: Part
    clear: Part | None
    slots: int
    peak: int
    peak_is_maximum: bool
    timed: bool
    momentary: bool
    values: frozenset[int]
    instants: frozenset[int]
    events: frozenset[int]
    windows: tuple[tuple[int, int], ...]

    @property
    def aged(self) -> bool:
        """Whether a value may be older than the element that is judged."""
        return self.slots > 1 or self.timed


@dataclass(frozen=True, slots=True)
class Plan:
    """A rule as its shape and what fills it: series names by slot, constant expressions by parameter."""

    shape: Shape
    slots: tuple[str, ...]
    params: tuple[Expression, ...]


@cache
def plan(rule: Rule) -> Plan:
    slots = rule.series
    shaper = _Shaper({name: slot for slot, name in enumerate(slots)})
    when = shaper.condition(rule.when)
    clear = shaper.condition(rule.clear) if rule.clear is not None else None
    peak = slots.index(rule.metric) if rule.metric is not None else -1
    used = list(walk(when)) + (list(walk(clear)) if clear else [])
    shape = Shape(
        when=when,
        clear=clear,
        slots=len(slots),
        peak=peak,
        peak_is_maximum=rule.peak_is_maximum,
        timed=rule.timed,
        momentary=rule.momentary,
        values=frozenset(p[1] for p in used if p[0] in ("value", "truth")) | ({peak} - {-1}),
        instants=frozenset(p[1] for p in used if p[0] == "absent") | {p[2] for p in used if p[0] == "since"},
        events=frozenset(p[1] for p in used if p[0] == "event"),
        windows=tuple((p[1], p[2]) for p in used if p[0] == "count"),
    )
    return Plan(shape, slots, tuple(shaper.params))


def walk(part: Part) -> list[Part]:
    """The part and every part in it."""
    found = [part]
    for inner in part[1:]:
        if isinstance(inner, tuple):
            found += walk(inner)
    return found


class _Shaper:
    def __init__(self, slots: dict[str, int]) -> None:
        self._slots = slots
        self.params: list[Expression] = []

    def _param(self, node: Expression) -> int:
        self.params.append(node)
        return len(self.params) - 1

    def condition(self, node: Expression) -> Part:
        if isinstance(node, Truth):
            return ("const", node.value)
        if isinstance(node, Metric):
            return ("truth", self._slots[node.name])
        if isinstance(node, Absent):
            return ("absent", self._slots[node.metric], self._param(Duration(node.us)))
        if isinstance(node, Event):
            return ("event", self._slots[f"event:{node.name}"])
        if isinstance(node, Not):
            return ("not", self.condition(node.inner))
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, (Number, Duration, Attribute, Since, Count, Negate, Arithmetic)):
            raise TypeError(f"{type(node).__name__} is not a condition")
        return ("and" if isinstance(node, And) else "or", self.condition(node.left), self.condition(node.right))

    def _compare(self, node: Compare) -> Part:
        for side, other, op in ((node.left, node.right, node.op), (node.right, node.left, MIRROR[node.op])):
            if isinstance(side, Since):
                return (
                    "since",
                    ">=" if op in (">", ">=") else "<",
                    self._slots[f"event:{side.event}"],
                    self._param(other),
                )
        if _is_truth(node.left):
            return ("same", node.op == "==", self.condition(node.left), self.condition(node.right))
        return ("compare", node.op, self._number(node.left), self._number(node.right))

    def _number(self, node: Expression) -> Part:
        if is_constant(node):
            return ("param", self._param(node))
        if isinstance(node, Metric):
            return ("value", self._slots[node.name])
        if isinstance(node, Count):
            return ("count", self._slots[f"event:{node.event}"], self._param(Duration(node.us)))
        if isinstance(node, Negate):
            return ("negate", self._number(node.inner))
        if isinstance(node, Arithmetic):
            return ("calculate", node.op, self._number(node.left), self._number(node.right))
        raise TypeError(f"{type(node).__name__} is not a number")


def _is_truth(node: Expression) -> bool:
    if isinstance(node, Metric):
        return node.name in BOOLEAN
    return not isinstance(node, (Number, Duration, Attribute, Since, Count, Negate, Arithmetic))

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
    Between,
    ByResponse,
    Compare,
    Count,
    DeviceAbsent,
    Duration,
    Event,
    Expression,
    Flat,
    Forecast,
    Group,
    Holiday,
    Metric,
    Mode,
    Negate,
    Not,
    Number,
    Or,
    OutOfRange,
    Since,
    Spike,
    Truth,
    Weekday,
    Window,
    is_constant,
    leaves,
)
from rules.rule import Rule

# A tree of tuples ("op", …): ("param", k) and ("value", slot) are its leaves among others; rules.logic reads it.
Part = tuple[Any, ...]
BOOLEAN = frozenset(m.name for kind in KINDS.values() for m in kind.metrics.values() if m.boolean)


# The series of a device taken together, for `absent` of the device itself.
ANY_SERIES = "*"
# Attributes of every device that no town file can name: its interval, and the plausible range of a metric in its kind.
INTERVAL, LOWEST, HIGHEST = "device.interval", "device.lowest.", "device.highest."
# A device is absent after so many intervals: fewer than a metric of its own, so that a group speaks before its members.
_ABSENT_INTERVALS = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """`peak` is the slot of the first metric, -1 where there is none; `looks` are the slots whose history is looked at,
    `windows` the (slot, parameter) that say how far back; `any_slot` is the slot of the whole device, -1 for none.
    `lingers`: it lives for one element, and then for as long as `keep_for` says."""

    when: Part
    clear: Part | None
    slots: int
    peak: int
    peak_is_maximum: bool
    timed: bool
    momentary: bool
    lingers: bool
    repeat: tuple[int, int] | None
    any_slot: int
    values: frozenset[int]
    instants: frozenset[int]
    events: frozenset[int]
    looks: frozenset[int]
    windows: tuple[tuple[int, int], ...]

    @property
    def aged(self) -> bool:
        """Whether a value may be older than the element that is judged."""
        return self.slots > 1 or self.timed


@dataclass(frozen=True, slots=True)
class Plan:
    """A rule as its shape and what fills it: series names by slot, constant expressions by parameter. `told` are the
    functions of its conditions, each with what became of it."""

    shape: Shape
    slots: tuple[str, ...]
    params: tuple[Expression, ...]
    told: tuple[tuple[Expression, Part], ...]


@cache
def plan(rule: Rule) -> Plan:
    slots = rule.series
    if any(isinstance(leaf, DeviceAbsent) for tree in rule.trees for leaf in leaves(tree)):
        slots = (*slots, ANY_SERIES)
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
        lingers=rule.lingers,
        repeat=rule.repeat,
        any_slot=slots.index(ANY_SERIES) if ANY_SERIES in slots else -1,
        values=frozenset(p[1] for p in used if p[0] in ("value", "truth")) | ({peak} - {-1}),
        instants=frozenset(p[1] for p in used if p[0] == "absent") | {p[2] for p in used if p[0] == "since"},
        events=frozenset(p[1] for p in used if p[0] == "event"),
        looks=frozenset(p[1] for p in used if p[0] in LOOKS),
        windows=tuple(dict.fromkeys((p[1], p[2]) for p in used if p[0] in LOOKS and p[0] != "step")),
    )
    return Plan(shape, slots, tuple(shaper.params), tuple(shaper.told))


# ("count", slot, k), ("window", slot, k, function), ("forecast", slot, k, ahead), ("step", slot)
LOOKS = ("count", "window", "forecast", "step")


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
        self.told: list[tuple[Expression, Part]] = []

    def _param(self, node: Expression) -> int:
        self.params.append(node)
        return len(self.params) - 1

    def _tell(self, node: Expression, part: Part) -> Part:
        self.told.append((node, part))
        return part

    def _constant(self, node: Expression) -> Part:
        return ("param", self._param(node))

    def condition(self, node: Expression) -> Part:
        if isinstance(node, Truth):
            return ("const", node.value)
        if isinstance(node, Metric):
            return ("truth", self._slots[node.name])
        if isinstance(node, Not):
            return ("not", self.condition(node.inner))
        if isinstance(node, (And, Or)):
            return ("and" if isinstance(node, And) else "or", self.condition(node.left), self.condition(node.right))
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, (Absent, Event, DeviceAbsent)):
            return self._tell(node, self._happening(node))
        if isinstance(node, (Between, Weekday, Holiday, Mode)):
            return self._tell(node, self._schedule(node))
        if isinstance(node, (Flat, Spike, OutOfRange)):
            return self._tell(node, self._fault(node))
        raise TypeError(f"{type(node).__name__} is not a condition")

    def _happening(self, node: Absent | Event | DeviceAbsent) -> Part:
        if isinstance(node, Absent):
            return ("absent", self._slots[node.metric], self._param(Duration(node.us)))
        if isinstance(node, Event):
            return ("event", self._slots[f"event:{node.name}"])
        span = Arithmetic("*", Number(_ABSENT_INTERVALS), Attribute(INTERVAL))
        return ("absent", self._slots[ANY_SERIES], self._param(span))

    def _schedule(self, node: Between | Weekday | Holiday | Mode) -> Part:
        if isinstance(node, Between):
            return ("between", node.start_us, node.end_us)
        if isinstance(node, Weekday):
            return ("weekday", node.days)
        return ("holiday",) if isinstance(node, Holiday) else ("mode", node.name)

    def _fault(self, node: Flat | Spike | OutOfRange) -> Part:
        slot = self._slots[node.metric]
        if isinstance(node, Flat):
            spread = ("window", slot, self._param(Duration(node.us)), "spread")
            return ("compare", "<=", spread, self._constant(Number(node.tolerance)))
        if isinstance(node, Spike):
            return ("compare", ">", ("step", slot), self._constant(Number(node.size)))
        low, high = (self._constant(Attribute(end + node.metric)) for end in (LOWEST, HIGHEST))
        return ("or", ("compare", "<", ("value", slot), low), ("compare", ">", ("value", slot), high))

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
            return self._constant(node)
        if isinstance(node, Metric):
            return ("value", self._slots[node.name])
        if isinstance(node, (Count, Window, Forecast)):
            return self._tell(node, self._look(node))
        if isinstance(node, Negate):
            return ("negate", self._number(node.inner))
        if isinstance(node, Arithmetic):
            return ("calculate", node.op, self._number(node.left), self._number(node.right))
        raise TypeError(f"{type(node).__name__} is not a number")

    def _look(self, node: Count | Window | Forecast) -> Part:
        if isinstance(node, Count):
            return ("count", self._slots[f"event:{node.event}"], self._param(Duration(node.us)))
        slot = self._slots[node.metric]
        if isinstance(node, Window):
            return ("window", slot, self._param(Duration(node.us)), node.function)
        return ("forecast", slot, self._param(Duration(node.window_us)), self._param(Duration(node.ahead_us)))


_NUMBERS = (
    Number, Duration, Attribute, Since, Count, Window, Forecast, ByResponse, Negate, Arithmetic, Group,
)  # fmt: skip


def _is_truth(node: Expression) -> bool:
    if isinstance(node, Metric):
        return node.name in BOOLEAN
    return not isinstance(node, _NUMBERS)

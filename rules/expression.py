"""What a condition says, as a tree: frozen nodes that compare by meaning; where each stood in the text does not count.

Durations are microseconds. A tree is never run as code: rules.logic turns its shape into numpy operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["<", "<=", ">", ">=", "==", "!="]
Sum = Literal["+", "-", "*", "/"]
WindowFunction = Literal["avg", "min", "max", "sum", "count", "stddev", "median", "delta", "rate", "increase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`column` counts from 1 in the text of the expression."""

    column: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Number(Node):
    value: float


@dataclass(frozen=True, slots=True)
class Duration(Node):
    us: int


@dataclass(frozen=True, slots=True)
class Truth(Node):
    value: bool


@dataclass(frozen=True, slots=True)
class Metric(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Absent(Node):
    """No value of the metric for this long."""

    metric: str
    us: int


@dataclass(frozen=True, slots=True)
class Event(Node):
    """True at the element that brings the event and at no other."""

    name: str


@dataclass(frozen=True, slots=True)
class Since(Node):
    """Time since the last such event, or since the device was first seen."""

    event: str


@dataclass(frozen=True, slots=True)
class Count(Node):
    """How many such events lie in (instant - us, instant]."""

    event: str
    us: int


@dataclass(frozen=True, slots=True)
class Window(Node):
    """A number made of the metric's values in (instant - us, instant]."""

    function: WindowFunction
    metric: str
    us: int


@dataclass(frozen=True, slots=True)
class Flat(Node):
    """The metric has moved by no more than the tolerance for this long."""

    metric: str
    us: int
    tolerance: float


@dataclass(frozen=True, slots=True)
class Spike(Node):
    """The metric's newest value is more than `size` from the one before it."""

    metric: str
    size: float


@dataclass(frozen=True, slots=True)
class OutOfRange(Node):
    """The metric's value is outside what is plausible for the kind of device."""

    metric: str


@dataclass(frozen=True, slots=True)
class Forecast(Node):
    """Where the trend of the last `window_us` leads in `ahead_us`."""

    metric: str
    ahead_us: int
    window_us: int


@dataclass(frozen=True, slots=True)
class Between(Node):
    """Local time of day in [start, end), over midnight where start >= end."""

    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Weekday(Node):
    """0 is Monday."""

    days: frozenset[int]


@dataclass(frozen=True, slots=True)
class Holiday(Node):
    """The site's calendar says that nobody works on this local day."""


@dataclass(frozen=True, slots=True)
class Mode(Node):
    """One of MODES holds."""

    name: str


@dataclass(frozen=True, slots=True)
class DeviceAbsent(Node):
    """Nothing was heard of the device for twice its interval; only inside a group."""


@dataclass(frozen=True, slots=True)
class ByResponse(Node):
    """One of five constants, by the response level declared: none, IV, III, II, I."""

    normal: Expression
    iv: Expression
    iii: Expression
    ii: Expression
    i: Expression


@dataclass(frozen=True, slots=True)
class Group(Node):
    """How many of several devices, or what share of them, meet a condition; stands alone as `when` or `clear`.

    `tag` None: the devices of a grid; else those that carry the tag.
    """

    tag: str | None
    condition: Expression
    share: bool
    op: Order
    limit: float


@dataclass(frozen=True, slots=True)
class Negate(Node):
    inner: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    op: Sum
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Compare(Node):
    op: Order
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Not(Node):
    inner: Expression


@dataclass(frozen=True, slots=True)
class And(Node):
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Or(Node):
    left: Expression
    right: Expression


Leaf = (
    Number | Duration | Truth | Metric | Attribute | Absent | Event | Since | Count | Window | Flat | Spike | OutOfRange
    | Forecast | Between | Weekday | Holiday | Mode | DeviceAbsent
)  # fmt: skip
Joined = Negate | Arithmetic | Compare | Not | And | Or | ByResponse | Group
Expression = Leaf | Joined
# Leaves whose truth changes with time alone, and those that a schedule or a declaration decides.
SCHEDULED = (Between, Weekday, Holiday, Mode)
TIMED = (Absent, DeviceAbsent, Since, Count, *SCHEDULED)

# `response_3`: level III or more severe is declared; level 1 is the most severe. `response`: any level.
RESPONSES: Mapping[str, int] = {"response": 4, "response_4": 4, "response_3": 3, "response_2": 2, "response_1": 1}
MODES = ("flood_season", "drill", *RESPONSES)

MIRROR: dict[Order, Order] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def children(node: Expression) -> tuple[Expression, ...]:
    if isinstance(node, (Arithmetic, Compare, And, Or)):
        return (node.left, node.right)
    if isinstance(node, (Negate, Not)):
        return (node.inner,)
    if isinstance(node, ByResponse):
        return (node.normal, node.iv, node.iii, node.ii, node.i)
    if isinstance(node, Group):
        return (node.condition,)
    return ()


def leaves(node: Expression) -> Iterator[Leaf]:
    """Every leaf from left to right."""
    waiting = [node]
    while waiting:
        at = waiting.pop()
        below = children(at)
        waiting.extend(reversed(below))
        if not below and not isinstance(at, Joined):
            yield at


_OF_A_METRIC = (Absent, Window, Flat, Spike, OutOfRange, Forecast)


def series_names(node: Expression) -> list[str]:
    """The metrics, and "event:<name>" of the events, that the expression reads, in order, each once."""
    found: dict[str, None] = {}
    for leaf in leaves(node):
        if isinstance(leaf, Metric):
            found[leaf.name] = None
        elif isinstance(leaf, _OF_A_METRIC):
            found[leaf.metric] = None
        elif isinstance(leaf, Event):
            found[f"event:{leaf.name}"] = None
        elif isinstance(leaf, (Since, Count)):
            found[f"event:{leaf.event}"] = None
    return list(found)


def is_constant(node: Expression) -> bool:
    """No metric, event or clock in it: the same for a device until its attributes change."""
    return all(isinstance(leaf, (Number, Duration, Attribute)) for leaf in leaves(node))


def needs_event(node: Expression) -> bool:
    """It can be true only at an element that brings an event."""
    if isinstance(node, And):
        return needs_event(node.left) or needs_event(node.right)
    if isinstance(node, Or):
        return needs_event(node.left) and needs_event(node.right)
    return isinstance(node, Event)


def first_metric(node: Expression) -> str | None:
    for leaf in leaves(node):
        if isinstance(leaf, Metric):
            return leaf.name
        if isinstance(leaf, _OF_A_METRIC):
            return leaf.metric
    return None


def rises(node: Expression, metric: str) -> bool:
    """Whether worse means higher for the first mention of the metric: decides if its peak is a maximum or a minimum."""
    return _sense(node, metric) != -1


def _sense(node: Expression, metric: str) -> int:
    """1 above, -1 below, 0 where the metric is not mentioned."""
    if isinstance(node, Compare):
        for side, op in ((node.left, node.op), (node.right, MIRROR[node.op])):
            if metric in series_names(side):
                return -1 if op in ("<", "<=") else 1
        return 0
    if isinstance(node, Not):
        return -_sense(node.inner, metric)
    if isinstance(node, (And, Or)):
        return _sense(node.left, metric) or _sense(node.right, metric)
    return 1 if metric in series_names(node) else 0

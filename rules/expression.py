"""What a condition says, as a tree: frozen nodes that compare by meaning; where each stood in the text does not count.

Durations are microseconds. A tree is never run as code: rules.logic turns its shape into numpy operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["<", "<=", ">", ">=", "==", "!="]
Sum = Literal["+", "-", "*", "/"]


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


Leaf = Number | Duration | Truth | Metric | Attribute | Absent | Event | Since | Count
Expression = Leaf | Negate | Arithmetic | Compare | Not | And | Or

MIRROR: dict[Order, Order] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def children(node: Expression) -> tuple[Expression, ...]:
    if isinstance(node, (Arithmetic, Compare, And, Or)):
        return (node.left, node.right)
    if isinstance(node, (Negate, Not)):
        return (node.inner,)
    return ()


def leaves(node: Expression) -> Iterator[Leaf]:
    """Every leaf from left to right."""
    waiting = [node]
    while waiting:
        at = waiting.pop()
        below = children(at)
        waiting.extend(reversed(below))
        if not below and not isinstance(at, (Negate, Arithmetic, Compare, Not, And, Or)):
            yield at


def series_names(node: Expression) -> list[str]:
    """The metrics, and "event:<name>" of the events, that the expression reads, in order, each once."""
    found: dict[str, None] = {}
    for leaf in leaves(node):
        if isinstance(leaf, Metric):
            found[leaf.name] = None
        elif isinstance(leaf, Absent):
            found[leaf.metric] = None
        elif isinstance(leaf, Event):
            found[f"event:{leaf.name}"] = None
        elif isinstance(leaf, (Since, Count)):
            found[f"event:{leaf.event}"] = None
    return list(found)


def is_constant(node: Expression) -> bool:
    """No metric, event or clock in it: the same for a device until its attributes change."""
    return all(isinstance(leaf, (Number, Duration, Attribute)) for leaf in leaves(node))


def first_metric(node: Expression) -> str | None:
    for leaf in leaves(node):
        if isinstance(leaf, Metric):
            return leaf.name
        if isinstance(leaf, Absent):
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

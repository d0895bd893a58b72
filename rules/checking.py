"""Whether a condition makes sense for the devices it is meant for: names it may use and types that fit.

A metric that is true or false is never a number and a duration is never a number: `mains_ok == 0` is a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from devices.kinds import KINDS
from rules.expression import (
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
    Or,
    Since,
    Truth,
    is_constant,
    series_names,
)
from rules.language import Slip, nearest


class Type(StrEnum):
    NUMBER = "a number"
    DURATION = "a duration"
    TRUTH = "true or false"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a rule may name: of one kind, or (kind None) of any kind."""

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


def check_condition(tree: Expression, words: Vocabulary) -> list[Slip]:
    """Every mistake of a condition; empty where it is good."""
    check = _Check(words)
    found = check.type_of(tree)
    if found not in (None, Type.TRUTH):
        check.say(tree, f"expected a condition that is true or false, such as a > b; this is {found}")
    if not check.slips and not series_names(tree):
        check.say(tree, "reads no metric and no event, so it would never be judged")
    return check.slips


class _Check:
    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self.slips: list[Slip] = []

    def say(self, node: Expression, message: str) -> None:
        self.slips.append(Slip(max(node.column, 1), message))

    def type_of(self, node: Expression) -> Type | None:
        """None where a mistake below was already told."""
        if isinstance(node, (Number, Attribute)):
            return Type.NUMBER
        if isinstance(node, Duration):
            return Type.DURATION
        if isinstance(node, Truth):
            return Type.TRUTH
        if isinstance(node, Metric):
            return self._metric(node, node.name)
        if isinstance(node, Absent):
            return self._metric(node, node.metric) and Type.TRUTH
        if isinstance(node, Event):
            return self._event(node, node.name, Type.TRUTH)
        if isinstance(node, Count):
            return self._event(node, node.event, Type.NUMBER)
        if isinstance(node, Since):
            self._event(node, node.event, Type.DURATION)
            self.say(node, 'since(…) stands alone on one side of a comparison, as in since(event("x")) > 24h')
            return None
        return self._joined(node)

    def _joined(self, node: Negate | Arithmetic | Compare | Not | And | Or) -> Type | None:
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, Arithmetic):
            return self._arithmetic(node)
        if isinstance(node, Negate):
            found = self.type_of(node.inner)
            if found is Type.TRUTH:
                self.say(node, "'-' needs a number, found true or false")
                return None
            return found
        word = "not" if isinstance(node, Not) else "and" if isinstance(node, And) else "or"
        for side in (node.inner,) if isinstance(node, Not) else (node.left, node.right):
            found = self.type_of(side)
            if found not in (None, Type.TRUTH):
                self.say(side, f"'{word}' needs a condition that is true or false, found {found}")
        return Type.TRUTH

    def _metric(self, node: Expression, name: str) -> Type | None:
        if name in self._words.booleans:
            return Type.TRUTH if self._words.booleans[name] else Type.NUMBER
        near = nearest(name, [*self._words.booleans, "and", "or", "not", "true", "false"])
        self.say(node, f"unknown metric {name!r}{self._of()}{near}{self._elsewhere(name, near)}")
        return None

    def _event(self, node: Expression, name: str, found: Type) -> Type | None:
        if name in self._words.events:
            return found
        known = sorted(self._words.events)
        near = nearest(name, known)
        if self._words.kind is not None and not near:
            near = f"; it has {', '.join(known)}" if known else "; it has no events"
        self.say(node, f"unknown event {name!r}{self._of()}{near}")
        return None

    def _of(self) -> str:
        return f" of {self._words.kind}" if self._words.kind is not None else ""

    def _elsewhere(self, name: str, near: str) -> str:
        others = kinds_with([name])
        return f"; it is a metric of {', '.join(others)}" if others and not near else ""

    def _compare(self, node: Compare) -> Type | None:
        for side, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(side, Since):
                return self._compare_since(node, side, other)
        left, right = self.type_of(node.left), self.type_of(node.right)
        if left is None or right is None:
            return Type.TRUTH
        if left is not right:
            self.say(node, f"cannot compare {left} with {right}{_hint(left, right)}")
        elif left is Type.TRUTH and node.op not in ("==", "!="):
            self.say(node, f"true or false is compared with == or !=, not {node.op}")
        return Type.TRUTH

    def _compare_since(self, node: Compare, since: Since, other: Expression) -> Type:
        self._event(since, since.event, Type.DURATION)
        if isinstance(other, Since):
            self.say(other, 'since(…) is compared with a duration, as in since(event("x")) > 24h')
            return Type.TRUTH
        found = self.type_of(other)
        if found not in (None, Type.DURATION):
            self.say(other, f"since(…) is compared with a duration such as 24h, found {found}")
        elif found is Type.DURATION and not is_constant(other):
            self.say(other, "since(…) is compared with a duration that does not depend on readings")
        if node.op in ("==", "!="):
            self.say(node, f"since(…) is compared with <, <=, > or >=, not {node.op}")
        return Type.TRUTH

    def _arithmetic(self, node: Arithmetic) -> Type | None:
        left, right = self.type_of(node.left), self.type_of(node.right)
        if left is None or right is None:
            return None
        found = _RESULT.get((node.op, left, right))
        if found is None:
            self.say(node, f"cannot calculate {left} {node.op} {right}")
        return found


def _hint(left: Type, right: Type) -> str:
    if Type.TRUTH in (left, right):
        return ": write == true or == false"
    return ": give the number a unit, as in 15m"


_N, _D = Type.NUMBER, Type.DURATION
_RESULT: dict[tuple[str, Type, Type], Type] = {
    **{(op, _N, _N): _N for op in "+-*/"},
    ("+", _D, _D): _D, ("-", _D, _D): _D, ("/", _D, _D): _N,
    ("*", _D, _N): _D, ("*", _N, _D): _D, ("/", _D, _N): _D,
}  # fmt: skip

"""Whether a condition makes sense for the devices it is meant for: names it may use, types and units that fit.

A metric that is true or false is never a number and a duration is never a number: `mains_ok == 0` is a mistake. What is
added, subtracted or compared has one unit; a bare number fits any, and so does a product, whose unit nobody derives.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from devices.documents import nearest
from devices.kinds import ATTRIBUTE_UNITS
from rules.expression import (
    SCHEDULED,
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
    children,
    is_constant,
    leaves,
    series_names,
)
from rules.placing import misplaced
from rules.text import text_of
from rules.tokens import Slip
from rules.vocabulary import Vocabulary, has_series, kinds_with, units_of, vocabulary

__all__ = ["Type", "Vocabulary", "check_condition", "has_series", "kinds_with", "vocabulary"]


class Type(StrEnum):
    NUMBER = "a number"
    DURATION = "a duration"
    TRUTH = "true or false"


@dataclass(frozen=True, slots=True)
class _Found:
    """`unit` None fits any. `mixed`: the unit is another for another kind, said in words. `zero` is 0 in any unit."""

    type: Type
    unit: str | None = None
    mixed: str = ""
    zero: bool = False

    def of_unit(self, unit: str | None) -> _Found:
        return _Found(self.type, unit, self.mixed)


_TRUTH = _Found(Type.TRUTH)
_NUMBER = _Found(Type.NUMBER)


def check_condition(tree: Expression, words: Vocabulary, *, clear: bool = False) -> list[Slip]:
    """Every mistake of a `when` or, with `clear`, of a `clear`; empty where it is good."""
    kinds = (words.kind,) if words.kind is not None else tuple(kinds_with(series_names(tree)))
    check = _Check(words, kinds)
    found = check.type_of(tree)
    if found is not None and found.type is not Type.TRUTH:
        check.say(tree, f"expected a condition that is true or false, such as a > b; this is {found.type}")
    check.slips += misplaced(tree, clear=clear)
    if not check.slips and not _is_judged(tree, clear=clear):
        check.say(tree, "reads no metric and no event, so it would never be judged")
    return check.slips


def _is_judged(tree: Expression, *, clear: bool) -> bool:
    """A schedule alone may end an alarm: the clock judges it where something else has raised it."""
    enough = (DeviceAbsent, *SCHEDULED) if clear else DeviceAbsent
    return bool(series_names(tree)) or any(isinstance(leaf, enough) for leaf in leaves(tree))


class _Check:
    def __init__(self, words: Vocabulary, kinds: tuple[str, ...]) -> None:
        self._words = words
        self._kinds = kinds
        self.slips: list[Slip] = []

    def say(self, node: Expression, message: str) -> None:
        self.slips.append(Slip(max(node.column, 1), message))

    def type_of(self, node: Expression) -> _Found | None:
        """None where a mistake below was already told."""
        if isinstance(node, Number):
            return _Found(Type.NUMBER, zero=node.value == 0)
        if isinstance(node, Attribute):
            return _Found(Type.NUMBER, ATTRIBUTE_UNITS.get(node.name))
        if isinstance(node, Duration):
            return _Found(Type.DURATION)
        if isinstance(node, (Truth, Between, Weekday, Holiday, Mode, DeviceAbsent)):
            return _TRUTH
        if isinstance(node, Metric):
            return self._metric(node, node.name)
        if isinstance(node, Absent):
            return self._metric(node, node.metric) and _TRUTH
        if isinstance(node, (Window, Flat, Spike, OutOfRange, Forecast)):
            return self._over_samples(node)
        if isinstance(node, Event):
            return self._event(node, node.name, _TRUTH)
        if isinstance(node, Count):
            return self._event(node, node.event, _NUMBER.of_unit("1"))
        if isinstance(node, Since):
            self._event(node, node.event, _TRUTH)
            self.say(node, 'since(…) stands alone on one side of a comparison, as in since(event("x")) > 24h')
            return None
        return self._joined(node)

    def _joined(self, node: Negate | Arithmetic | Compare | Not | And | Or | ByResponse | Group) -> _Found | None:
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, Arithmetic):
            return self._arithmetic(node)
        if isinstance(node, ByResponse):
            return self._by_response(node)
        if isinstance(node, Negate):
            found = self.type_of(node.inner)
            if found is not None and found.type is Type.TRUTH:
                self.say(node, "'-' needs a number, found true or false")
                return None
            return found
        word = {Not: "not", And: "and", Or: "or", Group: "a group"}[type(node)]
        for side in children(node):
            found = self.type_of(side)
            if found is not None and found.type is not Type.TRUTH:
                self.say(side, f"{_quote(word)} needs a condition that is true or false, found {found.type}")
        return _TRUTH

    def _metric(self, node: Expression, name: str) -> _Found | None:
        if name not in self._words.booleans:
            near = nearest(name, [*self._words.booleans, "and", "or", "not", "true", "false", "absent"])
            self.say(node, f"unknown metric {name!r}{self._of()}{near}{self._elsewhere(name, near)}")
            return None
        if self._words.booleans[name]:
            return _TRUTH
        units = units_of(name, self._kinds)
        if len(units) <= 1:
            return _Found(Type.NUMBER, next(iter(units), None))
        told = ", ".join(f"{unit} for {' and '.join(kinds)}" for unit, kinds in units.items())
        return _Found(Type.NUMBER, None, f"{name} is in {told}: say in applies_to which kind is meant")

    def _over_samples(self, node: Window | Flat | Spike | OutOfRange | Forecast) -> _Found | None:
        found = self._metric(node, node.metric)
        if found is None:
            return None
        if found.type is Type.TRUTH:
            name = text_of(node).partition("(")[0]
            self.say(node, f"{name}(…) needs a metric that is a number, {node.metric} is true or false")
            return None
        if isinstance(node, Forecast):
            return found
        if not isinstance(node, Window):
            return _TRUTH
        if node.function == "count":
            return _NUMBER.of_unit("1")
        return found.of_unit(f"{found.unit}/s") if node.function == "rate" and found.unit else found

    def _event(self, node: Expression, name: str, found: _Found) -> _Found | None:
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

    def _compare(self, node: Compare) -> _Found | None:
        for side, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(side, Since):
                return self._compare_since(node, side, other)
        left, right = self.type_of(node.left), self.type_of(node.right)
        if left is None or right is None:
            return _TRUTH
        if left.type is not right.type:
            self.say(node, f"cannot compare {left.type} with {right.type}{_hint(left.type, right.type)}")
        elif left.type is Type.TRUTH and node.op not in ("==", "!="):
            self.say(node, f"true or false is compared with == or !=, not {node.op}")
        else:
            self._fit(node, left, right)
        return _TRUTH

    def _fit(self, node: Compare | Arithmetic, left: _Found, right: _Found) -> None:
        if left.mixed != right.mixed and not (left.zero or right.zero):
            self.say(node, left.mixed or right.mixed)
        elif left.unit is not None and right.unit is not None and left.unit != right.unit:
            does = "compare" if isinstance(node, Compare) else "add" if node.op == "+" else "subtract"
            sides = f"{_short(node.left)} ({left.unit}) and {_short(node.right)} ({right.unit})"
            self.say(node, f"cannot {does} {sides}: their units differ")

    def _compare_since(self, node: Compare, since: Since, other: Expression) -> _Found:
        self._event(since, since.event, _TRUTH)
        if isinstance(other, Since):
            self.say(other, 'since(…) is compared with a duration, as in since(event("x")) > 24h')
            return _TRUTH
        found = self.type_of(other)
        if found is not None and found.type is not Type.DURATION:
            self.say(other, f"since(…) is compared with a duration such as 24h, found {found.type}")
        elif found is not None and not is_constant(other):
            self.say(other, "since(…) is compared with a duration that does not depend on readings")
        if node.op in ("==", "!="):
            self.say(node, f"since(…) is compared with <, <=, > or >=, not {node.op}")
        return _TRUTH

    def _arithmetic(self, node: Arithmetic) -> _Found | None:
        left, right = self.type_of(node.left), self.type_of(node.right)
        if left is None or right is None:
            return None
        found = _RESULT.get((node.op, left.type, right.type))
        if found is None:
            self.say(node, f"cannot calculate {left.type} {node.op} {right.type}")
            return None
        if node.op in ("*", "/"):
            return _Found(found, None, left.mixed or right.mixed)
        self._fit(node, left, right)
        return _Found(found, left.unit or right.unit, left.mixed or right.mixed)

    def _by_response(self, node: ByResponse) -> _Found | None:
        unit: str | None = None
        for value in children(node):
            found = self.type_of(value)
            if found is None:
                return None
            if found.type is not Type.NUMBER or not is_constant(value) or _has_response(value):
                self.say(
                    value, f"by_response(…) takes five fixed numbers such as 3.5 or attr.limit, not {_short(value)}"
                )
                return None
            if unit is not None and found.unit is not None and found.unit != unit:
                self.say(value, f"by_response(…) takes five values of one unit, found {unit} and {found.unit}")
            unit = unit or found.unit
        return _NUMBER.of_unit(unit)


def _has_response(node: Expression) -> bool:
    return isinstance(node, ByResponse) or any(_has_response(child) for child in children(node))


def _quote(word: str) -> str:
    return word if " " in word else f"'{word}'"


def _short(node: Expression) -> str:
    text = text_of(node)
    return text if len(text) <= 60 else f"{text[:57]}…"


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

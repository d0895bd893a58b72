"""A shape as numpy operations, in three-valued logic: unknown is what is neither true nor false.

Each condition compiles to two functions, where it is surely true and where it is surely false. Unknown numbers are
NaN, which no comparison holds for, so nothing here ever asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from devices.batch import F64, I64, Bool
from rules.outcome import NEVER
from rules.rule import calculate
from rules.shape import Part


@dataclass(slots=True)
class Sight:
    """What a kernel sees at n evaluations: by slot the newest value (NaN unknown), the instant it was measured (NEVER),
    whether this element brought it; by (slot, parameter) the count of events and when the oldest leaves the window."""

    pairs: I64
    instant: I64
    params: F64
    now: int
    resumed_at: int
    values: dict[int, F64] = field(default_factory=dict)
    measured: dict[int, I64] = field(default_factory=dict)
    here: dict[int, Bool] = field(default_factory=dict)
    counts: dict[tuple[int, int], F64] = field(default_factory=dict)
    leaving: dict[tuple[int, int], I64] = field(default_factory=dict)
    _params: dict[int, F64] = field(default_factory=dict)

    def param(self, k: int) -> F64:
        found = self._params.get(k)
        if found is None:
            found = self._params[k] = self.params[k][self.pairs]
        return found

    def only(self, which: I64) -> Sight:
        """Some of the evaluations."""
        if len(which) == len(self.pairs):
            return self
        return Sight(
            self.pairs[which],
            self.instant[which],
            self.params,
            self.now,
            self.resumed_at,
            {slot: column[which] for slot, column in self.values.items()},
            {slot: column[which] for slot, column in self.measured.items()},
            {slot: column[which] for slot, column in self.here.items()},
            {window: column[which] for window, column in self.counts.items()},
            {window: column[which] for window, column in self.leaving.items()},
        )

    def clock(self) -> I64:
        """The newest instant known at each evaluation: what says whether the link has been up long enough."""
        return np.maximum(self.instant, self.now)


Condition = Callable[[Sight], Bool]
Quantity = Callable[[Sight], F64]
_Orders = dict[str, Callable[[Any, Any], Any]]
_TRUE: _Orders = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
    "!=": lambda a, b: (a < b) | (a > b),
}  # fmt: skip
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def compile_condition(part: Part, wanted: bool) -> Condition:
    """Where the condition is surely `wanted`."""
    op = part[0]
    if op == "not":
        return compile_condition(part[1], not wanted)
    if op in ("and", "or"):
        left, right = compile_condition(part[1], wanted), compile_condition(part[2], wanted)
        if (op == "and") is wanted:
            return lambda sight: left(sight) & right(sight)
        return lambda sight: left(sight) | right(sight)
    if op == "same":
        return _same(part[2], part[3], wanted is part[1])
    if op == "compare":
        order = _TRUE[part[1] if wanted else _OPPOSITE[part[1]]]
        a, b = _quantity(part[2]), _quantity(part[3])
        return lambda sight: order(a(sight), b(sight))
    return _leaf(part, wanted)


def _same(left: Part, right: Part, equal: bool) -> Condition:
    lt, lf = compile_condition(left, True), compile_condition(left, False)
    rt, rf = compile_condition(right, True), compile_condition(right, False)
    if equal:
        return lambda sight: (lt(sight) & rt(sight)) | (lf(sight) & rf(sight))
    return lambda sight: (lt(sight) & rf(sight)) | (lf(sight) & rt(sight))


def _leaf(part: Part, wanted: bool) -> Condition:
    op = part[0]
    if op == "const":
        value = part[1] is wanted
        return lambda sight: np.full(len(sight.pairs), value)
    slot = part[1]
    if op == "truth":
        if wanted:
            return lambda sight: sight.values[slot] >= 0.5
        return lambda sight: sight.values[slot] < 0.5
    if op == "event":
        return (lambda sight: sight.here[slot]) if wanted else (lambda sight: ~sight.here[slot])
    if op == "absent":
        return _absent(slot, part[2], wanted)
    if op == "since":
        return _since(part[2], part[3], (part[1] == ">=") is wanted)
    raise TypeError(f"{op} is not a condition")


def _absent(slot: int, k: int, wanted: bool) -> Condition:
    def true(sight: Sight) -> Bool:
        silent, span = sight.measured[slot], sight.param(k)
        listened = sight.clock() - sight.resumed_at >= span
        return (silent > NEVER) & (sight.instant - silent >= span) & listened

    def false(sight: Sight) -> Bool:
        silent = sight.measured[slot]
        return (silent > NEVER) & (sight.instant - silent < sight.param(k))

    return true if wanted else false


def _since(slot: int, k: int, reached: bool) -> Condition:
    def true(sight: Sight) -> Bool:
        last = sight.measured[slot]
        return (last > NEVER) & (sight.instant - last >= sight.param(k))

    def false(sight: Sight) -> Bool:
        last = sight.measured[slot]
        return (last > NEVER) & (sight.instant - last < sight.param(k))

    return true if reached else false


def _quantity(part: Part) -> Quantity:
    op = part[0]
    if op == "param":
        k = part[1]
        return lambda sight: sight.param(k)
    if op == "value":
        slot = part[1]
        return lambda sight: sight.values[slot]
    if op == "count":
        window = (part[1], part[2])
        return lambda sight: sight.counts[window]
    if op == "negate":
        inner = _quantity(part[1])
        return lambda sight: np.negative(inner(sight))
    if op == "calculate":
        sign, a, b = part[1], _quantity(part[2]), _quantity(part[3])
        return lambda sight: calculate(sign, a(sight), b(sight))
    raise TypeError(f"{op} is not a number")

"""A shape as numpy operations, in three-valued logic: unknown is what is neither true nor false.

Each condition compiles to two functions, where it is surely true and where it is surely false. Unknown numbers are
NaN, which no comparison holds for, so nothing here ever asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from devices.batch import F64, I64, Bool
from rules.calendar import Site
from rules.declared import Declared
from rules.expression import RESPONSES
from rules.history import History
from rules.outcome import FAR, NEVER
from rules.rule import calculate
from rules.shape import LOOKS, Part
from rules.trend import forecast
from rules.windows import Windows, count, fold, leaving, open_windows, step

if TYPE_CHECKING:
    from rules.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Clock:
    """What is known apart from readings: the newest instant the clock has shown, up to where it had been judged before
    this tick, when the link last came back, the site's own time, and what people have declared."""

    now: int
    ticked: int
    resumed_at: int
    site: Site
    declared: Declared


@dataclass(slots=True)
class Sight:
    """What a kernel sees at n evaluations: by slot the newest value (NaN unknown), the instant it was measured (NEVER),
    whether this element brought it, and its samples: from `begins` up to `ends` of the history's pool."""

    pairs: I64
    instant: I64
    kernel: Kernel
    clock: Clock
    history: History
    values: dict[int, F64] = field(default_factory=dict)
    measured: dict[int, I64] = field(default_factory=dict)
    here: dict[int, Bool] = field(default_factory=dict)
    begins: dict[int, I64] = field(default_factory=dict)
    ends: dict[int, I64] = field(default_factory=dict)
    _params: dict[int, F64] = field(default_factory=dict)
    _windows: dict[tuple[int, int], Windows] = field(default_factory=dict)
    _numbers: dict[Part, F64] = field(default_factory=dict)

    def param(self, k: int) -> F64:
        found = self._params.get(k)
        if found is None:
            found = self._params[k] = self.kernel.params.of(k, self.pairs, self.instant, self.clock.declared)
        return found

    def only(self, which: I64) -> Sight:
        """Some of the evaluations."""
        if len(which) == len(self.pairs):
            return self
        return replace(
            self,
            pairs=self.pairs[which],
            instant=self.instant[which],
            values={slot: column[which] for slot, column in self.values.items()},
            measured={slot: column[which] for slot, column in self.measured.items()},
            here={slot: column[which] for slot, column in self.here.items()},
            begins={slot: column[which] for slot, column in self.begins.items()},
            ends={slot: column[which] for slot, column in self.ends.items()},
            _params={},
            _windows={window: seen.only(which) for window, seen in self._windows.items()},
            _numbers={part: column[which] for part, column in self._numbers.items()},
        )

    def newest_known(self) -> I64:
        """The newest instant known at each evaluation: what says whether the link has been up long enough."""
        return np.maximum(self.instant, self.clock.now)

    def window(self, slot: int, k: int) -> Windows:
        """The samples of the slot in (instant - parameter k, instant]."""
        found = self._windows.get((slot, k))
        if found is None:
            span, gap = self.param(k).astype(np.int64), self.kernel.max_gap[self.pairs]
            found = open_windows(self.history, self.begins[slot], self.ends[slot], self.instant, span, gap)
            self._windows[slot, k] = found
        return found

    def leaving(self, slot: int, k: int) -> I64:
        """When the oldest sample of the window leaves it; FAR where it is empty."""
        return leaving(self.window(slot, k), self.param(k).astype(np.int64), FAR)

    def look(self, part: Part) -> F64:
        """A number made of samples; NaN where it is unknown."""
        found = self._numbers.get(part)
        if found is None:
            found = self._numbers[part] = self._look(part)
        return found

    def _look(self, part: Part) -> F64:
        op, slot = part[0], part[1]
        if op == "count" or part[3:] == ("count",):
            return count(self.window(slot, part[2]))
        if op == "window":
            found = fold(part[3], self.window(slot, part[2]))
        elif op == "forecast":
            span, ahead = self.param(part[2]).astype(np.int64), self.param(part[3]).astype(np.int64)
            found = forecast(self.window(slot, part[2]), span=span, target=self.instant + ahead)
        else:
            found = step(self.history, self.begins[slot], self.ends[slot], self.kernel.max_gap[self.pairs])
        if self.kernel.shape.aged:
            found[self._too_old(slot)] = np.nan
        return found

    def _too_old(self, slot: int) -> Bool:
        """Where the newest sample of the slot is older than max_age."""
        some = np.flatnonzero(self.ends[slot] > self.begins[slot])
        old = np.zeros(len(self.pairs), np.bool_)
        newest = self.history.at[self.ends[slot][some] - 1]
        old[some] = self.instant[some] - newest > self.kernel.max_age[self.pairs[some]]
        return old


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
        a, b = quantity(part[2]), quantity(part[3])
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
    if op in _SCHEDULES:
        return _schedule(part, wanted)
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
        listened = sight.newest_known() - sight.clock.resumed_at >= span
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


_SCHEDULES = ("between", "weekday", "holiday", "mode")


def _schedule(part: Part, wanted: bool) -> Condition:
    if wanted:
        return lambda sight: scheduled(part, sight.instant, sight.clock)
    return lambda sight: ~scheduled(part, sight.instant, sight.clock)


def scheduled(part: Part, at: I64, clock: Clock) -> Bool:
    """Whether a schedule or a mode holds at these instants; always known."""
    site, declared = clock.site, clock.declared
    if part[0] == "between":
        return site.between(at, part[1], part[2])
    if part[0] == "weekday":
        return np.isin(site.weekday(at), list(part[1]))
    if part[0] == "holiday":
        return site.holiday(at)
    if part[1] == "flood_season":
        return site.flood_season(at)
    if part[1] == "drill":
        return declared.drill_at(at)
    level = declared.level_at(at)
    return (level > 0) & (level <= RESPONSES[part[1]])


def next_scheduled(part: Part, at: I64, clock: Clock) -> I64:
    """The next instant after each at which `scheduled` changes; FAR where it never does."""
    site = clock.site
    if part[0] == "between":
        return site.next_between(at, part[1], part[2])
    if part[0] == "weekday":
        return site.next_weekday(at, part[1])
    if part[0] == "holiday":
        return site.next_holiday(at)
    if part[1] == "flood_season":
        return site.next_flood_season(at)
    told, turn = scheduled(part, at, clock), clock.declared.next_change(at)
    while (same := (turn < FAR) & (scheduled(part, turn, clock) == told)).any():
        turn[same] = clock.declared.next_change(turn[same])
    return turn


def quantity(part: Part) -> Quantity:
    """What a number of a shape is worth at each evaluation; NaN is unknown."""
    op = part[0]
    if op == "param":
        k = part[1]
        return lambda sight: sight.param(k)
    if op == "value":
        slot = part[1]
        return lambda sight: sight.values[slot]
    if op in LOOKS:
        return lambda sight: sight.look(part)
    if op == "negate":
        inner = quantity(part[1])
        return lambda sight: np.negative(inner(sight))
    if op == "calculate":
        sign, a, b = part[1], quantity(part[2]), quantity(part[3])
        return lambda sight: calculate(sign, a(sight), b(sight))
    raise TypeError(f"{op} is not a number")

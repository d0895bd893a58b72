"""One rule of the book: whom it applies to, when it is true, how urgent it is.

`fingerprint` is of its meaning alone: renaming a rule or changing its priority keeps what it has learned.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np

from devices.attributes import Attribute as AttributeValue
from devices.attributes import number_at
from devices.batch import F64
from devices.registry import Device
from rules.expression import (
    MIRROR,
    TIMED,
    And,
    Arithmetic,
    Attribute,
    ByResponse,
    Compare,
    Duration,
    Expression,
    Forecast,
    Group,
    Metric,
    Negate,
    Not,
    Number,
    Or,
    Order,
    Sum,
    first_metric,
    is_constant,
    leaves,
    needs_event,
    rises,
    series_names,
)
from rules.outcome import NEVER

# "none" in max_gap and max_age: longer than any time there is, and still safe to add to an instant.
NO_GAP = 2**61


class Priority(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class AppliesTo:
    """All given must match; None is not given. `grids` includes everything below them."""

    kind: str | None = None
    devices: frozenset[str] | None = None
    grids: frozenset[str] | None = None
    tags: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """One severity of a rule with several."""

    priority: Priority
    when: Expression
    hold_us: int = 0
    clear: Expression | None = None
    name_zh: str = ""
    name_en: str = ""
    when_text: str = ""
    clear_text: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A line on a chart: worse is `above` or `below` it."""

    metric: str
    value: float
    direction: str


@dataclass(frozen=True)
class Rule:
    """`clear` None means: not `when`. `max_age_us` and `max_gap_us` None means 3 times the device's interval
    (for `max_gap_us` of a rule that reads events only: no gap); NO_GAP means never. `repeat` (k, n): k of the last n
    evaluations. `keep_us`: an occurrence stands at least so long. `only_in`: modes that must all hold. `levels` from
    the mildest to the worst; `when` is then that of the first. `suppresses`: ids of rules, of a group rule alone; None
    is those about absence where it is about absence itself."""

    id: str
    when: Expression
    name_zh: str = ""
    name_en: str = ""
    applies_to: AppliesTo = field(default_factory=AppliesTo)
    clear: Expression | None = None
    hold_us: int = 0
    max_age_us: int | None = None
    max_gap_us: int | None = None
    priority: Priority = Priority.MEDIUM
    order_category: str | None = None
    when_text: str = ""
    clear_text: str = ""
    text: str = ""
    repeat: tuple[int, int] | None = None
    keep_us: int = 0
    only_in: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    suppresses: frozenset[str] | None = None

    @cached_property
    def trees(self) -> tuple[Expression, ...]:
        """Every condition of the rule: `when` and `clear`, of all levels."""
        own = [(self.when, self.clear)] if not self.levels else [(level.when, level.clear) for level in self.levels]
        return tuple(tree for pair in own for tree in pair if tree is not None)

    @cached_property
    def group(self) -> Group | None:
        """What it says of several devices; None for a rule about one."""
        return self.when if isinstance(self.when, Group) else None

    @cached_property
    def early(self) -> bool:
        """A forecast: an early notice, not the alarm itself."""
        return any(isinstance(leaf, Forecast) for tree in self.trees for leaf in leaves(tree))

    @cached_property
    def metric(self) -> str | None:
        """The first metric in `when`."""
        return first_metric(self.when)

    @cached_property
    def peak_is_maximum(self) -> bool:
        return self.metric is None or rises(self.when, self.metric)

    @cached_property
    def series(self) -> tuple[str, ...]:
        """Metrics and "event:<name>"s that it reads: first those of `when`, then those that only others read."""
        return tuple(dict.fromkeys(name for tree in self.trees for name in series_names(tree)))

    @cached_property
    def gap_us(self) -> int | None:
        """`max_gap_us`; events come when they come, so between them a rule that reads nothing else has no gap."""
        events_only = all(name.startswith("event:") for name in self.series)
        return NO_GAP if self.max_gap_us is None and events_only else self.max_gap_us

    @cached_property
    def momentary(self) -> bool:
        """It lives for one element: `when` needs an event and nothing says what ends it, nor how long it stands."""
        return self._of_an_instant and not self.keep_us

    @cached_property
    def lingers(self) -> bool:
        """It would live for one element, but stands for `keep_us`."""
        return self._of_an_instant and self.keep_us > 0

    @cached_property
    def _of_an_instant(self) -> bool:
        return self.clear is None and needs_event(self.when)

    @cached_property
    def timed(self) -> bool:
        """Judged by the clock too."""
        if self.group is not None and (self.hold_us or self.keep_us):
            return True
        if self.repeat is not None:
            return False
        return self.lingers or any(isinstance(leaf, TIMED) for tree in self.trees for leaf in leaves(tree))

    @cached_property
    def fingerprint(self) -> str:
        levels = [(level.priority, level.when, level.clear, level.hold_us) for level in self.levels]
        meaning = (self.when, self.clear, self.hold_us, self.max_age_us, self.max_gap_us, self.repeat, self.keep_us,
                   self.only_in, levels)  # fmt: skip
        return hashlib.blake2b(repr(meaning).encode(), digest_size=8).hexdigest()

    def limits(self, device: Device, at: int) -> list[Limit]:
        """The parts of `when` that compare one metric with something fixed for this device, as it holds at `at`."""

        def attribute(name: str) -> F64:
            value = number_at(device.attributes, name, at)
            return np.array(math.nan if value is None else value)

        return [limit for tree in self._whens for limit in _limits(tree, attribute, upright=True)]

    @cached_property
    def _whens(self) -> tuple[Expression, ...]:
        return tuple(level.when for level in self.levels) if self.levels else (self.when,)


def constant_value(node: Expression, attribute: Callable[[str], F64]) -> F64:
    """The value of a constant expression for one device or, where `attribute` gives columns, for many.

    Durations are microseconds. NaN where an attribute is missing or a divisor is 0.
    """
    if isinstance(node, Number):
        return np.array(node.value, np.float64)
    if isinstance(node, Duration):
        return np.array(node.us, np.float64)
    if isinstance(node, Attribute):
        return attribute(node.name)
    if isinstance(node, Negate):
        return np.negative(constant_value(node.inner, attribute))
    if isinstance(node, Arithmetic):
        return calculate(node.op, constant_value(node.left, attribute), constant_value(node.right, attribute))
    if isinstance(node, ByResponse):
        return constant_value(node.normal, attribute)
    raise TypeError(f"{type(node).__name__} is not constant")


def calculate(op: Sum, left: F64, right: F64) -> F64:
    """Arithmetic of the language: anything divided by 0 is unknown (NaN), as is whatever meets an unknown."""
    with np.errstate(all="ignore"):
        if op == "+":
            return decimal(np.add(left, right))
        if op == "-":
            return decimal(np.subtract(left, right))
        if op == "*":
            return np.multiply(left, right)
        return np.where(right == 0, np.nan, np.divide(left, right))


# Beyond this a double has no nine decimals to round to.
_MOST_DECIMAL = 4e6


def decimal(value: F64) -> F64:
    """Rounded to nine decimals: 3.8 - 0.2 is 3.5999999999999996 to a computer and 3.6 to a gauge, whose limit is 3.6.

    Fewer decimals would be seen in a reading, more would let the error of the computer through.
    """
    return np.where(np.abs(value) < _MOST_DECIMAL, np.round(value, 9), value)


def attribute_number(attributes: Mapping[str, AttributeValue], name: str) -> float:
    """NaN where the device has no such attribute, where it is a text such as a datum, and where it is dated."""
    found = attributes.get(name)
    return float(found) if isinstance(found, (int, float)) else math.nan


def attribute_steps(attributes: Mapping[str, AttributeValue], name: str) -> tuple[tuple[int, float], ...]:
    """(from this instant on, value), rising: one from NEVER where it is not dated. NaN is no value; before the first
    there is none either."""
    found = attributes.get(name)
    if isinstance(found, tuple):
        return tuple((dated.valid_from, dated.value) for dated in found)
    return ((NEVER, attribute_number(attributes, name)),)


def _limits(node: Expression, attribute: Callable[[str], F64], *, upright: bool) -> Iterator[Limit]:
    if isinstance(node, (And, Or)):
        yield from _limits(node.left, attribute, upright=upright)
        yield from _limits(node.right, attribute, upright=upright)
    elif isinstance(node, Not):
        yield from _limits(node.inner, attribute, upright=not upright)
    elif isinstance(node, Compare) and node.op not in ("==", "!="):
        mirrored: Order = MIRROR[node.op]
        for side, other, op in ((node.left, node.right, node.op), (node.right, node.left, mirrored)):
            if isinstance(side, Metric) and is_constant(other):
                value = float(constant_value(other, attribute))
                if math.isfinite(value):
                    yield Limit(side.name, value, "above" if (op in (">", ">=")) is upright else "below")

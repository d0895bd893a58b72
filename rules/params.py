"""The constants of a kernel's pairs: a number for each, or one for each response level, or one from an instant on.

An attribute with `valid_from` is the value valid at the rule's instant, and unknown before the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from devices.batch import F64, I64
from rules.declared import MILDEST, Declared
from rules.expression import Arithmetic, Attribute, ByResponse, Expression, Negate, children, leaves
from rules.rule import constant_value

# A device attribute as a column over device numbers; NaN where it is missing, a text, or begins at an instant.
PlainAttributes = Callable[[str], F64]
# (from this instant on, the value), rising.
Steps = tuple[tuple[int, float], ...]
# Rows of a constant that depends on the response level: 0 where none is declared, then levels 1 to 4.
_LEVELS = MILDEST + 1


@dataclass(frozen=True, slots=True)
class Dated:
    """Values that begin at an instant, by pair, then instant; `value` is (level, step), or one row for all levels."""

    pair: I64
    at: I64
    value: F64


@dataclass(slots=True)
class Params:
    """`plain` is (parameter, pair); `leveled` and `dated` are by parameter, of those that are more than that."""

    plain: F64
    leveled: dict[int, F64] = field(default_factory=dict)
    dated: dict[int, Dated] = field(default_factory=dict)

    def of(self, k: int, pairs: I64, instant: I64, declared: Declared) -> F64:
        """Parameter k of each pair at its instant."""
        if k not in self.leveled and k not in self.dated:
            plain: F64 = self.plain[k][pairs]
            return plain
        level = declared.level_at(instant) if k in self.leveled else None
        found: F64 = self.plain[k][pairs] if level is None else self.leveled[k][level, pairs]
        if k in self.dated:
            steps = self.dated[k]
            step = _step_at(steps, pairs, instant)
            dated = np.flatnonzero(step >= 0)
            row = 0 if level is None else level[dated]
            found[dated] = steps.value[row, step[dated]]
        return found


def _step_at(steps: Dated, pairs: I64, instant: I64) -> I64:
    """The step of each pair that its instant has reached; -1 where there is none. Steps of a pair are few."""
    first = np.searchsorted(steps.pair, pairs, "left")
    stop = np.searchsorted(steps.pair, pairs, "right")
    found = np.full(len(pairs), -1, np.int64)
    for k in range(int((stop - first).max(initial=0))):
        here = first + k
        inside = np.flatnonzero(here < stop)
        reached = inside[steps.at[here[inside]] <= instant[inside]]
        found[reached] = here[reached]
    return found


@dataclass(frozen=True, slots=True)
class Filling:
    """Where the pairs of one rule begin in a kernel, their devices, and its constants."""

    start: int
    devices: I64
    constants: tuple[Expression, ...]


def fill(
    size: int, fillings: list[Filling], plain: PlainAttributes, dated: Mapping[str, Mapping[int, Steps]]
) -> Params:
    """The constants of `size` pairs; every rule of a kernel has as many. `dated` are attributes with `valid_from`, by
    name and device number."""
    width = len(fillings[0].constants)
    params = Params(np.empty((width, size)))
    for k in range(width):
        leveled = any(_has_levels(filling.constants[k]) for filling in fillings)
        rows = np.empty((_LEVELS if leveled else 1, size))
        steps: list[tuple[int, int, list[float]]] = []
        for filling in fillings:
            part = slice(filling.start, filling.start + len(filling.devices))
            at_levels = [at_level(filling.constants[k], level) for level in range(len(rows))]
            for row, node in zip(rows, at_levels, strict=True):
                row[part] = constant_value(node, _reader(plain, filling.devices))
            steps += _steps(filling, at_levels, plain, dated)
        params.plain[k] = rows[0]
        if leveled:
            params.leveled[k] = rows
        if steps:
            steps.sort(key=lambda step: step[:2])
            params.dated[k] = Dated(
                np.array([s[0] for s in steps], np.int64), np.array([s[1] for s in steps], np.int64),
                np.array([s[2] for s in steps]).T,
            )  # fmt: skip
    return params


def _reader(plain: PlainAttributes, devices: I64) -> PlainAttributes:
    return lambda name: plain(name)[devices]


def _steps(
    filling: Filling, at_levels: list[Expression], plain: PlainAttributes, dated: Mapping[str, Mapping[int, Steps]]
) -> list[tuple[int, int, list[float]]]:
    """(pair, instant, value by level) for each instant at which an attribute of a device changes."""
    names = {leaf.name for node in at_levels for leaf in leaves(node) if isinstance(leaf, Attribute)} & dated.keys()
    if not names:
        return []
    found: list[tuple[int, int, list[float]]] = []
    for place, device in enumerate(filling.devices.tolist()):
        mine = {name: dated[name][device] for name in names if device in dated[name]}
        for instant in sorted({at for steps in mine.values() for at, _ in steps}):
            valid = {name: np.array(_valid(steps, instant)) for name, steps in mine.items()}
            known = _known(valid, plain, device)
            values = [float(constant_value(node, known)) for node in at_levels]
            found.append((filling.start + place, instant, values))
    return found


def _valid(steps: Steps, instant: int) -> float:
    reached = [value for at, value in steps if at <= instant]
    return reached[-1] if reached else np.nan


def _known(valid: Mapping[str, F64], plain: PlainAttributes, device: int) -> PlainAttributes:
    return lambda name: valid[name] if name in valid else plain(name)[device]


def _has_levels(node: Expression) -> bool:
    return isinstance(node, ByResponse) or any(_has_levels(child) for child in children(node))


def at_level(node: Expression, level: int) -> Expression:
    """The expression with by_response(…) replaced by its constant for the level: 0 none, 4 (IV) to 1 (I)."""
    if isinstance(node, ByResponse):
        return at_level((node.normal, node.i, node.ii, node.iii, node.iv)[level], level)
    if isinstance(node, Negate):
        return replace(node, inner=at_level(node.inner, level))
    if isinstance(node, Arithmetic):
        return replace(node, left=at_level(node.left, level), right=at_level(node.right, level))
    return node

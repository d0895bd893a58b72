"""Faults of a device that its own readings show: a clock that is wrong, a value its sensor cannot measure.

Such a device must not fall silent: with a wrong clock its live arrivals are kept and judged at the time of arrival;
of an impossible value only that value is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.batch import F64, I32, I64, Bool


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a device began (`ended` None) or ended. `value` is microseconds off, or the impossible value."""

    device: int
    metric: str | None
    since: int
    ended: int | None
    value: float
    element: int


@dataclass(frozen=True, slots=True)
class ClockLimits:
    """Microseconds the clock of a device may be ahead of or behind ours; None: no limit."""

    max_ahead: int | None
    max_behind: int | None

    def wrong(self, measured_at: I64, received_at: I64) -> Bool:
        off = measured_at - received_at
        wrong = np.zeros(len(off), np.bool_)
        if self.max_ahead is not None:
            wrong |= off > self.max_ahead
        if self.max_behind is not None:
            wrong |= -off > self.max_behind
        return wrong


class Faults:
    """Standing faults by number (a device's for clocks, a series' for ranges): number → (since, value)."""

    def __init__(self) -> None:
        self.standing: dict[int, tuple[int, float]] = {}

    def judge(
        self, number: I32, wrong: Bool, measured_at: I64, value: F64, element: I32
    ) -> tuple[list[tuple[int, Fault]], dict[int, tuple[int, float] | None]]:
        """Rows in arrival order → (number, fault) edges in that order, and what they change (None: ended).

        `Fault.device` is left -1: the caller knows whose number it is.
        """
        edges: list[tuple[int, Fault]] = []
        changes: dict[int, tuple[int, float] | None] = {}
        concerned = wrong | np.isin(number, list(self.standing)) if self.standing else wrong
        # A row after a fault began in this very batch may end it, so its other rows matter too.
        if wrong.any():
            concerned = concerned | np.isin(number, np.unique(number[wrong]))
        for i in np.flatnonzero(concerned):
            key = int(number[i])
            standing = changes[key] if key in changes else self.standing.get(key)
            at, off = int(measured_at[i]), float(value[i])
            if wrong[i] and standing is None:
                changes[key] = (at, off)
                edges.append((key, Fault(-1, None, at, None, off, int(element[i]))))
            elif not wrong[i] and standing is not None:
                changes[key] = None
                edges.append((key, Fault(-1, None, standing[0], at, standing[1], int(element[i]))))
        return edges, changes

    def adopt(self, changes: dict[int, tuple[int, float] | None]) -> None:
        for key, standing in changes.items():
            if standing is None:
                self.standing.pop(key, None)
            else:
                self.standing[key] = standing

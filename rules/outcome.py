"""What goes into the engine and what comes out: rows to judge, transitions with their reasons, peaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from devices.batch import F64, I32, I64
from devices.ordering import Order

if TYPE_CHECKING:
    from rules.rule import Priority

# Before and after every instant; far enough from the ends of int64 that a duration may be added or subtracted.
NEVER = -(2**61)
FAR = 2**61


class Edge(StrEnum):
    RAISED = "raised"
    CLEARED = "cleared"
    CHANGED = "changed"  # the severity of an alarm that stands


@dataclass(frozen=True, slots=True)
class Transition:
    """One alarm of (rule, device) raised, changed or cleared at `at`; `since` is the start of the condition.

    `device` may be a group of devices: `grid:<id>` or `group:<tag>`. `reason` is JSON: the rule's text, the values it
    saw there, how long it had to hold; of a group the `members` for which it is true, `of` how many. `element` is the
    element of the batch that brought it about, -1 where it was the clock or a change of the rules. `priority` None: the
    rule's own; a rule with levels says with each transition how severe the alarm is now.
    """

    rule: str
    device: str
    metric: str | None
    edge: Edge
    at: int
    since: int
    first_value: float | None
    peak_value: float | None
    reason: Mapping[str, object]
    element: int
    priority: Priority | None = None


@dataclass(frozen=True, slots=True)
class Peak:
    """The occurrence of (rule, device, raised_at) still stands and got worse."""

    rule: str
    device: str
    raised_at: int
    peak_value: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from a batch, a tick or new rules. `changes` is the state to adopt after the commit."""

    transitions: tuple[Transition, ...]
    peaks: tuple[Peak, ...]
    changes: object


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of the rows to judge, in order of arrival.

    Only rows newer than the last of their series, of active devices, of quality not bad. An event is a row of value 1
    of the series (device, "event:<name>"). Rows of one element stand together and share `at`. `by_series`: their order
    by series, if somebody has it already.
    """

    series: I32
    at: I64
    value: F64
    element: I32
    device: I32
    by_series: Order | None = None

    def __len__(self) -> int:
        return len(self.series)

"""What goes into the engine and what comes out: rows to judge, transitions with their reasons, peaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from devices.batch import F64, I32, I64

# Before and after every instant; far enough from the ends of int64 that a duration may be added or subtracted.
NEVER = -(2**61)
FAR = 2**61


class Edge(StrEnum):
    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Transition:
    """One alarm of (rule, device) raised or cleared at `at`; `since` is the start of the condition.

    `reason` is JSON: the rule's text, the values it saw there, how long it had to hold. `element` is the element of
    the batch that brought it about, -1 where it was the clock or a change of the rules.
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
    of the series (device, "event:<name>"). Rows of one element stand together and share `at`.
    """

    series: I32
    at: I64
    value: F64
    element: I32
    device: I32

    def __len__(self) -> int:
        return len(self.series)

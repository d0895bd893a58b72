"""The time-series store: one small protocol, one conformance suite (tests/store), one backend (DuckDB).

All instants are int64 microseconds since 1970 UTC; series are the numbers of devices.registry.Registry.

Beside the readings it keeps what they were by the minute and by the hour (*roll-ups*), which stay when the readings go.
`upkeep` makes them: a thread of its own calls it again and again, and the readings are right whenever it is called, and
if it is never called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from devices.batch import F64, I32, I64, U8


class Fn(StrEnum):
    """How `aggregate` folds a bucket."""

    AVG = "avg"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Columns:
    """n readings to append, in arrival order; of two with the same (series, measured_at) the later stands.

    `replaces` marks rows whose (series, measured_at) may already be stored; the rest are known to be new.
    """

    series: I32
    measured_at: I64
    value: F64
    quality: U8
    stored_at: int
    replaces: U8


@dataclass(frozen=True, slots=True)
class Points:
    """Readings of one series, ascending in time, one per instant."""

    measured_at: I64
    value: F64
    quality: U8


@dataclass(frozen=True, slots=True)
class Slice:
    """Readings of several series, ascending by (measured_at, series), one per instant and series."""

    series: I32
    measured_at: I64
    value: F64
    quality: U8

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True, slots=True)
class Point:
    measured_at: int
    value: float
    quality: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can be trusted with: the smallest step of time it keeps, in microseconds, and how it deletes."""

    precision_us: int
    deletes_exactly: bool
    survives_kill: bool


@dataclass(frozen=True, slots=True)
class Deletion:
    """How many readings of a series went with one deletion. Numbers rise and are never given twice."""

    number: int
    series: int
    count: int


class Roll(StrEnum):
    """The widths of roll-ups."""

    MINUTES = "minutes"
    HOURS = "hours"


class StoreUnavailable(Exception):
    """The store does not answer now; nothing was appended. The journal keeps what is waiting."""


class ReadingStore(Protocol):
    capabilities: Capabilities

    def append(self, number: int, batches: Sequence[Columns]) -> None:
        """All or nothing, remembering `number` as the last applied; a number not greater than that does nothing."""

    def applied(self) -> int:
        """The last number appended, 0 at first."""

    def range(self, series: int, start: int, end: int, limit: int) -> Points:
        """The first `limit` readings with start <= measured_at < end."""

    def slice(self, series: Sequence[int], start: int, end: int, limit: int) -> Slice:
        """The first `limit` readings of these series with start <= measured_at < end."""

    def latest(self, series: Sequence[int] | None = None) -> dict[int, Point]:
        """The newest reading of each series that has one; None asks for all."""

    def aggregate(self, series: int, start: int, end: int, every: int, fn: Fn) -> tuple[I64, F64]:
        """Start of each non-empty bucket of `every` microseconds (counted from 1970 UTC), and its value.

        Where roll-ups fit into the buckets they are read instead of the readings and say the same; where the readings
        are deleted they are what there is, wholly inside [start, end) or not at all."""

    def first(self, series: int, start: int, end: int) -> int | None:
        """The instant of the first reading in [start, end), or of the first roll-up where the readings are deleted."""

    def find(self, series: I32, measured_at: I64) -> tuple[I64, F64]:
        """Positions in the arguments that are stored, and the values there."""

    def series(self) -> dict[int, int]:
        """How many readings each series has."""

    def upkeep(self, now: int) -> bool:
        """One short piece of work on what lies behind `now`: roll-ups, order, free space. Whether more waits."""

    def delete(self, series: I32, start: I64, end: I64, stopping: Callable[[], bool] = lambda: False) -> int:
        """Delete the readings of each series measured in [start, end), piece by piece until `stopping`; how many went.
        Every piece leaves its Deletions with it in one commit. Roll-ups stay."""

    def deletions(self, after: int = 0) -> list[Deletion]:
        """What went and is not acknowledged, of numbers greater than `after`, ascending."""

    def acknowledge(self, number: int) -> None:
        """Deletions up to this number are counted where they must be: forget them."""

    def forget(self, roll: Roll, before: int, series: Sequence[int] | None = None) -> None:
        """Delete roll-ups of these series (None: of all) that begin before the instant."""

    def copy_to(self, path: Path, stopping: Callable[[], bool] = lambda: False) -> int:
        """Everything as of one instant into a file that is not there yet; the last number that is in it. Appends go on
        meanwhile. Raises StoreUnavailable, also once `stopping`, after which no file is left."""

    def close(self) -> None: ...

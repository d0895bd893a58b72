"""The time-series store: one small protocol, one file a backend, one conformance suite (tests/store).

All instants are int64 microseconds since 1970 UTC; series are the numbers of devices.registry.Registry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
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
        """Start of each non-empty bucket of `every` microseconds (counted from 1970 UTC), and its value."""

    def find(self, series: I32, measured_at: I64) -> tuple[I64, F64]:
        """Positions in the arguments that are stored, and the values there."""

    def series(self) -> dict[int, int]:
        """How many readings each series has."""

    def delete_before(self, instant: int, series: Sequence[int] | None = None) -> int:
        """Delete readings measured before the instant; how many went."""

    def close(self) -> None: ...

"""What a journal entry says of a settled batch: its columns, packed, and what became of every row.

Columns are raw little-endian bytes. One that has the same number in every row is that number once; instants stand once
an element, as all rows of an element share theirs. An entry of an installation that was upgraded while it waited says
the same in the older, longer form (`Settled.element` and its neighbours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices.batch import F64, I32, I64, U8

# What became of a row, in one byte: a flow.classify.Verdict, three marks, and why it is flagged (FLAGS, 0 for not).
VERDICT = 0b0000_0111
UNSURE = 4
JUDGED = 0b0000_1000  # it went through the rules
LATE = 0b0001_0000
WAITING = 0b0010_0000  # of a device that nobody has approved
FLAG_SHIFT = 6
FLAGS = ("", "clock_wrong", "implausible", "suspect")

N = TypeVar("N", bound=np.generic)


class SettledEvent(msgspec.Struct, frozen=True, array_like=True):
    """`judged`: new, not late, of an active device. `state` as of a row; None of an event that was never received by
    itself but follows from a reading, and in older entries."""

    series: int
    device: int
    element: int
    measured_at: int
    judged: bool
    state: int | None = None


class SeqChange(msgspec.Struct, frozen=True, array_like=True):
    """How the numbering of messages went on: the last number of each device (int32, int64 columns), what is to be
    counted as (device, missing, found), and the ranges of missing numbers of the devices where they changed."""

    device: bytes = b""
    last: bytes = b""
    counted: list[tuple[int, int, int]] = []
    missing: list[tuple[int, list[tuple[int, int]]]] = []


class Settled(msgspec.Struct, frozen=True, omit_defaults=True):
    """A settled batch: everything needed to append it, to evaluate it again and to count it again.

    `at`, `sizes` and `numbers` are per element that has rows: its instant, how many, and which it is (empty: they are
    counted from 0). `verdict` overrides those of `state` where the appender could settle a doubt; counting goes by
    `state`, for the correction is in the ledger already. `repeats` are the devices of events that came again,
    `refused` (device, reason, count) of what never became a row, `arrivals` (packet id, digest, received_at) of QoS 1
    packets timed by their arrival. Of older entries: `measured_at`, `element`, `judged`, `counts` (rows of device and
    the nine columns there were then).
    """

    series: bytes
    value: bytes
    quality: bytes
    events: list[SettledEvent]
    arrivals: list[tuple[int, bytes, int]]
    state: bytes = b""
    at: bytes = b""
    sizes: bytes = b""
    numbers: bytes = b""
    verdict: bytes = b""
    repeats: list[int] = []
    refused: list[tuple[int, str, int]] = []
    seq: SeqChange | None = None
    measured_at: bytes = b""
    element: bytes = b""
    judged: bytes = b""
    counts: bytes = b""


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of a settled batch. `state` is as counted; `verdict` as it turned out."""

    series: I32
    measured_at: I64
    value: F64
    quality: U8
    element: I32
    state: U8
    verdict: U8

    @property
    def judged(self) -> NDArray[np.bool_]:
        return (self.state & JUDGED) > 0

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.__slots__)


def packed(column: NDArray[N]) -> bytes:
    """Once if all are equal."""
    if len(column) > 1 and bool((column == column[0]).all()):
        return column[:1].tobytes()
    return column.tobytes()


def unpacked(raw: bytes, kind: type[N], count: int) -> NDArray[N]:
    column = np.frombuffer(raw, kind)
    if len(column) == 1 and count > 1:
        column = np.broadcast_to(column, count)
    return column


def rows_of(settled: Settled) -> Rows:
    """Arrays that share the entry's memory where they can; not to be written to."""
    series = np.frombuffer(settled.series, np.int32)
    value = np.frombuffer(settled.value, np.float64)
    quality = unpacked(settled.quality, np.uint8, len(series))
    if settled.measured_at or not len(series):
        return _older(settled, series, value, quality)
    at = np.frombuffer(settled.at, np.int64)
    sizes = unpacked(settled.sizes, np.int32, len(at))
    numbers = np.frombuffer(settled.numbers, np.int32) if settled.numbers else np.arange(len(at), dtype=np.int32)
    state = unpacked(settled.state, np.uint8, len(series))
    verdict = unpacked(settled.verdict, np.uint8, len(series)) if settled.verdict else state & np.uint8(VERDICT)
    return Rows(series, np.repeat(at, sizes), value, quality, np.repeat(numbers, sizes), state, verdict)


def _older(settled: Settled, series: I32, value: F64, quality: U8) -> Rows:
    verdict = np.frombuffer(settled.verdict, np.uint8)
    state = verdict | np.where(np.frombuffer(settled.judged, np.uint8), JUDGED, 0).astype(np.uint8)
    state[verdict == UNSURE] |= LATE  # what is newer than all before is never in doubt
    measured_at, element = np.frombuffer(settled.measured_at, np.int64), np.frombuffer(settled.element, np.int32)
    return Rows(series, measured_at, value, quality, element, state, verdict)


def elements_of(element: I32) -> tuple[I64, I64]:
    """Where the rows of each element begin, and how many it has."""
    if not len(element):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    new = np.empty(len(element), np.bool_)
    new[0] = True
    np.not_equal(element[1:], element[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    return starts, np.diff(starts, append=len(element))


def pack_columns(
    series: I32, value: F64, quality: U8, state: U8, *, at: I64, size: I64, number: I32
) -> dict[str, bytes]:
    """The fields of `Settled` that hold the rows; `at`, `size` and `number` per element that has some."""
    counted = not len(number) or int(number[-1]) == len(number) - 1
    return {
        "series": series.tobytes(),
        "value": value.tobytes(),
        "quality": packed(quality),
        "state": packed(state),
        "at": at.tobytes(),
        "sizes": packed(size.astype(np.int32)),
        "numbers": b"" if counted else number.tobytes(),
    }

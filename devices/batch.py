"""Columns of readings in arrival order: what the decoder makes and everything after it works on.

No reading is an object of its own. A *row* is one value of one series; an *element* is one instant of one device
(one JSON object, or one event), and its rows stand together; elements stand in order of arrival.
All instants are int64 microseconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]


class Quality(IntEnum):
    GOOD = 0
    SUSPECT = 1  # judged, and marked wherever it is shown
    BAD = 2  # kept for the chart, never judged


# The key of an event that follows from a reading. None that a device sends has it, or the two would meet in one row.
DERIVED_KEY = "derived"


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event of one device. `series` is the series of (device, "event:<name>"); `key` makes a repeat harmless."""

    series: int
    element: int
    device: int
    name: str
    key: str
    measured_at: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Something received that is not stored. `device` is -1 where it could not be told; `count` in ledger units;
    `whole` says that the payload is all there was, so that it can be read again; `arrived_at` is 0 for now."""

    topic: str
    payload: bytes
    reason: str
    detail: str
    device: int = -1
    count: int = 1
    whole: bool = True
    arrived_at: int = 0


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a QoS 1 packet first came: a redelivery (DUP) of it keeps this instant. `digest` is of its payload."""

    packet_id: int
    digest: bytes
    received_at: int


@dataclass(frozen=True, slots=True)
class Status:
    """What a device's own status topic said (retained, or its last will)."""

    device: int
    online: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What a device answered to a command; `id` names the command, `payload` is the whole JSON answer."""

    device: int
    id: str
    received_at: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Redriven:
    """A kept packet that is read again: the row it was kept in, and what the ledger counted for it when it came."""

    id: int
    device: int
    at: int
    reason: str
    count: int


# Of an element whose device does not number its messages.
NO_SEQ = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """n rows, m elements. `element_device`, `element_received_at` and `element_seq` are per element, the rest per row.

    An event's element has no rows; an element all of whose values were refused has none either. `element_seq` is the
    device's own count of its messages, NO_SEQ where it says none; None where no element of the batch says one.
    """

    series: I32
    measured_at: I64
    value: F64
    quality: U8
    element: I32
    element_device: I32
    element_received_at: I64
    events: tuple[EventRow, ...] = ()
    refused: tuple[Refused, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    statuses: tuple[Status, ...] = ()
    replies: tuple[Reply, ...] = ()
    redriven: tuple[Redriven, ...] = ()
    element_seq: I64 | None = None

    def __len__(self) -> int:
        return len(self.series)

    @property
    def empty(self) -> bool:
        """Nothing to store, to judge or to count."""
        return not (len(self.element_device) or self.refused or self.statuses or self.replies or self.redriven)


def empty_batch() -> Batch:
    return Batch(
        np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.uint8),
        np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64),
    )  # fmt: skip

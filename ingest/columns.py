"""Grows the columns of the next batch, in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from devices.batch import F64, I32, I64, NO_SEQ, Arrival, Batch, EventRow, Redriven, Refused, Reply, Status

# A refused packet is kept for a person to look at; of a larger one they see the beginning.
KEPT_PAYLOAD = 64 * 1024
# So much of kept payloads fills a batch as a row does: a hundred thousand of the largest would be gigabytes.
ROW_BYTES = 1024


def digest(payload: bytes) -> bytes:
    """Tells payloads apart; 16 bytes."""
    return blake2b(payload, digest_size=16).digest()


@dataclass(slots=True)
class Part:
    """Some elements in order of arrival, and their rows: `rows[e]` says how many rows element e has."""

    series: I32
    values: F64
    rows: I64
    device: I32
    measured_at: I64
    received_at: I64
    seq: I64


class Builder:
    """Lists while single packets are read, `Part`s for what is finished or was read at once. `values[i]` belongs to
    `series[i]`; `rows[e]` says how many rows element e has."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._parts: list[Part] = []
        self._closed_rows = self._closed_elements = 0
        self._open()
        self.events: list[EventRow] = []
        self.refused: list[Refused] = []
        self.arrivals: list[Arrival] = []
        self.statuses: list[Status] = []
        self.replies: list[Reply] = []
        self.redriven: list[Redriven] = []
        self.packet_ids: list[int] = []
        # Of payloads that are kept as they came: of events, refusals and replies.
        self.kept_bytes = 0
        self._too_fast: dict[int, tuple[str, int]] = {}

    def _open(self) -> None:
        self.series: list[int] = []
        self.values: list[float] = []
        self.rows: list[int] = []
        self.device: list[int] = []
        self.measured_at: list[int] = []
        self.received_at: list[int] = []
        self.seq: list[int] = []

    def __bool__(self) -> bool:
        return bool(
            self.elements or self.refused or self.statuses or self.packet_ids or self.replies or self.redriven
            or self._too_fast
        )  # fmt: skip

    def __len__(self) -> int:
        """How much there is to settle, in rows: an element without rows counts one, and so does each of the rest; what
        they keep of their payloads counts by its size."""
        others = len(self.refused) + len(self.statuses) + len(self.replies)
        return max(self._closed_rows + len(self.series), self.elements) + others + self.kept_bytes // ROW_BYTES

    @property
    def elements(self) -> int:
        """Elements so far; the next one has this number."""
        return self._closed_elements + len(self.rows)

    def refuse(  # noqa: PLR0917 - one row
        self, topic: str, payload: bytes, reason: str, detail: str, device: int = -1, count: int = 1
    ) -> None:
        """Count what cannot be stored and keep it with its reason."""
        whole = len(payload) <= KEPT_PAYLOAD
        if not whole:
            detail = f"{detail} (first {KEPT_PAYLOAD:,} of {len(payload):,} bytes kept)"
            payload = payload[:KEPT_PAYLOAD]
        self.kept_bytes += len(payload)
        self.refused.append(Refused(topic, payload, reason, detail[:500], device, count, whole))

    def refuse_too_fast(self, topic: str, device: int) -> None:
        """Count a message beyond the device's limit; kept is only that, in one row a device and batch."""
        self._too_fast[device] = topic, self._too_fast.get(device, ("", 0))[1] + 1

    def remember(self, packet_id: int, payload: bytes, received_at: int) -> None:
        """A QoS 1 packet timed by its arrival: should it come again, this is when it came."""
        self.arrivals.append(Arrival(packet_id, digest(payload), received_at))

    def repair(self) -> None:
        """Drop the rows of an element that was not finished."""
        finished = sum(self.rows)
        del self.series[finished:]
        del self.values[finished:]

    def cut(self) -> Part:
        """What the lists hold; they are empty again. `add` it, alone or among others."""
        part = Part(
            np.array(self.series, np.int32), np.array(self.values, np.float64), np.array(self.rows, np.int64),
            np.array(self.device, np.int32), np.array(self.measured_at, np.int64),
            np.array(self.received_at, np.int64), np.array(self.seq, np.int64),
        )  # fmt: skip
        self._open()
        return part

    def close(self) -> None:
        """What the lists hold becomes a part; they are empty."""
        if self.rows:
            self.add(self.cut())

    def add(self, part: Part) -> None:
        """Elements that come after all there are; the lists are empty."""
        self._parts.append(part)
        self._closed_rows += len(part.series)
        self._closed_elements += len(part.rows)

    def take(self) -> tuple[Batch, list[int]]:
        """The batch so far and the ids of the packets to acknowledge with it; the builder is empty again."""
        for device, (topic, count) in self._too_fast.items():
            detail = f"{count:,} messages over the limit of the device (ingest.max_messages_per_s)"
            self.refused.append(Refused(topic, b"", "too_fast", detail, device, count, whole=False))
        self.close()
        all_ = self._parts[0] if len(self._parts) == 1 else joined(self._parts or [self.cut()])
        batch = Batch(
            series=all_.series,
            measured_at=np.repeat(all_.measured_at, all_.rows),
            value=all_.values,
            quality=np.zeros(len(all_.series), np.uint8),
            element=np.repeat(np.arange(len(all_.rows), dtype=np.int32), all_.rows),
            element_device=all_.device,
            element_received_at=all_.received_at,
            events=tuple(self.events),
            refused=tuple(self.refused),
            arrivals=tuple(self.arrivals),
            statuses=tuple(self.statuses),
            replies=tuple(self.replies),
            redriven=tuple(self.redriven),
            element_seq=all_.seq if (all_.seq != NO_SEQ).any() else None,
        )
        packet_ids = self.packet_ids
        self._clear()
        return batch, packet_ids


def joined(parts: Sequence[Part]) -> Part:
    """One after the other."""
    return Part(
        np.concatenate([p.series for p in parts]), np.concatenate([p.values for p in parts]),
        np.concatenate([p.rows for p in parts]), np.concatenate([p.device for p in parts]),
        np.concatenate([p.measured_at for p in parts]), np.concatenate([p.received_at for p in parts]),
        np.concatenate([p.seq for p in parts]),
    )  # fmt: skip


def in_order(part: Part, order: I64) -> Part:
    """The same elements in the order given, each with its rows."""
    rows = part.rows[order]
    begins = np.cumsum(part.rows) - part.rows
    ends = np.cumsum(rows)
    at = np.repeat(begins[order] - ends + rows, rows) + np.arange(len(part.series))
    return Part(
        part.series[at], part.values[at], rows, part.device[order], part.measured_at[order],
        part.received_at[order], part.seq[order],
    )  # fmt: skip

"""Grows the columns of the next batch, in order of arrival."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from devices.batch import NO_SEQ, Arrival, Batch, EventRow, Redriven, Refused, Reply, Status

# A refused packet is kept for a person to look at; of a larger one they see the beginning.
KEPT_PAYLOAD = 64 * 1024


def digest(payload: bytes) -> bytes:
    """Tells payloads apart; 16 bytes."""
    return blake2b(payload, digest_size=16).digest()


class Builder:
    """Lists while they grow, arrays when they are taken. `values[i]` belongs to `series[i]`; `rows[e]` says how many
    rows element e has."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.series: list[int] = []
        self.values: list[float] = []
        self.rows: list[int] = []
        self.device: list[int] = []
        self.measured_at: list[int] = []
        self.received_at: list[int] = []
        self.seq: list[int] = []
        self.events: list[EventRow] = []
        self.refused: list[Refused] = []
        self.arrivals: list[Arrival] = []
        self.statuses: list[Status] = []
        self.replies: list[Reply] = []
        self.redriven: list[Redriven] = []
        self.packet_ids: list[int] = []
        self._too_fast: dict[int, tuple[str, int]] = {}

    def __bool__(self) -> bool:
        return bool(self.rows or self.refused or self.statuses or self.packet_ids or self.replies or self.redriven)

    def refuse(  # noqa: PLR0917 - one row
        self, topic: str, payload: bytes, reason: str, detail: str, device: int = -1, count: int = 1
    ) -> None:
        """Count what cannot be stored and keep it with its reason."""
        if len(payload) > KEPT_PAYLOAD:
            detail = f"{detail} (first {KEPT_PAYLOAD:,} of {len(payload):,} bytes kept)"
            payload = payload[:KEPT_PAYLOAD]
        self.refused.append(Refused(topic, payload, reason, detail[:500], device, count))

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

    def take(self) -> tuple[Batch, list[int]]:
        """The batch so far and the ids of the packets to acknowledge with it; the builder is empty again."""
        for device, (topic, count) in self._too_fast.items():
            detail = f"{count:,} messages over the limit of the device (ingest.max_messages_per_s)"
            self.refuse(topic, b"", "too_fast", detail, device, count)
        rows, seq = np.asarray(self.rows, np.int64), np.asarray(self.seq, np.int64)
        batch = Batch(
            series=np.asarray(self.series, np.int32),
            measured_at=np.repeat(np.asarray(self.measured_at, np.int64), rows),
            value=np.asarray(self.values, np.float64),
            quality=np.zeros(len(self.series), np.uint8),
            element=np.repeat(np.arange(len(rows), dtype=np.int32), rows),
            element_device=np.asarray(self.device, np.int32),
            element_received_at=np.asarray(self.received_at, np.int64),
            events=tuple(self.events),
            refused=tuple(self.refused),
            arrivals=tuple(self.arrivals),
            statuses=tuple(self.statuses),
            replies=tuple(self.replies),
            redriven=tuple(self.redriven),
            element_seq=seq if (seq != NO_SEQ).any() else None,
        )
        packet_ids = self.packet_ids
        self._clear()
        return batch, packet_ids

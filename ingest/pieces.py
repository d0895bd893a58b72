"""PUBLISH packets out of one piece of the stream, without an object a packet."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from devices.batch import I64

DUP, RETAIN = 0x08, 0x01
# The first byte of a packet that is neither retained nor sent again.
PLAIN, PLAIN_QOS1 = 0x30, 0x32
# One packet of a second's readings is a few hundred bytes; a list of a day's backlog some hundred thousand. A payload
# beyond this is not read.
MAX_PAYLOAD = 512 * 1024
_NUMBER = (1 << 32) - 1


@dataclass(slots=True)
class Piece:
    """`entries[i]` is of `payloads[i]`: in the low 32 bits the number of its topic, above where in `data` its packet
    id stands (0: QoS 0). The number is 0 for what `strange` lists as (place, topic, first byte): topics without a
    number, and packets that are retained, sent again, too large or carry properties."""

    data: bytes
    entries: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    strange: list[tuple[int, bytes, int]] = field(default_factory=list)

    def number(self, place: int) -> int:
        return self.entries[place] & _NUMBER

    def packet_id(self, place: int) -> int:
        at = self.entries[place] >> 32
        return self.data[at] << 8 | self.data[at + 1] if at else 0

    def columns(self, start: int, end: int) -> tuple[I64, I64]:
        """Numbers of the topics and packet ids of these places."""
        entries = np.fromiter(self.entries[start:end], np.int64, end - start)
        at = entries >> 32
        if not at.any():
            return entries, at
        octets = np.frombuffer(self.data, np.uint8)
        ids = octets[at].astype(np.int64) << 8 | octets[at + 1]
        return entries & _NUMBER, np.where(at, ids, 0)

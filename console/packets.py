"""Refused packets made safe to look at: text where it is text, else hexadecimal; of personal devices nothing."""

from __future__ import annotations

from dataclasses import dataclass

from console.places import is_personal
from console.visits import SignedVisit
from devices.kinds import KINDS
from flow.redriving import why_left
from store.records.refused import RefusedRow, Wanted, list_refused

# What a person reads of a packet; the rest is for the API.
MOST_BYTES = 600
_HEX_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class Packet:
    """`masked`: it is about a personal device. `hex`: not text. `cut`: only the beginning is shown. `left`: why it
    cannot be read again, empty where it can."""

    id: int
    at: int
    reason: str
    detail: str
    topic: str
    shown: str
    size: int
    hex: bool
    cut: bool
    masked: bool
    left: str


def packets_of(
    visit: SignedVisit, *, reason: str | None = None, device: int | None = None, limit: int
) -> tuple[list[Packet], str | None]:
    """Newest first, and the cursor of what follows."""
    with visit.installation.records.connect() as tx:
        found = list_refused(tx, Wanted(reason=reason, device=device), limit=limit)
    return [_packet(visit, row) for row in found.items], found.next


def _packet(visit: SignedVisit, row: RefusedRow) -> Packet:
    masked = _about_a_person(visit, row)
    shown, is_hex = show(row.payload)
    return Packet(
        id=row.id,
        at=row.arrived_at,
        reason=row.reason,
        detail="" if masked else printable(row.detail),
        topic="" if masked else printable(row.topic),
        shown="" if masked else shown,
        size=len(row.payload),
        hex=is_hex,
        cut=len(row.payload) > MOST_BYTES,
        masked=masked,
        left=why_left(row) or "",
    )


def show(payload: bytes) -> tuple[str, bool]:
    """The beginning of the payload, and whether it is shown as hexadecimal."""
    head = payload[:MOST_BYTES]
    try:
        # A character cut in two at the end is no reason for hexadecimal.
        text = head.decode() if len(payload) <= MOST_BYTES else head.decode(errors="ignore")
        if all(c.isprintable() or c in "\t\n\r" for c in text) and (text or not head):
            return text, False
    except UnicodeDecodeError:
        pass
    lines = [head[i : i + _HEX_COLUMNS].hex(" ") for i in range(0, len(head), _HEX_COLUMNS)]
    return "\n".join(lines), True


def printable(text: str) -> str:
    """Control and direction characters as \\u escapes: a topic must not rearrange the line it stands in."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _about_a_person(visit: SignedVisit, row: RefusedRow) -> bool:
    devices = visit.installation.registry.devices
    if 0 <= row.device < len(devices) and is_personal(devices[row.device].kind):
        return True
    parts = row.topic.split("/")
    return any(kind.personal and name in parts for name, kind in KINDS.items())

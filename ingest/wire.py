"""MQTT packets as bytes: what a subscriber sends and what it must read, versions 5 and 3.1.1.

Only that much of the protocol stands here because this is the hot path (docs/adr/0002); publishing devices and the
simulator use aiomqtt. Section numbers are those of the OASIS MQTT 5.0 specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

V5, V311 = 5, 4

CONNECT, CONNACK, PUBLISH, PUBACK, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x90
PINGREQ = b"\xc0\x00"
PINGRESP, DISCONNECT = 0xD0, 0xE0

SESSION_TAKEN_OVER = 0x8E
# Reasons from here on are refusals.
REFUSED = 0x80
# Version 5 says 0x84; brokers that know only 3.1.1 answer 1, its "unacceptable protocol version".
UNSUPPORTED_VERSION = (0x01, 0x84)

# §2.2.2.2: identifier → length of its value; 0 a UTF-8 string or binary, -1 a variable byte integer, -2 a string pair.
_PROPERTY_LENGTHS = {
    0x01: 1, 0x02: 4, 0x03: 0, 0x08: 0, 0x09: 0, 0x0B: -1, 0x11: 4, 0x12: 0, 0x13: 2, 0x15: 0, 0x16: 0, 0x17: 1,
    0x18: 4, 0x19: 1, 0x1A: 0, 0x1C: 0, 0x1F: 0, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: -2, 0x27: 4,
    0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
SERVER_KEEP_ALIVE = 0x13
RETAIN_HANDLING_NEW_ONLY = 0x10


class ProtocolError(Exception):
    """The broker sent something that is not MQTT; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Connack:
    session_present: bool
    code: int
    properties: dict[int, int]


def length_bytes(length: int) -> bytes:
    """§1.5.5 variable byte integer."""
    encoded = bytearray()
    while True:
        length, byte = divmod(length, 128)
        encoded.append(byte | 0x80 if length else byte)
        if not length:
            return bytes(encoded)


def read_length(data: bytes, position: int) -> tuple[int, int]:
    """The variable byte integer at the position and where it ends. Raises ProtocolError, IndexError if cut short."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 21:
            raise ProtocolError("a length of more than four bytes")


def connect(
    client_id: str, *, version: int, keep_alive: int, receive_maximum: int, session_expiry: int,
    username: str | None = None, password: bytes | None = None,
) -> bytes:  # fmt: skip
    """Clean start off: the session the broker kept for this client id goes on."""
    flags = (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = _text("MQTT") + bytes([version, flags]) + struct.pack("!H", keep_alive)
    if version == V5:
        properties = b"\x11" + struct.pack("!I", session_expiry) + b"\x21" + struct.pack("!H", receive_maximum)
        body += length_bytes(len(properties)) + properties
    body += _text(client_id)
    if username is not None:
        body += _text(username)
    if password is not None:
        body += struct.pack("!H", len(password)) + password
    return _packet(CONNECT, body)


def subscribe(packet_id: int, filters: Iterable[str], *, version: int) -> bytes:
    """QoS 1. In version 5 retained messages come only with a subscription that is new."""
    option = 1 | (RETAIN_HANDLING_NEW_ONLY if version == V5 else 0)
    body = struct.pack("!H", packet_id) + (b"\x00" if version == V5 else b"")
    for each in filters:
        body += _text(each) + bytes([option])
    return _packet(0x82, body)


def publish(topic: str, payload: bytes, *, packet_id: int, version: int, expiry_s: int | None = None) -> bytes:
    """QoS 1, not retained. Version 3.1.1 knows no expiry."""
    body = _text(topic) + struct.pack("!H", packet_id)
    if version == V5:
        body += b"\x00" if expiry_s is None else b"\x05\x02" + struct.pack("!I", expiry_s)
    return _packet(PUBLISH | 0x02, body + payload)


def pubacks(packet_ids: Iterable[int]) -> bytes:
    """Many acknowledgements as one write; without a reason code they are the same in both versions."""
    ids = np.fromiter(packet_ids, ">u2")
    packets = np.empty((len(ids), 4), np.uint8)
    packets[:, 0], packets[:, 1] = PUBACK, 2
    packets[:, 2:] = ids.view(np.uint8).reshape(-1, 2)
    return packets.tobytes()


def disconnect() -> bytes:
    return bytes([DISCONNECT, 0])


def read_connack(body: bytes, *, version: int) -> Connack:
    if len(body) < 2:
        raise ProtocolError("CONNACK of less than two bytes")
    properties = read_properties(body, 2)[0] if version == V5 and len(body) > 2 else {}
    return Connack(bool(body[0] & 1), body[1], properties)


def read_suback(body: bytes, *, version: int) -> list[int]:
    """The granted QoS or the failure code (0x80 and above) of every filter."""
    position = 2
    if version == V5:
        length, position = read_length(body, position)
        position += length
    return list(body[position:])


def read_properties(body: bytes, position: int) -> tuple[dict[int, int], int]:
    """The numeric properties at the position (others are skipped) and where they end."""
    length, position = read_length(body, position)
    end = position + length
    if end > len(body):
        raise ProtocolError("properties run past their packet")
    found: dict[int, int] = {}
    while position < end:
        identifier = body[position]
        position += 1
        size = _PROPERTY_LENGTHS.get(identifier)
        if size is None:
            raise ProtocolError(f"unknown property {identifier:#04x}")
        if size > 0:
            found[identifier] = int.from_bytes(body[position : position + size], "big")
            position += size
        elif size == -1:
            found[identifier], position = read_length(body, position)
        else:
            for _ in range(2 if size == -2 else 1):
                position += 2 + int.from_bytes(body[position : position + 2], "big")
    return found, end


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("!H", len(encoded)) + encoded


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + length_bytes(len(body)) + body

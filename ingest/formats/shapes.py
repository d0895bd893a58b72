"""The form a device's packets usually have, and many packets of one form read at once.

Packets of one form are joined to one JSON list and decoded in one call. The zeros between them are what makes that
safe: see `Shape._together`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from devices.batch import F64, I64, NO_SEQ
from devices.instants import MAX_INSTANT, MILLISECOND
from devices.kinds import Kind

MAX_SEQ = (1 << 63) - 1
# What msgspec raises at bytes that are not JSON; at JSON that is not what was asked for, ValidationError, which
# is a DecodeError too and has to be caught first.
UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
# Sets of metrics are the senders' to invent; beyond this everything is learned afresh.
MAX_SHAPES = 4_096
# Packets decoded in one call. One that cannot be read sends all of its call through one by one.
AT_ONCE = 128

_At = Annotated[int, msgspec.Meta(gt=0, le=MAX_INSTANT // MILLISECOND)]
_Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]


@dataclass(slots=True)
class Failure:
    """A packet that has not the form it was taken to have: another, or `error` says why it is not JSON."""

    error: Exception | None = None


OTHER = Failure()


@dataclass(slots=True)
class Read:
    """Of m elements out of packets of one form with k metrics: instants (µs), the device's counts and values (m, k);
    how many elements each packet of that form had; and by place those that have not this form."""

    measured_at: I64
    seq: I64
    values: F64
    counts: list[int] | None  # None: one each
    failed: dict[int, Failure]


class Shape:
    """One object, or a list of such objects, of an epoch `at`, perhaps `seq`, and these metrics as plain numbers."""

    def __init__(self, number: int, kind: Kind, metrics: tuple[str, ...], *, numbered: bool, listed: bool) -> None:
        self.number, self.metrics, self.listed = number, metrics, listed
        fields: list[tuple[str, Any]] = [("at", _At), *([("seq", _Seq)] if numbered else [])]
        fields += [(name, bool | float if kind.metrics[name].boolean else float) for name in metrics]
        struct = msgspec.defstruct("Usual", fields, forbid_unknown_fields=True, gc=False)
        self._first = len(fields) - len(metrics)
        self._one: Callable[[bytes], Any] = msgspec.json.Decoder(list[struct] if listed else struct).decode  # type: ignore[valid-type]
        self._many: Callable[[bytes], list[Any]] = msgspec.json.Decoder(list[struct | int]).decode  # type: ignore[valid-type]
        self._at = attrgetter("at")
        self._seq = attrgetter("seq") if numbered else None
        self._values = [attrgetter(name) for name in metrics]

    def one(self, payload: bytes) -> tuple[int, int, tuple[float, ...]]:
        """Instant (µs), count and values of a packet of one object. Raises ValidationError for any other, and what
        stands in UNREADABLE for what is not JSON."""
        fields = astuple(self._one(payload))
        first = self._first
        return fields[0] * MILLISECOND, fields[1] if first == 2 else NO_SEQ, fields[first:]

    def read(self, payloads: Sequence[bytes]) -> Read:
        """All packets that have this form."""
        found: list[Any] = []
        counts: list[int] | None = None
        failed: dict[int, Failure] = {}
        if self.listed:
            packets = self._singly(payloads, 0, failed)
            counts = [len(packet) for packet in packets]
            return self._columns(list(chain.from_iterable(packets)), counts, failed)
        for start in range(0, len(payloads), AT_ONCE):
            found += self._together(payloads[start : start + AT_ONCE], start, failed)
        try:
            return self._columns(found, None, failed)
        except AttributeError:  # a packet was a bare number
            failed = {}
            return self._columns(self._singly(payloads, 0, failed), None, failed)

    def _together(self, payloads: Sequence[bytes], start: int, failed: dict[int, Failure]) -> Sequence[Any]:
        """Payloads with `,0,` between them as one list. As many elements as there are payloads and zeros proves that
        each payload is one whole value: no two payloads can make one between them, for inside an object a comma and a
        number is an error, and a string that runs on would be a name no form has. So each is at least one element, and
        one that smuggles in a second makes the sum too large."""
        try:
            values = self._many(b"[%b]" % b",0,".join(payloads))
            if len(values) == 2 * len(payloads) - 1:
                return values[::2]
        except UNREADABLE:
            pass
        return self._singly(payloads, start, failed)

    def _singly(self, payloads: Sequence[bytes], start: int, failed: dict[int, Failure]) -> list[Any]:
        found: list[Any] = []
        packets, take, gone = map(self._one, payloads), found.append, 0
        while True:
            try:
                for packet in packets:
                    take(packet)
                return found
            except msgspec.ValidationError:
                failed[start + len(found) + gone] = OTHER
            except UNREADABLE as error:
                failed[start + len(found) + gone] = Failure(error)
            gone += 1

    def _columns(self, found: list[Any], counts: list[int] | None, failed: dict[int, Failure]) -> Read:
        size = len(found)
        values = np.empty((size, len(self._values)))
        for column, get in enumerate(self._values):
            values[:, column] = np.fromiter(map(get, found), np.float64, size)
        at = np.fromiter(map(self._at, found), np.int64, size)
        seq = np.fromiter(map(self._seq, found), np.int64, size) if self._seq else np.full(size, NO_SEQ, np.int64)
        return Read(at * MILLISECOND, seq, values, counts, failed)


class Shapes:
    """Every form met so far, by number from 1."""

    def __init__(self) -> None:
        self.known: list[Shape | None] = [None]
        self._numbers: dict[tuple[Any, ...], int] = {}

    def find(self, kind: Kind, elements: Sequence[Any], *, listed: bool) -> Shape | None:
        """The form that these elements of a packet have in common, if they have one that can be read at once."""
        first = elements[0] if elements else None
        if type(first) is not dict or type(first.get("at")) is not int or type(first.get("seq", 0)) is not int:
            return None
        names = tuple(first)
        if any(type(element) is not dict or tuple(element) != names for element in elements):
            return None
        metrics = tuple(name for name in names if name not in ("at", "seq"))
        if not metrics or any(name not in kind.metrics for name in metrics):
            return None
        key = (kind.name, "seq" in first, listed, metrics)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.known)
            self.known.append(Shape(number, kind, metrics, numbered=key[1], listed=listed))
        return self.known[number]

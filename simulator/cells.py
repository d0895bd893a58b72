"""Cells of a recorded file, a column at a time: text to instants, numbers and device ids, or the reason why not.

A column is parsed in one sweep; only one that holds a bad cell is parsed again cell by cell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np

from devices.batch import F64, I32, I64, Bool
from devices.instants import MAX_INSTANT, MILLISECOND, MIN_INSTANT, MINUTE, SECOND, from_datetime, to_datetime
from devices.names import is_name, to_name
from simulator.mapping import FileMapping, TimeSource

T = TypeVar("T")
Reasons = dict[int, str]  # why the cell at this index cannot be read

_LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times count from a local epoch until their zone shifts them
_MICROSECOND = timedelta(microseconds=1)
# 2026-05-01T08:00:00: where its digits stand, and what stands between them.
_ISO_LENGTH = 19
_ISO_MARKS = [4, 7, 10, 13, 16]
_ISO_DIGITS = [place for place in range(_ISO_LENGTH) if place not in _ISO_MARKS]
_TRUTH = {"true": 1.0, "false": 0.0}


class RecordedError(Exception):
    """The file as a whole cannot be used: no header, a mapped column is absent, two devices share one id."""


def parse_column(texts: Sequence[str], parse: Callable[[str], T], blank: T) -> tuple[list[T], Reasons]:
    """Every cell parsed; a cell that raises ValueError gets `blank` and its reason."""
    try:
        return [parse(text) for text in texts], {}
    except (ValueError, OverflowError):
        pass
    found: list[T] = []
    reasons: Reasons = {}
    for i, text in enumerate(texts):
        try:
            found.append(parse(text))
        except (ValueError, OverflowError) as error:
            found.append(blank)
            reasons[i] = f"{text!r}: {error}"
    return found, reasons


def number(text: str) -> float:
    """A finite decimal number with a point; `1,5`, `1_000`, `nan` and `inf` are ValueErrors."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number") from None
    if not math.isfinite(value) or "_" in text:
        raise ValueError("not a finite number")
    return value


def numbers(texts: Sequence[str]) -> F64 | None:
    """The whole column of numbers, or None where a cell is none: then it has to be parsed cell by cell."""
    try:
        found = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        return None
    return found if np.isfinite(found).all() and "_" not in "".join(texts) else None


def truth(text: str) -> float:
    """true, false, or a number."""
    known = _TRUTH.get(text.strip().lower())
    return number(text) if known is None else known


class DeviceNames:
    """Device ids by first appearance; two different names that become one id are a RecordedError."""

    def __init__(self, mapping: FileMapping) -> None:
        self.ids: list[str] = []
        self.originals: list[str] = []
        self._numbers: dict[str, int] = {}
        self._by_id: dict[str, str] = {}
        if mapping.device.const is not None:
            self._number(mapping.device.const)

    def column(self, texts: Sequence[str]) -> tuple[I32, Reasons]:
        """Index into `ids` of every cell."""
        found, reasons = parse_column(texts, self._number, 0)
        return np.asarray(found, np.int32), reasons

    def _number(self, text: str) -> int:
        known = self._numbers.get(text)
        if known is not None:
            return known
        original = text.strip()
        device = original if is_name(original) else to_name(original)
        if not device:
            raise ValueError("nothing of this can stand in a device id")
        other = self._by_id.setdefault(device, original)
        if other != original:
            raise RecordedError(f"devices {other!r} and {original!r} would both be called {device!r}")
        if original not in self._numbers:
            self._numbers[original] = len(self.ids)
            self.ids.append(device)
            self.originals.append(original)
        self._numbers[text] = self._numbers[original]
        return self._numbers[original]


class Clock:
    """Instants of the time column or columns, as the mapping's `time` says."""

    def __init__(self, source: TimeSource) -> None:
        self._source = source
        self._zone = ZoneInfo(source.zone) if source.zone else None
        self._offsets: dict[int, tuple[int, bool]] = {}

    def instants(self, columns: Sequence[Sequence[str]]) -> tuple[I64, Bool, Reasons]:
        """µs since 1970 UTC, whether the zone's clock shows that local time twice or never, and what is unreadable."""
        kind = "columns" if self._source.columns else self._source.format
        if kind in ("epoch_ms", "epoch_s"):
            unit = MILLISECOND if kind == "epoch_ms" else SECOND
            found, reasons = parse_column(columns[0], lambda text: _checked(round(number(text) * unit)), 0)
            return np.asarray(found, np.int64), np.zeros(len(found), np.bool_), reasons
        if kind == "columns":
            texts: Sequence[str] = ["\t".join(cells) for cells in zip(*columns, strict=True)]
            stamps, reasons = parse_column(texts, self._from_parts, (0, True))
        elif kind == "iso":
            at_once = self._iso_column(columns[0])
            if at_once is not None:
                at, ambiguous = self._placed(*at_once)
                if at.min() >= MIN_INSTANT and at.max() <= MAX_INSTANT:
                    return at, ambiguous, {}
            stamps, reasons = parse_column(columns[0], self._from_iso, (0, True))
        else:
            stamps, reasons = parse_column(columns[0], self._from_format, (0, True))
        at, ambiguous = self._placed(
            np.fromiter((stamp for stamp, _ in stamps), np.int64, len(stamps)),
            np.fromiter((known for _, known in stamps), np.bool_, len(stamps)),
        )
        for i in np.flatnonzero((at < MIN_INSTANT) | (at > MAX_INSTANT)).tolist():
            reasons.setdefault(i, "a time before 1970 or after 9999")
        return at, ambiguous, reasons

    def _placed(self, at: I64, utc: Bool) -> tuple[I64, Bool]:
        """Instants of local times, or of what is UTC already; offsets are looked up once a minute of local time."""
        local = ~utc
        ambiguous = np.zeros(len(at), np.bool_)
        if local.any():
            minutes, which = np.unique(at[local] // MINUTE, return_inverse=True)
            shifts = [self._offset(int(minute)) for minute in minutes]
            at[local] -= np.asarray([shift for shift, _ in shifts], np.int64)[which]
            ambiguous[local] = np.asarray([odd for _, odd in shifts], np.bool_)[which]
        return at, ambiguous

    def _offset(self, minute: int) -> tuple[int, bool]:
        """What the zone is ahead of UTC in this minute of local time, and whether it comes twice or never."""
        known = self._offsets.get(minute)
        if known is None:
            local = to_datetime(minute * MINUTE).replace(tzinfo=self._zone)
            first, second = local.utcoffset(), local.replace(fold=1).utcoffset()
            assert first is not None
            if len(self._offsets) > 100_000:
                self._offsets.clear()
            known = self._offsets[minute] = (first // _MICROSECOND, first != second)
        return known

    def _iso_column(self, texts: Sequence[str]) -> tuple[I64, Bool] | None:
        """The usual form, 2026-05-01T08:00:00 and Z, nothing or one offset behind it, in one sweep; None for others."""
        if not texts:
            return None
        try:
            letters = np.array(texts, "S").view(np.uint8).reshape(len(texts), -1)
        except UnicodeEncodeError:
            return None
        suffix = bytes(letters[0, _ISO_LENGTH:])
        offset = _offset_of(suffix)
        if letters.shape[1] < _ISO_LENGTH or offset is None or (suffix == b"" and self._zone is None):
            return None
        head = letters[:, :_ISO_LENGTH]
        digits = head[:, _ISO_DIGITS]
        if (
            (letters[:, _ISO_LENGTH:] != letters[0, _ISO_LENGTH:]).any()
            or (head[:, _ISO_MARKS] != head[0, _ISO_MARKS]).any()
            or bytes(head[0, _ISO_MARKS]) not in (b"--T::", b"-- ::")
            or ((digits < ord("0")) | (digits > ord("9"))).any()
        ):
            return None
        try:
            at = np.ascontiguousarray(head).view(f"S{_ISO_LENGTH}").ravel().astype("M8[us]").astype(np.int64)
        except ValueError:
            return None
        return at - offset, np.full(len(at), suffix != b"", np.bool_)

    def _from_parts(self, text: str) -> tuple[int, bool]:
        parts = [int(part) for part in text.split("\t")]
        return self._stamp(datetime(*parts))  # type: ignore[arg-type]  # noqa: DTZ001

    def _from_iso(self, text: str) -> tuple[int, bool]:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError("not an ISO 8601 time") from None
        return self._stamp(moment)

    def _from_format(self, text: str) -> tuple[int, bool]:
        return self._stamp(datetime.strptime(text.strip(), self._source.format))  # noqa: DTZ007

    def _stamp(self, moment: datetime) -> tuple[int, bool]:
        if moment.tzinfo is not None:
            return _checked(from_datetime(moment)), True
        if self._zone is None:
            raise ValueError("has no offset, and the mapping names no zone")
        return _checked((moment - _LOCAL_EPOCH) // _MICROSECOND), False


def _offset_of(suffix: bytes) -> int | None:
    """µs that `Z`, `+08:00` or nothing is ahead of UTC; None for other texts."""
    if suffix in (b"", b"Z"):
        return 0
    found = re.fullmatch(rb"([+-])(\d\d):([0-5]\d)", suffix)
    if found is None or int(found[2]) > 23:
        return None
    return (-1 if found[1] == b"-" else 1) * (60 * int(found[2]) + int(found[3])) * MINUTE


def _checked(instant: int) -> int:
    if not MIN_INSTANT <= instant <= MAX_INSTANT:
        raise ValueError("a time before 1970 or after 9999")
    return instant

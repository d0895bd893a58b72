"""Instants and durations: int64 microseconds since 1970 UTC inside, ISO 8601 and `15m` at the edges."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")

# Years 1970 to 9999: what datetime and every store can hold.
MIN_INSTANT = 0
MAX_INSTANT = 253_402_300_799_999_999


def to_datetime(instant: int) -> datetime:
    """Aware, UTC. Integer arithmetic: a float would lose microseconds."""
    return _EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> int:
    """Raises ValueError for a moment without a zone."""
    if moment.tzinfo is None:
        raise ValueError("a time needs an offset, such as Z or +08:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def to_iso(instant: int) -> str:
    """2025-09-12T07:00:00Z, with a fraction only where there is one."""
    text = to_datetime(instant).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


def from_iso(text: str) -> int:
    """Raises ValueError where the text is not ISO 8601 with an offset, or lies outside 1970–9999."""
    instant = from_datetime(datetime.fromisoformat(text.strip()))
    if not MIN_INSTANT <= instant <= MAX_INSTANT:
        raise ValueError("before 1970 or after 9999")
    return instant


def parse_duration(text: str) -> int:
    """`90s`, `1h30m`, `2d`, `250ms` as microseconds; ValueError otherwise."""
    compact = text.strip()
    if not _DURATION.fullmatch(compact):
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m, 1h30m or 2d")
    return sum(round(float(number) * _UNITS[unit]) for number, unit in _PART.findall(compact))


def format_duration(span: int) -> str:
    """The shortest exact form: 5400000000 is 1h30m; zero is 0s."""
    if span == 0:
        return "0s"
    text, rest = "", span
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            text += f"{count}{unit}"
    return text if not rest else f"{span / SECOND:g}s"

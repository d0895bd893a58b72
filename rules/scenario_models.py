"""The keys of a scenario file and what each may hold, as far as that can be said without knowing the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, PlainValidator, field_validator

from devices.documents import Model, nearest
from devices.instants import MAX_INSTANT, MIN_INSTANT, SECOND, from_datetime, parse_duration
from devices.kinds import KINDS
from devices.names import is_name
from devices.town import AttributeValue
from rules.declared import MILDEST
from rules.outcome import Edge
from rules.rule import Priority

_LEVELS = {"IV": 4, "III": 3, "II": 2, "I": 1}


@dataclass(frozen=True, slots=True)
class When:
    """As written: so long after the start (µs), or a moment, which without an offset is the site's local time."""

    after: int | None = None
    moment: datetime | None = None

    @classmethod
    def read(cls, value: object) -> When:
        """Raises ValueError for what is neither a duration nor a moment."""
        wanted = "expected a time after the start such as 2m30s, or such as 2026-07-01T22:00 in quotes"
        if not isinstance(value, str):
            raise ValueError(f"{wanted}; found the bare value {value!r}")
        try:
            return cls(after=parse_duration(value))
        except ValueError:
            pass
        try:
            return cls(moment=datetime.fromisoformat(value.strip()))
        except ValueError as error:
            raise ValueError(f"{wanted}, found {value!r}") from error

    def instant(self, start: int, zone: ZoneInfo) -> int:
        """Raises ValueError for a moment before 1970 or after 9999."""
        if self.moment is None:
            return start + (self.after or 0)
        moment = self.moment if self.moment.tzinfo is not None else self.moment.replace(tzinfo=zone)
        found = from_datetime(moment)
        if not MIN_INSTANT <= found <= MAX_INSTANT:
            raise ValueError("before 1970 or after 9999")
        return found


def _moment(value: Any) -> When:
    found = When.read(value)
    if found.moment is None:
        raise ValueError(f"expected a moment such as 2026-07-01T22:00, found {value!r}")
    return found


def _span(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(f"expected a duration with its unit such as 30s or 15m, found the bare value {value!r}")
    found = parse_duration(value)
    if found <= 0:
        raise ValueError("expected more than nothing")
    return found


def _interval(value: Any) -> int:
    """Seconds, as in devices.yaml, or a duration."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return round(value * SECOND)
    return _span(value)


def _level(value: Any) -> Any:
    found = _LEVELS.get(value, value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= MILDEST:
        raise ValueError(f"expected a response level, 1 (the most severe) to {MILDEST}, or I to IV; found {value!r}")
    return found


Time = Annotated[When, PlainValidator(When.read)]
Moment = Annotated[When, PlainValidator(_moment)]
Duration = Annotated[int, PlainValidator(_span)]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class DeviceEntry(Model):
    """`interval` is seconds, or a duration; without `id` the device is called by its kind."""

    kind: str
    id: str = ""
    name: str = ""
    attributes: dict[str, AttributeValue] = Field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    grid: Text | None = None
    interval: Annotated[int, PlainValidator(_interval)] | None = None
    second_of: str | None = None

    @field_validator("kind")
    @classmethod
    def _kind(cls, value: str) -> str:
        if value not in KINDS:
            raise ValueError(f"unknown kind {value!r}{nearest(value, list(KINDS))}; one of {', '.join(KINDS)}")
        return value

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError("expected [a-z0-9][a-z0-9_-]{0,63}")
        return value


class EventEntry(Model):
    at: Time
    event: str
    device: str | None = None
    arrives: Time | None = None


class SpanEntry(Model):
    first: Annotated[Time, Field(alias="from")]
    last: Annotated[Time | None, Field(alias="to")] = None


class ResponseEntry(SpanEntry):
    level: Annotated[int, BeforeValidator(_level)]


class PauseEntry(Model):
    device: str
    first: Annotated[Time, Field(alias="from")]
    last: Annotated[Time, Field(alias="to")]
    why: str = ""
    rules: list[str] | None = None


class DeclaredEntry(Model):
    response: Sequence[ResponseEntry] = ()
    drill: Sequence[SpanEntry] = ()
    pauses: Sequence[PauseEntry] = ()


class ExpectEntry(Model):
    rule: str
    edge: Edge
    at: Time
    device: str | None = None
    priority: Priority | None = None


class Common(Model):
    """What may be said once for a whole file; `rules` and `calendar` are read apart."""

    rules: Any = None
    calendar: Any = None
    zone: str | None = None

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        try:
            return None if value is None else ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"unknown zone {value!r}; expected a name such as Asia/Shanghai") from error


class ScenarioEntry(Common):
    name: Text
    only: list[str] | None = None
    device: DeviceEntry | None = None
    devices: list[DeviceEntry] = Field(default_factory=list)
    start: Moment | None = None
    until: Time | None = None
    every: Duration | None = None
    series: dict[str, Any] = Field(default_factory=dict)
    values: list[dict[str, Any]] = Field(default_factory=list)
    events: list[EventEntry] = Field(default_factory=list)
    grids: dict[str, list[str]] = Field(default_factory=dict)
    declared: DeclaredEntry = Field(default_factory=DeclaredEntry)
    expect: list[ExpectEntry]


class ScenarioFile(Common):
    scenarios: Annotated[list[ScenarioEntry], Field(min_length=1)]

"""The mapping file: which columns of a recorded CSV are the device, the time and the metrics (docs/simulator.md).

Every mistake is reported with its line; nothing is guessed, neither a zone nor a decimal comma.
"""

from __future__ import annotations

from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_validator

from devices.documents import Document, DocumentError, Mistake, Model, check, parse
from devices.instants import SECOND, parse_duration
from devices.kinds import KINDS
from devices.names import to_name
from devices.town import AttributeValue


def _seconds(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError("expected a duration with its unit such as 30s, 5m or 1h")
    if not (span := parse_duration(value)):
        raise ValueError("expected a duration above zero")
    return span / SECOND


Seconds = Annotated[float, BeforeValidator(_seconds)]
Column = Annotated[str, Field(min_length=1)]
NAMED_FORMATS = ("iso", "epoch_ms", "epoch_s")


class DeviceSource(Model):
    """One device for the whole file, or the name in a column of every row."""

    const: Column | None = None
    column: Column | None = None

    @model_validator(mode="after")
    def _one(self) -> DeviceSource:
        if (self.const is None) == (self.column is None):
            raise ValueError("expected {const: name} or {column: name}")
        return self

    @field_validator("const")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        return None if value is None else _name(value)


class TimeSource(Model):
    """`column` with a `format`, or `columns` of year, month, day and then hour, minute, second as far as they go.

    `zone` is where rows without an offset of their own were written.
    """

    column: Column | None = None
    columns: Annotated[list[Column], Field(min_length=3, max_length=6)] | None = None
    format: Annotated[str, Field(min_length=1)] = "iso"
    zone: str | None = None

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        try:
            return None if value is None else ZoneInfo(value).key
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"unknown zone {value!r}; expected a name such as UTC or Asia/Shanghai") from error

    @field_validator("format")
    @classmethod
    def _format(cls, value: str) -> str:
        if value not in NAMED_FORMATS and "%" not in value:
            raise ValueError(f"expected {', '.join(NAMED_FORMATS)} or a strptime text such as '%d/%m/%Y %H:%M'")
        return value

    @model_validator(mode="after")
    def _complete(self) -> TimeSource:
        if (self.column is None) == (self.columns is None):
            raise ValueError("expected {column: …, format: …} or {columns: [year, month, day, hour], zone: …}")
        if self.columns is not None and "format" in self.model_fields_set:
            raise ValueError("columns need no format")
        bare = self.columns is not None or ("%" in self.format and "%z" not in self.format)
        if bare and self.zone is None:
            raise ValueError("zone: is required, these times carry no offset")
        return self


class MetricSource(Model):
    """value = text × `scale` + `offset`."""

    metric: Column
    scale: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0


class FileMapping(Model):
    """A checked mapping file: `site` and `device.const` are names of the wire already.

    `interval` is how often the devices report, in seconds; None: see gridwhistle/recorded_survey.py.
    """

    site: str
    kind: str
    device: DeviceSource
    attributes: dict[str, AttributeValue] = Field(default_factory=dict)
    interval: Seconds | None = None
    time: TimeSource
    metrics: Annotated[dict[Column, MetricSource], Field(min_length=1)]
    missing: list[str] = Field(default_factory=lambda: [""])

    @field_validator("site")
    @classmethod
    def _site(cls, value: str) -> str:
        return _name(value)

    @field_validator("kind")
    @classmethod
    def _kind(cls, value: str) -> str:
        if value not in KINDS:
            raise ValueError(f"unknown kind {value!r}; one of {', '.join(KINDS)}")
        return value


def read_mapping(text: str, file: str) -> FileMapping:
    """Raises DocumentError with every mistake of the mapping file's text; `file` is its name in the messages."""
    document = parse(text, file)
    if not isinstance(document.data, dict):
        raise DocumentError([Mistake(file, 1, 1, "expected site, kind, device, time and metrics")])
    mapping = check(document, FileMapping)
    if mistakes := _metric_mistakes(mapping, document):
        raise DocumentError(mistakes)
    return mapping


def _metric_mistakes(mapping: FileMapping, document: Document) -> list[Mistake]:
    known, mistakes, taken = KINDS[mapping.kind].metrics, [], dict[str, str]()
    for column, source in mapping.metrics.items():
        place = ("metrics", column, "metric")
        if source.metric not in known:
            said = f"{mapping.kind} has no metric {source.metric!r}; one of {', '.join(known)}"
            mistakes.append(document.mistake(place, said))
        elif source.metric in taken:
            mistakes.append(
                document.mistake(place, f"{source.metric!r} is filled from column {taken[source.metric]!r} already")
            )
        taken[source.metric] = column
    return mistakes


def _name(text: str) -> str:
    if not (name := to_name(text)):
        raise ValueError(f"nothing of {text!r} can stand in a name: [a-z0-9][a-z0-9_-]{{0,63}}")
    return name

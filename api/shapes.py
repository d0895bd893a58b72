"""What requests and answers share: instants, durations, lists, the paging arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from alerts.ends import say_end
from alerts.roles import SERVICE
from devices.instants import MAX_INSTANT, MILLISECOND, MIN_INSTANT, from_iso, parse_duration, to_iso
from store.records.pages import MAX_LIMIT, Page

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

# `+` in a query string arrives as a space: 2026-07-01T08:00:00 08:00 is an offset that was not escaped.
_LOST_PLUS = re.compile(r"(T\d{2}:?\d{2}\S*) (\d{2}:?\d{2})")
MAX_ID = 2**63 - 1


def read_instant(value: object) -> object:
    """ISO 8601 with offset, or epoch milliseconds, as microseconds."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("expected ISO 8601 with an offset, or epoch milliseconds")
    text = str(value).strip()
    if not re.fullmatch(r"-?\d{1,17}", text):
        return from_iso(_LOST_PLUS.sub(r"\1+\2", text))
    instant = int(text) * MILLISECOND
    if not MIN_INSTANT <= instant <= MAX_INSTANT:
        raise ValueError("before 1970 or after 9999")
    return instant


_INSTANT_TEXT = WithJsonSchema({
    "type": "string", "description": "ISO 8601 with an offset, or epoch milliseconds",
    "examples": ["2026-07-01T08:00:00+08:00", "1782864000000"],
})  # fmt: skip
# Of a request: microseconds inside, whatever was written.
InstantGiven = Annotated[int, BeforeValidator(read_instant), _INSTANT_TEXT]
# Of an answer: UTC, ending in Z.
Instant = Annotated[
    int, PlainSerializer(to_iso, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]


def read_duration(value: object) -> object:
    """Microseconds of `15m`. No honest duration is longer than 32 characters, and a longer number is infinite."""
    if not isinstance(value, str) or len(value) > 32:
        raise ValueError("expected a duration such as 90s, 15m, 1h30m or 2d")
    return parse_duration(value)


Duration = Annotated[
    int, BeforeValidator(read_duration), WithJsonSchema({"type": "string", "examples": ["15m", "1h30m", "7d"]})
]


class Out(BaseModel):
    """Base of every answer; made from the dataclasses of the records by attribute."""

    model_config = ConfigDict(from_attributes=True)


class ClearedBy(Out):
    """What cleared an alarm where no reading did; `code` is rule_removed_or_changed, device_not_judged or paused."""

    code: str
    zh: str
    en: str


def cleared_by(by: str, why: str | None) -> ClearedBy | None:
    """Of a row of history: only what the service wrote is believed."""
    words = say_end(why) if by == SERVICE else None
    return None if words is None else ClearedBy(code=(why or "").partition(": ")[0], zh=words[0], en=words[1])


class In(BaseModel):
    """Base of every request body: an unknown key is a mistake, a number is finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Listed(BaseModel, Generic[T]):
    """Every list: the items, and the cursor of the next page or null."""

    items: list[T]
    next: str | None = Field(default=None, description="Give it back as `cursor`; null on the last page")


def listed(page: Page[T], show: Callable[[T], M]) -> Listed[M]:
    return Listed(items=[show(item) for item in page.items], next=page.next)


Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items on a page")]
# A form with nothing filled in sends the names all the same.
Cursor = Annotated[
    str | None,
    Query(max_length=1024, description="`next` of the page before; empty: the first page"),
    AfterValidator(lambda given: given or None),
]
# Control characters rearrange the line or the terminal they are shown in; lines need their ends.
Line = Annotated[str, AfterValidator(lambda text: _without(_CONTROL, text))]
Lines = Annotated[str, AfterValidator(lambda text: _without(_CONTROL_IN_LINES, text))]
Name = Annotated[Line, Field(min_length=1, max_length=64)]
Note = Annotated[Lines, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _without(refused: re.Pattern[str], text: str) -> str:
    if refused.search(text):
        raise ValueError("control characters are not allowed")
    return text

"""Pages of a list: at most `limit` items and an opaque, URL-safe cursor to where the next page begins.

A cursor holds the sort key of the last item shown, so items that arrive meanwhile shift nothing. It comes back from
strangers: whatever does not decode to the expected types is an `Invalid` refusal, never an error of ours.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from alerts.refusals import Invalid

MAX_LIMIT = 500
# Longer than any sort key of ours; bounds what a stranger can make us decode.
_MAX_CHARACTERS = 1024
_MAX_INTEGER = 2**63 - 1

Key = Sequence[int | float | str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next` is the cursor of the following page, None on the last one."""

    items: tuple[T, ...]
    next: str | None


def page_of(found: Sequence[T], limit: int, key: Callable[[T], Key]) -> Page[T]:
    """The page of a query that asked for `limit + 1` rows: the extra row only says that there are more."""
    shown = tuple(found[:limit])
    return Page(shown, encode_cursor(key(shown[-1])) if shown and len(found) > limit else None)


def encode_cursor(key: Key) -> str:
    text = json.dumps(list(key), ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, *types: type[int] | type[float] | type[str]) -> tuple[int | float | str, ...]:
    """The sort key, one value for each of `types`. Raises Invalid for anything `encode_cursor` cannot have made."""
    if len(cursor) > _MAX_CHARACTERS:
        raise _bad()
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = json.loads(raw.decode())
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _bad() from error
    if not isinstance(key, list) or len(key) != len(types):
        raise _bad()
    if not all(_is(value, wanted) for value, wanted in zip(key, types, strict=True)):
        raise _bad()
    return tuple(key)


def decode_id(cursor: str) -> int:
    """The cursor of a list sorted by one integer."""
    (key,) = decode_cursor(cursor, int)
    return int(key)


def _is(value: object, wanted: type) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return wanted in {int, float} and abs(value) <= _MAX_INTEGER
    return isinstance(value, wanted)


def _bad() -> Invalid:
    return Invalid(
        "bad_cursor", "游标无效：请从第一页重新开始", "not a cursor of this list: start again from its first page"
    )

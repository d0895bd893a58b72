"""Pages: nothing shown twice, nothing left out, and a cursor from a stranger is refused, never an error of ours."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerts.refusals import Invalid
from store.records.pages import decode_cursor, decode_id, encode_cursor, page_of

keys = st.lists(st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=60) | st.floats(allow_nan=False), max_size=4)


@given(keys)
def test_a_cursor_comes_back_as_it_was_and_needs_no_escaping(key: list[int | float | str]) -> None:
    cursor = encode_cursor(key)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", cursor)
    if len(cursor) <= 1024:
        assert list(decode_cursor(cursor, *(type(part) for part in key))) == key


@given(st.text(max_size=80))
@example("a" * 100_000)
@example("====")
@example("\N{PILE OF POO}")
@example(base64.urlsafe_b64encode(b"[" * 700).decode())
@example(base64.urlsafe_b64encode(json.dumps([True]).encode()).decode())
@example(base64.urlsafe_b64encode(json.dumps([2**70]).encode()).decode())
@example(base64.urlsafe_b64encode(json.dumps([1, 2]).encode()).decode())
@example(base64.urlsafe_b64encode(json.dumps({"id": 1}).encode()).decode())
@example(base64.urlsafe_b64encode(b"[NaN]").decode())
def test_garbage_is_refused_by_name(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_id(cursor)
    assert refused.value.code == "bad_cursor"


@given(st.sets(st.integers(0, 400)), st.integers(1, 50))
def test_walking_the_pages_shows_every_item_once(ids: set[int], limit: int) -> None:
    shown: list[int] = []
    after = -1
    while True:
        found = sorted(i for i in ids if i > after)[: limit + 1]
        page = page_of(found, limit, lambda i: [i])
        assert len(page.items) <= limit
        shown += page.items
        if page.next is None:
            break
        after = decode_id(page.next)
    assert shown == sorted(ids)

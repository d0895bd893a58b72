"""The text of a tree: parsing it gives the tree again."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings

from rules.expression import Expression
from rules.language import parse
from rules.text import text_of
from rules.tokens import MAX_LENGTH
from tests.rules.trees import TREES


@settings(max_examples=500, deadline=None)
@given(TREES)
def test_the_text_of_a_tree_is_read_as_that_tree(tree: Expression) -> None:
    text = text_of(tree)
    assume(len(text) <= MAX_LENGTH)
    assert parse(text) == tree, text


@pytest.mark.parametrize(
    "text",
    [
        "level > 3.5",
        "not level > 3.5 and (mains_ok or level < 2)",
        "level - (a - b) - c > -2",
        "(not a) == b",
        "not a == b",
        "a * (b + 1) / 2 > 1e-07",
        'level > attr.limit - 0.2 and between("22:00", "06:00")',
        'weekday("mon", "tue", "sat") and not holiday() and mode("response_3")',
        'since(event("door_opened")) > 1d and count(event("it\'s"), 10m) >= 3',
        "absent(level, 1h30m) or flat(level, 2h, 0.001) or spike(level, 0.3) or out_of_range(level)",
        "forecast(level, 30m) > by_response(3.5, 3.4, 3.3, 3.2, attr.x)",
        "forecast(level, 30m, 2h) > avg(level, 0.001ms)",
        "in_grid(count(level > 3) >= 3)",
        "in_grid(share(absent) > 0.5)",
        'of_group("gateway-7", absent) > 0.5',
    ],
)
def test_canonical_text_stays_as_it_is(text: str) -> None:
    assert text_of(parse(text)) == text


def test_what_is_written_tightly_or_widely_has_one_text() -> None:
    assert text_of(parse("((level))>3 and(b)or not(not c)")) == "level > 3 and b or not not c"
    assert text_of(parse("since(event('x'))>=90s")) == 'since(event("x")) >= 1m30s'

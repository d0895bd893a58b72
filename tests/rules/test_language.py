"""The rule language: what it reads, what it refuses and with which words; whatever the text, nothing else happens."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from devices.documents import DocumentError
from devices.instants import HOUR, MINUTE
from rules.book import load
from rules.checking import check_condition, vocabulary
from rules.expression import (
    Absent,
    And,
    Arithmetic,
    Attribute,
    Compare,
    Count,
    Duration,
    Metric,
    Negate,
    Not,
    Number,
    Or,
    Since,
    leaves,
)
from rules.language import MAX_DEPTH, MAX_LENGTH, ExpressionError, parse

A, B = Metric("a"), Metric("b")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a > 1", Compare(">", A, Number(1.0))),
        ("a>1.5e2", Compare(">", A, Number(150.0))),
        ("not a and b", And(Not(A), B)),
        ("a or b and a", Or(A, And(B, A))),
        ("not a == b", Not(Compare("==", A, B))),
        ("a - 1 - 2 < b", Compare("<", Arithmetic("-", Arithmetic("-", A, Number(1.0)), Number(2.0)), B)),
        ("a + b * 2 < 1", Compare("<", Arithmetic("+", A, Arithmetic("*", B, Number(2.0))), Number(1.0))),
        ("-a * b < 1", Compare("<", Arithmetic("*", Negate(A), B), Number(1.0))),
        ("(a - (b - 1)) > 0", Compare(">", Arithmetic("-", A, Arithmetic("-", B, Number(1.0))), Number(0.0))),
        ("a <= attr.limit - 0.20", Compare("<=", A, Arithmetic("-", Attribute("limit"), Number(0.2)))),
        ("absent(a, 1h30m)", Absent("a", 90 * MINUTE)),
        ("since(event('x')) > 24h", Compare(">", Since("x"), Duration(24 * HOUR))),
        ('count(event("x"), 10m) >= 3', Compare(">=", Count("x", 10 * MINUTE), Number(3.0))),
    ],
)
def test_the_language_reads_as_a_person_would(text: str, tree: object) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "expected a metric"),
        ("level_inside >", 15, "found the end"),
        ("level_inside = 3", 14, "write '=='"),
        ("level_inside > 3 && mains_ok", 18, "write 'and'"),
        ("level_inside ＞ 3", 14, "write '>'"),
        ("1 < level_inside < 3", 18, "two values at a time"),
        ("level_inside > 15min", 16, "neither a number"),
        ("level_inside > 3.5.1", 16, "neither a number"),
        ("(level_inside > 3", 18, "to close the parenthesis of column 1"),
        ("level_inside > 3)", 17, "expected an operator or the end"),
        ("level_inside 3", 14, "expected an operator"),
        ("avrg(level_inside, 10m) > 3", 1, "unknown function"),
        ("abset(level_inside, 10m)", 1, "nearest: absent"),
        ("absent(level_inside)", 20, "a duration"),
        ("absent(level_inside, 15)", 22, "expected a duration"),
        ("absent(level_inside, 32d)", 22, "at most 31d"),
        ("absent(level_inside, 0s)", 22, "longer than 0s"),
        ("attr.Limit > 3", 6, "snake_case"),
        ("atr.limit > 3", 1, "nearest: attr"),
        ("event(door_opened)", 7, "in quotes"),
        ("since(door_opened) > 1h", 7, "expected event"),
        ('"door_opened"', 1, "only inside a function"),
        ("level_inside > 1e999", 16, "too large"),
        ("level_inside > 999999h", 16, "at most 366d"),
        ("level_inside > 'a", 16, "must end with"),
        ("__import__('os').system('id')", 1, "unknown function"),
    ],
)
def test_a_mistake_is_told_at_its_column(text: str, column: int, words: str) -> None:
    with pytest.raises(ExpressionError) as told:
        parse(text)
    assert told.value.slips[0].column == column
    assert words in told.value.slips[0].message


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("level_insde > 3", 1, "unknown metric 'level_insde' of pump_station; nearest: level_inside"),
        ("pm2_5 > 3", 1, "it is a metric of air_monitor"),
        ("level_inside", 1, "this is a number"),
        ("level_inside > 3 or pumps_running", 21, "'or' needs a condition"),
        ("mains_ok == 0", 10, "write == true or == false"),
        ("mains_ok < true", 10, "compared with =="),
        ("-mains_ok == 3", 1, "'-' needs a number"),
        ("level_inside > 15m", 14, "cannot compare a number with a duration"),
        ("level_inside + 15m > 3", 14, "cannot calculate"),
        ("true", 1, "reads no metric"),
        ("attr.a > 3", 8, "reads no metric"),
        ('event("door_opened")', 7, "unknown event 'door_opened' of pump_station"),
    ],
)
def test_what_a_pump_station_cannot_mean(text: str, column: int, words: str) -> None:
    slips = check_condition(parse(text), vocabulary("pump_station"))
    assert (slips[0].column, words in slips[0].message) == (column, True), slips


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('event("door_opend")', "nearest: door_opened"),
        ('since(event("door_opened")) > 24', "found a number"),
        ('since(event("door_opened"))', "stands alone"),
        ('since(event("door_opened")) + 1h > 2h', "stands alone"),
        ('since(event("door_opened")) == 1h', "not =="),
        ('since(event("door_opened")) > battery * 1h', "does not depend on readings"),
        ('since(event("door_opened")) > since(event("door_closed"))', "compared with a duration"),
    ],
)
def test_what_a_door_cannot_mean(text: str, words: str) -> None:
    slips = check_condition(parse(text), vocabulary("door_sensor"))
    assert words in slips[0].message


def test_every_mistake_of_names_and_types_is_told_at_once() -> None:
    slips = check_condition(parse("lvl > 3 and mains_ok == 0 or pumps_running"), vocabulary("pump_station"))
    assert len(slips) == 3


def test_length_and_depth_are_bounded_and_named() -> None:
    for text in (
        "(" * 2000,
        "a" * (MAX_LENGTH + 1),
        "+".join("1" * 500) + " < a",
        "not " * 400 + "a",
        "-" * 1999 + "1",
    ):
        with pytest.raises(ExpressionError, match=r"at most|more than"):
            parse(text)
    assert parse("(" * (MAX_DEPTH - 1) + "a" + ")" * (MAX_DEPTH - 1)) == A


_TEXT = """level_inside level_outside mains_ok attr . limit ( ) , and or not true false > >= < <= == != + - * / absent
event since count "door_opened" 'x' 3 3.5 15m 24h 40d 1e9 a.b ！ （ = & _ __class__ eval lambda : [ ] { } \x00"""
_WORDS = st.sampled_from([*_TEXT.split(), "\n"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(_WORDS, max_size=30).map(" ".join), st.text(max_size=80)))
def test_any_text_is_a_condition_or_a_clear_mistake(text: str) -> None:
    try:
        tree = parse(text)
        slips = tuple(check_condition(tree, vocabulary(None)))
        assert list(leaves(tree))
    except ExpressionError as error:
        slips = error.slips
        event("refused")
    assert all(1 <= slip.column <= len(text) + 1 and slip.message for slip in slips)


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=200) | st.lists(_WORDS, max_size=20).map(lambda w: "rules: [{id: a, when: " + " ".join(w) + "}]")
)
def test_any_file_is_a_book_or_a_list_of_mistakes(text: str) -> None:
    with contextlib.suppress(DocumentError):
        assert load({"fuzz.yaml": text}).files

"""Whatever stands in a rule file: rules or clear mistakes, in bounded time; and nothing but the language is run."""

from __future__ import annotations

import builtins
import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from devices.documents import DocumentError, Mistake
from devices.kinds import KINDS
from rules.book import RuleBook, load
from rules.calls import FUNCTIONS
from rules.checking import check_condition, vocabulary
from rules.datum import datum_slips
from rules.expression import Expression, leaves
from rules.language import MAX_LENGTH, ExpressionError, Slip, parse
from rules.text import text_of
from tests.rules.trees import TREES

# Far beyond what any text takes (about 30 ms), far below what a loop without a bound would.
SOON = 2.0
VALID = (
    "level_inside > attr.inside_limit_level - 0.20 and not (mains_ok == false or pumps_running < 1)",
    'count(event("person_detected"), 10m) >= 3 and between("22:00", "06:00") or weekday("mon-fri") and holiday()',
    'since(event("door_opened")) > 24h and absent(open, 15m)',
    "avg(level, 10m) - min(level, 1h) * 2 > stddev(level, 31d) or rate(level, 10m) / 3 < delta(level, 1h)",
    "flat(level, 2h, 0.001) or spike(level, 0.3) and out_of_range(level) and mode(\"flood_season\")",
    "forecast(level, 30m, 2h) > by_response(3.5, 3.4, 3.3, 3.2, 3.1)",
    "in_grid(count(level > attr.x) >= 3)",
    'of_group("gateway-7", absent) > 0.5',
)  # fmt: skip
_ODD = """( ) attr . , and or not true false > >= < <= == != + - * / absent event "x" 'y' 3.5 15m 40d 1e9 1e999 a.b
！ （ = & _ __class__ eval lambda : [ ] { } # $ % @ ; \x00 　 中文 '" \\ \ufeff"""
WORDS = st.sampled_from([*_ODD.split(), *FUNCTIONS, "level", "flow", "mains_ok", "\n", "\t"])
ODD_TEXT = st.one_of(st.lists(WORDS, max_size=40).map(" ".join), st.lists(WORDS, max_size=40).map("".join), st.text())


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A condition that was right, or two of them, with a few characters or words taken out, put in or moved."""
    text = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        change = draw(st.sampled_from(["drop", "put", "double", "join"]))
        if change == "drop":
            text = text[:at] + text[at + min(end - at, 8) :]
        elif change == "put":
            text = text[:at] + draw(WORDS) + text[at:]
        elif change == "double":
            text = text[:end] + text[at:end] + text[end:]
        else:
            text = text[:at] + draw(st.sampled_from(VALID)) + text[at:]
    return text


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < SOON


def assert_condition_or_mistakes(text: str) -> None:
    """Reads and checks it for every kind; a mistake has a place within the text and words."""
    tree, slips = reading(text)
    assert all(1 <= slip.column <= len(text) + 1 and slip.message for slip in slips)
    if tree is None:
        return
    assert list(leaves(tree))
    assert parse(text_of(tree)) == tree
    for kind in (None, *KINDS):
        slips = check_condition(tree, vocabulary(kind))
        assert all(1 <= slip.column <= len(text) + 1 and slip.message for slip in slips)


def reading(text: str) -> tuple[Expression | None, Sequence[Slip]]:
    try:
        return parse(text), ()
    except ExpressionError as error:
        return None, error.slips


@settings(max_examples=400, deadline=None)
@given(ODD_TEXT | mutated())
def test_any_text_is_a_condition_or_a_clear_mistake(text: str) -> None:
    with soon():
        assert_condition_or_mistakes(text)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_any_tree_is_checked_without_a_crash(tree: Expression) -> None:
    with soon():
        assert_condition_or_mistakes(text_of(tree))


KEYS = ("id", "when", "for", "clear", "levels", "repeat", "keep_for", "only_in", "suppresses", "max_age", "max_gap",
        "priority", "order", "name", "applies_to", "prioriy", "")  # fmt: skip
VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | mutated()
    | st.sampled_from([*VALID, "5m", "3 of 5", "critical", "none", "a", "gw-silence", "flood_season"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@st.composite
def books(draw: st.DrawFn) -> str:
    """A file whose rules have keys of the language with values that mostly make no sense."""
    entries = []
    for n in range(draw(st.integers(0, 3))):
        entry: dict[str, object] = {"id": f"r{n}", "when": draw(st.sampled_from(VALID))}
        if draw(st.integers(0, 3)) == 0:
            entry["levels"] = [{"priority": p, "when": draw(st.sampled_from(VALID))} for p in ("low", "critical")]
            entry.pop("when", None)
        if draw(st.booleans()):
            entry |= draw(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
        entries.append(entry)
    return json.dumps({"rules": entries}, ensure_ascii=False)


def loading(files: Mapping[str, str]) -> tuple[RuleBook | None, Sequence[Mistake]]:
    try:
        return load(files), ()
    except DocumentError as error:
        return None, error.mistakes


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | ODD_TEXT.map(lambda text: f"rules: [{{id: a, when: {text}}}]") | books())
def test_any_file_is_a_book_or_a_list_of_mistakes(text: str) -> None:
    with soon():
        book, mistakes = loading({"fuzz.yaml": text, "b.yaml": "rules: [{id: b, when: level > 3}]"})
    assert all(mistake.file == "fuzz.yaml" and mistake.message for mistake in mistakes)
    event("refused" if book is None else f"a book of {min(len(book.rules), 2)}")
    for rule in () if book is None else book.rules.values():
        assert datum_slips(rule, {"level_datum": "85", "datum": "吴淞"}) is not None
        assert rule.fingerprint


LONG = {
    "parentheses": "(" * MAX_LENGTH,
    "not": "not " * (MAX_LENGTH // 4),
    "minus": "-" * (MAX_LENGTH - 1) + "1",
    "sums": "+".join("1" * (MAX_LENGTH // 2)),
    "names": "a" * MAX_LENGTH,
    "digits": "1" * MAX_LENGTH,
    "fractions": "1." * (MAX_LENGTH // 2),
    "spans": "1m" * (MAX_LENGTH // 2),
    "quotes": '"' * MAX_LENGTH,
    "a text": '"' + "a" * (MAX_LENGTH - 1),
    "groups": "in_grid(count(" * (MAX_LENGTH // 14),
    "responses": "by_response(" * (MAX_LENGTH // 12),
    "windows": " or ".join(["avg(a,1m)>1"] * (MAX_LENGTH // 15)),
    "days": "weekday(" + ",".join(['"mon"'] * (MAX_LENGTH // 7)) + ")",
    "spaces": " " * MAX_LENGTH,
    "unknown": "avrg" * (MAX_LENGTH // 4 - 1) + "(a)",
    "too long": "a" * 10_000_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=list(LONG))
def test_the_longest_texts_take_no_longer(text: str) -> None:
    with soon():
        assert_condition_or_mistakes(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch /tmp/gridwhistle-was-here')",
        "eval('1')",
        "().__class__.__bases__[0].__subclasses__()",
        "level.__class__ > 3",
        "attr.__class__ > 3",
        "[x for x in level]",
        "lambda: level",
        "f'{level}'",
        "level if mains_ok else flow",
        "open('/etc/passwd')",
    ],
)
def test_what_python_would_run_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError(arguments)

    for name in ("eval", "exec", "compile", "__import__"):
        monkeypatch.setattr(builtins, name, never)
    tree, _ = reading(text)
    monkeypatch.undo()
    assert tree is None


def test_a_file_that_would_grow_is_refused() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    deep = ("rules: " + "[" * 5000, "{" * 5000, "rules:\n" + "- " * 3000)
    for text in (bomb, *deep, "a: !!python/object/apply:os.system [id]"):
        with soon(), pytest.raises(DocumentError):
            load({"a.yaml": text})

"""The text of a condition to its tree: a tokenizer and a Pratt parser of its own, nothing is ever evaluated.

Bounded in length, nesting and duration, so that no rule file can take unbounded time or memory.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from devices.instants import DAY, format_duration, parse_duration
from rules.expression import (
    Absent,
    And,
    Arithmetic,
    Attribute,
    Compare,
    Count,
    Duration,
    Event,
    Expression,
    Metric,
    Negate,
    Not,
    Number,
    Or,
    Order,
    Since,
    Sum,
    Truth,
    children,
)

MAX_LENGTH = 2_000
# Python's own recursion limit is 1,000 and every later pass over the tree is recursive.
MAX_DEPTH = 64
MAX_WINDOW = 31 * DAY
MAX_DURATION = 366 * DAY

FUNCTIONS = ("absent", "event", "since", "count")
KEYWORDS = ("and", "or", "not", "true", "false")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_POWER = {"or": 10, "and": 20, **dict.fromkeys(_COMPARISONS, 40), "+": 50, "-": 50, "*": 60, "/": 60}
_NOT_POWER, _MINUS_POWER = 30, 70
_INSTEAD = {
    "=": "==", "&": "and", "|": "or", "!": "not", "<>": "!=", "&&": "and", "||": "or", "≥": ">=", "≤": "<=",
    "（": "(", "）": ")", "，": ",", "＞": ">", "＜": "<", "＝": "==", "“": '"', "”": '"',  "×": "*", "÷": "/",
}  # fmt: skip

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<duration>(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+(?![A-Za-z0-9_.]))
      | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z0-9_.]))
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<text>"[^"\n]*"|'[^'\n]*')
      | (?P<op><=|>=|==|!=|[<>+\-*/(),.])
      | (?P<bad>[0-9][A-Za-z0-9_.]*|&&|\|\||<>|.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Slip:
    """One thing wrong in an expression; `column` counts from 1."""

    column: int
    message: str


class ExpressionError(ValueError):
    """The text is no condition; `slips` is never empty."""

    def __init__(self, slips: Sequence[Slip]) -> None:
        super().__init__("; ".join(f"column {s.column}: {s.message}" for s in slips))
        self.slips = tuple(slips)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


def nearest(name: str, known: Sequence[str]) -> str:
    """`; nearest: x`, or nothing where none is near."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"; nearest: {close[0]}" if close else ""


def parse(text: str) -> Expression:
    """The tree of a condition. Raises ExpressionError, and nothing else, for any text that is none."""
    if len(text) > MAX_LENGTH:
        _fail(1, f"an expression has at most {MAX_LENGTH:,} characters, this has {len(text):,}")
    parser = _Parser(_tokens(text))
    tree = parser.expression(0)
    parser.end()
    if _depth(tree) > MAX_DEPTH:
        _fail(1, f"an expression joins at most {MAX_DEPTH} operations inside one another")
    return tree


def _fail(column: int, message: str) -> NoReturn:
    raise ExpressionError([Slip(column, message)])


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    for match in _TOKEN.finditer(text):
        kind, part, column = str(match.lastgroup), match.group(), match.start() + 1
        if kind == "bad":
            _fail(column, _complain(part))
        if kind != "space":
            found.append(_Token(kind, part, column))
    found.append(_Token("end", "", len(text) + 1))
    return found


def _complain(part: str) -> str:
    if part in _INSTEAD:
        return f"unexpected {part!r}: write {_INSTEAD[part]!r}"
    if part[0].isdigit() and len(part) > 1:
        return f"{part!r} is neither a number such as 3.5 nor a duration such as 90s, 15m, 1h30m or 2d"
    if part in ('"', "'"):
        return f"a text that starts with {part} must end with {part} on the same line"
    return f"unexpected character {part!r}"


def _depth(tree: Expression) -> int:
    """Without recursion: `1+1+1+…` is as deep as it is long."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in children(node))
    return deepest


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._all = tokens
        self._at = 0
        self._nesting = 0

    def _peek(self) -> _Token:
        return self._all[self._at]

    def _next(self) -> _Token:
        token = self._all[self._at]
        self._at = min(self._at + 1, len(self._all) - 1)
        return token

    def _expect(self, text: str, where: str) -> _Token:
        token = self._next()
        if token.text != text or token.kind == "text":
            _fail(token.column, f"expected {text!r} {where}, found {_show(token)}")
        return token

    def end(self) -> None:
        token = self._peek()
        if token.kind != "end":
            _fail(token.column, f"expected an operator or the end, found {_show(token)}{_operator_hint(token)}")

    def expression(self, power: int) -> Expression:
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            _fail(self._peek().column, f"nested more than {MAX_DEPTH} deep")
        left = self._prefix()
        while True:
            token = self._peek()
            strength = _POWER.get(token.text, 0) if token.kind in ("op", "name") else 0
            if strength <= power:
                break
            left = self._infix(left, self._next(), strength)
        self._nesting -= 1
        return left

    def _infix(self, left: Expression, token: _Token, strength: int) -> Expression:
        right = self.expression(strength)
        if token.text == "and":
            return And(left, right, column=token.column)
        if token.text == "or":
            return Or(left, right, column=token.column)
        if token.text in _COMPARISONS:
            after = self._peek()
            if after.kind == "op" and after.text in _COMPARISONS:
                _fail(after.column, f"compare two values at a time: write a {token.text} b and b {after.text} c")
            return Compare(cast(Order, token.text), left, right, column=token.column)
        return Arithmetic(cast(Sum, token.text), left, right, column=token.column)

    def _prefix(self) -> Expression:
        token = self._next()
        if token.kind == "number":
            value = float(token.text)
            return Number(value, column=token.column) if math.isfinite(value) else _fail(token.column, "too large")
        if token.kind == "duration":
            return Duration(_duration(token), column=token.column)
        if token.kind == "op" and token.text == "(":
            inner = self.expression(0)
            self._expect(")", f"to close the parenthesis of column {token.column}")
            return inner
        if token.kind == "op" and token.text == "-":
            return Negate(self.expression(_MINUS_POWER), column=token.column)
        if token.kind == "name":
            return self._name(token)
        if token.kind == "text":
            _fail(token.column, f'a text stands only inside event("…"), found {_show(token)}')
        _fail(token.column, f"expected a metric, a number, attr.<name>, a function, not or '(', found {_show(token)}")

    def _name(self, token: _Token) -> Expression:
        if token.text == "not":
            return Not(self.expression(_NOT_POWER), column=token.column)
        if token.text in ("true", "false"):
            return Truth(token.text == "true", column=token.column)
        if token.text in KEYWORDS:
            _fail(token.column, f"expected a value before {token.text!r}")
        after = self._peek()
        if after.kind == "op" and after.text == ".":
            return self._attribute(token)
        if after.kind == "op" and after.text == "(":
            return self._call(token)
        return Metric(token.text, column=token.column)

    def _attribute(self, token: _Token) -> Expression:
        self._next()
        if token.text != "attr":
            _fail(token.column, f"only attr.<name> has a dot, found {token.text!r}{nearest(token.text, ['attr'])}")
        name = self._next()
        if name.kind != "name" or not re.fullmatch(r"[a-z][a-z0-9_]*", name.text) or name.text in KEYWORDS:
            _fail(name.column, f"expected the name of an attribute in snake_case after 'attr.', found {_show(name)}")
        return Attribute(name.text, column=token.column)

    def _call(self, token: _Token) -> Expression:
        if token.text not in FUNCTIONS:
            near = nearest(token.text, FUNCTIONS)
            _fail(token.column, f"unknown function {token.text!r}{near}; known: {', '.join(FUNCTIONS)}")
        self._next()
        return {"absent": self._absent, "event": self._event, "since": self._since, "count": self._count}[token.text]()

    def _absent(self) -> Expression:
        metric = self._next()
        if metric.kind != "name" or metric.text in KEYWORDS:
            _fail(metric.column, f"expected a metric, as in absent(level, 15m), found {_show(metric)}")
        window = self._window("absent(level, 15m)")
        return Absent(metric.text, window, column=metric.column)

    def _event(self) -> Event:
        name = self._next()
        if name.kind != "text":
            _fail(name.column, f'expected the event\'s name in quotes, as in event("door_opened"), found {_show(name)}')
        self._expect(")", "after the event's name")
        return Event(name.text[1:-1], column=name.column)

    def _inner_event(self, example: str) -> tuple[str, int]:
        token = self._next()
        if token.text != "event" or token.kind != "name":
            _fail(token.column, f"expected event(…), as in {example}, found {_show(token)}")
        self._expect("(", "after event")
        event = self._event()
        return event.name, event.column

    def _since(self) -> Expression:
        name, column = self._inner_event('since(event("door_opened")) > 24h')
        self._expect(")", "to close since(…")
        return Since(name, column=column)

    def _count(self) -> Expression:
        example = 'count(event("person_detected"), 10m)'
        name, column = self._inner_event(example)
        return Count(name, self._window(example), column=column)

    def _window(self, example: str) -> int:
        self._expect(",", f"and a duration, as in {example}")
        token = self._next()
        if token.kind != "duration":
            _fail(token.column, f"expected a duration, as in {example}, found {_show(token)}")
        window = _duration(token)
        if window > MAX_WINDOW or window <= 0:
            _fail(token.column, f"a window is longer than 0s and at most {format_duration(MAX_WINDOW)}")
        self._expect(")", f"after the duration, as in {example}")
        return window


def _duration(token: _Token) -> int:
    span = parse_duration(token.text) if len(token.text) <= 40 else MAX_DURATION + 1
    if span > MAX_DURATION:
        _fail(token.column, f"a duration is at most {format_duration(MAX_DURATION)}")
    return span


def _show(token: _Token) -> str:
    return "the end" if token.kind == "end" else token.text if token.kind == "text" else repr(token.text)


def _operator_hint(token: _Token) -> str:
    return nearest(token.text, ["and", "or"]) if token.kind == "name" else ""

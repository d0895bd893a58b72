"""The words of a condition: its text cut into tokens, and a cursor that says what it expected where it found another.

Limits of the language stand here, so that no rule file can take unbounded time or memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from devices.documents import nearest
from devices.instants import DAY, format_duration, parse_duration

MAX_LENGTH = 2_000
# Python's own recursion limit is 1,000 and every later pass over the tree is recursive.
MAX_DEPTH = 64
MAX_WINDOW = 31 * DAY
MAX_AHEAD = 2 * DAY
MAX_DURATION = 366 * DAY
# Each is a pass over samples at every reading: 16 are more than a person can keep in mind.
MAX_WINDOWS = 16

KEYWORDS = ("and", "or", "not", "true", "false")
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
class Token:
    """`kind`: duration, number, name, text, op or end."""

    kind: str
    text: str
    column: int

    def is_op(self, *texts: str) -> bool:
        return self.kind == "op" and self.text in texts

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else self.text if self.kind == "text" else repr(self.text)


def fail(column: int, message: str) -> NoReturn:
    raise ExpressionError([Slip(column, message)])


def tokens(text: str) -> list[Token]:
    """Ends with a token of kind `end`. Raises ExpressionError for what is no word of the language."""
    if len(text) > MAX_LENGTH:
        fail(1, f"an expression has at most {MAX_LENGTH:,} characters, this has {len(text):,}")
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, part, column = str(match.lastgroup), match.group(), match.start() + 1
        if kind == "bad":
            fail(column, _complain(part))
        if kind != "space":
            found.append(Token(kind, part, column))
    found.append(Token("end", "", len(text) + 1))
    return found


def _complain(part: str) -> str:
    if part in _INSTEAD:
        return f"unexpected {part!r}: write {_INSTEAD[part]!r}"
    if part[0].isdigit() and len(part) > 1:
        return f"{part!r} is neither a number such as 3.5 nor a duration such as 90s, 15m, 1h30m or 2d"
    if part in ('"', "'"):
        return f"a text that starts with {part} must end with {part} on the same line"
    return f"unexpected character {part!r}"


class Cursor:
    """A place among the tokens. What stands there is taken only if it is what was asked for; `example` shows how the
    whole is written."""

    def __init__(self, all_tokens: list[Token]) -> None:
        self._all = all_tokens
        self._at = 0

    def peek(self) -> Token:
        return self._all[self._at]

    def next(self) -> Token:
        token = self._all[self._at]
        self._at = min(self._at + 1, len(self._all) - 1)
        return token

    def expect(self, text: str, where: str) -> Token:
        token = self.next()
        if token.text != text or token.kind == "text":
            fail(token.column, f"expected {text!r} {where}, found {token}")
        return token

    def word(self, choices: Sequence[str], example: str) -> Token:
        token = self.next()
        if token.kind != "name" or token.text not in choices:
            near = nearest(token.text, choices) if token.kind == "name" else ""
            fail(token.column, f"expected {' or '.join(choices)}, as in {example}, found {token}{near}")
        return token

    def metric(self, example: str) -> Token:
        token = self.next()
        if token.kind != "name" or token.text in KEYWORDS:
            fail(token.column, f"expected a metric, as in {example}, found {token}")
        if self.peek().is_op("(", "."):
            fail(token.column, f"expected a metric by its name alone, as in {example}, found {token.text!r} and more")
        return token

    def text(self, what: str, example: str) -> Token:
        token = self.next()
        if token.kind != "text":
            fail(token.column, f"expected {what} in quotes, as in {example}, found {token}")
        return token

    def number(self, what: str, example: str) -> float:
        token = self.next()
        if token.kind != "number":
            fail(token.column, f"expected {what}, as in {example}, found {token}")
        return number_of(token)

    def span(self, example: str, longest: int, name: str = "a window") -> int:
        """A duration of more than nothing, in microseconds."""
        token = self.next()
        if token.kind != "duration":
            fail(token.column, f"expected a duration, as in {example}, found {token}")
        span = duration_of(token)
        if span > longest or span <= 0:
            fail(token.column, f"{name} is longer than 0s and at most {format_duration(longest)}")
        return span


def number_of(token: Token) -> float:
    value = float(token.text)
    return value if value < float("inf") else fail(token.column, "too large")


def duration_of(token: Token) -> int:
    span = parse_duration(token.text) if len(token.text) <= 40 else MAX_DURATION + 1
    if span > MAX_DURATION:
        fail(token.column, f"a duration is at most {format_duration(MAX_DURATION)}")
    return span

"""The text of a condition to its tree: a tokenizer and a Pratt parser of its own, nothing is ever evaluated.

Bounded in length, nesting, windows and duration, so that no rule file can take unbounded time or memory.
"""

from __future__ import annotations

import re
from typing import cast

from devices.documents import nearest
from rules.calls import COMPARISONS, FUNCTIONS, call
from rules.expression import (
    And,
    Arithmetic,
    Attribute,
    Compare,
    Count,
    DeviceAbsent,
    Duration,
    Expression,
    Flat,
    Forecast,
    Metric,
    Negate,
    Not,
    Number,
    Or,
    Order,
    Sum,
    Truth,
    Window,
    children,
    leaves,
)
from rules.tokens import (
    KEYWORDS,
    MAX_AHEAD,
    MAX_DEPTH,
    MAX_DURATION,
    MAX_LENGTH,
    MAX_WINDOW,
    MAX_WINDOWS,
    Cursor,
    ExpressionError,
    Slip,
    Token,
    duration_of,
    fail,
    number_of,
    tokens,
)

__all__ = ["FUNCTIONS", "MAX_AHEAD", "MAX_DEPTH", "MAX_DURATION", "MAX_LENGTH", "MAX_WINDOW", "MAX_WINDOWS", "POWER",
           "ExpressionError", "Slip", "nearest", "parse"]  # fmt: skip

POWER = {"or": 10, "and": 20, "not": 30, **dict.fromkeys(COMPARISONS, 40), "+": 50, "-": 50, "*": 60, "/": 60}
MINUS_POWER = 70


def parse(text: str) -> Expression:
    """The tree of a condition. Raises ExpressionError, and nothing else, for any text that is none."""
    parser = _Parser(Cursor(tokens(text)))
    tree = parser.expression(0)
    parser.end()
    if _depth(tree) > MAX_DEPTH:
        fail(1, f"an expression joins at most {MAX_DEPTH} operations inside one another")
    windows = [leaf for leaf in leaves(tree) if isinstance(leaf, (Window, Flat, Forecast, Count))]
    if len(windows) > MAX_WINDOWS:
        fail(windows[MAX_WINDOWS].column, f"an expression has at most {MAX_WINDOWS} windows, this is one more")
    return tree


def _depth(tree: Expression) -> int:
    """Without recursion: `1+1+1+…` is as deep as it is long."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting.extend((child, depth + 1) for child in children(node))
    return deepest


class _Parser:
    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._nesting = 0

    def end(self) -> None:
        token = self._cursor.peek()
        if token.kind != "end":
            hint = nearest(token.text, ["and", "or"]) if token.kind == "name" else ""
            fail(token.column, f"expected an operator or the end, found {token}{hint}")

    def expression(self, power: int) -> Expression:
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            fail(self._cursor.peek().column, f"nested more than {MAX_DEPTH} deep")
        left = self._prefix()
        while True:
            token = self._cursor.peek()
            joins = token.kind == "op" or token.text in ("and", "or")
            strength = POWER.get(token.text, 0) if joins else 0
            if strength <= power:
                break
            left = self._infix(left, self._cursor.next(), strength)
        self._nesting -= 1
        return left

    def _inner(self) -> Expression:
        return self.expression(0)

    def _infix(self, left: Expression, token: Token, strength: int) -> Expression:
        right = self.expression(strength)
        if token.text == "and":
            return And(left, right, column=token.column)
        if token.text == "or":
            return Or(left, right, column=token.column)
        if token.text in COMPARISONS:
            after = self._cursor.peek()
            if after.is_op(*COMPARISONS):
                fail(after.column, f"compare two values at a time: write a {token.text} b and b {after.text} c")
            return Compare(cast(Order, token.text), left, right, column=token.column)
        return Arithmetic(cast(Sum, token.text), left, right, column=token.column)

    def _prefix(self) -> Expression:
        token = self._cursor.next()
        if token.kind == "number":
            return Number(number_of(token), column=token.column)
        if token.kind == "duration":
            return Duration(duration_of(token), column=token.column)
        if token.is_op("("):
            inner = self.expression(0)
            self._cursor.expect(")", f"to close the parenthesis of column {token.column}")
            return inner
        if token.is_op("-"):
            return Negate(self.expression(MINUS_POWER), column=token.column)
        if token.kind == "name":
            return self._name(token)
        if token.kind == "text":
            return fail(token.column, f'a text stands only inside a function such as event("…"), found {token}')
        return fail(token.column, f"expected a metric, a number, attr.<name>, a function, not or '(', found {token}")

    def _name(self, token: Token) -> Expression:
        if token.text == "not":
            return Not(self.expression(POWER["not"]), column=token.column)
        if token.text in ("true", "false"):
            return Truth(token.text == "true", column=token.column)
        if token.text in KEYWORDS:
            fail(token.column, f"expected a value before {token.text!r}")
        after = self._cursor.peek()
        if after.is_op("."):
            return self._attribute(token)
        if after.is_op("("):
            return call(self._cursor, self._inner, token)
        return self._bare(token)

    def _bare(self, token: Token) -> Expression:
        if token.text == "absent":
            return DeviceAbsent(column=token.column)
        if token.text == "holiday":
            fail(token.column, "holiday is a function: write holiday()")
        return Metric(token.text, column=token.column)

    def _attribute(self, token: Token) -> Expression:
        self._cursor.next()
        if token.text != "attr":
            fail(token.column, f"only attr.<name> has a dot, found {token.text!r}{nearest(token.text, ['attr'])}")
        name = self._cursor.next()
        if name.kind != "name" or not re.fullmatch(r"[a-z][a-z0-9_]*", name.text) or name.text in KEYWORDS:
            fail(name.column, f"expected the name of an attribute in snake_case after 'attr.', found {name}")
        return Attribute(name.text, column=token.column)

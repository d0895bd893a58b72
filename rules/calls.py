"""What stands in the parentheses of each function of the language."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from devices.documents import nearest
from devices.instants import HOUR, MINUTE
from rules.expression import (
    MODES,
    Absent,
    Between,
    ByResponse,
    Count,
    Event,
    Expression,
    Flat,
    Forecast,
    Group,
    Holiday,
    Mode,
    Order,
    OutOfRange,
    Since,
    Spike,
    Weekday,
    Window,
    WindowFunction,
)
from rules.tokens import MAX_AHEAD, MAX_WINDOW, Cursor, Token, fail

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
OVER_SAMPLES = ("avg", "min", "max", "sum", "stddev", "median", "delta", "rate", "increase")
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")

# The expression that follows, up to where it ends.
Inner = Callable[[], Expression]


def call(cursor: Cursor, inner: Inner, name: Token) -> Expression:
    """What `name` makes of what follows its opening parenthesis, which comes next. Raises ExpressionError."""
    if name.text not in CALLS:
        near = nearest(name.text, FUNCTIONS)
        fail(name.column, f"unknown function {name.text!r}{near}; known: {', '.join(FUNCTIONS)}")
    cursor.expect("(", f"after {name.text}")
    return CALLS[name.text](_Call(cursor, inner, name))


@dataclass(frozen=True, slots=True)
class _Call:
    """`name` was read and its parenthesis; each method reads the rest."""

    cursor: Cursor
    inner: Inner
    name: Token

    def _close(self, example: str) -> None:
        self.cursor.expect(")", f"at its end, as in {example}")

    def absent(self) -> Expression:
        example = "absent(level, 15m)"
        metric = self.cursor.metric(example)
        return Absent(metric.text, self._window(example), column=metric.column)

    def _window(self, example: str) -> int:
        self.cursor.expect(",", f"and a duration, as in {example}")
        span = self.cursor.span(example, MAX_WINDOW)
        self.cursor.expect(")", f"after the duration, as in {example}")
        return span

    def event(self) -> Event:
        event = self.cursor.text("the event's name", 'event("door_opened")')
        self.cursor.expect(")", "after the event's name")
        return Event(event.text[1:-1], column=event.column)

    def _inner_event(self, example: str) -> Event:
        token = self.cursor.next()
        if token.text != "event" or token.kind != "name":
            fail(token.column, f"expected event(…), as in {example}, found {token}")
        self.cursor.expect("(", "after event")
        return self.event()

    def since(self) -> Expression:
        event = self._inner_event('since(event("door_opened")) > 24h')
        self.cursor.expect(")", "to close since(…")
        return Since(event.name, column=event.column)

    def count(self) -> Expression:
        """Of events, or of the readings of a metric."""
        if self.cursor.peek().text != "event" or self.cursor.peek().kind != "name":
            return self.over_samples()
        example = 'count(event("person_detected"), 10m)'
        event = self._inner_event(example)
        return Count(event.name, self._window(example), column=event.column)

    def over_samples(self) -> Expression:
        example = f"{self.name.text}(level, 10m)"
        if self.name.text == "count":
            example += ' or count(event("person_detected"), 10m)'
        metric = self.cursor.metric(example)
        window = self._window(example)
        return Window(cast(WindowFunction, self.name.text), metric.text, window, column=metric.column)

    def flat(self) -> Expression:
        example = "flat(level, 2h, 0.001)"
        metric = self.cursor.metric(example)
        self.cursor.expect(",", f"and a duration, as in {example}")
        span = self.cursor.span(example, MAX_WINDOW)
        self.cursor.expect(",", f"and a tolerance, as in {example}")
        tolerance = self.cursor.number("how far it may move all the same, a number", example)
        self._close(example)
        return Flat(metric.text, span, tolerance, column=metric.column)

    def spike(self) -> Expression:
        example = "spike(level, 0.3)"
        metric = self.cursor.metric(example)
        self.cursor.expect(",", f"and the size of the step, as in {example}")
        size = self.cursor.number("the size of the step, a number", example)
        self._close(example)
        return Spike(metric.text, size, column=metric.column)

    def out_of_range(self) -> Expression:
        metric = self.cursor.metric("out_of_range(level)")
        self._close("out_of_range(level)")
        return OutOfRange(metric.text, column=metric.column)

    def forecast(self) -> Expression:
        example = "forecast(level, 30m) or forecast(level, 30m, 2h)"
        metric = self.cursor.metric(example)
        self.cursor.expect(",", f"and how far ahead, as in {example}")
        ahead = self.cursor.span(example, MAX_AHEAD, "a forecast")
        window = ahead
        if self.cursor.peek().is_op(","):
            self.cursor.next()
            window = self.cursor.span(example, MAX_WINDOW)
        self._close(example)
        return Forecast(metric.text, ahead, window, column=metric.column)

    def between(self) -> Expression:
        example = 'between("22:00", "06:00")'
        start = self._time(example)
        self.cursor.expect(",", f"and a time of day, as in {example}")
        end = self._time(example)
        self._close(example)
        return Between(start, end, column=self.name.column)

    def _time(self, example: str) -> int:
        """Microseconds past midnight; 24:00 is the midnight of the next day, which is 0 as well."""
        token = self.cursor.text("a time of day", example)
        found = _TIME.fullmatch(token.text[1:-1])
        if token.text[1:-1] == "24:00":
            return 0
        if not found:
            fail(token.column, f"expected a time of day from 00:00 to 24:00, as in {example}, found {token}")
        return int(found[1]) * HOUR + int(found[2]) * MINUTE

    def weekday(self) -> Expression:
        days: set[int] = set()
        while True:
            days |= _days(self.cursor.text("a day", 'weekday("mon-fri") or weekday("sat", "sun")'))
            if not self.cursor.peek().is_op(","):
                break
            self.cursor.next()
        self._close('weekday("mon-fri")')
        return Weekday(frozenset(days), column=self.name.column)

    def holiday(self) -> Expression:
        self._close("holiday()")
        return Holiday(column=self.name.column)

    def mode(self) -> Expression:
        token = self.cursor.text("a mode", 'mode("flood_season")')
        mode = token.text[1:-1]
        if mode not in MODES:
            fail(token.column, f"unknown mode {mode!r}{nearest(mode, MODES)}; one of {', '.join(MODES)}")
        self._close('mode("flood_season")')
        return Mode(mode, column=token.column)

    def by_response(self) -> Expression:
        example = "by_response(3.5, 3.4, 3.3, 3.2, 3.1)"
        values = [self.inner()]
        for level in ("IV", "III", "II", "I"):
            self.cursor.expect(",", f"and the value for level {level}, as in {example}")
            values.append(self.inner())
        self.cursor.expect(")", f"after five values (no response, then level IV, III, II, I), as in {example}")
        return ByResponse(values[0], values[1], values[2], values[3], values[4], column=self.name.column)

    def in_grid(self) -> Expression:
        example = "in_grid(count(level > 3.5) >= 3) or in_grid(share(level > 3.5) > 0.5)"
        share = self.cursor.word(("count", "share"), example).text == "share"
        self.cursor.expect("(", f"and a condition, as in {example}")
        condition = self.inner()
        if self.cursor.peek().is_op(","):
            fail(self.cursor.peek().column, f"in_grid counts devices that meet a condition, as in {example}")
        self.cursor.expect(")", f"after the condition, as in {example}")
        op, limit = self._limit(example, share=share)
        self._close(example)
        return Group(None, condition, share, op, limit, column=self.name.column)

    def of_group(self) -> Expression:
        example = 'of_group("gateway-7", absent) > 0.5'
        tag = self.cursor.text("a tag", example)
        if not tag.text[1:-1].strip():
            fail(tag.column, f"expected a tag, as in {example}, found nothing in the quotes")
        self.cursor.expect(",", f"and a condition, as in {example}")
        condition = self.inner()
        self.cursor.expect(")", f"after the condition, as in {example}")
        op, limit = self._limit(example, share=True)
        return Group(tag.text[1:-1], condition, True, op, limit, column=self.name.column)

    def _limit(self, example: str, *, share: bool) -> tuple[Order, float]:
        op = self.cursor.next()
        if not op.is_op(*COMPARISONS):
            fail(op.column, f"expected a comparison, as in {example}, found {op}")
        column = self.cursor.peek().column
        limit = self.cursor.number("a share from 0 to 1" if share else "a number of devices", example)
        if share and limit > 1:
            fail(column, f"a share of the devices is from 0 to 1, as in {example}")
        if not share and limit != int(limit):
            fail(column, f"a number of devices is whole, as in {example}")
        return cast(Order, op.text), limit


def _days(token: Token) -> set[int]:
    """`mon`, or `fri-mon`, which goes over Sunday."""
    ends = [_day(part.strip(), token) for part in token.text[1:-1].split("-", 1)]
    return {(ends[0] + step) % 7 for step in range((ends[-1] - ends[0]) % 7 + 1)}


def _day(name: str, token: Token) -> int:
    if name.lower() not in DAYS:
        fail(token.column, f"{name!r} is no day{nearest(name[:3], DAYS)}; one of {', '.join(DAYS)}, or two as mon-fri")
    return DAYS.index(name.lower())


CALLS: dict[str, Callable[[_Call], Expression]] = {
    "absent": _Call.absent, "event": _Call.event, "since": _Call.since, "count": _Call.count,
    **dict.fromkeys(OVER_SAMPLES, _Call.over_samples),
    "flat": _Call.flat, "spike": _Call.spike, "out_of_range": _Call.out_of_range, "forecast": _Call.forecast,
    "between": _Call.between, "weekday": _Call.weekday, "holiday": _Call.holiday, "mode": _Call.mode,
    "by_response": _Call.by_response, "in_grid": _Call.in_grid, "of_group": _Call.of_group,
}  # fmt: skip
FUNCTIONS = tuple(CALLS)

"""A condition as text in its one canonical form: parsing it again gives an equal tree."""

from __future__ import annotations

from devices.instants import HOUR, MILLISECOND, MINUTE, format_duration
from rules.calls import DAYS
from rules.expression import (
    Absent,
    And,
    Arithmetic,
    Attribute,
    Between,
    ByResponse,
    Compare,
    Count,
    DeviceAbsent,
    Duration,
    Event,
    Expression,
    Flat,
    Forecast,
    Group,
    Holiday,
    Metric,
    Mode,
    Negate,
    Not,
    Number,
    Or,
    OutOfRange,
    Since,
    Spike,
    Truth,
    Weekday,
    Window,
    children,
)
from rules.language import MINUS_POWER, POWER

_ATOM = 100


def text_of(node: Expression) -> str:
    """The text of a tree that the parser made; longer than what was parsed where that was written tightly."""
    if isinstance(node, (And, Or)):
        word = "and" if isinstance(node, And) else "or"
        return f"{_side(node.left, POWER[word])} {word} {_side(node.right, POWER[word] + 1)}"
    if isinstance(node, Not):
        return f"not {_side(node.inner, POWER['not'])}"
    if isinstance(node, Compare):
        above = POWER[node.op] + 1
        return f"{_side(node.left, above)} {node.op} {_side(node.right, above)}"
    if isinstance(node, Arithmetic):
        return f"{_side(node.left, POWER[node.op])} {node.op} {_side(node.right, POWER[node.op] + 1)}"
    if isinstance(node, Negate):
        return f"-{_side(node.inner, MINUS_POWER)}"
    if isinstance(node, ByResponse):
        return f"by_response({', '.join(map(text_of, children(node)))})"
    if isinstance(node, Group):
        return _group(node)
    return _schedule(node) or _of_metric(node) or _of_event(node) or _plain(node)


def _side(node: Expression, least: int) -> str:
    text = text_of(node)
    return text if _power(node) >= least else f"({text})"


def _power(node: Expression) -> int:
    if isinstance(node, (Compare, Arithmetic)):
        return POWER[node.op]
    if isinstance(node, Group) and node.tag is not None:
        return POWER[node.op]
    powers = {And: POWER["and"], Or: POWER["or"], Not: POWER["not"], Negate: MINUS_POWER}
    return powers.get(type(node), _ATOM)


def _group(node: Group) -> str:
    condition, limit = text_of(node.condition), f"{node.op} {_number(node.limit)}"
    if node.tag is not None:
        return f"of_group({_quoted(node.tag)}, {condition}) {limit}"
    return f"in_grid({'share' if node.share else 'count'}({condition}) {limit})"


def _schedule(node: Expression) -> str:
    if isinstance(node, Between):
        return f'between("{_time(node.start_us)}", "{_time(node.end_us)}")'
    if isinstance(node, Weekday):
        return f"weekday({', '.join(_quoted(DAYS[day]) for day in sorted(node.days))})"
    if isinstance(node, Holiday):
        return "holiday()"
    if isinstance(node, Mode):
        return f'mode("{node.name}")'
    return ""


def _of_metric(node: Expression) -> str:
    if isinstance(node, Absent):
        return f"absent({node.metric}, {span_text(node.us)})"
    if isinstance(node, Window):
        return f"{node.function}({node.metric}, {span_text(node.us)})"
    if isinstance(node, Flat):
        return f"flat({node.metric}, {span_text(node.us)}, {_number(node.tolerance)})"
    if isinstance(node, Spike):
        return f"spike({node.metric}, {_number(node.size)})"
    if isinstance(node, OutOfRange):
        return f"out_of_range({node.metric})"
    if isinstance(node, Forecast):
        window = "" if node.window_us == node.ahead_us else f", {span_text(node.window_us)}"
        return f"forecast({node.metric}, {span_text(node.ahead_us)}{window})"
    return ""


def _of_event(node: Expression) -> str:
    if isinstance(node, Event):
        return f"event({_quoted(node.name)})"
    if isinstance(node, Since):
        return f"since(event({_quoted(node.event)}))"
    if isinstance(node, Count):
        return f"count(event({_quoted(node.event)}), {span_text(node.us)})"
    return ""


def _plain(node: Expression) -> str:
    if isinstance(node, Number):
        return _number(node.value)
    if isinstance(node, Duration):
        return span_text(node.us)
    if isinstance(node, Truth):
        return "true" if node.value else "false"
    if isinstance(node, Attribute):
        return f"attr.{node.name}"
    if isinstance(node, DeviceAbsent):
        return "absent"
    if isinstance(node, Metric):
        return node.name
    raise TypeError(f"{type(node).__name__} has no text")


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def span_text(us: int) -> str:
    """Exact, unlike what is shown to people: microseconds as a fraction of a millisecond."""
    return f"{us // MILLISECOND}.{us % MILLISECOND:03d}ms" if us % MILLISECOND else format_duration(us)


def _time(us: int) -> str:
    return f"{us // HOUR:02d}:{us % HOUR // MINUTE:02d}"


def _quoted(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'

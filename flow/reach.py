"""How far back what a rule says now can depend on what was: windows, holds, gaps, repeats."""

from __future__ import annotations

from collections.abc import Iterator

from devices.instants import SECOND
from rules.expression import (
    Absent,
    Count,
    DeviceAbsent,
    Duration,
    Expression,
    Flat,
    Forecast,
    Window,
    children,
)
from rules.rule import NO_GAP, Rule

_INTERVALS = 3  # max_age and max_gap where the rule says nothing
_SETTLING = 10  # intervals until every metric has been heard


def reach(rule: Rule, interval_s: float) -> int:
    """Microseconds. An estimate from above for everything but an alarm that stands, which may be of any age."""
    interval = round(interval_s * SECOND)
    silent = [_INTERVALS * interval if own is None else own for own in (rule.max_age_us, rule.gap_us)]
    longest = max((span for tree in rule.trees for span in _spans(tree, interval)), default=0)
    hold = max([rule.hold_us, *(level.hold_us for level in rule.levels)])
    repeats = rule.repeat[1] * interval if rule.repeat else 0
    silence = max(span for span in (*silent, 0) if span != NO_GAP)
    return longest + silence + hold + rule.keep_us + repeats + _SETTLING * interval


def _spans(node: Expression, interval: int) -> Iterator[int]:
    if isinstance(node, (Absent, Count, Window, Flat, Duration)):
        yield node.us
    elif isinstance(node, Forecast):
        yield node.window_us
    elif isinstance(node, DeviceAbsent):
        yield 2 * interval
    for child in children(node):
        yield from _spans(child, interval)

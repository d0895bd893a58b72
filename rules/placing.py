"""Where a part of a condition may stand: what speaks of several devices, of what is to come, of an instant."""

from __future__ import annotations

from collections.abc import Iterator

from rules.expression import (
    Absent,
    And,
    Arithmetic,
    ByResponse,
    Compare,
    Count,
    DeviceAbsent,
    Event,
    Expression,
    Forecast,
    Group,
    Leaf,
    Negate,
    Since,
    children,
    leaves,
)
from rules.tokens import Slip

_WHOLE = "in_grid(…) and of_group(…) stand alone: nothing is joined to them, and none stands inside another"
_NO_FORECAST = (
    "a forecast is an early notice of its own: in `when` it stands in a comparison that is joined by `and` alone, "
    "never below or, not or another comparison"
)


def misplaced(tree: Expression, *, clear: bool = False) -> list[Slip]:
    """What stands where it must not. A forecast in `clear` may be joined in any way."""
    if isinstance(tree, Group):
        return [*_groups(tree.condition), *_in_a_group(tree.condition)]
    found = [*_groups(tree), *_alone(tree)]
    if not clear:
        found += [_slip(leaf, _NO_FORECAST) for leaf in _buried(tree)]
    return found


def _slip(node: Expression, message: str) -> Slip:
    return Slip(max(node.column, 1), message)


def _groups(tree: Expression) -> Iterator[Slip]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Group):
            yield _slip(node, _WHOLE)
        else:
            waiting.extend(children(node))


def _in_a_group(condition: Expression) -> Iterator[Slip]:
    for leaf in leaves(condition):
        if isinstance(leaf, Forecast):
            yield _slip(leaf, "a forecast speaks of one device, so it stands in no group")
        elif isinstance(leaf, Event):
            yield _slip(leaf, 'event(…) lasts no time, so no two devices have it at once: count(event("x"), 10m) >= 1')


def _alone(tree: Expression) -> Iterator[Slip]:
    for leaf in leaves(tree):
        if isinstance(leaf, DeviceAbsent):
            yield _slip(leaf, "absent alone stands inside in_grid(…) or of_group(…); of one device: absent(level, 15m)")


def _buried(node: Expression) -> Iterator[Forecast]:
    """Forecasts that something else than `and` could turn into their contrary or into one reason of several."""
    if isinstance(node, And):
        yield from _buried(node.left)
        yield from _buried(node.right)
    elif not isinstance(node, Compare) or not (_is_sum(node.left) and _is_sum(node.right)):
        yield from (leaf for leaf in leaves(node) if isinstance(leaf, Forecast))


def _is_sum(node: Expression) -> bool:
    if isinstance(node, (Arithmetic, Negate, ByResponse)):
        return all(_is_sum(child) for child in children(node))
    return not children(node)


def uncountable(tree: Expression) -> list[Leaf]:
    """What the clock judges, or an instant alone: no reading decides it, so `repeat` cannot count it."""
    return [leaf for leaf in leaves(tree) if isinstance(leaf, (Absent, DeviceAbsent, Event, Since, Count))]

"""Levels above different datums: 吴淞 and 85 differ by metres, so a rule that compares or subtracts them says nothing.

The attribute `datum` of a device says what its levels are above, `<name>_datum` for one metric or attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from devices.kinds import LEVELS
from rules.expression import Arithmetic, Attribute, Compare, Expression, Forecast, Metric, Window, children
from rules.rule import Rule
from rules.text import text_of

_SUFFIX = "_datum"
# What these make of a level is a level; a change, a spread or a number of levels has no datum.
_STILL_LEVELS = ("avg", "min", "max", "sum", "median")


def datum_of(name: str, attributes: Mapping[str, object]) -> str | None:
    """What the metric or attribute of a device with these attributes is above; None where nothing says."""
    datum = attributes.get(name + _SUFFIX, attributes.get("datum") if name in LEVELS else None)
    if datum is None:
        return None
    # YAML reads 1985 as a number.
    return f"{datum:g}" if isinstance(datum, float) else str(datum).strip()


def has_own_datum(attributes: Mapping[str, object]) -> bool:
    """Some level of the device is above a datum of its own; without that, no rule mixes two."""
    return any(name.endswith(_SUFFIX) for name in attributes)


def can_mix_datums(rule: Rule) -> bool:
    """There are attributes with which `mixes_datums` would be true."""
    return bool(_meetings(rule))


def mixes_datums(rule: Rule, attributes: Mapping[str, object]) -> bool:
    """On a device with these attributes the rule compares or subtracts levels of two datums."""
    if not has_own_datum(attributes):
        return False
    return any(len(_datums(names, attributes)) > 1 for _, names in _meetings(rule))


def datum_slips(rule: Rule, attributes: Mapping[str, object]) -> list[str]:
    """What the rule compares or subtracts in spite of different datums, each in words; empty where it does not."""
    found: dict[str, None] = {}
    for text, names in _meetings(rule):
        datums = _datums(names, attributes)
        if len(datums) > 1:
            told = ", ".join(f"{name} is above {datum}" for datum, name in sorted(datums.items()))
            found[f"{text}: {told}"] = None
    return list(found)


def _datums(names: frozenset[str], attributes: Mapping[str, object]) -> dict[str, str]:
    """The datums of these names, each with one of the names; a name without a datum goes with any."""
    found: dict[str, str] = {}
    for name in sorted(names):
        datum = datum_of(name.removeprefix("attr."), attributes)
        if datum is not None:
            found.setdefault(datum, name)
    return found


@lru_cache(4096)
def _meetings(rule: Rule) -> tuple[tuple[str, frozenset[str]], ...]:
    """What is compared, added or subtracted, as text, with the levels on both its sides; only where there are two."""
    found: list[tuple[str, frozenset[str]]] = []
    for tree in rule.trees:
        _levels(tree, found)
    return tuple(found)


def _levels(node: Expression, found: list[tuple[str, frozenset[str]]]) -> frozenset[str]:
    """The names whose datum the value of the node is above: none for a difference of two."""
    if isinstance(node, Metric):
        return frozenset({node.name})
    if isinstance(node, Attribute):
        return frozenset({f"attr.{node.name}"})
    if isinstance(node, Forecast) or (isinstance(node, Window) and node.function in _STILL_LEVELS):
        return frozenset({node.metric})
    sides = [_levels(child, found) for child in children(node)]
    names = frozenset().union(*sides)
    if isinstance(node, Compare) or (isinstance(node, Arithmetic) and node.op in ("+", "-")):
        if len(names) > 1:
            found.append((text_of(node), names))
        apart = isinstance(node, Compare) or (node.op == "-" and all(sides))
        return frozenset() if apart else names
    return names

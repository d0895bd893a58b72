"""What is known of a device beside its readings: numbers, texts such as a datum, and numbers that change on a date.

A threshold that is agreed on in spring for the flood season is written once, with the instant it begins to hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from devices.instants import from_iso, to_iso


@dataclass(frozen=True, slots=True)
class Dated:
    """`value` holds from `valid_from` (µs since 1970 UTC) until the next one's."""

    value: float
    valid_from: int


# Dated values rise in time, no two of one instant.
Attribute = float | str | tuple[Dated, ...]


def value_at(attribute: Attribute | None, at: int) -> float | str | None:
    """What holds at the instant; None before the first dated value, and where there is no attribute."""
    if not isinstance(attribute, tuple):
        return attribute
    holding = [dated.value for dated in attribute if dated.valid_from <= at]
    return holding[-1] if holding else None


def number_at(attributes: Mapping[str, Attribute], name: str, at: int) -> float | None:
    """The attribute as a number at the instant; None where it is absent, text, or does not hold yet."""
    value = value_at(attributes.get(name), at)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def to_come(attribute: Attribute, at: int) -> tuple[Dated, ...]:
    """The values that begin to hold after the instant."""
    return tuple(dated for dated in attribute if dated.valid_from > at) if isinstance(attribute, tuple) else ()


def in_order(values: Sequence[Dated]) -> tuple[Dated, ...]:
    """By their instants. Raises ValueError where there is none, or two of one instant."""
    if not values:
        raise ValueError("expected at least one value with its valid_from")
    found = tuple(sorted(values, key=lambda dated: dated.valid_from))
    for one, following in pairwise(found):
        if one.valid_from == following.valid_from:
            raise ValueError(f"two values are valid from {to_iso(one.valid_from)}")
    return found


def to_json(attributes: Mapping[str, Attribute]) -> dict[str, object]:
    """As it is stored and sent: a dated one as [{"value": …, "valid_from": ISO text}, …]."""
    return {
        name: [{"value": d.value, "valid_from": to_iso(d.valid_from)} for d in attribute]
        if isinstance(attribute, tuple)
        else attribute
        for name, attribute in attributes.items()
    }


def from_json(stored: Mapping[str, object]) -> dict[str, Attribute]:
    """What `to_json` made. Raises ValueError for anything else."""
    return {name: _attribute(name, value) for name, value in stored.items()}


def _attribute(name: str, value: object) -> Attribute:
    if isinstance(value, (int, float, str)):
        return value
    if not isinstance(value, list):
        raise ValueError(f"attribute {name!r}: {value!r} is neither number, text nor dated numbers")
    return in_order([Dated(float(each["value"]), from_iso(each["valid_from"])) for each in value])

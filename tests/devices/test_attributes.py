"""Thresholds with a date: what holds when, what is to come, and how they are written."""

from __future__ import annotations

import math
import re

import pytest

from devices.attributes import Attribute, Dated, from_json, number_at, to_come, to_json, value_at
from devices.documents import DocumentError
from devices.instants import SECOND, from_iso
from devices.town import read_town
from rules.outcome import NEVER
from rules.rule import attribute_number, attribute_steps

SPRING, SUMMER = from_iso("2026-03-01T00:00:00+08:00"), from_iso("2026-05-01T00:00:00+08:00")
LIMIT = (Dated(3.5, SPRING), Dated(3.4, SUMMER))
ATTRIBUTES: dict[str, Attribute] = {"limit": LIMIT, "dyke_level": 5, "datum": "吴淞"}


def test_a_dated_value_holds_from_its_very_instant_until_the_next() -> None:
    instants = (SPRING - 1, SPRING, SUMMER - 1, SUMMER, SUMMER + SECOND)
    assert [value_at(LIMIT, at) for at in instants] == [None, 3.5, 3.5, 3.4, 3.4]
    assert [len(to_come(LIMIT, at)) for at in instants] == [2, 1, 1, 0, 0]


def test_what_is_not_dated_holds_always_and_a_datum_is_no_number() -> None:
    assert [number_at(ATTRIBUTES, name, 0) for name in ("limit", "dyke_level", "datum", "nothing")] == [
        None, 5.0, None, None,
    ]  # fmt: skip
    assert value_at("吴淞", 0) == "吴淞"
    assert to_come("吴淞", 0) == ()


def test_rules_see_the_steps_of_a_dated_one_and_one_step_of_any_other() -> None:
    assert attribute_steps(ATTRIBUTES, "limit") == ((SPRING, 3.5), (SUMMER, 3.4))
    assert attribute_steps(ATTRIBUTES, "dyke_level") == ((NEVER, 5.0),)
    assert [at for at, value in attribute_steps(ATTRIBUTES, "datum") if math.isnan(value)] == [NEVER]
    assert math.isnan(attribute_number(ATTRIBUTES, "limit"))


def test_attributes_survive_being_stored() -> None:
    assert from_json(to_json(ATTRIBUTES)) == ATTRIBUTES
    assert to_json({"limit": LIMIT})["limit"] == [
        {"value": 3.5, "valid_from": "2026-02-28T16:00:00Z"}, {"value": 3.4, "valid_from": "2026-04-30T16:00:00Z"},
    ]  # fmt: skip
    with pytest.raises(ValueError, match="neither number"):
        from_json({"limit": {"a": 1}})


def read(written: str) -> Attribute:
    devices = f"devices:\n  - id: ps-1\n    kind: pump_station\n    attributes:\n      limit: {written}\n"
    town = read_town({"town.yaml": "site: s\nname: {zh: 镇}\n", "devices.yaml": devices})
    return town.devices["ps-1"].attributes["limit"]


def test_a_town_writes_them_in_any_order() -> None:
    written = (
        "[{value: 3.4, valid_from: 2026-05-01T00:00:00+08:00}, {value: 3.5, valid_from: '2026-03-01T00:00:00+08:00'}]"
    )
    assert read(written) == LIMIT
    assert (read("3.5"), read("吴淞"), read("'3.5'")) == (3.5, "吴淞", "3.5")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[]", "devices.yaml:5:7: .*expected at least one value"),
        ("[{value: 1, valid_from: 2026-01-01}]", "devices.yaml:5:26: .*needs an offset"),
        ("[{value: 1, valid_from: 20260101}]", "devices.yaml:5:26: .*expected a time such as"),
        ("[{value: high, valid_from: 2026-01-01T00:00:00Z}]", "devices.yaml:5:16: .*valid number"),
        ("[{value: .nan, valid_from: 2026-01-01T00:00:00Z}]", "devices.yaml:5:16: .*finite"),
        ("[{value: 1, from: 2026-01-01T00:00:00Z}]", "devices.yaml:5:26: .*not a known key"),
        ("[{value: 1, valid_from: 2026-01-01T00:00:00+08:00}, {value: 2, valid_from: 2025-12-31T16:00:00Z}]",
         "two values are valid from 2025-12-31T16:00:00Z"),
        (".inf", "devices.yaml:5:7: .*finite"),
        ("{value: 1}", "devices.yaml:5:7: .*valid number"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_dated_value_is_told_where_it_stands(written: str, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(written)
    assert re.search(said, str(caught.value)), caught.value

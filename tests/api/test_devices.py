"""Attributes that change with time: what holds now, and every value with its beginning."""

from __future__ import annotations

from dataclasses import replace

from devices.instants import DAY, HOUR, to_iso
from devices.registry import Dated
from store.records.database import write
from store.records.devices import get_device, put_device
from tests.api.centre import START, Centre


def date_attribute(centre: Centre, device: str, *values: Dated) -> None:
    with write(centre.records) as tx:
        row = get_device(tx, device)
        assert row is not None
        put_device(tx, replace(row.device, attributes={**row.device.attributes, "top": values, "datum": "吴淞"}))


def test_the_value_of_now_and_all_there_are(centre: Centre) -> None:
    date_attribute(centre, "ps-1", Dated(3.5, START - DAY), Dated(3.4, START + HOUR))
    for found in (
        centre.get("viewer", "/devices/ps-1"),
        centre.get("viewer", "/devices", kind="pump_station")["items"][0],
    ):
        assert found["attributes"] == {"inside_limit_level": 3.5, "top": 3.5, "datum": "吴淞"}
        assert found["dated"] == {"top": [
            {"value": 3.5, "valid_from": to_iso(START - DAY)}, {"value": 3.4, "valid_from": to_iso(START + HOUR)},
        ]}  # fmt: skip
    centre.now += HOUR
    assert centre.get("viewer", "/devices/ps-1")["attributes"]["top"] == 3.4


def test_what_does_not_hold_yet_is_null(centre: Centre) -> None:
    date_attribute(centre, "ps-1", Dated(3.4, START + 1))
    assert centre.get("viewer", "/devices/ps-1")["attributes"]["top"] is None


def test_attributes_of_a_home_are_hidden_dated_or_not(centre: Centre) -> None:
    date_attribute(centre, "door-1", Dated(3.4, START - 1))
    found = centre.get("viewer", "/devices/door-1")
    assert (found["attributes"], found["dated"]) == ({}, {})
    assert centre.get("handler", "/devices/door-1")["attributes"]["top"] == 3.4

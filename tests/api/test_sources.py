"""Two sources of one station on the API: the latest of both, and how far apart they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from devices.batch import Quality
from devices.instants import DAY, MINUTE, SECOND, to_iso
from store.readings import Columns
from store.records.database import write
from store.records.devices import put_device
from tests.api.centre import START, Centre


def make_second(centre: Centre, device: str = "ps-2", first: str = "ps-1", **more: Any) -> None:
    registry = centre.settler.memory.registry
    known = registry.get(device)
    assert known is not None
    registry.put(replace(known, second_of=first, **more))
    centre.settler.memory.devices_changed()
    with write(centre.records) as tx:
        put_device(tx, registry.devices[known.number])


def tell(centre: Centre, device: str, at: int, **values: float | bool) -> None:
    centre.now = max(centre.now, at)
    centre.send(device, {"at": at // 1000, **values})


def metrics(centre: Centre, device: str = "ps-1", **query: object) -> dict[str, Any]:
    (second,) = centre.get("viewer", f"/devices/{device}/sources", **query)["seconds"]
    return {m["metric"]: m for m in second["metrics"]}


def test_the_latest_of_both_and_the_differences_of_a_day(centre: Centre) -> None:
    make_second(centre)
    for n, (primary, second) in enumerate([(3.0, 3.1), (3.2, 3.1), (3.4, 3.7)]):
        at = START + n * MINUTE
        tell(centre, "ps-1", at, level_inside=primary, mains_ok=True)
        tell(centre, "ps-2", at + 20 * SECOND, level_inside=second, mains_ok=n != 1)
    answer = centre.get("viewer", "/devices/ps-2/sources")
    assert answer == centre.get("viewer", "/devices/ps-1/sources"), "of the station, whichever is asked"
    assert answer["primary"] == "ps-1"
    (second,) = answer["seconds"]
    assert (second["device"], second["within_s"]) == ("ps-2", 60.0)
    level, mains = second["metrics"]
    last = START + 2 * MINUTE
    assert level == {
        "metric": "level_inside", "unit": "m",
        "primary": {"at": to_iso(last), "value": 3.4, "quality": "good"},
        "second": {"at": to_iso(last + 20 * SECOND), "value": 3.7, "quality": "good"},
        "difference": pytest.approx(0.3), "mean_difference": pytest.approx(0.5 / 3), "largest_difference": 0.3,
        "largest_at": to_iso(last + 20 * SECOND), "pairs": 3, "datums": None,
    }  # fmt: skip
    assert (mains["difference"], mains["mean_difference"]) == (0.0, pytest.approx(1 / 3)), "a third disagrees"


def test_only_what_was_measured_in_the_span_and_near_enough_is_a_pair(centre: Centre) -> None:
    make_second(centre)
    tell(centre, "ps-1", START, level_inside=3.0)
    tell(centre, "ps-2", START + 61 * SECOND, level_inside=4.0)
    tell(centre, "ps-1", START + 10 * MINUTE, level_inside=3.0)
    found = metrics(centre)["level_inside"]
    assert (found["pairs"], found["mean_difference"], found["difference"]) == (0, None, None)
    assert found["second"]["value"] == 4.0, "the latest is shown however old"
    tell(centre, "ps-2", START + 10 * MINUTE, level_inside=3.5)
    assert metrics(centre)["level_inside"]["pairs"] == 1
    early = metrics(centre, **{"from": to_iso(START - DAY), "to": to_iso(START + 5 * MINUTE)})
    assert early["level_inside"]["pairs"] == 0
    shorter = centre.ask(
        "GET", "/api/v1/devices/ps-1/sources", token=centre.token("viewer"),
        params={"from": to_iso(START - 32 * DAY), "to": to_iso(START)},
    )  # fmt: skip
    assert (shorter.status_code, shorter.json()["type"]) == (422, "urn:gridwhistle:problem:history_too_long")


def test_bad_values_are_in_no_pair(centre: Centre) -> None:
    make_second(centre)
    for device in ("ps-1", "ps-2"):
        tell(centre, device, START, level_inside=3.0)
    tell(centre, "ps-1", START + SECOND, level_inside=3.0)
    registry = centre.settler.memory.registry
    series = registry.find_series(registry.devices[1].number, "level_inside")
    assert series is not None
    at, bad = np.array([START + SECOND], np.int64), np.array([Quality.BAD], np.uint8)
    columns = Columns(np.array([series], np.int32), at, np.array([9.0]), bad, START, np.zeros(1, np.uint8))
    centre.readings.append(centre.readings.applied() + 1, [columns])
    found = metrics(centre)["level_inside"]
    assert (found["pairs"], found["largest_difference"]) == (1, 0.0)


def test_levels_above_two_datums_are_shown_and_not_subtracted(centre: Centre) -> None:
    make_second(centre, attributes={"datum": "1985"})
    known = centre.settler.memory.registry.devices[0]
    centre.settler.memory.registry.put(replace(known, attributes={"datum": "吴淞"}))
    for device in ("ps-1", "ps-2"):
        tell(centre, device, START, level_inside=3.0, flow=2.0)
    found = metrics(centre)
    assert (found["level_inside"]["datums"], found["level_inside"]["difference"]) == (["吴淞", "1985"], None)
    assert (found["flow"]["datums"], found["flow"]["difference"]) == (None, 0.0)


def test_a_station_of_one_source_has_no_second_and_a_stranger_is_not_found(centre: Centre) -> None:
    assert centre.get("viewer", "/devices/ps-1/sources")["seconds"] == []
    assert centre.get("viewer", "/devices/ps-1")["second_of"] is None
    make_second(centre)
    assert centre.get("viewer", "/devices/ps-2")["second_of"] == "ps-1"
    assert centre.ask("GET", "/api/v1/devices/ps-9/sources", token=centre.token("viewer")).status_code == 404


def test_what_two_sensors_of_a_home_say_is_for_handlers(centre: Centre) -> None:
    path = "/api/v1/devices/door-1/sources"
    assert centre.ask("GET", path, token=centre.token("viewer")).status_code == 403
    assert centre.ask("GET", path, token=centre.token("handler")).status_code == 200

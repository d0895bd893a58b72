"""Stored readings as the rules see them: in order of time, whole elements, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alerts.refusals import Invalid
from devices.batch import Quality
from devices.instants import DAY, HOUR, MINUTE
from devices.registry import Device
from flow import history
from flow.history import MAX_READINGS, History, Sources, check_size, choose
from rules.outcome import Rows
from store.readings import Columns
from tests.flow.centre import START, SmallCentre


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    centre = SmallCentre(tmp_path / "data").start()
    yield centre
    centre.stop()


def chosen(centre: SmallCentre, *ids: str, names: set[str] | None = None, start: int = START) -> History:
    known = centre.settler.memory.registry
    devices = [device for device in map(known.get, ids) if device is not None]
    return choose(known, devices, names, start)


def told(centre: SmallCentre, wanted: History, start: int = START, end: int = START + DAY) -> list[tuple[object, ...]]:
    """(minute, device, metric, value, element) of every row."""
    centre.settler.appender.drain(5)
    found = list(Sources(centre.records, centre.readings).rows(wanted, start, end))
    registry = wanted.registry
    return [
        ((at - START) / MINUTE, registry.devices[device].id, registry.series_metric[series], value, element)
        for rows in found
        for series, at, value, element, device in zip(
            rows.series.tolist(), rows.at.tolist(), rows.value.tolist(), rows.element.tolist(), rows.device.tolist(),
            strict=True,
        )
    ]  # fmt: skip


def send(centre: SmallCentre, minute: float, device: str = "ps-1", **values: float | bool) -> None:
    at = START + round(minute * MINUTE)
    centre.now = max(centre.now, at)
    kind = {"ps": "pump_station", "door": "door_sensor", "cam": "camera"}[device.split("-", maxsplit=1)[0]]
    centre.send(device, {"at": at // 1000, **values}, kind=kind)
    centre.settle()


def test_readings_come_in_order_of_measuring_with_whole_elements(centre: SmallCentre) -> None:
    send(centre, 5, level_inside=3.5, pumps_running=2)
    send(centre, 5, "ps-2", level_inside=3.0)
    send(centre, 2, level_inside=3.2)  # late: it stands where it was measured
    assert told(centre, chosen(centre, "ps-1", "ps-2")) == [
        (2, "ps-1", "level_inside", 3.2, 0),
        (5, "ps-1", "level_inside", 3.5, 1),
        (5, "ps-1", "pumps_running", 2, 1),
        (5, "ps-2", "level_inside", 3.0, 2),
    ]


def test_only_what_was_chosen_is_read(centre: SmallCentre) -> None:
    for minute in (1, 2, 3):
        send(centre, minute, level_inside=3.0 + minute, pumps_running=minute)
        send(centre, minute, "ps-2", level_inside=1.0)
    wanted = chosen(centre, "ps-1", names={"level_inside"})
    span = (START + 2 * MINUTE, START + 3 * MINUTE)
    assert told(centre, wanted, *span) == [(2, "ps-1", "level_inside", 5.0, 0)]
    assert [device.id for device in wanted.registry.devices] == ["ps-1"]


def test_an_event_is_an_element_of_its_own_after_the_readings_of_its_instant(centre: SmallCentre) -> None:
    at = START + MINUTE
    centre.now = at
    centre.send("cam-1", {"at": at // 1000, "event": "person_detected", "id": "a"}, channel="events", kind="camera")
    centre.send("cam-1", {"at": at // 1000, "online": True}, kind="camera")
    centre.settle()
    assert told(centre, chosen(centre, "cam-1")) == [
        (1, "cam-1", "online", 1.0, 0),
        (1, "cam-1", "event:person_detected", 1.0, 1),
    ]


def test_an_event_made_from_a_reading_stays_in_its_element(centre: SmallCentre) -> None:
    send(centre, 1, "door-1", open=False)
    send(centre, 2, "door-1", open=True)
    assert told(centre, chosen(centre, "door-1")) == [
        (1, "door-1", "open", 0.0, 0),
        (2, "door-1", "open", 1.0, 1),
        (2, "door-1", "event:door_opened", 1.0, 1),
    ]


def test_bad_readings_are_left_out(centre: SmallCentre) -> None:
    send(centre, 1, level_inside=3.0)
    centre.settler.appender.drain(5)
    series = np.array([centre.settler.memory.registry.find_series(0, "level_inside")] * 2, np.int32)
    quality = np.array([Quality.BAD, Quality.SUSPECT], np.uint8)
    measured = np.array([START + 2 * MINUTE, START + 3 * MINUTE])
    centre.readings.append(99, [Columns(series, measured, np.array([9.9, 3.1]), quality, START, np.zeros(2, np.uint8))])
    assert [row[3] for row in told(centre, chosen(centre, "ps-1"))] == [3.0, 3.1]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1000])
def test_however_it_is_cut_it_is_the_same(centre: SmallCentre, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    for minute in (0, 1, 2, 2.5, 90, 91, 700):
        send(centre, minute, level_inside=minute / 100, pumps_running=1)
        send(centre, minute, "ps-2", level_inside=minute / 100)
    whole = told(centre, chosen(centre, "ps-1", "ps-2"))
    assert len(whole) == 21
    monkeypatch.setattr(history, "CHUNK", chunk)
    assert told(centre, chosen(centre, "ps-1", "ps-2")) == whole


def test_progress_rises_to_one_and_may_end_it(centre: SmallCentre) -> None:
    send(centre, 1, level_inside=3.0)
    centre.settler.appender.drain(5)
    parts: list[float] = []
    wanted = chosen(centre, "ps-1")
    sources = Sources(centre.records, centre.readings)
    list(sources.rows(wanted, START, START + 60 * DAY, parts.append))
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0.0, 1.0)

    def stop(part: float) -> None:
        if part:
            raise KeyboardInterrupt

    found: list[Rows] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(sources.rows(wanted, START, START + 60 * DAY, stop))


def test_too_much_is_refused_and_the_limit_named(centre: SmallCentre) -> None:
    send(centre, 1, level_inside=3.0, pumps_running=1)
    wanted = chosen(centre, "ps-1")
    check_size(wanted, START, START + 366 * DAY)
    for start, end, word in (
        (START, START, "`from` must be earlier"),
        (START, START + 367 * DAY, "the span is 367 days, at most 366"),
    ):
        with pytest.raises(Invalid, match=word):
            check_size(wanted, start, end)
    many = chosen(centre, "ps-1")
    for number in range(100):
        device = many.registry.add(Device(0, f"x-{number}", "s", "pump_station", interval_s=60.0))
        many.registry.series(device.number, "level_inside")
    with pytest.raises(Invalid, match=f"at most {MAX_READINGS:,}") as refused:
        check_size(many, START, START + 365 * DAY)
    assert "101 devices × 365.0 days" in refused.value.en
    assert "101 台设备 × 365.0 天" in refused.value.zh


def test_a_device_counts_as_first_seen_at_the_start(centre: SmallCentre) -> None:
    send(centre, 1, level_inside=3.0)
    later = START + 9 * HOUR
    assert [device.first_seen for device in chosen(centre, "ps-1", start=later).registry.devices] == [later]

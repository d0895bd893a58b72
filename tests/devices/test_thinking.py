"""Instants, names, presence and faults: the small judgements everything else rests on."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.faults import ClockLimits, Faults
from devices.instants import DAY, HOUR, MINUTE, SECOND, format_duration, from_iso, parse_duration, to_iso
from devices.kinds import KINDS
from devices.names import is_name, to_name
from devices.presence import NEVER, Presence, silent_after
from devices.registry import Device, DeviceStatus, Registry


@given(st.integers(0, 253_402_300_799_999_999))
def test_an_instant_survives_its_text(instant: int) -> None:
    assert from_iso(to_iso(instant)) == instant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2022-03-24T09:00+01:00", "2022-03-24T08:00:00Z"),
        ("2025-09-12T07:00:00Z", "2025-09-12T07:00:00Z"),
        ("2025-09-12T07:00:00.250+08:00", "2025-09-11T23:00:00.25Z"),
    ],
)
def test_iso_with_an_offset_is_read(text: str, said: str) -> None:
    assert to_iso(from_iso(text)) == said


@pytest.mark.parametrize("text", ["2025-09-12T07:00:00", "yesterday", "", "1969-12-31T23:59:59Z"])
def test_a_time_without_zone_or_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_iso(text)


@pytest.mark.parametrize(
    ("text", "span"), [("0s", 0), ("90s", 90 * SECOND), ("1h30m", 90 * MINUTE), ("2d", 2 * DAY), ("250ms", 250_000)]
)
def test_durations(text: str, span: int) -> None:
    assert parse_duration(text) == span
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1 h", "1h 30m", "5x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.text(max_size=80))
def test_a_name_made_of_any_text_is_a_name_or_empty(text: str) -> None:
    made = to_name(text)
    assert made == "" or is_name(made)


def test_every_metric_is_plausible_within_what_its_sensor_can_measure() -> None:
    for kind in KINDS.values():
        for metric in kind.metrics.values():
            assert metric.physical[0] <= metric.plausible[0] < metric.plausible[1] <= metric.physical[1], metric


def device(number: int, *, kind: str = "pump_station", first_seen: int = HOUR) -> Device:
    return Device(number, f"d-{number}", "qidu", kind, first_seen=first_seen)


def test_a_device_is_silent_after_three_missed_reports_a_patrol_never() -> None:
    assert silent_after(device(0)) == 3 * MINUTE
    assert silent_after(device(0, kind="patrol")) == NEVER


def heard(presence: Presence, *rows: tuple[int, int]) -> list[tuple[int, int | None]]:
    """Rows of (device, instant), adopted; the silences that ended as (device, ended)."""
    columns = np.array(rows, np.int64).T
    found = presence.hear(columns[0].astype(np.int32), columns[1], np.arange(len(rows), dtype=np.int32))
    presence.adopt(found)
    return [(s.device, s.ended) for s in found.silences]


def test_silence_begins_at_the_last_report_plus_the_limit_and_ends_at_a_newer_one() -> None:
    presence = Presence()
    presence.devices_changed([device(0), device(1)])
    presence.link(HOUR)
    heard(presence, (0, HOUR + MINUTE), (1, HOUR + 2 * MINUTE))
    assert presence.tick(HOUR + 3 * MINUTE).silences == ()
    found = presence.tick(HOUR + 10 * MINUTE)
    presence.adopt(found)
    assert [(s.device, s.since) for s in found.silences] == [(0, HOUR + 4 * MINUTE), (1, HOUR + 5 * MINUTE)]
    assert presence.tick(HOUR + 11 * MINUTE).silences == ()
    assert heard(presence, (0, HOUR)) == [], "an old report ends nothing"
    assert heard(presence, (0, HOUR + 12 * MINUTE)) == [(0, HOUR + 12 * MINUTE)]


def test_a_device_the_clock_has_not_met_is_not_silent() -> None:
    presence = Presence()
    presence.devices_changed([device(0, first_seen=0)])
    assert presence.tick(10 * DAY).silences == ()
    presence.devices_changed([device(0, first_seen=10 * DAY)])
    assert [s.since for s in presence.tick(11 * DAY).silences] == [10 * DAY + 3 * MINUTE]


def test_a_clock_is_wrong_beyond_its_limits_only() -> None:
    limits = ClockLimits(5 * MINUTE, 7 * DAY)
    at = np.array([DAY * 10], np.int64)
    for off, wrong in ((5 * MINUTE, False), (5 * MINUTE + 1, True), (-7 * DAY, False), (-7 * DAY - 1, True)):
        assert limits.wrong(at + off, at).tolist() == [wrong]
    assert not ClockLimits(None, None).wrong(at + DAY, at).any()


def test_a_fault_begins_once_and_ends_with_the_first_good_row() -> None:
    faults = Faults()
    number = np.array([3, 3, 4, 3, 3], np.int32)
    wrong = np.array([True, True, False, False, True])
    edges, changes = faults.judge(number, wrong, np.arange(5), np.arange(5.0), np.arange(5, dtype=np.int32))
    assert [(key, fault.since, fault.ended) for key, fault in edges] == [(3, 0, None), (3, 0, 3), (3, 4, None)]
    faults.adopt(changes)
    assert faults.standing == {3: (4, 4.0)}


def test_numbers_are_given_once_even_by_two_threads() -> None:
    registry = Registry()
    registry.add(device(0))

    def number_them() -> None:
        for n in range(2_000):
            registry.series(0, f"m-{n}")

    threads = [threading.Thread(target=number_them) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.series_device) == len(registry.series_metric) == 2_000
    assert all(registry.series(0, name) == n for n, name in enumerate(registry.series_metric))


def test_a_number_belongs_to_one_device() -> None:
    registry = Registry()
    registry.put(device(0))
    with pytest.raises(ValueError, match="belongs to"):
        registry.put(Device(0, "other", "qidu", "camera", status=DeviceStatus.ACTIVE))

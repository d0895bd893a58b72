"""Every scenario gives what it promises, for any seed, and the same bytes each time."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import islice

import pytest

from devices.instants import DAY, HOUR, MINUTE, from_iso
from devices.kinds import KINDS
from simulator.reports import CLOCK_STEP, ledger_count, messages, payload
from simulator.scenarios import SCENARIOS
from simulator.truth import Expectation
from simulator.world import Sample, World
from tests.simulator.township import qidu, rulebook, stretch, truth, world

NOTICES = {rule.id for rule in rulebook().rules.values() if rule.priority == "notice"}


def alarms(of: World, hours: float, step: int = 4 * MINUTE) -> list[Expectation]:
    return [e for e in truth(of, hours, step)[0] if e.rule not in NOTICES]


def digest(of: World, count: int) -> str:
    whole = hashlib.sha256()
    for item in islice(messages(of), count):
        whole.update(repr(item).encode() if isinstance(item, int) else item.device.encode() + payload(item))
    return whole.hexdigest()


def test_the_town_has_what_was_asked_for() -> None:
    kinds = Counter(device.kind for device in qidu().devices.values())
    least = {
        "pump_station": 12, "air_monitor": 6, "water_monitor": 4, "algae_buoy": 2, "aquaculture_pond": 4,
        "weather_station": 4, "door_sensor": 40, "camera": 6, "equipment": 10,
    }  # fmt: skip
    assert {kind: count for kind, count in least.items() if kinds[kind] < count} == {}
    assert {rule.applies_to.kind for rule in rulebook().rules.values()} == set(kinds)
    levels = Counter(grid.level for grid in qidu().grids.values())
    assert (levels["镇"], levels["村(社区)"]) == (1, 8)
    assert all(device.grid and device.at for device in qidu().devices.values())


def test_no_rule_of_the_town_speaks_of_warnings_of_weather() -> None:
    said = [rule.name_zh for rule in rulebook().rules.values() if rule.applies_to.kind == "weather_station"]
    assert "降雨达到暴雨蓝色标准" in said
    assert not [name for name in said if "预警" in name]


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_the_same_seed_and_start_give_the_same_bytes(scenario: str) -> None:
    assert digest(world(scenario, seed=4), 4000) == digest(world(scenario, seed=4), 4000)
    assert digest(world(scenario, seed=4), 4000) != digest(world(scenario, seed=5), 4000)
    moved = world(scenario, seed=4, start=from_iso("2027-01-01T00:00:00Z"))
    assert digest(world(scenario, seed=4), 4000) != digest(moved, 4000)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_messages_go_out_in_order_under_a_clock_that_never_runs_ahead(scenario: str) -> None:
    clock = 0
    sent = 0
    for item in stretch(world(scenario), 2):
        if isinstance(item, int):
            assert item > clock
            assert item >= sent
            clock = item
        else:
            assert item.sent_at >= sent
            assert clock < item.sent_at <= clock + CLOCK_STEP or item.sent_at == clock
            sent = item.sent_at


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"sensor-faults"}))
def test_every_value_is_one_its_sensor_could_show(scenario: str) -> None:
    kinds = {device.id: KINDS[device.kind] for device in qidu().devices.values()}
    for item in stretch(world(scenario, seed=2), 6):
        if isinstance(item, Sample) and item.channel == "readings":
            for metric, value in item.body.items():
                low, high = kinds[item.device].metrics[metric].plausible
                assert low <= float(value) <= high, (item.device, metric, value)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_showcase_shows_enough_within_the_hour(seed: int) -> None:
    of = world("showcase", seed=seed)
    assert of.hour_of_day(of.start) == 5.0
    assert of.hour(of.start) == 11.0
    found = alarms(of, 1, step=CLOCK_STEP)
    kinds = {of.town.devices[e.device].kind for e in found}
    assert len(found) >= 6
    assert len(kinds) >= 4
    orders = [e for e in found if not e.rule.startswith("gw-") and rulebook().rules[e.rule].order_category]
    assert len(orders) >= 2
    assert [e for e in found if e.cleared_at]
    assert all(e.required for e in found)

    def at(rule: str, device: str | None = None) -> list[float]:
        return [(e.raised_at - of.start) / MINUTE for e in found if e.rule == rule and device in (None, e.device)]

    assert sum(minute <= 50 for minute in at("polder-inside-high")) >= 2
    assert 5 <= at("pond-oxygen-low")[0] <= 10
    assert 10 <= at("camera-intrusion")[0] <= 11
    assert 12 <= at("equipment-hot")[0] <= 16
    assert 8 < at("gw-silence")[0] < 38


def test_the_scripted_hour_is_in_what_is_published() -> None:
    of = world("showcase")
    persons, weather, hot = list[float](), list[float](), list[float]()
    for item in stretch(of, 1):
        if isinstance(item, Sample):
            minute = (item.at - of.start) / MINUTE
            if item.device == "camera-sluice" and item.body.get("event") == "person_detected":
                persons.append(minute)
            elif item.device == "weather-daoxiang":
                weather.append(minute)
            elif item.device == "equip-waterworks-pump-1" and float(item.body["temperature"]) > 85:
                hot.append(minute)
    assert persons[0] == 10
    assert len([m for m in persons if m < 11]) == 3
    assert not [m for m in weather if 8 <= m < 38]
    assert [m for m in weather if m < 8]
    assert [m for m in weather if m > 38]
    assert 11 < hot[0] <= 13
    assert 31 < hot[-1] <= 33


def test_calm_is_calm() -> None:
    of = world("calm", seed=2)
    assert alarms(of, 24) == []
    assert {e.rule for e in truth(of, 24)[0]} == NOTICES & {"door-opened"}


@pytest.mark.parametrize("seed", [1, 2])
def test_ordinary_has_one_to_three_nuisances_a_day(seed: int) -> None:
    of = world("ordinary", seed=seed)
    found = alarms(of, 48)
    days = Counter((e.raised_at - of.start) // DAY for e in found)
    assert sorted(days) == [0, 1]
    assert all(1 <= count <= 3 for count in days.values())


def test_a_flood_as_described() -> None:
    of = world("flood")
    found = alarms(of, 20)
    stations = of.of_kind("pump_station")
    silent = [e for e in found if e.rule == "gw-silence"]
    assert len({e.device for e in silent}) == round(len(stations) / 5)
    for e in silent:
        assert e.cleared_at is not None
        assert 7 * MINUTE <= e.cleared_at - e.raised_at <= 41 * MINUTE
    assert [of.hour(e.raised_at) for e in found if e.rule == "pump-mains-lost"] == pytest.approx([9.0], abs=0.1)
    high = {e.device for e in found if e.rule == "polder-inside-high"}
    assert not high & {d.id for d in of.of_kind("pump_station", "forebay-gauge")}
    assert len(high) >= 4


def test_a_forebay_gauge_reads_10_to_25_cm_lower_while_pumping() -> None:
    of = world("flood")
    readings: dict[str, dict[int, Sample]] = {"pump-wanghu-north": {}, "pump-ludang-east": {}}
    for item in stretch(of, 16):
        if isinstance(item, Sample) and item.device in readings:
            readings[item.device][(item.at - of.start) // HOUR] = item
    inside = {d: [float(r[h].body["level_inside"]) for h in range(12, 16)] for d, r in readings.items()}
    lower = [a - b for a, b in zip(*inside.values(), strict=True)]
    assert all(0.15 < difference < 0.30 for difference in lower)


def test_an_elder_is_missed_a_day_after_the_last_opening_and_a_dead_sensor_tells_itself() -> None:
    of = world("silent-elder")
    found = alarms(of, 40)
    missed = [e for e in found if e.rule == "elder-no-movement"]
    dead = [e for e in found if e.rule == "gw-silence"]
    assert len(missed) == 2
    assert [e.device for e in dead] == [missed[1].device]
    still = missed[0]
    opened = [e.raised_at for e in truth(of, 40)[0] if e.rule == "door-opened" and e.device == still.device]
    assert max(at for at in opened if at < still.raised_at) == still.raised_at - DAY
    assert still.cleared_at == min(at for at in opened if at > still.raised_at)


def test_a_bloom_is_told_on_its_second_day() -> None:
    of = world("bloom")
    found = alarms(of, 30)
    assert {e.rule for e in found} == {"algae-bloom"}
    assert all(24 < of.hour(e.raised_at) < 30 for e in found)


def test_sensor_faults_are_all_there_and_raise_what_they_must() -> None:
    of = world("sensor-faults")
    items = [item for item in stretch(of, 2) if isinstance(item, Sample)]
    assert sum(item.garbled is not None for item in items) == 5
    assert sum(ledger_count(item) for item in items if item.garbled is not None) == 5
    assert b"NaN" in b"".join(item.garbled for item in items if item.garbled)
    by_device: dict[str, list[int]] = {}
    for item in items:
        if item.channel == "readings":
            by_device.setdefault(item.device, []).append(item.at)
    twice = [device for device, ats in by_device.items() if len(ats) > len(set(ats))]
    backward = [device for device, ats in by_device.items() if ats != sorted(ats)]
    assert twice == ["pump-wanghu-south"]
    assert set(backward) == {"pump-lingtang", "equip-waterworks-pump-1"}
    levels = [item.body["level"] for item in items if item.device == "river-taipu"]
    assert max(Counter(levels).values()) >= 8
    rules = Counter(e.rule for e in alarms(of, 2, step=CLOCK_STEP))
    assert rules == {"polder-inside-high": 1, "gw-clock": 1, "gw-silence": 1, "gw-range": 1}

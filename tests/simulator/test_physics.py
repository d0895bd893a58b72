"""The models hold the numbers they were given."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from devices.instants import DAY, HOUR, MINUTE, SECOND
from simulator.physics.homes import EVENING, MORNING, day_of_openings, heartbeat_gap
from simulator.physics.lake import Bloom, bay, pond_oxygen
from simulator.physics.noise import Drift
from simulator.physics.polder import Polder, PolderShape
from simulator.physics.river import River, wake
from simulator.physics.sky import Rainstorm, Sky, Wind, daily

MINUTES = [m / 60 for m in range(48 * 60)]


def levels(scale: float = 1.0, mains: Callable[[float], bool] = lambda _: True) -> list[float]:
    polder = Polder(PolderShape(), lambda hour: scale * Rainstorm().rate(hour), mains)
    return [polder.at(hour).level for hour in MINUTES]


def test_the_storm_brings_150_mm() -> None:
    assert sum(Rainstorm().rate(hour) for hour in MINUTES) / 60 == pytest.approx(150, abs=1)


def test_the_polder_in_the_storm() -> None:
    found = levels()
    passes = next(h for h, level in zip(MINUTES, found, strict=True) if level > 3.50)
    falls = next(h for h, level in zip(MINUTES, found, strict=True) if h > 15 and level < 2.95)
    assert passes == pytest.approx(11.5, abs=0.1)
    assert max(found) == pytest.approx(3.55, abs=0.005)
    assert MINUTES[found.index(max(found))] == pytest.approx(13.6, abs=0.1)
    assert falls == pytest.approx(32.7, abs=0.1)
    assert 0.13 < max(b - a for a, b in zip(found, found[60:], strict=False)) <= 0.14


def test_the_polder_without_mains_from_9_to_12() -> None:
    assert max(levels(mains=lambda hour: not 9 <= hour < 12)) == pytest.approx(3.67, abs=0.005)


def test_100_mm_never_passes_the_limit() -> None:
    assert max(levels(scale=100 / 150)) < 3.50


def test_asking_more_often_changes_nothing() -> None:
    often, seldom = (Polder(PolderShape(), Rainstorm().rate) for _ in range(2))
    for hour in MINUTES:
        often.at(hour)
    assert often.at(48) == seldom.at(48)


def test_pumps_start_ten_minutes_and_five_centimetres_apart() -> None:
    polder = Polder(PolderShape(), Rainstorm().rate)
    running = [(hour, polder.at(hour)) for hour in MINUTES]
    starts = [hour for (_, a), (hour, b) in pairwise(running) if b.running > a.running]
    assert len(starts) == 4
    assert all(later - earlier >= 9.9 / 60 for earlier, later in pairwise(starts))


def test_the_river_stays_under_its_warning_level_and_a_wake_passes_in_a_minute() -> None:
    river = River(rise=0.10, set_up=0.30)
    assert 3.65 < max(river.level(h) for h in MINUTES) < 3.75
    up = [abs(wake(s, station=3)) for s in range(24 * 3600)]
    assert max(up) == pytest.approx(0.04, abs=0.001)
    assert sum(x > 0 for x in up) < 12 * 60


def test_a_bloom_in_two_days_and_its_end_in_the_wind() -> None:
    bloom = Bloom(mixed=60)
    assert bloom.chlorophyll(0) == pytest.approx(20)
    assert bloom.chlorophyll(48) == bloom.chlorophyll(59) == pytest.approx(150)
    assert bloom.chlorophyll(73) == pytest.approx(20)
    full = [bay(h / 2, 1.0) for h in range(48)]
    assert 3 <= bay(5.5, 1.0).oxygen == min(b.oxygen for b in full) <= 4
    assert 14 <= bay(15.5, 1.0).oxygen == max(b.oxygen for b in full) <= 17
    assert (min(b.ph for b in full), max(b.ph for b in full)) == (8.0, 9.3)


def test_a_crab_pond_breathes_between_5_and_12_lowest_before_dawn() -> None:
    day = {h / 4: pond_oxygen(h / 4) for h in range(96)}
    assert min(day.values()) >= 5
    assert max(day.values()) <= 12
    assert 4 <= min(day, key=lambda h: day[h]) <= 6


def test_warmth_and_wind() -> None:
    sky = Sky(wind=Wind(before=2, after=7, turn_hour=60))
    assert (sky.wind.speed(59), sky.wind.speed(63)) == (2, 7)
    assert sky.air_temperature(0, 15) > sky.air_temperature(0, 5)
    assert daily(3, lowest=3, highest=20) == pytest.approx(-1)
    assert daily(20, lowest=3, highest=20) == pytest.approx(1)


def test_an_elders_days() -> None:
    rng = np.random.default_rng(5)
    days = [day_of_openings(rng) for _ in range(2000)]
    for day in days:
        assert 4 <= len(day) <= 10
        assert all(MORNING <= o.at <= EVENING and 5 * SECOND <= o.open_us <= 60 * SECOND for o in day)
        assert all(
            20 * MINUTE <= back.at - out.at <= 120 * MINUTE for out, back in zip(day[::2], day[1::2], strict=True)
        )
        assert all(a.at + a.open_us < b.at for a, b in pairwise(day))
    nights = [DAY + tomorrow[0].at - today[-1].at for today, tomorrow in pairwise(days)]
    assert max(nights) < DAY
    assert all(4 * HOUR <= heartbeat_gap(rng) <= 12 * HOUR for _ in range(200))


def test_drift_keeps_within_its_bounds() -> None:
    drift = Drift(np.random.default_rng(1), spread=2.0, memory=10)
    found = [drift.next() for _ in range(20_000)]
    assert 1.5 < float(np.std(found)) < 2.3
    assert max(map(abs, found)) <= 6.0

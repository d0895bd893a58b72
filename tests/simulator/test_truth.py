"""Comparing what was raised with the truth: one to one, within an interval, nothing excused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devices.instants import MINUTE, from_iso, to_iso
from devices.registry import Dated
from simulator.truth import Expectation, Recorder, compare
from simulator.world import Sample
from tests.simulator.township import qidu

T = from_iso("2026-06-21T00:00:00Z")


def expect(minute: float, rule: str = "r", device: str = "d", *, required: bool = True) -> Expectation:
    return Expectation(rule, device, T + round(minute * MINUTE), MINUTE, required=required)


def row(minute: int, rule: str = "r", device: str = "d") -> dict[str, str]:
    return {"rule": rule, "device": device, "raised_at": to_iso(T + minute * MINUTE)}


@pytest.mark.parametrize(
    ("expected", "raised", "counts", "missed", "false"),
    [
        ([expect(1)], [1.0], (1, 1), [], []),
        ([expect(1)], [2.0], (1, 1), [], []),
        ([expect(1)], [2.1], (1, 0), [row(1)], [2.1]),
        ([expect(1)], [], (1, 0), [row(1)], []),
        ([], [1.0], (0, 0), [], [1.0]),
        ([expect(1)], [1.0, 1.2], (1, 1), [], [1.2]),
        ([expect(1), expect(1.5)], [1.5, 1.0], (2, 2), [], []),
        ([expect(1, required=False)], [], (0, 0), [], []),
        ([expect(1, required=False)], [1.0], (0, 0), [], []),
        ([expect(1), expect(11)], [1.0], (1, 1), [], []),
    ],
)
def test_compare(
    expected: list[Expectation],
    raised: list[float],
    counts: tuple[int, int],
    missed: list[dict[str, str]],
    false: list[float],
) -> None:
    found = compare(expected, [("r", "d", T + round(m * MINUTE)) for m in raised], until=T + 10 * MINUTE)
    assert (found["expected"], found["matched"], found["missed"]) == (*counts, missed)
    assert found["false"] == [{**row(0), "raised_at": to_iso(T + round(m * MINUTE))} for m in false]


def test_rule_and_device_must_both_match() -> None:
    found = compare([expect(1)], [("r", "other", T + MINUTE), ("s", "d", T + MINUTE)], until=T + 2 * MINUTE)
    assert (found["matched"], found["missed"]) == (0, [row(1)])
    assert found["false"] == [row(1, device="other"), row(1, rule="s")]


def pump(minute: float, *, level: float, **more: float | bool) -> Sample:
    at = T + round(minute * MINUTE)
    body: dict[str, float | bool | str] = {"level_inside": level, "pumps_running": 1.0, "mains_ok": True, **more}
    return Sample(at, at, "pump-liuwan", "readings", body)


def feed(*items: Sample | int) -> Recorder:
    recorder = Recorder(qidu())
    recorder.clock(T)
    for item in items:
        if isinstance(item, int):
            recorder.clock(item)
        else:
            recorder.message(item)
    return recorder


def found(recorder: Recorder, until: float) -> list[tuple[str, float, bool]]:
    return [(e.rule, (e.raised_at - T) / MINUTE, e.required) for e in recorder.finished(T + round(until * MINUTE))]


def test_silence_that_ends_as_it_is_noticed_may_be_raised_and_need_not() -> None:
    long = feed(pump(0, level=3), T + 3 * MINUTE, T + 5 * MINUTE, pump(5, level=3))
    assert found(long, 10) == [("gw-silence", 3.0, True)]
    short = feed(pump(0, level=3), T + 3 * MINUTE, pump(3.2, level=3))
    assert found(short, 10) == [("gw-silence", 3.0, False)]
    unnoticed = feed(pump(0, level=3), T + 2 * MINUTE, pump(3.2, level=3), T + 4 * MINUTE)
    assert found(unnoticed, 10) == []


def test_what_falls_due_after_the_end_is_not_expected() -> None:
    recorder = feed(pump(0, level=3), T + 2 * MINUTE)
    assert found(recorder, 2) == []
    recorder.clock(T + 3 * MINUTE)
    assert found(recorder, 3) == [("gw-silence", 3.0, False)]


def test_old_copies_and_gaps_count_for_nothing() -> None:
    again = feed(pump(0, level=3.6), pump(1, level=3.2), pump(0, level=3.6))
    assert found(again, 5) == [("polder-inside-high", 0.0, True)]
    broken = feed(
        *[pump(m, level=3, mains_ok=False) for m in (0, 1)],
        T + 3 * MINUTE,
        *[pump(m, level=3, mains_ok=False) for m in (6, 7)],
    )
    assert found(broken, 7) == []
    held = feed(*[pump(m, level=3, mains_ok=False) for m in (0, 1, 2)])
    assert found(held, 7) == [("pump-mains-lost", 2.0, True)]


def test_a_dated_threshold_is_that_of_the_instant() -> None:
    """Its limit falls to 3.2 at the fifth minute; 3.3 m is too much from then on."""
    town = qidu()
    pump_liuwan = town.devices["pump-liuwan"]
    dated = (Dated(3.5, T - MINUTE), Dated(3.2, T + 5 * MINUTE))
    device = replace(pump_liuwan, attributes={**pump_liuwan.attributes, "inside_limit_level": dated})
    recorder = Recorder(replace(town, devices={**town.devices, "pump-liuwan": device}))
    recorder.clock(T)
    for minute in range(1, 9):
        recorder.message(pump(minute, level=3.3))
    raised = [(rule, minute) for rule, minute, _ in found(recorder, 9) if "inside" in rule]
    assert [minute for _, minute in raised] == [5]

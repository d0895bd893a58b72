"""A device was silent, speaks again, and then sends what it had kept: what happened meanwhile is found later."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Table, select

from devices.instants import MINUTE
from devices.registry import Device, Registry
from flow.classify import steps_of
from flow.filling import QUIET, Filler, filling_thread
from flow.holes import KEPT, MOST_OF_A_SERIES, Holes
from rules.calendar import Site
from store.records.tables import alarm_history, alarms, holes, occurrences, orders, outbox
from tests.flow.centre import HIGH, START, SmallCentre

RULES = (
    HIGH
    + """
  - id: bears-it
    name: {zh: 容忍间断, en: bears three hours without a reading}
    applies_to: {kind: pump_station}
    when: level_inside > 3.5
    for: 20m
    max_gap: 3h
    order: {category: flood.polder_inside}
  - id: held
    name: {zh: 持续高, en: held}
    applies_to: {kind: pump_station}
    when: level_inside > 3.5
    for: 40m
  - id: mean
    name: {zh: 均值高, en: mean}
    applies_to: {kind: pump_station}
    when: avg(level_inside, 30m) > 3.5
  - id: idle
    name: {zh: 该抽不抽, en: should pump}
    applies_to: {kind: pump_station}
    when: level_inside > 3.5 and pumps_running == 0
  - id: silent
    name: {zh: 无数据, en: absent}
    applies_to: {kind: pump_station}
    when: absent(level_inside, 15m)
  - id: two
    name: {zh: 级, en: levels}
    applies_to: {kind: pump_station}
    levels:
      - {priority: low, when: level_inside > 3.5}
      - {priority: critical, when: level_inside > 3.8}
"""
)
LAST, BACK = START + 10 * MINUTE, START + 130 * MINUTE
TABLES = (alarms, occurrences, alarm_history, orders, outbox)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    centre = SmallCentre(tmp_path / "data", rules=RULES).start()
    yield centre
    centre.stop()


def filler(centre: SmallCentre) -> Filler:
    settler = centre.settler
    return Filler(
        centre.records, centre.readings, settler.memory.registry, lambda: settler.book, Site, settler.appender.drain
    )


def level_at(minute: int) -> float:
    """Over 3.5 m from minute 40 to 70, over 3.8 m from 50 to 55."""
    return 3.9 if 50 <= minute < 55 else 3.6 if 40 <= minute < 70 else 3.0


def live(centre: SmallCentre) -> None:
    """Ten minutes, two hours of silence, and then back."""
    for minute in range(11):
        centre.level(START + minute * MINUTE, 3.0)
    for minute in range(130, 133):
        centre.level(START + minute * MINUTE, 3.0)


def send_late(centre: SmallCentre, minutes: Any = range(11, 130), **more: float) -> None:
    for minute in minutes:
        body = {"at": (START + minute * MINUTE) // 1000, "level_inside": level_at(minute), **more}
        centre.send("ps-1", body)
    centre.settle()


def quiet(centre: SmallCentre) -> int:
    centre.now += QUIET
    return filler(centre).look(centre.now)


def rows(centre: SmallCentre, table: Table) -> list[dict[str, Any]]:
    with centre.records.connect() as tx:
        return [dict(row._mapping) for row in tx.execute(select(table).order_by(*table.primary_key.columns))]


def everything(centre: SmallCentre) -> list[list[dict[str, Any]]]:
    return [rows(centre, table) for table in TABLES]


def found(centre: SmallCentre) -> dict[str, tuple[int, int]]:
    """Minutes from raise to clear of what was found later."""
    return {
        o["rule"]: ((o["raised_at"] - START) // MINUTE, (o["cleared_at"] - START) // MINUTE)
        for o in rows(centre, occurrences)
        if o["retroactive"]
    }


def test_what_happened_while_it_was_silent_is_found_later(centre: SmallCentre) -> None:
    live(centre)
    assert [(h["from_at"], h["to_at"], h["filled_at"]) for h in rows(centre, holes)] == [(LAST, BACK, None)]
    send_late(centre)
    assert quiet(centre) == 3
    assert found(centre) == {"high": (40, 70), "mean": (62, 77), "two": (40, 70)}
    assert (rows(centre, orders), rows(centre, outbox)) == ([], [])
    assert {alarm["state"] for alarm in rows(centre, alarms)} == {"NORM"}
    assert {(h["act"], h["why"], h["to_state"]) for h in rows(centre, alarm_history)} == {
        ("raised", "found later", "NORM"),
    }  # fmt: skip
    assert [h["filled_at"] for h in rows(centre, holes)] == [None]


def test_with_its_reason_its_peak_and_how_severe_it_was(centre: SmallCentre) -> None:
    live(centre)
    send_late(centre)
    quiet(centre)
    (two,) = [o for o in rows(centre, occurrences) if o["rule"] == "two"]
    assert [((s["at"] - START) // MINUTE, s["priority"]) for s in two["severity"]] == [
        (40, "low"), (50, "critical"), (55, "low"),
    ]  # fmt: skip
    assert (two["first_value"], two["peak_value"]) == (3.6, 3.9)
    (high,) = [o for o in rows(centre, occurrences) if o["rule"] == "high"]
    assert high["reason"]["values"] == {"level_inside": 3.6}


def test_looked_at_again_or_sent_again_nothing_more_is_found(centre: SmallCentre) -> None:
    live(centre)
    send_late(centre)
    quiet(centre)
    before = everything(centre)
    assert quiet(centre) == 0
    send_late(centre)
    assert rows(centre, holes)[0]["filled_at"] is None, "duplicates fill nothing"
    assert quiet(centre) == 0
    assert everything(centre) == before


def test_afterwards_it_is_raised_as_ever(centre: SmallCentre) -> None:
    live(centre)
    send_late(centre)
    quiet(centre)
    assert {alarm["version"] for alarm in rows(centre, alarms)} == {1}
    centre.level(centre.now + MINUTE, 3.6)
    assert centre.states()["high", "ps-1"] == "UNACK"
    (high,) = [a for a in rows(centre, alarms) if a["rule"] == "high"]
    latest = max(o["id"] for o in rows(centre, occurrences) if o["rule"] == "high")
    assert (high["raised_count"], high["occurrence"]) == (2, latest)
    assert len(centre.orders()) == 1


def test_it_waits_until_no_more_comes(centre: SmallCentre) -> None:
    live(centre)
    send_late(centre, range(11, 60))
    centre.now += QUIET - 1
    assert filler(centre).look(centre.now) == 0
    send_late(centre, range(60, 130))
    centre.now += QUIET - 1
    assert filler(centre).look(centre.now) == 0
    centre.now += 1
    assert filler(centre).look(centre.now) == 3


def test_a_second_piece_is_looked_at_and_changes_nothing_that_is_there(centre: SmallCentre) -> None:
    live(centre)
    send_late(centre, range(80, 130))
    assert quiet(centre) == 0
    send_late(centre, range(11, 80))
    assert quiet(centre) == 3
    assert found(centre)["high"] == (40, 70)


def test_over_a_restart_and_a_kill(centre: SmallCentre) -> None:
    for minute in range(11):
        centre.level(START + minute * MINUTE, 3.0)
    centre.stop()
    centre.now = BACK - MINUTE
    centre.start()
    for minute in range(130, 133):
        centre.level(START + minute * MINUTE, 3.0)
    send_late(centre)
    centre.stop(crash=True)
    centre.start()
    assert rows(centre, holes)[0]["filled_at"] is not None
    assert quiet(centre) == 3


def test_a_hole_is_remembered_over_a_restart(centre: SmallCentre) -> None:
    live(centre)
    centre.stop(crash=True)
    centre.start()
    send_late(centre)
    assert quiet(centre) == 3


def test_what_began_before_it_is_no_finding(centre: SmallCentre) -> None:
    """High from minute 5: what was pending when the silence began was given up, live and here."""
    for minute in (*range(11), *range(130, 133)):
        centre.level(START + minute * MINUTE, 3.6 if 5 <= minute <= 10 else 3.0)
    for minute in range(11, 130):
        centre.send("ps-1", {"at": (START + minute * MINUTE) // 1000, "level_inside": 3.6 if minute < 60 else 3.0})
    centre.settle()
    quiet(centre)
    assert "held" not in found(centre)


def test_a_look_that_dies_is_done_again(centre: SmallCentre, monkeypatch: pytest.MonkeyPatch) -> None:
    live(centre)
    send_late(centre)
    before = everything(centre)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("flow.alarms._write_history", die)
        with pytest.raises(KeyboardInterrupt):
            quiet(centre)
    assert everything(centre) == before
    assert quiet(centre) == 3


def test_what_stands_beside_it_is_left_alone(centre: SmallCentre) -> None:
    """It was high before the silence and after it: that alarm stood through it, and nothing is said of the time."""
    for minute in range(11):
        centre.level(START + minute * MINUTE, 3.6)
    for minute in range(130, 133):
        centre.level(START + minute * MINUTE, 3.6)
    send_late(centre)
    before = [o for o in rows(centre, occurrences) if o["rule"] == "high"]
    quiet(centre)
    assert [o for o in rows(centre, occurrences) if o["rule"] == "high"] == before
    assert "high" not in found(centre)


def test_what_goes_on_when_it_is_back_is_the_live_alarm_alone(centre: SmallCentre) -> None:
    for minute in range(11):
        centre.level(START + minute * MINUTE, 3.0)
    for minute in range(130, 133):
        centre.level(START + minute * MINUTE, 3.6)
    for minute in range(11, 130):
        centre.send("ps-1", {"at": (START + minute * MINUTE) // 1000, "level_inside": 3.6 if minute > 100 else 3.0})
    centre.settle()
    quiet(centre)
    assert found(centre) == {}
    assert [o["raised_at"] for o in rows(centre, occurrences) if o["rule"] == "high"] == [BACK]


def test_a_rule_of_which_something_was_judged_meanwhile_is_not_asked(centre: SmallCentre) -> None:
    """The pumps were heard all the time, on a line of their own: the rule that reads them was judged."""
    for minute in range(133):
        at = START + minute * MINUTE
        body: dict[str, Any] = {"at": at // 1000, "pumps_running": 0}
        if minute <= 10 or minute >= 130:
            body["level_inside"] = 3.0
        centre.now = at
        centre.send("ps-1", body)
        centre.settle()
    send_late(centre)
    quiet(centre)
    assert "idle" not in found(centre)
    assert found(centre)["high"] == (40, 70)


def test_a_rule_over_two_metrics_that_were_both_silent_is_asked(centre: SmallCentre) -> None:
    for minute in (*range(11), *range(130, 133)):
        centre.now = START + minute * MINUTE
        centre.send("ps-1", {"at": centre.now // 1000, "level_inside": 3.0, "pumps_running": 0})
        centre.settle()
    send_late(centre, pumps_running=0)
    quiet(centre)
    assert found(centre)["idle"] == (40, 70)


def test_a_device_that_nobody_approved_has_no_holes(centre: SmallCentre) -> None:
    for minute in (*range(11), *range(130, 133)):
        centre.now = START + minute * MINUTE
        centre.send("stranger", {"at": centre.now // 1000, "level_inside": 3.0})
        centre.settle()
    assert rows(centre, holes) == []


def test_the_store_away_it_looks_when_it_is_back(centre: SmallCentre) -> None:
    live(centre)
    send_late(centre)
    away = Filler(
        centre.records, centre.readings, centre.settler.memory.registry, lambda: centre.settler.book, Site,
        lambda _: False,
    )  # fmt: skip
    assert away.look(centre.now + QUIET) == 0
    assert rows(centre, holes)[0]["filled_at"] is not None
    assert quiet(centre) == 3


# --- which stretches are holes ---------------------------------------------------------------------------------------
@pytest.fixture
def series() -> Holes:
    registry = Registry()
    registry.add(Device(0, "ps-1", "qidu", "pump_station", interval_s=60))
    registry.series(0, "level_inside")
    registry.series(0, "flow")
    found = Holes()
    found.grow(registry)
    return found


class Stream:
    """Instants in minutes; what was said of each batch."""

    def __init__(self, known: Holes) -> None:
        self.known, self.newest = known, np.zeros(2, np.int64)
        self.opened: list[tuple[int, int, int]] = []
        self.filled: list[tuple[int, int, int]] = []

    def tell(self, *minutes: int, series: int = 0) -> None:
        at = START + np.array(minutes, np.int64) * MINUTE
        number = np.full(len(at), series, np.int32)
        top = np.maximum.accumulate(np.concatenate([self.newest[series : series + 1], at]))[:-1]
        judged = at > top
        steps = steps_of(self.newest, number, at, np.flatnonzero(judged))
        change = self.known.look(steps, number, at, late=~judged, now=int(at.max()))
        self.opened += [(h.series, (h.start - START) // MINUTE, (h.end - START) // MINUTE) for h in change.opened]
        self.filled += [(h.series, (h.start - START) // MINUTE, (h.end - START) // MINUTE) for h in change.filled]
        self.known.adopt(change)
        self.newest[series] = max(int(at.max()), int(self.newest[series]))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_how_the_stream_is_cut_changes_no_hole(series: Holes, size: int) -> None:
    minutes = [1, 2, 3, 10, 11, 14, 20, 21, 60, 61]
    stream = Stream(series)
    for i in range(0, len(minutes), size):
        stream.tell(*minutes[i : i + size])
    assert stream.opened == [(0, 3, 10), (0, 14, 20), (0, 21, 60)]


def test_late_readings_mark_the_hole_they_lie_in(series: Holes) -> None:
    stream = Stream(series)
    stream.tell(1, 2, 3)
    stream.tell(10, 5)
    assert (stream.opened, stream.filled) == ([(0, 3, 10)], [(0, 3, 10)])
    stream.tell(2)
    stream.tell(11)
    assert len(stream.filled) == 1
    stream.tell(3, 9)
    assert len(stream.filled) == 2


def test_a_series_that_speaks_when_it_likes_leaves_no_holes(series: Holes) -> None:
    stream = Stream(series)
    for minute in range(1, 1000, 30):
        stream.tell(minute, series=1)
    assert stream.opened == []


def test_the_latest_holes_of_a_series_are_kept_and_old_ones_forgotten(series: Holes) -> None:
    stream = Stream(series)
    for k in range(MOST_OF_A_SERIES + 5):
        stream.tell(100 * k, 100 * k + 1)
    stream.tell(150)
    assert stream.filled == []
    stream.tell(100 * (MOST_OF_A_SERIES + 3) + 50)
    assert len(stream.filled) == 1
    stream.tell(*(100 * 100 + np.arange(3)).tolist())
    stream.tell(KEPT // MINUTE + 100 * 200)
    stream.tell(100 * (MOST_OF_A_SERIES + 3) + 51)
    assert len(stream.filled) == 1


def test_the_thread_looks_by_itself_and_stops(centre: SmallCentre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flow.filling.LOOK_EVERY_S", 0.02)
    live(centre)
    send_late(centre)
    told = threading.Event()
    thread = filling_thread(filler(centre), now=lambda: centre.now + QUIET, found=told.set)
    thread.start()
    assert told.wait(20)
    thread.stop(5)
    assert len(found(centre)) == 3

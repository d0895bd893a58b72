"""What is old enough goes, but for evidence; and the ledger has every one that went, whenever the process dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from devices.instants import DAY, HOUR, MINUTE
from devices.registry import Device, DeviceStatus
from flow.evidence import Hold, holds
from flow.keeping import KeepingThread
from flow.ledger import verify
from flow.outbox import SENT_KEPT, prune_sent
from flow.retention import Keep, Retention, between
from store.readings.duckdb import DuckDBReadings
from store.records.database import write
from store.records.tables import events, orders, outbox
from tests.flow.centre import START, SmallCentre
from tests.flow.test_readings import CHIEF

LATER = START + 500 * DAY


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    centre = SmallCentre(tmp_path / "data").start()
    yield centre
    centre.stop()


def retention(centre: SmallCentre, keep: Keep | None = None) -> Retention:
    settler = centre.settler
    return Retention(
        centre.records, centre.readings, settler.memory.registry, keep or Keep(), settler.appender.corrections.extend
    )


def differences(centre: SmallCentre) -> list[object]:
    centre.settler.appender.drain(5)
    with centre.records.connect() as tx:
        memory = centre.settler.memory
        return list(verify(tx, memory.ledger, centre.readings, memory.registry))


def at_home(centre: SmallCentre, at: int) -> None:
    """The door says in its readings whether it is open, and in an event that it was opened."""
    centre.now = max(centre.now, at)
    centre.send("door-1", {"at": at // 1000, "battery": 90}, kind="door_sensor")
    centre.send(
        "door-1", {"at": at // 1000, "id": str(at), "event": "door_opened"}, kind="door_sensor", channel="events"
    )
    centre.settle()


def test_each_goes_by_its_own_span(centre: SmallCentre) -> None:
    for days in (0, 350, 499):
        centre.level(START + days * DAY, 3.0)
        centre.level(START + days * DAY, 3.0, device="ps-2")
        at_home(centre, START + days * DAY)
    assert centre.settler.appender.drain(5)
    keep = Keep(metrics={("pump_station", "level_outside"): None}, kinds={"camera": 5 * DAY})
    assert retention(centre, keep).run(LATER, LATER) == 2 + 2 * 2
    assert sorted(centre.stored("ps-1", "level_inside")) == [START + 350 * DAY, START + 499 * DAY]
    assert sorted(centre.stored("door-1", "battery")) == [START + 499 * DAY]
    with centre.records.connect() as tx:
        assert tx.execute(select(events.c.at).where(events.c.key != "derived")).scalars().all() == [START + 499 * DAY]
    assert centre.ledger() == {"received": 12, "stored": 12, "deleted": 6}
    assert differences(centre) == []
    assert retention(centre, keep).run(LATER, LATER) == 0


def test_one_metric_of_a_kind_has_its_own_span() -> None:
    pump, door = Device(0, "p", "q", "pump_station"), Device(1, "d", "q", "door_sensor")
    at_a_home = Device(2, "w", "q", "water_monitor", person="张桂英")
    keep = Keep(metrics={("pump_station", "flow"): None}, kinds={"pump_station": DAY, "camera": 5 * DAY})
    assert (keep.of(pump, "flow"), keep.of(pump, "level_inside")) == (None, DAY)
    assert keep.of(door, "battery") == keep.of(at_a_home, "ph") == 90 * DAY
    assert keep.of(Device(3, "r", "q", "river_gauge"), "level") == 400 * DAY


def test_roll_ups_of_a_door_go_with_its_readings_others_stay(centre: SmallCentre) -> None:
    centre.level(START, 3.0)
    at_home(centre, START)
    centre.settler.appender.drain(5)
    while centre.readings.upkeep(LATER):
        pass
    retention(centre).run(LATER, LATER)
    registry = centre.settler.memory.registry
    first = {
        metric: centre.readings.first(number, 0, LATER)
        for number, metric in enumerate(registry.series_metric)
        if metric in ("level_inside", "battery")
    }
    assert first == {"level_inside": START // MINUTE * MINUTE, "battery": None}


def test_readings_around_an_alarm_stay_until_its_order_is_archived_and_some_days_more(centre: SmallCentre) -> None:
    for hour, level in enumerate([3.0, 3.0, 3.0, 3.6, 3.0, 3.0, 3.0]):
        centre.level(START + hour * HOUR, level)
        centre.level(START + hour * HOUR, 3.0, device="ps-2")
    assert centre.occurrences() == [("high", "ps-1", START + 3 * HOUR, START + 4 * HOUR)]
    centre.settler.appender.drain(5)
    old = retention(centre)
    old.run(LATER, LATER)
    # An hour before it was raised to an hour after it cleared, in whole hours.
    assert sorted(centre.stored("ps-1", "level_inside")) == [START + hour * HOUR for hour in (2, 3, 4, 5)]
    assert centre.readings.series().keys() == {0}
    assert differences(centre) == []
    archive(centre, LATER - 29 * DAY)
    assert old.run(LATER, LATER) == 0
    assert old.run(LATER + 2 * DAY, LATER) == 4
    assert differences(centre) == []
    assert centre.ledger()["deleted"] == 14


def archive(centre: SmallCentre, at: int) -> None:
    with write(centre.records) as tx:
        tx.execute(update(orders).values(state="archived", changed_at=at))


def test_an_alarm_that_stands_holds_everything_from_its_beginning(centre: SmallCentre) -> None:
    centre.level(START, 3.6)
    held = holds(centre.records, centre.settler.memory.registry, LATER, 30 * DAY)
    (found,) = held.values()
    assert found[0].start == (START - HOUR) // HOUR * HOUR
    assert found[0].end > LATER


def test_between_the_holds_everything_goes() -> None:
    assert list(between(100, [])) == [(0, 100)]
    assert list(between(100, [Hold(10, 30), Hold(20, 25), Hold(40, 50), Hold(90, 200)])) == [
        (0, 10),
        (30, 40),
        (50, 90),
    ]
    assert list(between(0, [])) == list(between(100, [Hold(0, 200)])) == []


class Dying(DuckDBReadings):
    """The process dies when it would acknowledge."""

    dies = True

    def acknowledge(self, number: int) -> None:
        if self.dies:
            raise KeyboardInterrupt
        super().acknowledge(number)


@pytest.mark.parametrize("dies", ["before it is counted", "before it is acknowledged"])
def test_what_went_is_counted_once_whenever_the_process_dies(tmp_path: Path, dies: str) -> None:
    centre = SmallCentre(tmp_path / "data", store=Dying).start()
    for minute in range(5):
        centre.level(START + minute * MINUTE, 3.0)
    centre.settler.appender.drain(5)
    if dies == "before it is counted":
        series, start, end = retention(centre)._spans(LATER, {})
        assert centre.readings.delete(series, start, end) == 5
    else:
        with pytest.raises(KeyboardInterrupt):
            retention(centre).run(LATER, LATER)
    centre.stop(crash=True)
    Dying.dies = False
    try:
        centre.start()
        assert [(d.series, d.count) for d in centre.readings.deletions()] == [(0, 5)]
        for _ in range(2):
            retention(centre).count(LATER)
            assert centre.ledger() == {"received": 5, "stored": 5, "deleted": 5}
            assert differences(centre) == []
        assert centre.readings.deletions() == []
    finally:
        Dying.dies = True
        centre.stop()


def test_a_rejected_device_goes_through_the_same(centre: SmallCentre) -> None:
    centre.level(START, 3.0)
    for minute in range(3):
        centre.level(START + minute * MINUTE, 3.0, device="unknown-1")
    assert centre.settler.set_status("unknown-1", DeviceStatus.REJECTED, centre.now, CHIEF) == 3
    assert centre.readings.deletions() == []
    assert centre.ledger()["deleted"] == 3
    assert differences(centre) == []


def test_it_goes_on_while_readings_come_and_the_ledger_can_be_verified_at_any_time(centre: SmallCentre) -> None:
    """Days go by: readings come, old ones go, upkeep works, and now and then somebody verifies."""
    clock = [START]
    old = retention(centre, Keep(raw=2 * DAY, minutes=4 * DAY))
    thread = KeepingThread(centre.readings, old, now=lambda: clock[0], wall=lambda: clock[0])
    stop = threading.Event()

    def keep_on() -> None:
        while not stop.is_set():
            with thread._turn:
                centre.readings.upkeep(clock[0])
                old.run(clock[0], clock[0], thread._pressed)

    worker = threading.Thread(target=keep_on)
    worker.start()
    try:
        for step in range(1, 101):
            clock[0] = START + step * 2 * HOUR
            centre.level(clock[0], 3.0 + step % 3 / 10)
            if step % 20 == 0:
                assert thread.paused(lambda: differences(centre)) == []
    finally:
        stop.set()
        worker.join()
    assert thread.paused(lambda: differences(centre)) == []
    assert centre.ledger()["deleted"] > 0


def test_messages_sent_long_ago_go(centre: SmallCentre) -> None:
    sent = {"a": None, "b": START, "c": START + DAY}
    rows: list[dict[str, object]] = [
        {"key": key, "channel": "duty", "body": {}, "created_at": START, "due_at": START, "sent_at": at}
        for key, at in sent.items()
    ]
    with write(centre.records) as tx:
        tx.execute(insert(outbox), rows)
    assert prune_sent(centre.records, START + SENT_KEPT + 1) == 1
    with centre.records.connect() as tx:
        assert tx.execute(select(func.count()).select_from(outbox)).scalar() == 2

"""One reading's way, without a broker: what is stored, judged, counted and refused, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from alerts.refusals import Conflict
from alerts.roles import Actor, Role
from devices.instants import DAY, HOUR, MINUTE, SECOND
from devices.registry import DeviceStatus
from ingest.decoder import UnknownDevices
from rules.book import load
from store.records.tables import refused
from tests.flow.centre import HIGH, START, SmallCentre


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    centre = SmallCentre(tmp_path / "data").start()
    yield centre
    centre.stop()


def test_a_level_over_its_limit_raises_one_alarm_and_files_one_order(centre: SmallCentre) -> None:
    for minute, level in enumerate([3.4, 3.6, 3.7, 3.2]):
        centre.level(START + minute * MINUTE, level)
    assert centre.occurrences() == [("high", "ps-1", START + MINUTE, START + 3 * MINUTE)]
    assert centre.states() == {("high", "ps-1"): "RTNUN"}
    assert [category for category, _ in centre.orders()] == ["flood.polder_inside"]
    assert centre.ledger() == {"received": 4, "stored": 4}
    assert [p.value for p in centre.stored("ps-1", "level_inside").values()] == [3.4, 3.6, 3.7, 3.2]


def test_the_same_reading_again_is_a_duplicate_another_value_replaces_it(centre: SmallCentre) -> None:
    centre.level(START, 3.1)
    centre.level(START + MINUTE, 3.2)
    centre.level(START + MINUTE, 3.2)
    centre.level(START, 3.1)
    centre.level(START, 3.0)
    centre.level(START, 3.0)
    assert centre.ledger() == {"received": 6, "stored": 2, "duplicate": 3, "replaced": 1}
    assert [p.value for p in centre.stored("ps-1", "level_inside").values()] == [3.0, 3.2]


def test_repeats_within_one_batch_are_told_apart_too(centre: SmallCentre) -> None:
    at = START // 1000
    for value in (3.1, 3.1, 3.2):
        centre.send("ps-1", {"at": at, "level_inside": value})
    centre.send("ps-1", {"at": at - 1000, "level_inside": 3.0})
    centre.settle()
    assert centre.ledger() == {"received": 4, "stored": 2, "duplicate": 1, "replaced": 1, "late": 1}
    assert [p.value for p in centre.stored("ps-1", "level_inside").values()] == [3.0, 3.2]


def test_an_old_copy_changes_no_alarm(centre: SmallCentre) -> None:
    centre.level(START, 3.6)
    centre.level(START + MINUTE, 3.2)
    before = centre.occurrences()
    centre.level(START - MINUTE, 9.0)
    centre.level(START, 3.6)
    assert centre.occurrences() == before


def test_a_value_its_sensor_cannot_measure_is_refused_alone_and_raises_a_sensor_fault(centre: SmallCentre) -> None:
    centre.send("ps-1", {"at": START // 1000, "level_inside": 99.0, "level_outside": 3.1})
    centre.settle()
    assert centre.occurrences() == [("gw-range", "ps-1", START, None)]
    assert centre.ledger() == {"received": 2, "stored": 1, "refused": 1}
    centre.level(START + MINUTE, 3.1)
    assert centre.occurrences() == [("gw-range", "ps-1", START, START + MINUTE)]


def test_an_implausible_value_is_judged_and_flagged(centre: SmallCentre) -> None:
    centre.level(START, 9.5)
    assert centre.occurrences() == [("high", "ps-1", START, None)]
    assert centre.ledger() == {"received": 1, "stored": 1, "flagged": 1}


@pytest.mark.parametrize("off", [8 * HOUR, -8 * DAY])
def test_a_wrong_clock_does_not_silence_a_device(centre: SmallCentre, off: int) -> None:
    centre.send("ps-1", {"at": (START + off) // 1000, "level_inside": 3.6})
    centre.settle()
    assert {(rule, at) for rule, _, at, _ in centre.occurrences()} == {("gw-clock", START), ("high", START)}
    assert list(centre.stored("ps-1", "level_inside")) == [START]
    centre.level(START + MINUTE, 3.6)
    assert ("gw-clock", "ps-1", START, START + MINUTE) in centre.occurrences()


def test_bad_metrics_refuse_themselves_and_not_their_siblings(centre: SmallCentre) -> None:
    centre.send(
        "ps-1", {"at": START // 1000, "level_inside": "high", "shoe_size": 43, "level_outside": 3.0, "flow": None}
    )
    centre.settle()
    assert centre.ledger() == {"received": 3, "stored": 1, "refused": 2}
    assert [reason for reason, _ in centre.refusals()] == ["wrong_type", "unknown_metric"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b'{"at": 1763700000000, "level_inside": NaN}', "malformed"),
        (b'{"at": 1763700000000, "level_inside": 1e999}', "malformed"),
        (b'{"level_inside": "\xff"}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"a":' * 20_000, "malformed"),
        (b"7", "malformed"),
        (b'[1, "x"]', "malformed"),
        (b'{"at": "yesterday", "level_inside": 3}', "bad_time"),
        (b'{"at": "2025-11-21T04:40:00", "level_inside": 3}', "bad_time"),
        (b'{"at": -5, "level_inside": 3}', "bad_time"),
        (b'{"at": 1e300, "level_inside": 3}', "bad_time"),
        (b'{"at": true, "level_inside": 3}', "bad_time"),
        (b'{"level_inside": 1' + b"0" * 400 + b"}", "wrong_type"),
        (b'{"level_inside": [[[3]]]}', "wrong_type"),
        (b'{"level_inside": 3, "x": "' + b"a" * 1_000_000 + b'"}', "too_large"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason_and_listed(
    centre: SmallCentre, payload: bytes, reason: str
) -> None:
    centre.send("ps-1", payload)
    centre.settle()
    assert {r for r, _ in centre.refusals()} == {reason}
    with centre.records.connect() as tx:
        count = tx.execute(select(func.sum(refused.c["count"]))).scalar_one()
    assert centre.ledger() == {"received": count, "refused": count}
    centre.level(START, 3.1)
    assert centre.stored("ps-1", "level_inside")[START].value == 3.1


@pytest.mark.parametrize("channel", ["readings", "events"])
@pytest.mark.parametrize("shape", ['{{"foo": {}}}', '{{"level_inside": {}}}', '{{"at": {}}}', '{{"event": {}}}', "{}"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_just_within_the_parsers_reach_ends_nothing(
    centre: SmallCentre, channel: str, shape: str, opening: str, closing: str
) -> None:
    for depth in range(900, 1010):
        payload = shape.format(opening * depth + ("1" if opening != "[" else "") + closing * depth).encode()
        centre.send("ps-1", payload, channel=channel)
    centre.settle()
    counts = centre.ledger()
    assert counts["received"] == counts["refused"]
    centre.level(START, 3.1)
    assert centre.ledger()["stored"] == 1


def test_a_packet_of_a_wrong_clock_that_comes_again_is_a_duplicate(centre: SmallCentre) -> None:
    body = {"at": (START + 8 * HOUR) // 1000, "level_inside": 3.1}
    centre.send("ps-1", body, packet_id=7, first=0x32)
    centre.settle()
    centre.now += MINUTE
    centre.send("ps-1", body, packet_id=7, first=0x3A)
    centre.settle()
    assert centre.ledger() == {"received": 2, "stored": 1, "duplicate": 1, "flagged": 1}


def test_a_clock_that_was_never_set_is_told_apart(centre: SmallCentre) -> None:
    centre.send("ps-1", {"at": 0, "level_inside": 3.1})
    centre.settle()
    assert [reason for reason, _ in centre.refusals()] == ["bad_time"]


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (b"gw/v1/qidu/pump_station/ps-1/nonsense", "bad_topic"),
        (b"gw/v1/qidu/pump_station/PS-1/readings", "bad_topic"),
        (b"gw/v1/qidu/pump_station/../readings", "bad_topic"),
        (b"gw/v1/qidu/submarine/x/readings", "bad_topic"),
        (b"gw/v1/\xff/pump_station/x/readings", "bad_topic"),
        (b"gw/v1/" + b"a/" * 5000, "bad_topic"),
        (b"gw/v1/elsewhere/pump_station/ps-1/readings", "wrong_topic"),
        (b"gw/v1/qidu/camera/ps-1/events", "wrong_topic"),
    ],
)
def test_a_hostile_topic_is_refused(centre: SmallCentre, topic: bytes, reason: str) -> None:
    centre.decoder.feed(topic, b"{}", 0x30, 0)
    centre.settle()
    assert [r for r, _ in centre.refusals()] == [reason]


CHIEF = Actor("chief", Role.DUTY_OFFICER)


def decide(centre: SmallCentre, device: str, status: DeviceStatus) -> None:
    centre.settler.set_status(device, status, centre.now, CHIEF)
    centre.decoder.forget_routes()


def test_an_unknown_device_is_kept_apart_until_someone_approves_it(centre: SmallCentre) -> None:
    centre.level(START, 3.6, device="ps-9")
    assert centre.occurrences() == []
    assert centre.ledger() == {"received": 1, "stored": 1, "quarantined": 1}
    decide(centre, "ps-9", DeviceStatus.ACTIVE)
    centre.level(START + MINUTE, 3.7, device="ps-9")
    assert centre.occurrences() == [("high", "ps-9", START + MINUTE, None)]


def test_a_rejected_device_loses_what_it_sent_and_is_refused(centre: SmallCentre) -> None:
    centre.level(START, 3.6, device="ps-9")
    decide(centre, "ps-9", DeviceStatus.REJECTED)
    centre.level(START + MINUTE, 3.7, device="ps-9")
    assert centre.stored("ps-9", "level_inside") == {}
    assert centre.ledger() == {"received": 2, "stored": 1, "refused": 1, "quarantined": 1, "deleted": 1}


def test_a_device_in_use_cannot_be_rejected(centre: SmallCentre) -> None:
    centre.level(START, 3.0)
    with pytest.raises(Conflict):
        decide(centre, "ps-1", DeviceStatus.REJECTED)
    assert len(centre.stored("ps-1", "level_inside")) == 1


def test_no_more_than_a_thousand_unknown_devices_are_kept(centre: SmallCentre) -> None:
    for n in range(1005):
        centre.send(f"stranger-{n}", {"level_inside": 1.0})
    centre.settle()
    assert centre.ledger() == {"received": 1005, "stored": 1000, "quarantined": 1000, "refused": 5}


@pytest.mark.parametrize(("policy", "stored"), [(UnknownDevices.ACCEPT, 1), (UnknownDevices.REFUSE, 0)])
def test_unknown_devices_may_be_accepted_or_refused(tmp_path: Path, policy: UnknownDevices, stored: int) -> None:
    centre = SmallCentre(tmp_path / "data", unknown=policy).start()
    centre.level(START, 3.6, device="ps-9")
    assert centre.ledger().get("stored", 0) == stored
    assert len(centre.occurrences()) == stored
    centre.stop()


def test_a_reading_without_a_time_is_measured_when_it_arrives_and_a_redelivery_keeps_that(centre: SmallCentre) -> None:
    centre.send("ps-1", {"level_inside": 3.1}, packet_id=7, first=0x32)
    centre.settle()
    centre.now += 5 * MINUTE
    centre.send("ps-1", {"level_inside": 3.1}, packet_id=7, first=0x3A)
    centre.send("ps-1", {"level_inside": 3.1}, packet_id=8, first=0x32)
    centre.settle()
    assert centre.ledger() == {"received": 3, "stored": 2, "duplicate": 1}


def test_a_redelivery_after_a_crash_is_recognised(centre: SmallCentre, tmp_path: Path) -> None:
    centre.send("ps-1", {"level_inside": 3.6}, packet_id=7, first=0x32)
    centre.settle()
    centre.stop(crash=True)
    centre.start()
    centre.now += MINUTE
    centre.send("ps-1", {"level_inside": 3.6}, packet_id=7, first=0x3A)
    centre.settle()
    assert centre.ledger() == {"received": 2, "stored": 1, "duplicate": 1}
    assert centre.occurrences() == [("high", "ps-1", START, None)]


def test_after_a_crash_the_state_is_what_the_last_commit_left(centre: SmallCentre) -> None:
    centre.level(START, 3.6)
    centre.settler.snapshot()
    centre.level(START + MINUTE, 3.9)
    centre.level(START + 2 * MINUTE, 3.4)
    ledger = centre.ledger()
    centre.stop(crash=True)
    centre.start()
    assert centre.ledger() == ledger
    centre.level(START + 3 * MINUTE, 3.2)
    assert centre.occurrences() == [("high", "ps-1", START, START + 3 * MINUTE)]
    assert len(centre.stored("ps-1", "level_inside")) == 4


def test_a_silent_device_raises_an_alarm_dated_by_its_last_report(centre: SmallCentre) -> None:
    centre.settler.link(START)
    centre.level(START + MINUTE, 3.0)
    centre.settler.tick(START + 3 * MINUTE)
    assert {device for _, device, _, _ in centre.occurrences()} == {"ps-2"}  # never heard since it was registered
    centre.settler.tick(START + 5 * MINUTE)
    found = [o for o in centre.occurrences() if o[1] == "ps-1"]
    assert found == [("gw-silence", "ps-1", START + 4 * MINUTE, None)]
    centre.level(START + 6 * MINUTE, 3.0)
    found = [o for o in centre.occurrences() if o[1] == "ps-1"]
    assert found == [("gw-silence", "ps-1", START + 4 * MINUTE, START + 6 * MINUTE)]


def test_silence_gets_one_full_interval_after_the_link_is_back(centre: SmallCentre) -> None:
    centre.level(START, 3.0)
    centre.settler.link(START + HOUR)
    centre.settler.tick(START + HOUR + 2 * MINUTE)
    assert centre.occurrences() == []
    centre.settler.tick(START + HOUR + 3 * MINUTE)
    assert ("gw-silence", "ps-1", START + 3 * MINUTE, None) in centre.occurrences()


DOORS = """
rules:
  - {id: opened, name: {zh: 门开}, applies_to: {kind: door_sensor}, when: event("door_opened"), priority: notice}
"""


@pytest.mark.parametrize("clock", [0, START])
def test_what_is_heard_before_the_link_is_known_again_after_a_restart(tmp_path: Path, clock: int) -> None:
    centre = SmallCentre(tmp_path / "data", now=clock).start()
    centre.now = START
    centre.send("ps-1", {"at": START // 1000, "level_inside": 3.6, "level_outside": 3.1})
    centre.send("door-1", {"at": START // 1000, "open": True}, kind="door_sensor")
    centre.send("ps-9", {"at": START // 1000, "level_inside": 3.6})
    centre.settler.link(START)
    centre.settle()
    centre.settler.snapshot()
    centre.stop(crash=True)
    centre.start()
    assert centre.occurrences() == [("high", "ps-1", START, None)]
    assert list(centre.stored("ps-9", "level_inside")) == [START]
    assert {d.first_seen for d in centre.settler.memory.registry.devices} == {START}
    centre.stop()


@pytest.mark.parametrize("act", ["tick", "reload", "declare", "set_status"])
def test_no_act_between_hearing_and_settling_forgets_what_was_heard(tmp_path: Path, act: str) -> None:
    centre = SmallCentre(tmp_path / "data").start()
    centre.level(START, 3.1)
    centre.level(START, 3.1, device="ps-8")
    centre.now += HOUR
    centre.send("ps-9", {"at": centre.now // 1000, "level_inside": 3.6, "level_outside": 3.1})
    if act == "tick":
        assert centre.settler.tick(centre.now)
    elif act == "reload":
        centre.settler.reload(load({"rules.yaml": HIGH.replace("3.5", "3.4")}), centre.now)
    elif act == "declare":
        centre.settler.declare(lambda _tx, _now: None, centre.now)
    else:
        centre.settler.set_status("ps-8", DeviceStatus.ACTIVE, centre.now, Actor("wang", Role.DUTY_OFFICER))
    centre.settle()
    centre.stop(crash=True)
    centre.start()
    assert list(centre.stored("ps-9", "level_outside")) == [centre.now]
    centre.stop()


def test_a_door_that_only_says_open_tells_its_openings(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data", rules=DOORS).start()
    for second, is_open in enumerate([False, True, True, False, True]):
        at = START + second * SECOND
        centre.now = at
        centre.send("door-1", {"at": at // 1000, "open": is_open}, kind="door_sensor")
    centre.settle()
    assert [at - START for _, _, at, _ in centre.occurrences()] == [SECOND, 4 * SECOND]
    assert centre.ledger() == {"received": 5, "stored": 5}
    centre.stop()


def test_the_same_event_twice_is_one_event(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data", rules=DOORS).start()
    body = {"at": START // 1000, "id": "e1", "event": "door_opened"}
    for _ in range(2):
        centre.send("door-1", body, kind="door_sensor", channel="events")
    centre.settle()
    centre.send("door-1", body, kind="door_sensor", channel="events")
    centre.settle()
    assert centre.ledger() == {"received": 3, "stored": 1, "duplicate": 2}
    assert len(centre.occurrences()) == 1
    centre.send("door-1", {"event": "door_exploded"}, kind="door_sensor", channel="events")
    centre.settle()
    assert [r for r, _ in centre.refusals()] == ["unknown_event"]
    centre.stop()


@pytest.mark.parametrize("number", [1, 3, 255, 257, 600])
def test_many_events_sent_again_are_told_from_as_many_new_ones(tmp_path: Path, number: int) -> None:
    def seen(key: object) -> dict[str, object]:
        return {"at": START // 1000, "event": "person_detected", "id": str(key)}

    centre = SmallCentre(tmp_path / "data").start()
    for batch in (range(number), range(2 * number)):
        centre.send("cam-1", [seen(key) for key in batch], channel="events", kind="camera")
        centre.settle()
    assert centre.ledger() == {"received": 3 * number, "stored": 2 * number, "duplicate": number}
    centre.stop()


def test_an_event_may_call_itself_derived(tmp_path: Path) -> None:
    """Else it would meet the opening that follows from `open` at the same instant, and its batch would never commit."""
    centre = SmallCentre(tmp_path / "data").start()
    body = {"at": (START + MINUTE) // 1000, "id": "derived", "event": "door_opened"}
    try:
        centre.send("door-1", {"at": START // 1000, "open": False}, kind="door_sensor")
        centre.send("door-1", body, kind="door_sensor", channel="events")
        centre.send("door-1", {"at": body["at"], "open": True}, kind="door_sensor")
        centre.settle()
        centre.send("door-1", body, kind="door_sensor", channel="events")
        centre.settle()
        assert centre.ledger() == {"received": 4, "stored": 3, "duplicate": 1}
    finally:
        centre.stop()

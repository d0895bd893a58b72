"""The ledger against a plain count of the same traffic, and against the stores; after crashes and upgrades too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from devices.instants import HOUR, MINUTE, SECOND
from devices.registry import DeviceStatus
from flow.alarms import LATE_AFTER
from flow.ledger import COLUMNS, LedgerRow, verify
from flow.retention import delete_series
from store.records.database import open_records, write
from store.records.devices import set_status
from store.records.journal import read_entries
from store.records.refused import KEPT_OF_A_BATCH, add_refused, count_refused, drop_refused
from store.records.settled import Settled, rows_of
from store.records.tables import journal, refused, snapshots
from tests.flow.centre import START, SmallCentre
from tests.flow.test_outage import Away
from tests.flow.test_readings import CHIEF, decide
from tests.flow.town import empty_database


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    centre = SmallCentre(tmp_path / "data").start()
    yield centre
    centre.stop()


def rows(centre: SmallCentre, device: str = "") -> list[LedgerRow]:
    known = centre.settler.memory.registry.get(device)
    return centre.ledger_rows(known.number if known else None)


def agree(centre: SmallCentre) -> None:
    """Everything is where the ledger says it is."""
    memory = centre.settler.memory
    assert centre.settler.appender.drain(10)
    with centre.records.connect() as tx:
        assert verify(tx, memory.ledger, centre.readings, memory.registry) == []
    centre.ledger()


# --- against a plain count -------------------------------------------------------------------------------------------
@dataclass
class Plain:
    """What the ledger should say, counted one value after the other."""

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    stored: dict[tuple[str, str, int], float] = field(default_factory=dict)
    newest: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, device: str, *names: str) -> None:
        for name in names:
            self.counts[device, name] = self.counts.get((device, name), 0) + 1

    def take(self, device: str, metric: str, at: int, value: float, now: int) -> None:
        self.count(device, "received")
        key, series = (device, metric, at), (device, metric)
        if not -20 <= value <= 50:
            self.count(device, "refused", "refused:out_of_range")
        elif key in self.stored:
            self.count(device, "duplicate" if self.stored[key] == value else "replaced")
            self.stored[key] = value
        else:
            newer = at > self.newest.get(series, 0)
            self.stored[key] = value
            self.newest[series] = max(at, self.newest.get(series, 0))
            self.count(device, "stored", *(["late"] if not newer or at < now - LATE_AFTER else []))
            self.count(device, *(["flagged", "flagged:implausible"] if not 0 <= value <= 8 else []))
            self.count(device, *(["evaluated"] if newer and device != "ps-9" else []))
            self.count(device, *(["quarantined"] if device == "ps-9" else []))


VALUES = st.sampled_from([3.0, 3.1, 9.0, -1.0, 99.0])
MESSAGES = st.tuples(
    st.sampled_from(["ps-1", "ps-2", "ps-9"]),
    st.integers(0, 40),
    st.dictionaries(st.sampled_from(["level_inside", "level_outside"]), VALUES, min_size=1),
)
ACTS = st.lists(
    st.one_of(st.lists(MESSAGES, min_size=1, max_size=8), st.sampled_from(["snapshot", "crash"])), max_size=7
)


@settings(max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(ACTS)
def test_it_counts_what_a_plain_count_counts(acts: list[Any]) -> None:
    plain = Plain()
    with TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "data" / "records.sqlite").write_bytes(empty_database())
        centre = SmallCentre(Path(folder) / "data").start()
        for act in acts:
            if act == "snapshot":
                centre.settler.snapshot()
            elif act == "crash":
                centre.stop(crash=True)
                centre.start()
            else:
                centre.now += MINUTE
                for device, minute, values in act:
                    at = START - 40 * MINUTE + minute * MINUTE
                    centre.send(device, {"at": at // 1000, **values})
                    for metric, value in values.items():
                        plain.take(device, metric, at, value, centre.now)
                centre.settle()
        agree(centre)
        found: dict[tuple[str, str], int] = {}
        for row in rows(centre):
            device = centre.settler.memory.registry.devices[row.device].id
            told = {name: getattr(row, name) for name in COLUMNS} | {f"{c}:{r}": n for (c, r), n in row.reasons.items()}
            for name, n in told.items():
                found[device, name] = found.get((device, name), 0) + n
        assert {key: n for key, n in found.items() if n} == plain.counts
        centre.stop()


def test_every_hour_has_its_own_count(centre: SmallCentre) -> None:
    centre.level(START, 3.0)
    centre.settler.snapshot()
    centre.level(START + HOUR, 3.1)
    centre.level(START + HOUR + MINUTE, 9.1)
    assert [(row.received, row.reasons) for row in rows(centre, "ps-1")] == [
        (1, {}),
        (2, {("flagged", "implausible"): 1}),
    ]


def test_a_wrong_clock_is_the_reason_before_an_implausible_value(centre: SmallCentre) -> None:
    centre.send("ps-1", {"at": (START + 8 * HOUR) // 1000, "level_inside": 9.1, "level_outside": 3.0})
    centre.settle()
    assert rows(centre, "ps-1")[0].reasons == {("flagged", "clock_wrong"): 2}


def test_what_is_refused_is_told_by_reason(centre: SmallCentre) -> None:
    centre.send("ps-1", {"at": START // 1000, "level_inside": "high", "shoe_size": 43, "level_outside": 99.0})
    centre.send("ps-1", b"nonsense")
    centre.settle()
    reasons = {reason: n for (_, reason), n in rows(centre, "ps-1")[0].reasons.items()}
    assert reasons == {"wrong_type": 1, "unknown_metric": 1, "out_of_range": 1, "malformed": 1}
    assert centre.settler.memory.ledger.running_reasons() == {("refused", r): n for r, n in reasons.items()}


def test_events_count_and_those_that_follow_from_a_reading_do_not(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data").start()
    for second, is_open in enumerate([False, True, False]):
        centre.now = START + second * SECOND
        centre.send("door-1", {"at": centre.now // 1000, "open": is_open}, kind="door_sensor")
    body = {"at": START // 1000, "id": "derived", "event": "person_detected"}
    for _ in range(2):
        centre.send("cam-1", body, kind="camera", channel="events")
    centre.settle()
    assert centre.ledger() == {"received": 5, "stored": 4, "duplicate": 1}
    agree(centre)
    centre.stop(crash=True)
    agree(centre.start())
    centre.stop()


def test_what_could_not_be_looked_up_agrees_once_it_could(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data", store=Away).start()
    store = centre.readings
    assert isinstance(store, Away)
    for minute in range(3):
        centre.level(START + minute * MINUTE, 9.0 + minute / 10)
    assert centre.settler.appender.drain(5)
    store.away = True
    for at, value in ((START, 9.0), (START, 9.0), (START + MINUTE, 9.9), (START - MINUTE, 2.9)):
        centre.level(at, value)
    centre.settler.snapshot()
    store.away = False
    agree(centre)
    assert centre.ledger() == {
        "received": 7, "stored": 4, "duplicate": 2, "replaced": 1, "late": 1, "flagged": 3,
    }  # fmt: skip
    centre.stop()


def test_a_deletion_that_a_crash_cut_short_is_finished_at_start(centre: SmallCentre) -> None:
    centre.level(START, 3.6, device="ps-9")
    centre.settler.appender.drain(5)
    device = centre.settler.memory.registry.get("ps-9")
    assert device is not None
    with write(centre.records) as tx:
        set_status(tx, device.number, DeviceStatus.REJECTED)
    assert delete_series(centre.readings, list(range(len(centre.settler.memory.newest.measured_at)))) == 1
    centre.stop(crash=True)
    centre.start()
    agree(centre)
    assert centre.ledger() == {"received": 1, "stored": 1, "quarantined": 1, "deleted": 1}


def test_a_rejected_device_agrees_and_so_does_what_came_after(centre: SmallCentre) -> None:
    centre.level(START, 3.6, device="ps-9")
    decide(centre, "ps-9", DeviceStatus.REJECTED)
    agree(centre)
    centre.settler.set_status("ps-9", DeviceStatus.ACTIVE, centre.now, CHIEF)
    centre.decoder.forget_routes()
    centre.level(START + MINUTE, 3.6, device="ps-9")
    agree(centre)
    assert centre.ledger()["deleted"] == 1


# --- what a crash leaves ---------------------------------------------------------------------------------------------
CHILD = """
import sys
from pathlib import Path
from tests.flow.test_ledger import deliver
deliver(Path(sys.argv[1]))
"""


def batch_of(centre: SmallCentre, n: int) -> None:
    """Readings of two stations with a duplicate, a replacement, a refusal and a late one among them."""
    at = START + n * MINUTE
    centre.now = max(centre.now, at)
    for device in ("ps-1", "ps-2"):
        centre.send(device, {"at": at // 1000, "seq": n, "level_inside": 3.0 + n % 7 / 10, "level_outside": 3.0})
    centre.send("ps-1", {"at": (at - 2 * MINUTE) // 1000, "level_inside": 3.0 + n, "shoe_size": 43})
    centre.settle()


def deliver(folder: Path) -> None:
    """What the broker does: everything in order, again from where it was not acknowledged."""
    centre = SmallCentre(folder).start()
    done = folder / "acknowledged"
    for n in range(int(done.read_text()) if done.exists() else 0, 9):
        batch_of(centre, n)
        done.with_suffix(".new").write_text(str(n + 1))
        done.with_suffix(".new").replace(done)
        if n % 3 == 2:
            centre.settler.appender.drain(5)
            centre.settler.snapshot()
    agree(centre)
    centre.stop(crash=True)


@pytest.mark.parametrize(
    "point", ["before_commit:5", "after_commit:5", "before_append:4", "after_append:4", "before_snapshot:3",
              "after_snapshot:3"],
)  # fmt: skip
def test_it_agrees_after_a_kill_at_every_point(tmp_path: Path, point: str) -> None:
    whole = tmp_path / "whole"
    died = subprocess.run(
        [sys.executable, "-c", CHILD, str(whole)], env={**os.environ, "GRIDWHISTLE_FAULT_POINT": point}, check=False
    )
    assert died.returncode == -signal.SIGKILL
    deliver(whole)
    centre = SmallCentre(whole).start()
    agree(centre)
    counts = centre.ledger()
    assert counts["stored"] == 9 * 2 * 2 + 2, "two late ones before the first, every other replaces"
    assert "gaps" not in counts
    assert len(centre.stored("ps-1", "level_inside")) == 11
    centre.stop()


def older_entry(body: bytes) -> bytes:
    """As the version before wrote it: every column whole, counts of nine columns, events without their state."""
    entry = msgspec.msgpack.decode(body, type=Settled)
    found = rows_of(entry)
    counts = [[0, len(found.series), len(found.series), 0, 0, 0, 0, 0, 0, 0]]
    return msgspec.msgpack.encode({
        "series": found.series.tobytes(), "measured_at": found.measured_at.tobytes(), "value": found.value.tobytes(),
        "quality": np.ascontiguousarray(found.quality).tobytes(), "element": found.element.tobytes(),
        "verdict": np.ascontiguousarray(found.verdict).tobytes(), "judged": found.judged.astype(np.uint8).tobytes(),
        "events": [], "counts": np.array(counts, np.int64).tobytes(), "arrivals": [],
    })  # fmt: skip


def test_entries_and_a_snapshot_of_the_version_before_are_taken(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data", store=Away).start()
    centre.level(START, 3.0)
    centre.settler.snapshot()
    assert isinstance(centre.readings, Away)
    centre.settler.appender.drain(5)
    centre.readings.away = True
    for minute, level in enumerate([3.4, 3.5, 3.6], start=1):
        centre.level(START + minute * MINUTE, level)
    centre.stop(crash=True)
    # While nothing runs: the next start moves the entries at once.
    records = open_records(tmp_path / "data" / "records.sqlite")
    with write(records) as tx:
        entries = read_entries(tx, 0, 100)
        waiting = {row.number: row.body for row in tx.execute(select(journal)) if row.body}
        saved = msgspec.msgpack.decode(tx.execute(select(snapshots.c.body)).scalar_one())
        del saved["last_seq"], saved["missing"]
        tx.execute(update(snapshots).values(body=msgspec.msgpack.encode(saved)))
        for number, raw in waiting.items():
            tx.execute(update(journal).where(journal.c.number == number).values(body=older_entry(raw)))
    records.dispose()
    assert len([e for e in entries if e.settled]) >= 3
    centre.start()
    agree(centre)
    assert [p.value for p in centre.stored("ps-1", "level_inside").values()] == [3.0, 3.4, 3.5, 3.6]
    assert centre.occurrences() == [("high", "ps-1", START + 3 * MINUTE, None)]
    assert centre.ledger() == {"received": 4, "stored": 4}
    centre.stop()


# --- what is kept of what was refused --------------------------------------------------------------------------------
def test_a_flood_of_refusals_keeps_the_first_and_counts_the_rest(centre: SmallCentre) -> None:
    for n in range(KEPT_OF_A_BATCH + 500):
        centre.send("ps-1", b"nonsense" if n % 2 else {"at": START // 1000 + n, "level_inside": 99.0})
    centre.settle()
    assert centre.ledger() == {"received": 1500, "refused": 1500}
    with centre.records.connect() as tx:
        kept = [row._mapping for row in tx.execute(select(refused))]
    assert len(kept) <= KEPT_OF_A_BATCH + 2
    assert sum(row["count"] for row in kept) == 1500
    assert {row["whole"] for row in kept if row["count"] > 1} == {False}


def test_what_was_refused_is_kept_within_bounds_of_number_size_and_age(centre: SmallCentre) -> None:
    packet = {"topic": "t", "payload": b"x" * 1_000_000, "reason": "malformed", "detail": "", "device": -1}
    with write(centre.records) as tx:
        tx.execute(insert(refused), [{**packet, "at": 0, "arrived_at": START + n} for n in range(70)])
        assert drop_refused(tx, START + 70) == 3, "64 MiB"
        assert [row.arrived_at for row in tx.execute(select(refused.c.arrived_at).limit(1))] == [START + 3]
        assert drop_refused(tx, START + 3 + 30 * 24 * HOUR + 10) == 10
        late = {**packet, "payload": b"", "at": 0, "arrived_at": START + 31 * 24 * HOUR}
        tx.execute(insert(refused), [late] * 10_000)
        drop_refused(tx, START + 31 * 24 * HOUR)
        assert count_refused(tx) == {"malformed": (10_000, 10_000)}
        add_refused(tx, START, [])


def test_a_packet_that_was_cut_is_not_whole(centre: SmallCentre) -> None:
    centre.send("ps-1", b'{"level_inside": 3, "x": "' + b"a" * 1_000_000 + b'"}')
    centre.settle()
    with centre.records.connect() as tx:
        assert tx.execute(select(refused.c.whole)).scalar_one() is False

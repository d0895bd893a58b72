"""A backup of a service under load, over a real broker and at the command line; what is restored goes on as the one it
was made of would have."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from devices.instants import MINUTE
from tests.conftest import Broker
from tests.end_to_end.conftest import Service, gridwhistle, wait_for
from tests.flow.centre import START, SmallCentre

START_MS = 1_763_700_000_000
DEVICES = 4
RULES = """
rules:
  - {id: hot, name: {zh: 过热, en: hot}, applies_to: {kind: equipment}, when: "temperature > 80", max_gap: none,
     clear: temperature < 60, priority: high, order: {category: equipment.temperature}}
"""
# Rows of one act of one instant: what is in the copy is a beginning of what is in the original.
GROWING = ("alarm_history", "order_history", "stream", "refused", "series")


def reading(number: int) -> tuple[str, dict[str, Any]]:
    """A saw tooth for each of the devices, a reading a second."""
    device, second = number % DEVICES, number // DEVICES
    body = {"at": START_MS + second * 1000, "temperature": (second * 7 + device * 13) % 100}
    return f"gw/v1/site/equipment/m-{device}/readings", body


class Load:
    """Publishes readings at QoS 1 until it is told to stop; `sent` of them are acknowledged by the broker."""

    def __init__(self, broker: Broker, count: int | None = None, per_s: int = 500) -> None:
        self.sent = 0
        self._broker, self._count, self._per_s = broker, count, per_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(60)

    def _run(self) -> None:
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(1000)
        client.connect(self._broker.host, self._broker.port)
        client.loop_start()
        begun, last = time.monotonic(), None
        while not self._stopping.is_set() and (self._count is None or self.sent < self._count):
            topic, body = reading(self.sent)
            last = client.publish(topic, json.dumps(body), qos=1)
            self.sent += 1
            if self.sent % 50 == 0:
                if self.sent % 500 == 0:
                    client.publish("gw/v1/site/equipment/m-0/readings", b"?", qos=1)
                time.sleep(max(0.0, begun + self.sent / self._per_s - time.monotonic()))
        if last is not None:
            last.wait_for_publish(60)
        client.disconnect()
        client.loop_stop()

    def wait(self) -> None:
        self._thread.join(60)


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        yield db


def rows(file: Path, table: str) -> list[Any]:
    with opened(file) as db:
        return db.execute(f'SELECT * FROM "{table}" ORDER BY rowid').fetchall()


def told(service: Service) -> dict[str, list[Any]]:
    """What happened, without numbers and the instants of writing."""
    raised = ("rule", "device", "since", "raised_at", "cleared_at", "first_value", "peak_value")
    return {
        "occurrences": sorted(tuple(o[k] for k in raised) for o in service.all("occurrences")),
        "alarms": sorted((a["rule"], a["device"], a["state"], a["raised_count"]) for a in service.all("alarms")),
        "orders": sorted((o["device"], o["category"], o["state"]) for o in service.all("orders")),
    }


def stored(service: Service) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for device in range(DEVICES):
        query = {"device": f"m-{device}", "metric": "temperature", "from": "2025-11-01T00:00:00Z",
                 "to": "2025-12-01T00:00:00Z"}  # fmt: skip
        found[f"m-{device}"] = [(r["at"], r["value"]) for r in service.all("readings", **query)]
    return found


def verified(service: Service) -> None:
    told = service.post("ledger/verify")
    assert told["differences"] == [], told


@pytest.mark.services
def test_a_service_under_load_is_backed_up_and_what_is_restored_becomes_the_same(
    make_service: Callable[..., Service], make_broker: Callable[..., Broker], broker: Broker, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULES)
    settings = {"rules": rules, "unknown_devices": "accept", "clock.max_behind": "none",
                "ingest.max_messages_per_s": "none"}  # fmt: skip
    first = make_service(**settings)
    folder = tmp_path / "backup"
    with Load(broker) as load:
        wait_for(lambda: load.sent > 1_000, 30)
        made = gridwhistle("backup", folder, "--json", "--set", f"data_dir={first.folder / 'data'}")
        assert made.returncode == 0, made.stderr
        during = load.sent
        wait_for(lambda: load.sent > during + 300, 30)
    manifest = json.loads(made.stdout)
    assert manifest["files"].keys() >= {"readings.duckdb", "records.sqlite", "config/rules/rules.yaml"}
    assert "readings" in made.stderr
    assert "open-sesame" not in (folder / "config" / "settings.json").read_text()
    first.wait_received(load.sent)

    data = tmp_path / "second" / "data"
    restored = gridwhistle("restore", folder, "--json", "--set", f"data_dir={data}")
    assert restored.returncode == 0, restored.stderr
    for table in GROWING:
        begun, whole = rows(data / "records.sqlite", table), rows(first.folder / "data" / "records.sqlite", table)
        assert begun == whole[: len(begun)], table
        assert begun, table

    second_broker = make_broker()
    second = Service(tmp_path / "second", second_broker, settings)
    second.start()
    try:
        verified(second)
        got = stored(second)
        every = stored(first)
        # A beginning of what every device sent, without a hole: everything up to the instant of the backup.
        for device, points in got.items():
            assert points == every[device][: len(points)], device
        assert 1_000 < sum(map(len, got.values())) < load.sent
        with Load(second_broker, load.sent, per_s=4_000) as rest:
            rest.wait()
        wait_for(lambda: sum(map(len, stored(second).values())) == load.sent, 60)
        assert stored(second) == every
        wait_for(lambda: told(second) == told(first), 10, lambda: f"{told(second)}\n{told(first)}")
        assert len(told(first)["occurrences"]) > DEVICES
        verified(second)
        verified(first)
    finally:
        assert second.stop() == 0


def test_of_one_that_does_not_run_the_files_are_copied(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "data").start()
    for minute in range(5):
        centre.level(START + minute * MINUTE, 3 + minute / 5)
    centre.stop()
    folder = tmp_path / "backup"
    made = gridwhistle("backup", folder, "--json", "--set", f"data_dir={tmp_path / 'data'}")
    assert made.returncode == 0, made.stderr
    full = gridwhistle("backup", folder, "--set", f"data_dir={tmp_path / 'data'}")
    assert (full.returncode, "not an empty folder" in full.stderr) == (1, True)
    assert gridwhistle("restore", folder, "--set", f"data_dir={tmp_path / 'new'}").returncode == 0
    for table in ("devices", "series", "ledger", "occurrences", "orders", "snapshots", "audit"):
        assert rows(tmp_path / "data" / "records.sqlite", table) == rows(tmp_path / "new" / "records.sqlite", table)
    twice = gridwhistle("restore", folder, "--set", f"data_dir={tmp_path / 'new'}")
    assert (twice.returncode, "not empty" in twice.stderr) == (1, True)
    damaged = folder / "readings.duckdb"
    damaged.write_bytes(damaged.read_bytes()[:-4096])
    refused = gridwhistle("restore", folder, "--set", f"data_dir={tmp_path / 'other'}")
    assert (refused.returncode, "readings.duckdb: 已损坏" in refused.stderr) == (1, True)


def test_where_nothing_is_nothing_is_backed_up_and_nothing_made(tmp_path: Path) -> None:
    nothing = gridwhistle("backup", tmp_path / "backup", "--set", f"data_dir={tmp_path / 'never'}")
    assert nothing.returncode == 1
    assert not (tmp_path / "never").exists()
    assert not (tmp_path / "backup").exists()

"""Refused packets over a real broker: kept, read again once what was wrong is mended, and the ledger stays right."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import pytest
from paho.mqtt import publish

from tests.conftest import Broker
from tests.end_to_end.conftest import Service, gridwhistle

pytestmark = pytest.mark.services

TOPIC = "gw/v1/site/pump_station/ps-new/readings"


def command(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return gridwhistle(*arguments, "--set", f"data_dir={service.folder / 'data'}")


def send(broker: Broker, *payloads: bytes) -> None:
    publish.multiple([{"topic": TOPIC, "payload": payload, "qos": 1} for payload in payloads], broker.host, broker.port)


def reading(at: int, level: float) -> bytes:
    return json.dumps({"at": at, "level_inside": level}).encode()


def test_what_a_rejected_device_sent_is_stored_once_it_is_approved(
    make_service: Callable[..., Service], broker: Broker
) -> None:
    service = make_service()
    now = int(time.time()) * 1000
    send(broker, reading(now - 60_000, 2.0))
    service.wait_received(1)
    service.post("devices/ps-new/reject")
    send(broker, reading(now - 3_000, 2.1), reading(now - 2_000, 2.2), b"{", b'[{"level_inside": 2.3, "at": %d}]' % now)
    service.wait_received(5)
    listed = json.loads(command(service, "refused", "list", "--device", "ps-new", "--since", "-1h", "--json").stdout)
    assert [packet["reason"] for packet in listed["items"]] == ["rejected_device"] * 4

    service.post("devices/ps-new/approve")
    [one, broken, *rest] = [packet["id"] for packet in listed["items"]]
    alone = command(service, "refused", "retry", str(one), "--json")
    assert (alone.returncode, json.loads(alone.stdout)) == (0, {"taken": 1, "refused_again": {}, "left": {}})
    others = command(service, "refused", "retry", "--reason", "rejected_device", "--json")
    assert json.loads(others.stdout) == {"taken": len(rest), "refused_again": {"malformed": 1}, "left": {}}
    assert others.returncode == 1
    stored = service.get("readings", device="ps-new", metric="level_inside", **{"from": str(now - 120_000)})
    assert [point["value"] for point in stored["items"]] == [2.1, 2.2, 2.3]

    total = service.ledger()
    assert total == {
        "received": 5, "stored": 4, "duplicate": 0, "replaced": 0, "refused": 1, "late": 2, "quarantined": 1,
        "deleted": 1,
    }  # fmt: skip
    again = json.loads(command(service, "refused", "list", "--json").stdout)["items"]
    assert [packet["reason"] for packet in again] == ["malformed"]
    assert again[0]["payload"] == "{"
    assert again[0]["id"] != broken
    assert command(service, "ledger", "--verify").returncode == 0

"""A command to a device over a real broker: asked at the command line, answered by the device, kept by the service."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import Broker
from tests.end_to_end.conftest import Service, gridwhistle, wait_for

pytestmark = pytest.mark.services

TOPIC = "gw/v1/site/equipment/m-1/commands"
OPEN = {"unknown_devices": "accept"}


class Pump:
    """A device that notes what it is asked and answers as it is told to."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.asked: list[dict[str, Any]] = []
        self.expiry: list[int] = []
        self.answer: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_message = self._receive

    def start(self) -> None:
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect(self.broker.host, self.broker.port)
        self.client.loop_start()
        self.client.subscribe(TOPIC, qos=1)
        assert subscribed.wait(10)

    def report(self, service: Service, device: str = "m-1") -> None:
        """So that the service knows of it."""
        self.client.publish(f"gw/v1/site/equipment/{device}/readings", b'{"temperature": 20}', qos=1)
        wait_for(lambda: device in [d["id"] for d in service.get("devices")["items"]], 10)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _receive(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        asked = json.loads(message.payload)
        assert message.properties is not None
        self.expiry.append(vars(message.properties)["MessageExpiryInterval"])
        self.asked.append(asked)
        said = self.answer(asked)
        if said is not None:
            self.reply({"id": asked["id"], **said})

    def reply(self, body: dict[str, Any]) -> None:
        self.client.publish(f"{TOPIC}/reply", json.dumps(body), qos=1)


@pytest.fixture
def pump(broker: Broker) -> Iterator[Pump]:
    pump = Pump(broker)
    pump.start()
    yield pump
    pump.stop()


def command(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ("--set", f"data_dir={service.folder / 'data'}", "--json")
    return gridwhistle("command", "m-1", *arguments, *options)


def listed(service: Service) -> list[Any]:
    return list(service.get("devices/m-1/commands")["items"])


def test_asked_at_the_command_line_done_declined_and_not_answered(
    make_service: Callable[..., Service], pump: Pump
) -> None:
    service = make_service(**OPEN)
    pump.report(service)
    pump.answer = lambda asked: {"ok": asked["arguments"].get("pump") == 2, "result": "running"}
    done = command(service, "start_pump", "--arg", "pump=2", "--why", "水位超限", "--wait")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["state"], said["reply"]["result"], said["why"]) == ("replied", "running", "水位超限")
    assert pump.asked[0] | {"expires_at": 0} == {
        "id": said["id"], "command": "start_pump", "arguments": {"pump": 2}, "expires_at": 0,
    }  # fmt: skip
    assert 55 <= pump.expiry[0] <= 60
    assert pump.asked[0]["expires_at"] - time.time() * 1000 == pytest.approx(60_000, abs=10_000)

    assert command(service, "start_pump", "--arg", "pump=3", "--wait").returncode == 1
    pump.answer = lambda _: None
    expired = command(service, "start_pump", "--expires", "1s", "--wait")
    assert (expired.returncode, json.loads(expired.stdout)["state"]) == (1, "expired")
    pump.reply({"id": pump.asked[-1]["id"], "ok": True})
    wait_for(lambda: listed(service)[0]["late"], 10)
    assert [c["state"] for c in listed(service)] == ["expired", "failed", "replied"]

    assert command(service, "Start Pump").returncode == 2
    assert command(service, "start_pump", "--arg", "pump").returncode == 2
    nobody = gridwhistle("command", "m-9", "start", "--set", f"data_dir={service.folder / 'data'}")
    assert nobody.returncode == 1
    assert "没有设备" in nobody.stderr


def test_a_command_outlives_a_broker_that_is_away_and_a_service_that_is_killed(
    make_service: Callable[..., Service], broker: Broker, pump: Pump
) -> None:
    """Asked without a link, killed, started, link back: sent then, under the id it was asked with; a command whose
    time was over by then never is."""
    service = make_service(**OPEN)
    pump.report(service)
    broker.stop()
    wait_for(lambda: not service.api.get("/readyz").is_success, 15)
    body = {"command": "start_pump", "why": "x"}
    kept = service.post("devices/m-1/commands", **body)
    lost = service.post("devices/m-1/commands", **body | {"expires_s": 1})
    service.kill()
    time.sleep(1)
    broker.start()
    pump.answer = lambda _: {"ok": True}
    wait_for(pump.client.is_connected, 30)
    pump.client.subscribe(TOPIC, qos=1)
    service.start()
    wait_for(lambda: [c["state"] for c in listed(service)] == ["expired", "replied"], 20, lambda: str(listed(service)))
    assert {asked["id"] for asked in pump.asked} == {kept["id"]}
    assert listed(service)[0]["id"] == lost["id"]
    assert listed(service)[0]["sent_at"] is None


def test_what_another_device_answers_is_refused(make_service: Callable[..., Service], pump: Pump) -> None:
    service = make_service(**OPEN)
    pump.report(service)
    asked = service.post("devices/m-1/commands", command="stop", why="x")
    pump.report(service, "m-2")
    reply = json.dumps({"id": asked["id"], "ok": True})
    pump.client.publish("gw/v1/site/equipment/m-2/commands/reply", reply, qos=1).wait_for_publish(10)
    wait_for(lambda: [r["reason"] for r in service.get("refused")["items"]] == ["wrong_device"], 10)
    assert listed(service)[0]["state"] in ("pending", "sent")
    ledger = service.ledger()
    assert ledger["refused"] == 0


def test_without_a_service_there_is_nobody_to_ask(tmp_path: Path) -> None:
    done = gridwhistle("command", "m-1", "start", "--set", f"data_dir={tmp_path}")
    assert done.returncode == 1
    assert "no service runs" in done.stderr

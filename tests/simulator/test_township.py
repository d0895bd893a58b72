"""The township over a real broker: what a subscriber hears is what the run says it published, clock in order."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from devices.instants import MINUTE, SECOND, from_iso
from simulator.reports import CLOCK_STEP
from simulator.township import Published, UnknownScenario, simulate
from tests.conftest import ROOT, Broker
from tests.simulator.township import qidu, truth, world


@dataclass
class Ear:
    """Everything heard, and what was wrong with it."""

    values: int = 0
    messages: int = 0
    clock: int = 0
    online: set[str] = field(default_factory=set)
    offline: set[str] = field(default_factory=set)
    ahead: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    readings: list[bytes] = field(default_factory=list)

    def hear(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/status"):
            (self.online if payload == b"online" else self.offline).add(topic.split("/")[4])
            return
        body: dict[str, Any] = {}
        try:
            body = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.values += 1
            self.messages += 1
            return
        at = int(body["at"]) * 1000
        if topic.endswith("/clock"):
            assert at >= self.clock
            self.clock = at
            return
        self.messages += 1
        self.readings.append(payload)
        self.values += 1 if topic.endswith("/events") else len(body) - 1
        if at > self.clock + CLOCK_STEP:
            self.ahead.append(topic)
        if at < self.clock:
            self.behind.append(topic)


async def run(broker: Broker, **options: Any) -> tuple[Ear, Published]:
    """A run with a subscriber that hears it to the end."""
    ear = Ear()
    async with aiomqtt.Client(broker.host, broker.port) as subscriber:
        await subscriber.subscribe("gw/v1/#", qos=1)

        async def listen() -> None:
            async for message in subscriber.messages:
                if str(message.topic) == "gw/v1/end":
                    return
                assert isinstance(message.payload, bytes)
                ear.hear(str(message.topic), message.payload)

        listening = asyncio.create_task(listen())
        published = await simulate(broker.url, qidu(), **options)
        await subscriber.publish("gw/v1/end", b"", qos=1)
        async with asyncio.timeout(20):
            await listening
    return ear, published


@pytest.mark.services
def test_what_is_heard_is_what_was_published_and_the_clock_keeps_its_place(broker: Broker) -> None:
    of = world("showcase", seed=3)
    end = of.start + 20 * MINUTE
    ear, published = asyncio.run(run(broker, scenario="showcase", seed=3, speed=None, until=end))
    assert (ear.messages, ear.values) == (published.messages, published.values)
    assert published.values > 3000
    assert published.until == ear.clock == end
    assert (ear.ahead, ear.behind) == ([], [])
    assert ear.online == ear.offline == set(of.town.devices)
    assert published.truth == truth(of, 20 / 60)[0]


@pytest.mark.services
def test_a_run_stopped_at_any_time_has_its_truth_up_to_there(broker: Broker, tmp_path: Path) -> None:
    async def stopped() -> tuple[Ear, Published]:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(1.5, stop.set)
        return await run(broker, scenario="showcase", speed=600, stop=stop, truth=tmp_path / "truth.json")

    began = time.monotonic()
    ear, published = asyncio.run(stopped())
    assert time.monotonic() - began < 6
    minutes = (published.until - published.start) / MINUTE
    assert 8 < minutes <= 25
    assert (ear.messages, ear.values, ear.clock) == (published.messages, published.values, published.until)
    written = json.loads((tmp_path / "truth.json").read_text())
    assert [(e["rule"], e["device"], from_iso(e["raised_at"])) for e in written["expected"]] == [
        (e.rule, e.device, e.raised_at) for e in sorted(published.truth, key=lambda e: (e.raised_at, e.rule, e.device))
    ]
    assert {"pump-mains-lost", "pond-oxygen-low"} <= {e.rule for e in published.truth}
    assert written["values"] == published.values


@pytest.mark.services
def test_pace_is_kept_and_the_same_bytes_go_out_at_any_speed(broker: Broker) -> None:
    end = world("calm").start + 2 * MINUTE
    began = time.monotonic()
    slow, _ = asyncio.run(run(broker, scenario="calm", speed=60, until=end))
    assert 1.6 < time.monotonic() - began < 6
    quick, _ = asyncio.run(run(broker, scenario="calm", speed=None, until=end))
    assert slow.readings == quick.readings


@pytest.mark.services
def test_unreadable_packets_count_one_each(broker: Broker) -> None:
    end = world("sensor-faults").start + 60 * MINUTE
    ear, published = asyncio.run(run(broker, scenario="sensor-faults", speed=None, until=end))
    assert (ear.messages, ear.values) == (published.messages, published.values)


@pytest.mark.services
def test_load_of_many_devices_at_a_rate(broker: Broker) -> None:
    start = from_iso("2026-06-20T00:00:00Z")
    began = time.monotonic()
    ear, published = asyncio.run(
        run(broker, devices=300, rate=500, speed=1.0, start=start, until=start + 2 * SECOND, scenario="calm")
    )
    assert 1.8 < time.monotonic() - began < 8
    assert published.devices == 300
    assert 990 <= published.messages <= 1001
    assert ear.values == published.values == 4 * published.messages
    assert len(ear.online) == 300
    assert published.truth == []


@pytest.mark.services
def test_a_township_that_dies_leaves_its_last_will(broker: Broker) -> None:
    program = (
        "import asyncio, sys; from tests.simulator.township import qidu; from simulator.township import simulate; "
        "asyncio.run(simulate(sys.argv[1], qidu(), scenario='calm', speed=60))"
    )

    async def heard_of_death() -> str:
        async with aiomqtt.Client(broker.host, broker.port) as subscriber:
            await subscriber.subscribe("gw/v1/+/+/+/status", qos=1)
            dying = subprocess.Popen([sys.executable, "-c", program, broker.url], cwd=ROOT)
            try:
                async with asyncio.timeout(20):
                    async for message in subscriber.messages:
                        if message.payload == b"online":
                            dying.kill()
                        elif message.payload == b"offline":
                            return str(message.topic)
            finally:
                dying.kill()
                dying.wait()
        return ""

    assert asyncio.run(heard_of_death()) == f"gw/v1/qidu/pump_station/{next(iter(qidu().devices))}/status"


def test_an_unknown_scenario_is_told() -> None:
    with pytest.raises(UnknownScenario, match="no scenario 'snow'; one of showcase"):
        asyncio.run(simulate("mqtt://127.0.0.1:1", qidu(), scenario="snow"))

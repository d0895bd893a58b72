"""A recorded file goes over a real broker row by row: what arrives is what the report says, in file order."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import aiomqtt
import pytest

from devices.instants import from_iso
from simulator.recorded import FileMapping, RecordedError, read_mapping
from simulator.replay import ReplayReport, replay
from simulator.wire import parse_broker
from tests.conftest import Broker

MAPPING = """\
site: qidu
kind: pump_station
device: {column: station}
time: {column: at, format: iso, zone: UTC}
metrics:
  inside: {metric: level_inside}
  mains: {metric: mains_ok}
"""
Heard = list[tuple[str, dict[str, object]]]


def mapping() -> FileMapping:
    return read_mapping(MAPPING, "m.yaml")


async def listen_during(broker: Broker, path: Path, last: int, **options: object) -> tuple[Heard, ReplayReport]:
    """What a subscriber hears of a replay, up to the message that carries the last instant on its readings topic."""
    heard: Heard = []
    async with aiomqtt.Client(broker.host, broker.port) as subscriber:
        await subscriber.subscribe("gw/v1/#", qos=1)
        report = await replay(broker.url, mapping(), path, **options)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            async for message in subscriber.messages:
                assert isinstance(message.payload, bytes)
                heard.append((str(message.topic), json.loads(message.payload)))
                readings = sum(name.endswith("/readings") for name, _ in heard)
                if readings == last:
                    break
    return heard, report


@pytest.mark.services
def test_rows_arrive_in_file_order_with_the_clock_before_them(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "pumps.csv"
    path.write_text(
        "station,at,inside,mains\nS 1,2025-01-01T01:00:00,3.1,1\nS 2,2025-01-01T01:00:30,3.2,\n"
        "S 1,2025-01-01T00:59:00,3.0,\nS 1,oops,1,1\nS 1,2025-01-01T03:00:00,,\n"
        "S 1,2025-01-01T02:00:00.000001,3.4,0\n"
    )
    heard, report = asyncio.run(listen_during(broker, path, 4))
    first, second = (from_iso(f"2025-01-01T0{hour}:00:00Z") // 1000 for hour in (1, 2))
    assert heard == [
        ("gw/v1/qidu/clock", {"at": first}),
        ("gw/v1/qidu/pump_station/s-1/readings", {"at": first, "level_inside": 3.1, "mains_ok": True}),
        ("gw/v1/qidu/clock", {"at": first + 30_000}),
        ("gw/v1/qidu/pump_station/s-2/readings", {"at": first + 30_000, "level_inside": 3.2}),
        ("gw/v1/qidu/pump_station/s-1/readings", {"at": first - 60_000, "level_inside": 3.0}),
        ("gw/v1/qidu/clock", {"at": "2025-01-01T02:00:00.000001Z"}),
        ("gw/v1/qidu/pump_station/s-1/readings",
         {"at": "2025-01-01T02:00:00.000001Z", "level_inside": 3.4, "mains_ok": False}),
    ]  # fmt: skip
    assert second * 1000 < from_iso("2025-01-01T02:00:00.000001Z")
    assert (report.sent, report.values, report.skipped, report.unreadable) == (4, 6, 1, 1)
    assert [problem.line for problem in report.problems] == [5]
    assert report.devices == ["s-1", "s-2"]


@pytest.mark.services
def test_only_the_window_asked_for_is_sent(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "pumps.csv"
    path.write_text("station,at,inside,mains\n" + "".join(f"a,2025-01-01T{h:02}:00:00,{h},\n" for h in range(24)))
    window = {"start": from_iso("2025-01-01T05:00:00Z"), "end": from_iso("2025-01-01T07:00:00Z")}
    heard, report = asyncio.run(listen_during(broker, path, 2, **window))
    assert [body["level_inside"] for name, body in heard if name.endswith("readings")] == [5, 6]
    assert (report.sent, report.outside) == (2, 22)


@pytest.mark.services
def test_a_paced_replay_takes_its_time_and_the_clock_ticks_on_the_way(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "pumps.csv"
    path.write_text("station,at,inside,mains\na,2025-01-01T00:00:00,1,\na,2025-01-01T01:00:00,2,\n")
    began = time.monotonic()
    heard, _ = asyncio.run(listen_during(broker, path, 2, speed=3600))
    assert 0.9 < time.monotonic() - began < 5
    clock = [body["at"] for name, body in heard if name.endswith("clock")]
    instants = [from_iso(at) if isinstance(at, str) else int(str(at)) * 1000 for at in clock]
    assert len(instants) >= 4
    assert instants == sorted(set(instants))
    assert instants[-1] == from_iso("2025-01-01T01:00:00Z")


@pytest.mark.services
def test_a_collision_of_names_is_told_before_anything_is_sent(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "pumps.csv"
    path.write_text("station,at,inside,mains\nA,2025-01-01T00:00:00,1,\na,2025-01-01T01:00:00,2,\n")

    async def nothing_heard() -> None:
        async with aiomqtt.Client(broker.host, broker.port) as subscriber:
            await subscriber.subscribe("#", qos=1)
            with pytest.raises(RecordedError):
                await replay(broker.url, mapping(), path)
            await subscriber.publish("end", b"", qos=1)
            async for message in subscriber.messages:
                assert str(message.topic) == "end"
                return

    asyncio.run(nothing_heard())


@pytest.mark.services
@pytest.mark.shared
def test_a_year_of_hours_out_of_four_arrives_whole(broker: Broker, shared: Path) -> None:
    path = shared / "data" / "beijing_air" / "PRSA_Data_Wanliu_20130301-20170228.csv"
    text = """\
site: beijing
kind: air_monitor
device: {column: station}
time: {columns: [year, month, day, hour], zone: Asia/Shanghai}
metrics:
  PM2.5: {metric: pm2_5}
missing: ["", NA]
"""
    seen: list[float] = []
    report = asyncio.run(
        replay(
            broker.url, read_mapping(text, "m.yaml"), path,
            start=from_iso("2016-02-29T16:00:00Z"), progress=lambda r: seen.append(r.progress),
        )
    )  # fmt: skip
    assert (report.sent + report.outside, report.skipped, report.unreadable) == (35064 - 382, 382, 0)
    assert 8500 < report.sent <= 8760
    assert report.devices == ["wanliu"]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_the_broker_url_is_checked() -> None:
    assert parse_broker("mqtt://u:p%40x@broker.example").port == 1883
    assert parse_broker("mqtts://broker.example").port == 8883
    assert parse_broker("mqtt://u:p%40x@h:1").password == "p@x"
    with pytest.raises(ValueError, match="expected mqtt://host:port"):
        parse_broker("127.0.0.1:1883")

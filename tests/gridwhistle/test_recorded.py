"""`backtest` and `replay`: recorded files through the rules, and over a real broker."""

from __future__ import annotations

import asyncio
import json
import signal
import textwrap
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from typer.testing import CliRunner, Result

from gridwhistle.cli import app
from tests.conftest import Broker, free_port
from tests.gridwhistle.test_cli import COMMAND

Alarm = dict[str, Any]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def written(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return path


def mapping(folder: Path, kind: str, metrics: str, *, time: str, device: str = "{const: x}", extra: str = "") -> Path:
    text = f"site: test\nkind: {kind}\ndevice: {device}\ntime: {time}\nmetrics: {{{metrics}}}\n{extra}"
    return written(folder / "mapping.yaml", text)


def rule(folder: Path, kind: str, when: str, **more: str) -> Path:
    lines = "".join(f"    {name}: {value}\n" for name, value in more.items())
    text = f"rules:\n  - id: the-rule\n    applies_to: {{kind: {kind}}}\n    when: {when}\n    priority: high\n{lines}"
    return written(folder / "rules.yaml", text)


def backtested(rules: Path, csv: Path, mapped: Path, *more: object) -> list[Alarm]:
    found = call("backtest", "--rules", rules, "--csv", csv, "--mapping", mapped, "--json", *more)
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert set(answer) == {"readings", "alarms", "review", "against_review", "comparison", "interval_s"}
    alarms: list[Alarm] = answer["alarms"]
    return alarms


ISO_T = "{column: t, format: iso, zone: UTC}"


@pytest.mark.shared
def test_three_low_flows_of_the_recorded_pipe(shared: Path, tmp_path: Path) -> None:
    alarms = backtested(
        rule(tmp_path, "equipment", "flow < 60", max_gap="none"),
        shared / "data" / "tecnojest_waterflow" / "water-flow.csv",
        mapping(tmp_path, "equipment", '"Water flow [l/s]": {metric: flow}', time="{column: Time, format: iso}"),
    )
    assert [(a["raised_at"], a["cleared_at"]) for a in alarms] == [
        ("2022-03-24T08:00:00Z", "2022-03-24T23:00:00Z"),
        ("2022-03-29T07:00:00Z", "2022-03-29T16:00:00Z"),
        ("2022-04-27T14:00:00Z", "2022-04-28T03:00:00Z"),
    ]


@pytest.mark.shared
@pytest.mark.parametrize(("station", "count"), [("Guanyuan", 604), ("Wanliu", 592)])
def test_bad_air_at_two_recorded_stations(shared: Path, tmp_path: Path, station: str, count: int) -> None:
    [csv] = (shared / "data" / "beijing_air").glob(f"*{station}*.csv")
    alarms = backtested(
        rule(tmp_path, "air_monitor", "pm2_5 > 75", clear="pm2_5 <= 50", max_gap="none"),
        csv,
        mapping(
            tmp_path, "air_monitor", '"PM2.5": {metric: pm2_5}', device="{column: station}",
            time="{columns: [year, month, day, hour], zone: Asia/Shanghai}", extra='missing: ["", "NA"]\n',
        ),
    )  # fmt: skip
    assert len(alarms) == count
    assert {a["device"] for a in alarms} == {station.lower()}


@pytest.mark.shared
def test_one_flood_at_the_recorded_river(shared: Path, tmp_path: Path) -> None:
    [csv] = (shared / "data" / "ea_calder_2025" / "river").glob("Hebden-Bridge*.csv")
    mapped = mapping(
        tmp_path, "river_gauge", "value: {metric: level}", device="{const: hebden-bridge}",
        time="{column: dateTime, format: iso, zone: UTC}",
    )  # fmt: skip
    [alarm] = backtested(rule(tmp_path, "river_gauge", "level > 0.20", max_gap="none"), csv, mapped)
    assert alarm == {
        "rule": "the-rule", "device": "hebden-bridge", "metric": "level", "since": "2025-09-12T07:00:00Z",
        "raised_at": "2025-09-12T07:00:00Z", "cleared_at": "2025-09-12T14:45:00Z", "first_value": 0.203,
        "peak_value": 0.289, "severities": [{"at": "2025-09-12T07:00:00Z", "priority": "high"}],
    }  # fmt: skip


@pytest.mark.shared
def test_three_breakdowns_of_the_recorded_machine(shared: Path, tmp_path: Path) -> None:
    alarms = backtested(
        rule(tmp_path, "equipment", "temperature < 45", clear="temperature >= 60", max_gap="none"),
        shared / "data" / "nab" / "data" / "realKnownCause" / "machine_temperature_system_failure.csv",
        mapping(
            tmp_path, "equipment", "value: {metric: temperature}",
            time='{column: timestamp, format: "%Y-%m-%d %H:%M:%S", zone: UTC}',
        ),
    )  # fmt: skip
    assert [a["raised_at"] for a in alarms] == ["2013-12-16T15:25:00Z", "2014-02-03T11:10:00Z", "2014-02-08T00:00:00Z"]


def test_an_alarm_that_stands_at_the_end_has_no_end(tmp_path: Path) -> None:
    csv = written(tmp_path / "x.csv", "t,v\n2026-01-01T00:00Z,1\n2026-01-01T00:10Z,3\n2026-01-01T00:20Z,4\n")
    mapped = mapping(tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T)
    [alarm] = backtested(rule(tmp_path, "river_gauge", "level > 2"), csv, mapped)
    assert (alarm["cleared_at"], alarm["first_value"], alarm["peak_value"]) == (None, 3.0, 4.0)
    shown = call("backtest", "--rules", tmp_path / "rules.yaml", "--csv", csv, "--mapping", mapped)
    assert "2026-01-01T00:10:00Z" in shown.stdout
    assert "3 个读数 readings, 1 次告警 alarms" in shown.stdout


HOURS = "t,s,v\n" + "".join(f"2026-01-01T{hour:02}:00Z,one,{90 if hour >= 2 else 10}\n" for hour in range(12))


def judged(tmp_path: Path, *more: object, extra: str = "", command: str = "backtest") -> tuple[dict[str, Any], str]:
    """The JSON and the remarks for hourly air, which usually comes every five minutes, and a rule that has to hold."""
    csv = written(tmp_path / "x.csv", HOURS)
    rules = rule(tmp_path, "air_monitor", "pm2_5 > 75", **{"for": "3h"})
    mapped = mapping(tmp_path, "air_monitor", "v: {metric: pm2_5}", time=ISO_T, device="{column: s}", extra=extra)
    found = call(command, "--rules", rules, "--csv", csv, "--mapping", mapped, "--json", *more)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout), found.stderr


def test_a_device_reports_as_often_as_its_rows_come_and_that_is_said(tmp_path: Path) -> None:
    answer, said = judged(tmp_path)
    assert [alarm["raised_at"] for alarm in answer["alarms"]] == ["2026-01-01T05:00:00Z"]
    assert answer["interval_s"] == {"one": 3600}
    assert "interval 1h（文件中两行的中位间隔 the median step of the file；air_monitor 默认 usually 5m）：1 " in said
    assert judged(tmp_path, "--rule", "the-rule", command="suggest")[0]["interval_s"] == {"one": 3600}


def test_the_mapping_says_how_often_a_device_reports_and_the_town_knows_better(tmp_path: Path) -> None:
    answer, said = judged(tmp_path, extra="interval: 5m\n")
    assert (answer["alarms"], answer["interval_s"]) == ([], {}), "a gap of an hour is a silence for such a device"
    assert "interval" not in said
    answer, said = judged(tmp_path, extra="interval: 30m\n")
    assert (len(answer["alarms"]), answer["interval_s"]) == (1, {"one": 1800})
    assert "of the mapping" in said
    town = tmp_path / "town"
    town.mkdir()
    written(town / "town.yaml", "site: test\nname: {zh: 测试}\n")
    written(town / "devices.yaml", "devices: [{id: one, kind: air_monitor, interval: 900}]")
    answer, said = judged(tmp_path, "--town", town, extra="interval: 30m\n")
    assert (answer["alarms"], answer["interval_s"]) == ([], {"one": 900})
    assert "of the town" in said


@pytest.mark.parametrize("interval", ["3600", "0s", "soon"])
def test_an_interval_of_the_mapping_is_a_duration(tmp_path: Path, interval: str) -> None:
    csv = written(tmp_path / "x.csv", HOURS)
    mapped = mapping(tmp_path, "air_monitor", "v: {metric: pm2_5}", time=ISO_T, extra=f"interval: {interval}\n")
    rules = rule(tmp_path, "air_monitor", "pm2_5 > 75")
    refused = call("backtest", "--rules", rules, "--csv", csv, "--mapping", mapped)
    assert refused.exit_code == 2
    assert "mapping.yaml:6:1: interval: " in refused.stderr


def test_the_rows_of_a_door_are_what_happened_and_no_interval(tmp_path: Path) -> None:
    csv = written(tmp_path / "x.csv", "t,v\n2026-01-01T08:00Z,0\n2026-01-01T08:10Z,1\n2026-01-01T08:11Z,0\n")
    mapped = mapping(tmp_path, "door_sensor", "v: {metric: open}", time=ISO_T)
    rules = rule(tmp_path, "door_sensor", "event('door_opened')")
    found = call("backtest", "--rules", rules, "--csv", csv, "--mapping", mapped, "--json")
    assert json.loads(found.stdout)["interval_s"] == {}


def test_what_no_sensor_can_measure_raises_nothing(tmp_path: Path) -> None:
    csv = written(tmp_path / "x.csv", "t,v\n2026-01-01T00:00Z,9999\n2026-01-01T00:10Z,1\n")
    mapped = mapping(tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T)
    assert backtested(rule(tmp_path, "river_gauge", "level > 2"), csv, mapped) == []


def test_attributes_come_from_the_town_and_the_mapping_and_grids_from_the_town(tmp_path: Path) -> None:
    town = tmp_path / "town"
    town.mkdir()
    written(town / "town.yaml", "site: test\nname: {zh: 测试}\n")
    grids = [{"properties": {"id": "top", "name": "t"}}, {"properties": {"id": "low", "name": "l", "parent": "top"}}]
    (town / "grids.geojson").write_text(json.dumps({"features": grids}))
    entry = "devices: [{id: x, kind: river_gauge, grid: low, attributes: {warning_level: 2, guarantee_level: 9}}]"
    (town / "devices.yaml").write_text(entry)
    csv = written(tmp_path / "x.csv", "t,v\n2026-01-01T00:00Z,1\n2026-01-01T00:10Z,3\n")
    mapped = mapping(
        tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T, extra="attributes: {guarantee_level: 2}"
    )
    rules = written(tmp_path / "rules.yaml", """
        rules:
          - {id: warning, applies_to: {grids: [top]}, when: level > attr.warning_level, priority: low}
          - {id: guarantee, applies_to: {kind: river_gauge}, when: level > attr.guarantee_level, priority: high}
    """)  # fmt: skip
    assert [a["rule"] for a in backtested(rules, csv, mapped, "--town", town)] == ["guarantee", "warning"]
    assert [a["rule"] for a in backtested(rules, csv, mapped)] == ["guarantee"]
    (town / "devices.yaml").write_text("devices: [{id: x, kind: pump_station}]")
    wrong = call("backtest", "--rules", rules, "--csv", csv, "--mapping", mapped, "--town", town)
    assert wrong.exit_code == 2
    assert "pump_station in the town" in wrong.stderr


def test_the_openings_of_a_door_are_events_as_they_are_live(tmp_path: Path) -> None:
    csv = written(tmp_path / "x.csv", """
        t,v
        2026-01-01T08:00Z,1
        2026-01-01T08:10Z,0
        2026-01-01T09:00Z,1
        2026-01-01T08:30Z,0
        2026-01-01T09:01Z,1
        2026-01-03T12:00Z,1
    """)  # fmt: skip
    mapped = mapping(tmp_path, "door_sensor", "v: {metric: open}", time=ISO_T)
    opened = rule(tmp_path, "door_sensor", "event('door_opened')")
    # The first report opens nothing; the one that steps back in time closes nothing.
    assert [a["raised_at"] for a in backtested(opened, csv, mapped)] == ["2026-01-01T09:00:00Z"]
    silent = rule(tmp_path, "door_sensor", "since(event('door_opened')) > 24h")
    assert [a["raised_at"] for a in backtested(silent, csv, mapped)] == ["2026-01-02T09:00:00Z"]
    never = written(tmp_path / "never.csv", "t,v\n2026-01-01T08:00Z,0\n2026-01-03T08:00Z,0\n")
    # `since` starts at first sight of the device.
    assert [a["raised_at"] for a in backtested(silent, never, mapped)] == ["2026-01-02T08:00:00Z"]


@pytest.mark.parametrize("spoilt", ["rules", "mapping", "csv"])
def test_a_mistake_in_any_of_the_files_is_wrong_use_with_its_line(tmp_path: Path, spoilt: str) -> None:
    files = {
        "rules": rule(tmp_path, "river_gauge", "level > 2"),
        "csv": written(tmp_path / "x.csv", "t,v\n2026-01-01T00:00Z,1\n"),
        "mapping": mapping(tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T),
    }
    text = {"rules": "rules:\n  - {id: X}\n", "mapping": "site: a\nkind: nonsense\n", "csv": "a,b\n1,2\n"}
    files[spoilt].write_text(text[spoilt])
    found = call("backtest", *(part for name, path in files.items() for part in (f"--{name}", path)))
    assert (found.exit_code, found.stdout) == (2, "")
    assert f"{files[spoilt].name}:" in found.stderr


async def _listen(broker: Broker, call_: Any) -> tuple[Result, list[tuple[str, Any]]]:
    got: list[tuple[str, Any]] = []
    async with aiomqtt.Client(broker.host, broker.port) as client:
        await client.subscribe("gw/#", qos=1)
        result = await asyncio.to_thread(call_)
        await client.publish("gw/end", b"null", qos=1)
        async with asyncio.timeout(10):
            async for message in client.messages:
                if message.topic.value == "gw/end":
                    break
                assert isinstance(message.payload, bytes)
                got.append((message.topic.value, json.loads(message.payload)))
    return result, got


@pytest.mark.services
def test_replay_publishes_and_says_what_it_sent_skipped_and_could_not_read(broker: Broker, tmp_path: Path) -> None:
    csv = written(tmp_path / "x.csv", """
        t,v
        2026-01-01T00:00Z,1.5
        2026-01-01T00:10Z,
        2026-01-01T00:20Z,wet
        2026-01-01T00:30Z,2.5
        2026-01-01T00:40Z,3.5
    """)  # fmt: skip
    mapped = mapping(tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T)
    command = ["replay", csv, "--mapping", mapped, "--broker", broker.url, "--to", "2026-01-01T00:40:00Z"]
    shown, got = asyncio.run(_listen(broker, lambda: call(*command)))
    assert shown.exit_code == 0, shown.output
    assert "sent 2 " in shown.stdout
    assert "skipped 1" in shown.stdout
    assert "unreadable 1" in shown.stdout
    assert "line 4: " in shown.stderr
    readings = [body for topic, body in got if topic == "gw/v1/test/river_gauge/x/readings"]
    assert [body["level"] for body in readings] == [1.5, 2.5]
    told = call(*command, "--json")
    assert json.loads(told.stdout)["problems"] == [
        {"line": 4, "reason": json.loads(told.stdout)["problems"][0]["reason"]}
    ]


def test_replay_without_a_broker_is_a_no(tmp_path: Path) -> None:
    csv = written(tmp_path / "x.csv", "t,v\n2026-01-01T00:00Z,1\n")
    mapped = mapping(tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T)
    shown = call("replay", csv, "--mapping", mapped, "--broker", f"mqtt://127.0.0.1:{free_port()}")
    assert shown.exit_code == 1
    assert "cannot connect" in shown.stderr


@pytest.mark.parametrize(
    "option", [["--speed", "fast"], ["--speed", "0"], ["--from", "yesterday"], ["--to", "2026-01-01T00:00:00"]]
)
def test_replay_refuses_a_pace_or_an_instant_that_is_none(tmp_path: Path, option: list[str]) -> None:
    csv = written(tmp_path / "x.csv", "t,v\n2026-01-01T00:00Z,1\n")
    mapped = mapping(tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T)
    assert call("replay", csv, "--mapping", mapped, *option).exit_code == 2


@pytest.mark.services
def test_simulate_publishes_until_it_is_told_to_stop_and_writes_its_truth(broker: Broker, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"

    async def scenario() -> tuple[str, str, int | None, int]:
        async with aiomqtt.Client(broker.host, broker.port) as client:
            await client.subscribe("gw/v1/qidu/#", qos=1)
            playing = await asyncio.create_subprocess_exec(
                COMMAND, "simulate", "--broker", broker.url, "--speed", "600", "--truth", str(truth), "--json",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            readings = 0
            async with asyncio.timeout(30):
                async for message in client.messages:
                    readings += message.topic.matches("gw/v1/qidu/+/+/readings")
                    if readings == 200:
                        break
            playing.send_signal(signal.SIGINT)
            out, err = await playing.communicate()
            return out.decode(), err.decode(), playing.returncode, readings

    out, err, status, readings = asyncio.run(scenario())
    assert status == 0, err
    told = json.loads(out)
    assert told["scenario"] == "showcase"
    assert told["messages"] >= readings
    assert json.loads(truth.read_text())["values"] == told["values"]
    assert "Traceback" not in err


@pytest.mark.parametrize("option", [["--scenario", "nonsense"], ["--start", "soon"], ["--town", "/no/such"]])
def test_simulate_refuses_what_is_not_there(option: list[str]) -> None:
    shown = call("simulate", *option)
    assert (shown.exit_code, shown.stdout) == (2, "")

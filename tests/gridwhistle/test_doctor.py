"""`doctor`: what is wrong with the broker, the stores, the disk and the rest, measured and not guessed."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridwhistle.broker import BrokerChild
from gridwhistle.cli import app
from gridwhistle.doctor import examine
from gridwhistle.doctor_broker import announced, examine_broker
from gridwhistle.findings import Finding, Level
from gridwhistle.settings import Broker as BrokerSettings
from gridwhistle.starter import write_starter
from ingest.wire import Connack
from store.records.database import migrate
from tests.conftest import Broker, free_port

MakeBroker = Callable[..., Broker]


def of_broker(url: str, **more: object) -> dict[str, Finding]:
    found = asyncio.run(examine_broker(BrokerSettings.model_validate({"url": url} | more)))
    return {finding.name: finding for finding in found}


def levels(found: dict[str, Finding]) -> dict[str, Level]:
    return {name: finding.level for name, finding in found.items()}


@pytest.mark.services
def test_a_broker_with_the_shipped_limits_is_well(broker: Broker) -> None:
    assert levels(of_broker(broker.url)) == {"broker": "ok", "broker.limits": "ok", "broker.queue": "ok"}


@pytest.mark.services
def test_a_broker_that_keeps_a_thousand_messages_is_found_out(make_broker: MakeBroker) -> None:
    queue = of_broker(make_broker(extra="max_queued_messages 1000\n").url)["broker.queue"]
    assert queue.level is Level.FAIL
    assert "1000/1200" in queue.found
    assert "max_queued_messages 0" in queue.todo


def test_limits_a_broker_announces_are_weighed() -> None:
    def told(properties: dict[int, int]) -> dict[str, Level]:
        return levels({finding.name: finding for finding in announced(Connack(False, 0, properties))})

    assert told({}) == {"broker.limits": "ok"}
    assert told({0x11: 3600})["broker.session"] is Level.WARN
    assert told({0x28: 0})["broker.wildcard"] is Level.FAIL


@pytest.mark.services
def test_a_broker_without_qos_1_small_packets_or_retained_messages_is_found_out(make_broker: MakeBroker) -> None:
    broker = make_broker(extra="max_qos 0\nmax_packet_size 2000\nretain_available false\n")
    found = levels(of_broker(broker.url))
    assert (found["broker.qos"], found["broker.packet"], found["broker.retain"]) == ("fail", "warn", "warn")


@pytest.mark.services
def test_a_broker_that_refuses_the_login_says_so_and_no_password(make_broker: MakeBroker, tmp_path: Path) -> None:
    (tmp_path / "passwords").touch()
    (tmp_path / "password").write_text("hunter2")
    broker = make_broker(extra=f"password_file {tmp_path / 'passwords'}\nallow_anonymous false\n")
    found = of_broker(broker.url, username="gridwhistle", password_file=tmp_path / "password")
    assert levels(found) == {"broker": "fail"}
    assert "login" in found["broker"].found
    assert "hunter2" not in str(found)


def test_amqtt_speaks_an_old_version_and_keeps_nothing(tmp_path: Path) -> None:
    async def scenario() -> dict[str, Finding]:
        async with BrokerChild(tmp_path, use_amqtt=True) as broker:
            return {f.name: f for f in await examine_broker(BrokerSettings(url=broker.url))}

    found = asyncio.run(scenario())
    assert levels(found) == {"broker": "ok", "broker.version": "warn", "broker.queue": "fail"}
    assert "0/1200" in found["broker.queue"].found


def test_no_broker_at_all_is_a_failure_with_advice() -> None:
    found = of_broker(f"mqtt://127.0.0.1:{free_port()}")
    assert levels(found) == {"broker": "fail"}
    assert "--embedded-broker" in found["broker"].todo


def test_something_that_is_no_broker_is_told_from_one(tmp_path: Path) -> None:
    async def scenario() -> list[Finding]:
        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await examine_broker(BrokerSettings(url=f"mqtt://127.0.0.1:{port}"))

    [found] = asyncio.run(scenario())
    assert found.level is Level.FAIL
    assert "not MQTT" in found.found


def examined(*overrides: str, config: Path | None = None) -> dict[str, Finding]:
    absent = f"broker.url=mqtt://127.0.0.1:{free_port()}"
    return {f.name: f for f in asyncio.run(examine(config, [*overrides, absent]))}


def test_a_fresh_folder_has_nothing_to_complain_of_and_stays_untouched(tmp_path: Path) -> None:
    found = examined(f"data_dir={tmp_path / 'data'}")
    assert (found["stores"].level, found["disk"].level) == (Level.OK, Level.OK)
    assert list(tmp_path.iterdir()) == []


def test_whole_databases_are_ok_and_a_broken_one_is_told(tmp_path: Path) -> None:
    migrate(tmp_path / "records.sqlite")
    (tmp_path / "lock").touch()
    assert examined(f"data_dir={tmp_path}")["records"].level is Level.OK
    whole = (tmp_path / "records.sqlite").read_bytes()
    (tmp_path / "records.sqlite").write_bytes(whole[:4096] + b"\xff" * 8192 + whole[12288:])
    (tmp_path / "readings.duckdb").write_bytes(b"not a database")
    found = examined(f"data_dir={tmp_path}")
    assert (found["records"].level, found["readings"].level) == (Level.FAIL, Level.FAIL)


def test_a_folder_held_by_something_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert examined(f"data_dir={tmp_path}")["service"].level is Level.FAIL
        (tmp_path / "api.json").write_text(json.dumps({"url": f"http://127.0.0.1:{free_port()}", "token_file": "t"}))
        assert examined(f"data_dir={tmp_path}")["service"].level is Level.FAIL


def test_mistakes_in_the_files_and_channels_are_told(tmp_path: Path) -> None:
    write_starter(tmp_path)
    config = tmp_path / "gridwhistle.toml"
    assert examined(config=config)["files"].level is Level.OK
    rules = tmp_path / "rules" / "example.yaml"
    rules.write_text(
        rules.read_text(encoding="utf-8").replace("priority: critical", "priority: dire"), encoding="utf-8"
    )
    found = examined("notify.channels.duty=env:SURELY_NOT_SET", config=config)
    assert found["files"].level is Level.FAIL
    assert found["notify"].level is Level.FAIL


def test_wrong_settings_are_findings_too() -> None:
    [*_, last] = asyncio.run(examine(None, ["http.port=x"]))
    assert (last.name, last.level) == ("settings", Level.FAIL)


@pytest.mark.services
def test_the_command_says_all_of_it_as_json_and_by_its_status(broker: Broker, tmp_path: Path) -> None:
    options = ["doctor", "--json", "--set", f"data_dir={tmp_path}", "--set"]
    well = CliRunner().invoke(app, [*options, f"broker.url={broker.url}"])
    assert well.exit_code == 0, well.output
    assert {"versions", "mosquitto", "disk", "broker.queue"} <= {f["name"] for f in json.loads(well.stdout)["findings"]}
    ill = CliRunner().invoke(app, [*options, f"broker.url=mqtt://127.0.0.1:{free_port()}"])
    assert ill.exit_code == 1
    assert json.loads(ill.stdout)["ok"] is False

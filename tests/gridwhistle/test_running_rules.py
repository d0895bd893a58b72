"""Rules on a service that really runs: its engine is asked between two batches, trials end with the service."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devices.instants import HOUR, to_iso
from gridwhistle.clock import wall
from gridwhistle.reach import open_running
from gridwhistle.remote_rules import backtest_running
from gridwhistle.starter import write_starter
from rules.book import load
from tests.gridwhistle.test_cli import COMMAND, run

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    write_starter(folder)
    options = ["--config", str(folder / "gridwhistle.toml"), "--embedded-broker", "--set", "http.port=0"]
    with (folder / "log").open("w") as log:
        service = subprocess.Popen([COMMAND, "run", *options], stdout=subprocess.PIPE, stderr=log, text=True)
        assert service.stdout is not None
        try:
            assert service.stdout.readline().startswith("ready http://"), (folder / "log").read_text()
            yield folder
        finally:
            service.send_signal(signal.SIGTERM)
            service.stdout.close()
            assert service.wait(20) == 0, (folder / "log").read_text()


def first_rule(site: Path) -> str:
    book = load({path.name: path.read_text() for path in sorted((site / "rules").glob("*.yaml"))})
    return next(rule.id for rule in book.rules.values() if rule.applies_to.kind == "pump_station")


def data_dir(site: Path) -> Path:
    return next(site.rglob("api.json")).parent


def test_the_engine_that_runs_is_asked(site: Path) -> None:
    with open_running(data_dir(site)) as client:
        devices = client.get("/api/v1/devices", params={"kind": "pump_station"}).json()["items"]
    shown = run(
        "explain", "--rule", first_rule(site), "--device", devices[0]["id"], "--json", "--config",
        site / "gridwhistle.toml",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert (told["source"], told["state"], told["when"]) == ("live", "normal", None)
    assert "never_seen" in [why["code"] for why in told["why"]]


def test_a_trial_runs_beside_it(site: Path) -> None:
    now = wall()
    found = backtest_running(
        data_dir(site), rules=None, against="running", start=now - 24 * HOUR, end=now, told=lambda _: None
    )
    assert (found["readings"], found["alarms_count"], found["comparison"]["same"]) == (0, 0, 0)


def test_a_service_stops_at_once_while_a_trial_waits(tmp_path: Path) -> None:
    """Nothing that was asked for keeps it from ending."""
    write_starter(tmp_path)
    options = ["--config", str(tmp_path / "gridwhistle.toml"), "--embedded-broker", "--set", "http.port=0"]
    service = subprocess.Popen([COMMAND, "run", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert service.stdout is not None
    assert service.stdout.readline().startswith("ready http://")
    with open_running(data_dir(tmp_path)) as client:
        body = {"from": to_iso(wall() - 24 * HOUR), "to": to_iso(wall())}
        assert client.post("/api/v1/rules/backtest", json=body).status_code == httpx.codes.ACCEPTED
    begun = time.monotonic()
    service.send_signal(signal.SIGTERM)
    _, errors = service.communicate(timeout=20)
    assert service.returncode == 0, errors
    assert time.monotonic() - begun < 10


TWO_DATUMS = """rules:
  - id: outside-over-inside
    applies_to: {kind: pump_station}
    when: level_outside > level_inside
"""


def test_what_is_wrong_between_rules_and_town_is_told_at_start_and_at_reload(tmp_path: Path) -> None:
    write_starter(tmp_path)
    devices = tmp_path / "town" / "devices.yaml"
    text = devices.read_text().replace("datum: 吴淞}", "datum: 吴淞, level_outside_datum: 1985}")
    devices.write_text(text)
    (tmp_path / "rules" / "pair.yaml").write_text(TWO_DATUMS)
    said = "pair.yaml:4:5: outside-over-inside: does not apply to pump-east-01"
    options = ["--config", str(tmp_path / "gridwhistle.toml"), "--embedded-broker", "--set", "http.port=0"]
    service = subprocess.Popen([COMMAND, "run", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert service.stdout is not None
    assert service.stdout.readline().startswith("ready http://")
    try:
        with open_running(data_dir(tmp_path)) as client:
            answer = client.post("/api/v1/rules/reload").json()
            calendar = tmp_path / "town" / "calendar.yaml"
            calendar.write_text("years:\n  2026:\n    holidays: [2026-13-01]\n")
            refused = client.post("/api/v1/rules/reload")
            calendar.unlink()
        service.send_signal(signal.SIGHUP)
        time.sleep(1)
    finally:
        service.send_signal(signal.SIGTERM)
        _, errors = service.communicate(timeout=20)
    assert refused.status_code == 422, "rules and calendar are taken together or not at all"
    assert [(m["file"], m["line"]) for m in refused.json()["mistakes"]] == [("calendar.yaml", 3)]
    told = [w for w in answer["warnings"] if w["file"] == "pair.yaml"]
    assert [(w["line"], w["column"]) for w in told] == [(4, 5)], answer
    assert told[0]["message"].startswith("outside-over-inside: does not apply to pump-east-01")
    assert errors.count(said) == 3, errors

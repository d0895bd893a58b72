"""Commands beside a service that is running: they go through its API, and a second service says no."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gridwhistle.starter import write_starter
from tests.gridwhistle.test_cli import COMMAND, run


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_starter(folder)
    return folder


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    """Of a running service over `site`."""
    options = ["--config", str(site / "gridwhistle.toml"), "--embedded-broker", "--set", "http.port=0"]
    with (site / "log").open("w") as log:
        service = subprocess.Popen([COMMAND, "run", *options], stdout=subprocess.PIPE, stderr=log, text=True)
        assert service.stdout is not None
        try:
            line = service.stdout.readline()
            assert line.startswith("ready http://"), (site / "log").read_text()
            yield line.split()[1]
        finally:
            service.send_signal(signal.SIGTERM)
            rest = service.stdout.read()
            service.stdout.close()
            assert service.wait(20) == 0, (site / "log").read_text()
        assert rest == ""  # one line on standard output, no more


@pytest.mark.services
def test_users_are_added_through_the_api_and_may_sign_in(site: Path, url: str) -> None:
    options = ["--config", site / "gridwhistle.toml"]
    added = run("users", "add", "wang", "--role", "handler", *options)
    assert added.returncode == 0, added.stderr
    [password] = added.stdout.splitlines()
    answer = httpx.post(f"{url}/api/v1/session", json={"username": "wang", "password": password})
    assert answer.is_success, answer.text
    listed = run("users", "list", "--json", *options)
    assert [(u["name"], u["role"]) for u in json.loads(listed.stdout)] == [("admin", "admin"), ("wang", "handler")]
    again = run("users", "add", "wang", "--role", "admin", *options)
    assert again.returncode == 1
    assert "已存在" in again.stderr


@pytest.mark.services
def test_a_second_service_over_the_same_data_is_wrong_use(site: Path, url: str) -> None:
    second = run("run", "--config", site / "gridwhistle.toml", "--embedded-broker")
    assert (second.returncode, second.stdout) == (2, "")
    assert "another gridwhistle" in second.stderr
    assert httpx.get(f"{url}/healthz").is_success


@pytest.mark.services
def test_doctor_asks_the_running_service(site: Path, url: str) -> None:
    answer = run("doctor", "--json", "--config", site / "gridwhistle.toml")
    found = {finding["name"]: finding for finding in json.loads(answer.stdout)["findings"]}
    assert (found["service"]["level"], url in found["service"]["found"]) == ("ok", True), found["service"]
    assert answer.stderr == ""


@pytest.mark.services
def test_a_port_that_is_taken_is_wrong_use_and_leaves_nothing_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--set", f"data_dir={tmp_path}", "--set", f"http.port={port}", "--embedded-broker"]
        shown = run("run", *options)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert f"127.0.0.1:{port}: " in shown.stderr
    assert "Traceback" not in shown.stderr
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert left.stdout == "", left.stdout


@pytest.mark.services
def test_a_channel_that_cannot_be_opened_is_wrong_use(tmp_path: Path) -> None:
    options = ["--set", f"data_dir={tmp_path}", "--set", "notify.channels.duty=env:SURELY_NOT_SET"]
    shown = run("run", "--embedded-broker", "--set", "http.port=0", *options)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "notify.channels.duty: env:SURELY_NOT_SET" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_doctor_understands_a_relative_data_folder(tmp_path: Path) -> None:
    with_data = [sys.executable, "-c", "from store.records.database import migrate; migrate('records.sqlite')"]
    subprocess.run(with_data, cwd=tmp_path, check=True)
    (tmp_path / "lock").touch()
    options = ["--set", "data_dir=.", "--set", "broker.url=mqtt://127.0.0.1:1"]
    shown = subprocess.run([COMMAND, "doctor", "--json", *options], cwd=tmp_path, capture_output=True, check=False)
    assert {"records": "ok"}.items() <= {f["name"]: f["level"] for f in json.loads(shown.stdout)["findings"]}.items()

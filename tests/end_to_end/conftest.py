"""The service as a process of its own in front of a real Mosquitto, and a client signed in to its API."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Broker

PROGRAM = str(Path(sys.executable).parent / "gridwhistle")
PASSWORD = "open-sesame-8"


@dataclass
class Service:
    """`gridwhistle run` over `folder`; start it again after `kill` and it goes on where it was."""

    folder: Path
    broker: Broker
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    api: httpx.Client = field(default_factory=httpx.Client)

    def start(self) -> None:
        self.launch()
        url = self._ready(60)
        self.api.close()
        self.api = httpx.Client(base_url=url, timeout=30)
        self.sign_in("admin", PASSWORD)

    def launch(self) -> None:
        """`start` without waiting until it is ready."""
        wanted = {
            "data_dir": self.folder / "data", "broker.url": self.broker.url, "http.port": 0,
            "admin.password": PASSWORD, **self.settings,
        }  # fmt: skip
        sets = [part for key, value in wanted.items() for part in ("--set", f"{key}={value}")]
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "service.log").open("a") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "run", *sets],
                stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | self.environment,
            )  # fmt: skip

    def _ready(self, seconds: float) -> str:
        """The address of its `ready` line."""
        assert self.process
        assert self.process.stdout
        lines: queue.Queue[str] = queue.Queue()
        stdout = self.process.stdout
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=seconds)
        except queue.Empty:
            line = ""
        assert line.startswith("ready http://"), (self.folder / "service.log").read_text()
        return line.split()[1]

    def sign_in(self, username: str, password: str) -> None:
        answer = self.api.post("/api/v1/session", json={"username": username, "password": password})
        assert answer.status_code in (200, 201), answer.text
        self.api.headers["authorization"] = f"Bearer {answer.json()['token']}"

    def get(self, path: str, **params: Any) -> Any:
        answer = self.api.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.api.post(f"/api/v1/{path}", json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def all(self, path: str, **params: Any) -> list[Any]:
        """Every item of a list, page after page."""
        items: list[Any] = []
        cursor = None
        while True:
            page = self.get(path, limit=500, **params, **({"cursor": cursor} if cursor else {}))
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def ledger(self) -> dict[str, int]:
        """Sums over all devices and hours; the identity is checked at every look."""
        names = ("received", "stored", "duplicate", "replaced", "refused", "late", "quarantined", "deleted")
        total = dict.fromkeys(names, 0)
        for row in self.all("ledger", **{"from": "1970-01-01T00:00:00Z"}):
            for name in names:
                total[name] += row[name]
        assert total["received"] == total["stored"] + total["duplicate"] + total["replaced"] + total["refused"]
        return total

    def wait_received(self, count: int, seconds: float = 60) -> dict[str, int]:
        wait_for(lambda: self.ledger()["received"] >= count, seconds, lambda: f"{self.ledger()}, wanted {count}")
        return self.ledger()

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(10)
            self.api.close()


def wait_for(done: Callable[[], Any], seconds: float, say: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s: {say()}"
        time.sleep(0.1)


def gridwhistle(*arguments: str | os.PathLike[str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def make_service(tmp_path: Path, broker: Broker) -> Iterator[Callable[..., Service]]:
    made: list[Service] = []

    def make(**settings: Any) -> Service:
        service = Service(tmp_path / f"service-{len(made)}", broker, settings)
        service.start()
        made.append(service)
        return service

    yield make
    for service in made:
        service.stop()

"""Real parts for the tests: a Mosquitto of their own on a free port, and the recorded data where it is present."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GRIDWHISTLE_SHARED", ROOT.parent / "shared")).resolve()
REQUIRED = os.environ.get("GRIDWHISTLE_REQUIRE_SERVICES") == "1"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
# The same examples every time, so that a failure is one of the change at hand; `make soak` looks for new ones. None is
# timed: another process may have the cores.
settings.register_profile("test", derandomize=True, deadline=None)
settings.register_profile("soak", max_examples=2_000, deadline=None)
SOAK = os.environ.get("GRIDWHISTLE_SOAK") == "1"
settings.load_profile("soak" if SOAK else "test")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of recorded data are deselected where it is absent, those that compare rates are run by make soak alone; a
    missing service is a skip, or a failure."""
    if not SOAK:
        long = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    if not SHARED.is_dir():
        gone = [item for item in items if item.get_closest_marker("shared")]
        if gone:
            config.hook.pytest_deselected(items=gone)
            items[:] = [item for item in items if item not in gone]
            print(f"\n{len(gone)} tests deselected: no recorded data at GRIDWHISTLE_SHARED")
    for item in items:
        missing = [
            name
            for marker, name, found in (("services", "mosquitto", MOSQUITTO), ("browser", "chromium", CHROMIUM))
            if item.get_closest_marker(marker) and not found
        ]
        if missing and not REQUIRED:
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} is not installed"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Broker:
    """A Mosquitto with the shipped configuration; `folder` keeps its persistence file over a restart."""

    folder: Path
    port: int = field(default_factory=free_port)
    host: str = "127.0.0.1"
    extra: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> None:
        assert MOSQUITTO, "mosquitto is not installed"
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "mosquitto.conf"
        settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {self.folder}/\n"
            "max_queued_messages 0\nmax_queued_bytes 0\nmax_inflight_bytes 0\n" + self.extra
        )
        log = (self.folder / "mosquitto.log").open("ab")
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(settings)], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
            time.sleep(0.02)
        raise AssertionError("mosquitto did not listen within 10 s")

    def stop(self, sig: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(10)
        self.process = None


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    made: list[Broker] = []

    def make(*, extra: str = "") -> Broker:
        broker = Broker(tmp_path / f"broker-{len(made)}", extra=extra)
        broker.start()
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    return make_broker()


@pytest.fixture
def shared() -> Path:
    return SHARED

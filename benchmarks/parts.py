"""What a measurement is made of, each a process of its own: a broker, a publisher, an installation and its service."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.load import DEVICES, KIND, METRICS, SITE
from gridwhistle.broker import configuration, find_mosquitto

GROUPS, RULES_A_GROUP = 20, 5
LIMITS = {"dissolved_oxygen": 20.0, "total_phosphorus": 5.0, "water_temperature": 60.0}
PASSWORD = "measured-1"


class Publisher:
    """`benchmarks.load` in a process of its own; made when its warm-up is published. `go` starts the stream and returns
    the instant (time.perf_counter)."""

    def __init__(self, stack: ExitStack, port: int, messages: int, qos: int, **options: float) -> None:
        """`options` are those of `benchmarks.load`: rate, devices, elements, metrics, warm."""
        given: dict[str, float] = {"port": port, "messages": messages, "qos": qos, **options}
        command = [sys.executable, "-m", "benchmarks.load"]
        command += [part for name, value in given.items() for part in (f"--{name}", str(value))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(end, self.process)
        assert self.process.stdout
        if self.process.stdout.readline().strip() != "ready":
            sys.exit("the publisher did not start")

    def go(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return time.perf_counter()

    def seconds(self) -> float:
        """How long publishing took; waits until it is over."""
        assert self.process.stdout
        return float(self.process.stdout.readline())


def end(process: subprocess.Popen[Any], sig: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(sig)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """Mosquitto as `gridwhistle init` and the demo configure it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        mosquitto = find_mosquitto()
        if mosquitto is None:
            sys.exit("mosquitto is not installed: apt-get install mosquitto mosquitto-clients")
        self.port = free_port()
        folder.mkdir()
        settings = folder / "mosquitto.conf"
        settings.write_text(configuration(folder, self.port))
        self.process = subprocess.Popen(
            [mosquitto, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(end, self.process)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        sys.exit("mosquitto did not start")


def write_installation(folder: Path, *, devices: int = DEVICES, probes: int = 0) -> None:
    """Devices m-0, m-1, … in 20 groups and 100 rules: the five of its group apply to a device. Nothing that
    `benchmarks.load` publishes is near a limit. `probes` are more devices of that kind, p-0, p-1, …"""
    town = folder / "town"
    town.mkdir()
    (town / "town.yaml").write_text(f"site: {SITE}\nname: {{zh: 测速, en: Bench}}\n")
    names = [(f"m-{n}", n) for n in range(devices)] + [(f"p-{n}", n) for n in range(probes)]
    lines = [
        f"  - {{id: {name}, kind: {KIND}, tags: [g{n % GROUPS}], interval: 1, silent_after: 86400}}"
        for name, n in names
    ]  # fmt: skip
    (town / "devices.yaml").write_text("devices:\n" + "\n".join(lines) + "\n")
    rules = ["rules:"]
    for group in range(GROUPS):
        for n in range(RULES_A_GROUP):
            metric = METRICS[n % len(METRICS)]
            limit = LIMITS[metric] + n
            rules.append(
                f"  - {{id: r-{group}-{n}, name: {{zh: 超限}}, applies_to: {{tags: [g{group}]}}, "
                f"when: {metric} > {limit}, for: {n}s, clear: {metric} < {limit - 1}, priority: high}}"
            )
    (folder / "rules.yaml").write_text("\n".join(rules) + "\n")


class Service:
    """`gridwhistle run` as anyone would run it, over an installation written to `folder` before."""

    def __init__(
        self, stack: ExitStack, folder: Path, broker_port: int, *, settings: Mapping[str, object] | None = None
    ) -> None:
        given: dict[str, object] = {
            "data_dir": folder / "data", "town": folder / "town", "rules": folder / "rules.yaml",
            "broker.url": f"mqtt://127.0.0.1:{broker_port}", "http.port": 0, "log.level": "warning",
            "admin.password": PASSWORD, **(settings or {}),
        }  # fmt: skip
        sets = [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
        self.data = folder / "data"
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "gridwhistle"), "run", *sets], stdout=subprocess.PIPE, text=True
        )
        stack.callback(end, self.process)
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            sys.exit("the service did not start")
        self.url = line.split()[1]

    def counts(self) -> dict[str, float]:
        """Values and events by outcome since the service was made, as /metrics has them. Costs it some milliseconds."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return {
            name: float(n) for name, n in re.findall(r'^gridwhistle_values_total\{outcome="(\w+)"\} (\S+)', text, re.M)
        }

    def sign_in(self) -> str:
        """A token of the API."""
        body = json.dumps({"username": "admin", "password": PASSWORD}).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v1/session", body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["token"])

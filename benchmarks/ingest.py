"""How much of the broker's rate the whole service keeps up with: `python -m benchmarks.ingest --json`.

One run starts its own Mosquitto and, for each QoS, publishes the same stream to `mosquitto_sub` (which discards it) and
to the whole service (decode, 100 rules of which 5 apply to each reading, journal, store, acknowledge). The publisher
writes as fast as the broker reads, so both are offered all the broker takes. Medians of the windows; prints one JSON
object on standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.load import DEVICES, KIND, METRICS, SITE
from gridwhistle.broker import configuration, find_mosquitto

GROUPS, RULES_A_GROUP = 20, 5
# Without progress for this long a window is over: what is missing was not delivered (QoS 0).
QUIET_S = 3.0
WINDOW_LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Window:
    """Messages offered and taken, and the rates of both in messages a second."""

    offered: int
    taken: int
    offered_per_s: float
    taken_per_s: float


class Publisher:
    """`benchmarks.load` in a process of its own; `go` starts it and returns the instant."""

    def __init__(self, stack: ExitStack, port: int, messages: int, qos: int) -> None:
        command = [sys.executable, "-m", "benchmarks.load", "--port", str(port), "--messages", str(messages)]
        self.process = subprocess.Popen(
            [*command, "--qos", str(qos)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        stack.callback(_end, self.process)
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == "ready"

    def go(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return time.perf_counter()

    def seconds(self) -> float:
        assert self.process.stdout
        return float(self.process.stdout.readline())


def _end(process: subprocess.Popen[Any], sig: int = signal.SIGTERM) -> None:
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


def start_broker(stack: ExitStack, folder: Path) -> int:
    mosquitto = find_mosquitto()
    if mosquitto is None:
        sys.exit("mosquitto is not installed: apt-get install mosquitto mosquitto-clients")
    port = free_port()
    folder.mkdir()
    settings = folder / "mosquitto.conf"
    settings.write_text(configuration(folder, port))
    process = subprocess.Popen([mosquitto, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(_end, process)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return port
        time.sleep(0.05)
    sys.exit("mosquitto did not start")


def measure_sub(folder: Path, qos: int, messages: int) -> Window:
    """`mosquitto_sub > /dev/null` over the stream; it stops by itself after 95 % of it (QoS 0 may drop some)."""
    with ExitStack() as stack:
        port = start_broker(stack, folder)
        wanted = messages * 95 // 100 if qos == 0 else messages
        command = ["mosquitto_sub", "-V", "5", "-p", str(port), "-q", str(qos), "-t", "gw/#", "-C", str(wanted)]
        command += ["-D", "CONNECT", "receive-maximum", "65535", "-W", str(int(WINDOW_LIMIT_S))]
        sub = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        stack.callback(_end, sub)
        publisher = Publisher(stack, port, messages, qos)
        begun = publisher.go()
        sub.wait(WINDOW_LIMIT_S + 5)
        taken_in = time.perf_counter() - begun
        return Window(messages, wanted, messages / publisher.seconds(), wanted / taken_in)


def write_installation(folder: Path) -> None:
    """5,000 devices in 20 groups and 100 rules: the five of its group apply to a device."""
    town = folder / "town"
    town.mkdir()
    (town / "town.yaml").write_text(f"site: {SITE}\nname: {{zh: 测速, en: Bench}}\n")
    lines = [
        f"  - {{id: m-{n}, kind: {KIND}, tags: [g{n % GROUPS}], interval: 1, silent_after: 86400}}"
        for n in range(DEVICES)
    ]
    (town / "devices.yaml").write_text("devices:\n" + "\n".join(lines) + "\n")
    rules = ["rules:"]
    for group in range(GROUPS):
        for n in range(RULES_A_GROUP):
            metric = METRICS[n % len(METRICS)]
            limit = {"dissolved_oxygen": 20.0, "total_phosphorus": 5.0, "water_temperature": 60.0}[metric] + n
            rules.append(
                f"  - {{id: r-{group}-{n}, name: {{zh: 超限}}, applies_to: {{tags: [g{group}]}}, "
                f"when: {metric} > {limit}, for: {n}s, clear: {metric} < {limit - 1}, priority: high}}"
            )
    (folder / "rules.yaml").write_text("\n".join(rules) + "\n")


class Service:
    """`gridwhistle run` as anyone would run it."""

    def __init__(self, stack: ExitStack, folder: Path, broker_port: int) -> None:
        write_installation(folder)
        settings = {
            "data_dir": folder / "data", "town": folder / "town", "rules": folder / "rules.yaml",
            "broker.url": f"mqtt://127.0.0.1:{broker_port}", "http.port": 0, "clock.max_ahead": "none",
            "log.level": "warning",
        }  # fmt: skip
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / "gridwhistle"), "run", *sets], stdout=subprocess.PIPE, text=True
        )
        stack.callback(_end, self.process)
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            sys.exit("the service did not start")
        self.url = line.split()[1]

    def counts(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return {
            name: float(n) for name, n in re.findall(r'^gridwhistle_values_total\{outcome="(\w+)"\} (\S+)', text, re.M)
        }


def measure_service(folder: Path, qos: int, messages: int) -> Window:
    with ExitStack() as stack:
        port = start_broker(stack, folder / "broker")
        service = Service(stack, folder, port)
        publisher = Publisher(stack, port, messages, qos)
        begun = publisher.go()
        taken, last_progress = 0.0, begun
        while taken < messages * len(METRICS):
            time.sleep(0.25)
            now = time.perf_counter()
            received = service.counts()["received"]
            if received > taken:
                taken, last_progress = received, now
            elif now - last_progress > QUIET_S and now - begun > QUIET_S * 2:
                break
            if now - begun > WINDOW_LIMIT_S:
                break
        counts = service.counts()
        lost = messages * len(METRICS) - counts["received"]
        assert qos == 0 or lost == 0, f"{lost} values of QoS 1 did not arrive"
        assert counts["received"] == counts["stored"], counts
        taken_messages = int(taken / len(METRICS))
        return Window(
            messages, taken_messages, messages / publisher.seconds(), taken_messages / (last_progress - begun)
        )


def compare(qos: int, messages: int, windows: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Both, one after the other, as many times as windows; medians."""
    found: dict[str, list[Window]] = {"sub": [], "service": []}
    for n in range(windows):
        with tempfile.TemporaryDirectory(prefix="gridwhistle-bench-") as name:
            folder = Path(name)
            found["sub"].append(measure_sub(folder / "sub", qos, messages))
            (folder / "service").mkdir()
            found["service"].append(measure_service(folder / "service", qos, messages))
        say(f"QoS {qos}, window {n + 1} of {windows}: mosquitto_sub {found['sub'][-1].taken_per_s:,.0f}/s, "
            f"service {found['service'][-1].taken_per_s:,.0f}/s")  # fmt: skip
    sub = statistics.median(w.taken_per_s for w in found["sub"])
    service = statistics.median(w.taken_per_s for w in found["service"])
    return {
        "ratio": round(service / sub, 3),
        "mosquitto_sub_messages_per_s": round(sub),
        "service_messages_per_s": round(service),
        "service_values_per_s": round(service * len(METRICS)),
        "offered_messages_per_s": round(statistics.median(w.offered_per_s for w in found["service"])),
        "undelivered": [w.offered - w.taken for w in found["service"]],
        "windows": windows,
        "messages_a_window": messages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the default and only form of output")
    parser.add_argument("--messages", type=int, default=400_000, help="published in each window")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--qos", type=int, choices=(0, 1), help="only this one")
    options = parser.parse_args()
    result: dict[str, Any] = {
        f"qos{qos}": compare(qos, options.messages, options.windows, lambda text: print(text, file=sys.stderr))
        for qos in ([options.qos] if options.qos is not None else [0, 1])
    }
    result["machine"] = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    result["versions"] = {name: version(name) for name in ("numpy", "duckdb", "msgspec", "sqlalchemy")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

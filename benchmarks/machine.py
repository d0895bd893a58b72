"""The machine a measurement ran on, and which process used how much of it, as the kernel counts it.

A process that waits for a core is not slow by itself: `waiting` says how long its threads could have run and did not,
because another process had the cores. Where it is near zero, what was measured is the process and not the crowd.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from gridwhistle.broker import find_mosquitto

PACKAGES = ("duckdb", "msgspec", "numpy", "sqlalchemy")


class Machine:
    """Made when a run begins; `describe` at its end has the load average of both."""

    def __init__(self) -> None:
        self._begin = os.getloadavg()
        self._begun = time.perf_counter()

    def describe(self) -> dict[str, Any]:
        return {
            "at": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="minutes"),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "mosquitto": mosquitto_version(),
            "fsync_ms": round(fsync_ms(), 2),
            "load_average": {"begin": _rounded(self._begin), "end": _rounded(os.getloadavg())},
            "seconds": round(time.perf_counter() - self._begun),
        }


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    return {name: version(name) for name in names}


def mosquitto_version() -> str | None:
    """None where it is not installed."""
    found = find_mosquitto()
    if found is None:
        return None
    said = subprocess.run([found, "-h"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"mosquitto version (\S+)", said)
    return match[1] if match else None


def program_version(name: str) -> str | None:
    """What `name --version` says; None where it is not installed."""
    found = shutil.which(name)
    if found is None:
        return None
    return subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()


def fsync_ms(times: int = 30) -> float:
    """Median of one write of 4 KiB made durable, where temporary files lie: what every commit costs at least."""
    spent = []
    with tempfile.NamedTemporaryFile(prefix="gridwhistle-bench-") as file:
        for _ in range(times):
            begun = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            spent.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(spent)


def medians(found: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of several windows' `Usage.stop`, number by number."""
    windows = list(found)
    return {
        name: {
            key: round(statistics.median(w[name][key] for w in windows), 2) for key in windows[0][name]
        }
        for name in (windows[0] if windows else ())
    }  # fmt: skip


class Usage:
    """Cores used and cores waited for by each named process with its children, from `start` to `stop`; `event_loop` is
    the part of it that the first thread of the service used. Empty where the kernel does not count (not Linux)."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes if Path("/proc/self/schedstat").exists() else {}
        self._before: dict[str, tuple[float, float, float]] = {}
        self._begun = 0.0
        self.latest: dict[str, dict[str, float]] = {}

    def start(self) -> None:
        self._before = {name: _spent(pid) for name, pid in self._processes.items()}
        self._begun = time.perf_counter()

    def stop(self) -> dict[str, dict[str, float]]:
        seconds = time.perf_counter() - self._begun
        found = {}
        for name, pid in self._processes.items():
            parts = [
                round(max(0.0, now - then) / seconds, 3)
                for now, then in zip(_spent(pid), self._before[name], strict=True)
            ]
            found[name] = dict(zip(("cores", "waiting", "event_loop"), parts, strict=True))
            if name != "service":
                del found[name]["event_loop"]
        return found

    def watch(self, ended: threading.Event) -> None:
        """Keep `latest`, for a process that ends by itself takes its numbers with it."""
        while not ended.wait(0.25):
            found = self.stop()
            if not ended.is_set():
                self.latest = found


def _spent(pid: int) -> tuple[float, float, float]:
    """Seconds run, seconds runnable without a core, seconds its first thread ran. A thread that ended is not counted,
    and a process that ended is zero."""
    ran = waited = first = 0.0
    family = [pid]
    with suppress(psutil.Error):
        family += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    for member in family:
        for thread in Path(f"/proc/{member}/task").glob("*/schedstat"):
            with suppress(OSError):
                on, off = (int(n) / 1e9 for n in thread.read_text().split()[:2])
                ran, waited = ran + on, waited + off
                if thread.parent.name == str(pid):
                    first = on
    return ran, waited, first


def _cpu() -> str:
    with suppress(OSError):
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def _rounded(numbers: Iterable[float]) -> list[float]:
    return [round(number, 2) for number in numbers]

"""From a device's publish to the alarm committed and on the event stream: `python -m benchmarks.latency --json`.

5,000 devices publish at a rate; beside them, ten times a second, one of 200 probes publishes a reading that crosses a
limit, at QoS 1 on a connection of its own, and goes back 5 s later. A signed-in client of `GET /api/v1/stream` waits
for that alarm. Publisher and listener are this one process, so both instants are of one clock (time.perf_counter); `at`
in the reading is the wall's. What is on the stream was committed in the same transaction as the alarm.

`until_sealed_ms` is the part until the batch with the reading was closed (broker, decoding, waiting for
`ingest.batch_ms`), from the wall clock of the one machine; `from_sealed_ms` the rest: judging, committing, waking the
stream, sending.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.load import DEVICES, METRICS, connect, discard, packet, readings_topic
from benchmarks.machine import Machine, Usage, medians, versions
from benchmarks.parts import LIMITS, Broker, Publisher, Service, write_installation

RATES = (1_000, 5_000, 20_000)
PROBES_PER_S = 10.0
SETTLING_S = 3.0
# An alarm that has not come so long after the last probe never will.
PATIENCE_S = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    devices: int = DEVICES
    probes: int = 200
    rates: tuple[int, ...] = RATES
    windows: int = 3
    seconds: float = 20.0
    # A probe goes back under its limit after so long, and is used again when all others were.
    back_after: float = 5.0


QUICK = Sizes(devices=200, probes=20, rates=(500,), windows=1, seconds=1.0, back_after=0.2)


@dataclass
class Stream:
    """Alarms as a signed-in client sees them: (device, event id) → the instant its line was read."""

    url: str
    token: str
    heard: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    ready: threading.Event = field(default_factory=threading.Event)
    link: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        assert parts.hostname
        self.link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)

    def listen(self) -> None:
        """Until the connection ends."""
        self.link.request("GET", "/api/v1/stream?values=false", headers={"Authorization": f"Bearer {self.token}"})
        answer = self.link.getresponse()
        assert answer.status == 200, answer.status
        number, kind = 0, ""
        try:
            for line in answer:
                now = time.perf_counter()
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "event":
                    kind = value
                    self.ready.set()
                elif name == "data" and kind == "alarm":
                    body = json.loads(value)
                    if body["active"]:
                        self.heard.setdefault(body["device"], []).append((number, now))
        except (OSError, ValueError, http.client.HTTPException):
            return  # one of both ended it

    def close(self) -> None:
        """A service that ends waits for its clients."""
        if self.link.sock is not None:
            self.link.sock.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Probe:
    """A reading over a limit: published at `at` by the wall (µs) and at `sent` by the clock of this process (s)."""

    device: str
    at: int
    sent: float


class Prober:
    """Publishes probes from a connection of its own."""

    def __init__(self, port: int, probes: int) -> None:
        self._probes = probes
        self._link = connect(port)
        threading.Thread(target=discard, args=(self._link, 1), daemon=True).start()
        self._number = 0
        self.device = 0

    def warm(self) -> None:
        """Every probe's first reading, which is new to the service and so costs it more than any later one."""
        for number in range(self._probes):
            self._send(f"p-{number}", time.time_ns() // 1000, 1.0)

    def publish_for(self, seconds: float, back_after: float) -> list[Probe]:
        """One every 1 / PROBES_PER_S, and the way back for each."""
        sent: list[Probe] = []
        back: list[tuple[float, str]] = []
        begun = time.perf_counter()
        while (due := begun + len(sent) / PROBES_PER_S) < begun + seconds:
            _sleep_until(due)
            device = f"p-{self.device % self._probes}"
            self.device += 1
            now = time.time_ns() // 1000
            instant = time.perf_counter()
            self._send(device, now, LIMITS[METRICS[0]] + 1)
            sent.append(Probe(device, now, instant))
            back.append((instant + back_after, device))
            while back and back[0][0] <= time.perf_counter():
                self._send(back.pop(0)[1], time.time_ns() // 1000, 1.0)
        for due, device in back:
            _sleep_until(due)
            self._send(device, time.time_ns() // 1000, 1.0)
        return sent

    def close(self) -> None:
        self._link.close()

    def _send(self, device: str, at: int, value: float) -> None:
        self._number += 1
        body = json.dumps({"at": at // 1000, METRICS[0]: value}).encode()
        self._link.sendall(packet(readings_topic(device), body, qos=1, number=self._number))


def _sleep_until(instant: float) -> None:
    ahead = instant - time.perf_counter()
    if ahead > 0:
        time.sleep(ahead)


@dataclass(frozen=True, slots=True)
class Window:
    """Milliseconds of each probe, and how much of the load the service had taken when the last came."""

    total: list[float]
    until_sealed: list[float]
    missing: int
    cpu: dict[str, dict[str, float]]


def measure(rate: int, sizes: Sizes, say: Say) -> dict[str, Any]:
    """One service; windows one after the other under one load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridwhistle-bench-")))
        broker = Broker(stack, folder / "broker")
        write_installation(folder, devices=sizes.devices, probes=sizes.probes)
        service = Service(stack, folder, broker.port)
        stream = Stream(service.url, service.sign_in())
        threading.Thread(target=stream.listen, daemon=True).start()
        stack.callback(stream.close)
        assert stream.ready.wait(30), "the stream did not begin"
        prober = Prober(broker.port, sizes.probes)
        stack.callback(prober.close)
        lasts = SETTLING_S + sizes.windows * (sizes.seconds + sizes.back_after + 2) + PATIENCE_S
        publisher = Publisher(
            stack, broker.port, round(rate * lasts), 1, rate=rate, devices=sizes.devices, warm=sizes.devices
        )
        prober.warm()
        while service.counts()["received"] < sizes.devices * len(METRICS) + sizes.probes:
            time.sleep(0.1)
        publisher.go()
        time.sleep(min(SETTLING_S, sizes.seconds))
        usage = Usage({
            "broker": broker.process.pid, "publisher": publisher.process.pid, "service": service.process.pid,
        })  # fmt: skip
        windows: list[Window] = []
        for _ in range(sizes.windows):
            usage.start()
            probes = prober.publish_for(sizes.seconds, sizes.back_after)
            cpu = usage.stop()
            windows.append(_window(probes, stream, service.data / "records.sqlite", cpu))
            say(f"{rate:,}/s: {_spread(windows[-1].total)}")
        return _described(rate, windows)


def _window(probes: list[Probe], stream: Stream, records: Path, cpu: dict[str, dict[str, float]]) -> Window:
    """Match each probe with the first alarm of its device that was heard after it."""
    deadline = time.perf_counter() + PATIENCE_S
    found: dict[Probe, tuple[int, float]] = {}
    while len(found) < len(probes) and time.perf_counter() < deadline:
        for probe in probes:
            heard = [(n, at) for n, at in list(stream.heard.get(probe.device, ())) if at >= probe.sent]
            if heard:
                found[probe] = heard[0]
        time.sleep(0.05)
    # The stream's row says at which instant (the wall's) the batch was closed that it came from.
    with closing(sqlite3.connect(f"file:{records}?mode=ro", uri=True)) as db:
        sealed = dict(db.execute("SELECT id, at FROM stream"))
    return Window(
        [1e3 * (at - probe.sent) for probe, (_, at) in found.items()],
        [(sealed[n] - probe.at) / 1e3 for probe, (n, _) in found.items()],
        len(probes) - len(found),
        cpu,
    )


def _described(rate: int, windows: list[Window]) -> dict[str, Any]:
    spreads = [_spread(w.total) for w in windows]
    every = [ms for w in windows for ms in w.total]
    rest = [ms - sealed for w in windows for ms, sealed in zip(w.total, w.until_sealed, strict=True)]
    return {
        "rate": rate,
        **{key: round(statistics.median(s[key] for s in spreads), 1) for key in ("p50_ms", "p99_ms", "max_ms")},
        "windows": len(windows),
        "probes": len(every),
        "missing": sum(w.missing for w in windows),
        "each": spreads,
        "all": _spread(every),
        "until_sealed_ms": _spread(ms for w in windows for ms in w.until_sealed),
        "from_sealed_ms": _spread(rest),
        "histogram": _histogram(every),
        "cpu": medians(w.cpu for w in windows),
    }


def _spread(ms: Iterable[float]) -> dict[str, float]:
    found = np.array(list(ms) or [np.nan])
    return {
        "p50_ms": round(float(np.percentile(found, 50)), 1),
        "p99_ms": round(float(np.percentile(found, 99, method="higher")), 1),
        "max_ms": round(float(found.max()), 1),
    }


def _histogram(ms: list[float], width: int = 10, most: int = 300) -> dict[str, int]:
    """How many probes took from so many milliseconds on, in steps of 10; what is above 300 stands there."""
    found: dict[str, int] = {}
    for value in sorted(ms):
        at = str(min(int(value // width) * width, most))
        found[at] = found.get(at, 0) + 1
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the default and only form of output")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--rate", type=int, action="append", help="messages a second (may be given again)")
    parser.add_argument("--seconds", type=float, help="of a window")
    given = parser.parse_args(arguments)
    usual = QUICK if given.quick else Sizes()
    sizes = replace(usual, rates=tuple(given.rate or usual.rates), seconds=given.seconds or usual.seconds)
    machine = Machine()
    result: dict[str, Any] = {
        "rates": {
            str(rate): measure(rate, sizes, lambda text: print(text, file=sys.stderr, flush=True))
            for rate in sizes.rates
        },
        "devices": sizes.devices,
        "probes_per_s": PROBES_PER_S,
        "seconds_a_window": sizes.seconds,
        "clock": "time.perf_counter of one process that publishes and listens; until_sealed_ms: time.time_ns",
        "quick": given.quick,
        "machine": machine.describe(),
        "versions": versions(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""What the service keeps in memory with 100,000 series and 100 rules: `python -m benchmarks.memory --json`.

20,000 devices of five metrics report every 10 s for as long as is asked (`--minutes`, 5; the long form is 60, for an
hour's traffic). Resident memory of the service with its children is read from outside, 60 times. What is printed is
what was measured: nothing is extrapolated from a short form to an hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import METRICS, MORE
from benchmarks.machine import Machine, Usage, versions
from benchmarks.parts import GROUPS, RULES_A_GROUP, Broker, Publisher, Service, write_installation

SERIES, A_DEVICE = 100_000, len(METRICS + MORE)
INTERVAL_S = 10.0
SAMPLES = 60
USUAL_MINUTES = 5.0
# What is under way when the publisher ends is settled within this.
SETTLED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Sizes:
    devices: int = SERIES // A_DEVICE
    minutes: float = USUAL_MINUTES
    interval_s: float = INTERVAL_S


QUICK = Sizes(devices=400, minutes=0.05, interval_s=1.0)


def resident_mb(pid: int) -> float:
    """Of the process and its children, in 10⁶ bytes."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            total += member.memory_info().rss
    return total / 1e6


def measure(sizes: Sizes) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gridwhistle-bench-")))
        broker = Broker(stack, folder / "broker")
        write_installation(folder, devices=sizes.devices)
        service = Service(stack, folder, broker.port)
        pid, ready = service.process.pid, resident_mb(service.process.pid)
        rate, seconds = sizes.devices / sizes.interval_s, 60 * sizes.minutes
        messages = round(rate * seconds)
        publisher = Publisher(
            stack, broker.port, messages, 1, rate=rate, devices=sizes.devices, warm=sizes.devices, metrics=A_DEVICE
        )
        _settled(service, sizes.devices)
        first_round = resident_mb(pid)
        say(f"ready {ready:.0f} MB, every series seen {first_round:.0f} MB")
        usage = Usage({"broker": broker.process.pid, "publisher": publisher.process.pid, "service": pid})
        usage.start()
        begun, samples = publisher.go(), []
        for n in range(1, SAMPLES + 1):
            time.sleep(max(0.0, begun + n * seconds / SAMPLES - time.perf_counter()))
            samples.append([round(time.perf_counter() - begun, 1), round(resident_mb(pid), 1)])
            if n % 6 == 0:
                say(f"{samples[-1][0]:,.0f} s: {samples[-1][1]:.0f} MB")
        cpu = usage.stop()
        _settled(service, sizes.devices + messages)
        return described(samples) | {
            "ready_mb": round(ready, 1),
            "every_series_seen_mb": round(first_round, 1),
            "series": sizes.devices * A_DEVICE,
            "devices": sizes.devices,
            "rules": GROUPS * RULES_A_GROUP,
            "minutes": sizes.minutes,
            "interval_s": sizes.interval_s,
            "values": messages * A_DEVICE,
            "data_mb": round(sum(f.stat().st_size for f in service.data.iterdir() if f.is_file()) / 1e6, 1),
            "samples": samples,
            "cpu": cpu,
        }


def described(samples: list[list[float]]) -> dict[str, float]:
    """`grew_mb`: from the middle of the run to its end, each the median of a tenth of the samples."""
    sizes = [mb for _, mb in samples]
    tenth, middle = max(1, len(sizes) // 10), len(sizes) // 2
    at_middle, at_end = statistics.median(sizes[middle : middle + tenth]), statistics.median(sizes[-tenth:])
    return {
        "end_mb": round(at_end, 1), "middle_mb": round(at_middle, 1), "grew_mb": round(at_end - at_middle, 1),
        "peak_mb": max(sizes),
    }  # fmt: skip


def _settled(service: Service, messages: int) -> None:
    """Wait until so many messages are settled."""
    deadline = time.perf_counter() + SETTLED_WITHIN_S
    while (received := service.counts()["received"]) < messages * A_DEVICE:
        assert time.perf_counter() < deadline, f"only {received:,.0f} values were settled"
        time.sleep(0.5)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the default and only form of output")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--minutes", type=float, default=USUAL_MINUTES, help="of traffic; 60 is the long form")
    given = parser.parse_args(arguments)
    machine = Machine()
    result = measure(QUICK if given.quick else Sizes(minutes=given.minutes))
    print(json.dumps(result | {"quick": given.quick, "machine": machine.describe(), "versions": versions()}))


if __name__ == "__main__":
    main()

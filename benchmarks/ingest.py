"""How much of the broker's rate the whole service keeps up with: `python -m benchmarks.ingest --json`.

In each round the same stream (140 bytes of JSON, three metrics, 5,000 devices in turn) goes through a Mosquitto of its
own to `mosquitto_sub`, which discards it, and to the whole service (decode, 100 rules of which 5 apply to each device,
ledger, journal, store, acknowledge), at QoS 0 and at QoS 1; then payload lists of 100 to the service. Rounds are
repeated, so that what disturbs the machine disturbs all of them; medians. The publisher writes as fast as the broker
reads. Two rounds of every device go before each window: it measures how it goes, not how it starts. With `--compare`
also what a user would otherwise write (`contenders`, `nodered`). One JSON object on standard output, progress on
standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import contenders, nodered
from benchmarks.load import DEVICES, METRICS, payload
from benchmarks.machine import Machine, Usage, medians, program_version, versions
from benchmarks.parts import GROUPS, RULES_A_GROUP, Broker, Publisher, Service, end, write_installation

ELEMENTS = 100
# Rounds of every device before a window.
WARM_ROUNDS = 2
# Without progress for this long a window is over: what is missing was not delivered (QoS 0).
QUIET_S, WINDOW_LIMIT_S = 3.0, 120.0
# Asking the service how far it is costs it some milliseconds: it is asked again after half of what seems to remain, so
# some ten times a window, and the end is known to this.
SHARPEST_S = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Messages of a window at QoS 0 and 1, of lists, and of a contender's window; rounds: so many at least, at most so
    many if they fit into `minutes`."""

    devices: int = DEVICES
    messages: int = 600_000
    lists: int = 20_000
    contenders: int = 100_000
    windows: int = 3
    most: int = 5
    minutes: float = 8.0


QUICK = Sizes(devices=200, messages=4_000, lists=100, contenders=1_000, windows=1, most=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Messages offered and taken, the rates of both in messages a second, and who used the cores meanwhile."""

    offered: int
    taken: int
    offered_per_s: float
    taken_per_s: float
    cpu: dict[str, dict[str, float]]


@dataclass
class Measured:
    """The windows so far, by what was measured."""

    sub: dict[int, list[Window]] = field(default_factory=lambda: {0: [], 1: []})
    service: dict[int, list[Window]] = field(default_factory=lambda: {0: [], 1: []})
    lists: list[Window] = field(default_factory=list)


def measure_sub(folder: Path, qos: int, messages: int, devices: int) -> Window:
    """`mosquitto_sub > /dev/null` over the stream; at QoS 0 it ends after 95 % of it, as the broker may drop some."""
    with ExitStack() as stack:
        broker = Broker(stack, folder)
        wanted = messages * 95 // 100 if qos == 0 else messages
        command = ["mosquitto_sub", "-V", "5", "-p", str(broker.port), "-q", str(qos), "-t", "gw/#"]
        command += ["-C", str(WARM_ROUNDS * devices + wanted), "-W", str(int(WINDOW_LIMIT_S))]
        command += ["-D", "CONNECT", "receive-maximum", "65535"]
        sub = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        stack.callback(end, sub)
        time.sleep(0.2)
        publisher = Publisher(stack, broker.port, messages, qos, devices=devices, warm=WARM_ROUNDS * devices)
        time.sleep(1)
        usage = Usage({
            "broker": broker.process.pid, "publisher": publisher.process.pid, "mosquitto_sub": sub.pid,
        })  # fmt: skip
        usage.start()
        begun, ended = publisher.go(), threading.Event()
        looking = threading.Thread(target=usage.watch, args=(ended,))
        looking.start()
        sub.wait()  # without a limit, which would look every 50 ms; it has its own
        taken_in = time.perf_counter() - begun
        ended.set()
        looking.join()
        return Window(messages, wanted, messages / publisher.seconds(), wanted / taken_in, usage.latest)


def measure_service(folder: Path, qos: int, messages: int, devices: int, elements: int = 1) -> Window:
    with ExitStack() as stack:
        folder.mkdir()
        broker = Broker(stack, folder / "broker")
        write_installation(folder, devices=devices)
        service = Service(stack, folder, broker.port)
        warm = WARM_ROUNDS * devices
        publisher = Publisher(stack, broker.port, messages, qos, devices=devices, warm=warm, elements=elements)
        warmed = warm * len(METRICS)
        while service.counts()["received"] < warmed:
            time.sleep(0.1)
        usage = Usage({
            "broker": broker.process.pid, "publisher": publisher.process.pid, "service": service.process.pid,
        })  # fmt: skip
        usage.start()
        begun = publisher.go()
        values = messages * elements * len(METRICS)
        taken, last = follow(lambda: service.counts()["received"] - warmed, values, begun)
        cpu = usage.stop()
        counts = service.counts()
        assert qos == 0 or taken == values, f"{values - taken:.0f} values of QoS 1 did not arrive"
        assert counts["received"] == counts["stored"], counts
        taken_messages = int(taken / elements / len(METRICS))
        return Window(messages, taken_messages, messages / publisher.seconds(), taken_messages / (last - begun), cpu)


def follow(taken: Callable[[], float], wanted: float, begun: float) -> tuple[float, float]:
    """Ask seldom until it is there or nothing comes any more: what came, and when the last of it was seen."""
    seen, last, pause = 0.0, begun, 0.5
    while seen < wanted and time.perf_counter() - last < QUIET_S and last - begun < WINDOW_LIMIT_S:
        time.sleep(pause)
        count, now = taken(), time.perf_counter()
        if count > seen:
            seen, last = count, now
        remaining = (wanted - seen) * (now - begun) / max(seen, 1)
        pause = min(max(SHARPEST_S, remaining / 2), QUIET_S)
    return seen, last


def measure_round(number: int, sizes: Sizes, found: Measured, qualities: list[int], say: Say) -> None:
    """One window of each. Who goes first alternates."""
    with tempfile.TemporaryDirectory(prefix="gridwhistle-bench-") as name:
        folder = Path(name)
        for qos in qualities:
            steps: list[Callable[[], None]] = [
                lambda q=qos: found.sub[q].append(measure_sub(folder / f"sub-{q}", q, sizes.messages, sizes.devices)),  # type: ignore[misc]
                lambda q=qos: found.service[q].append(
                    measure_service(folder / f"service-{q}", q, sizes.messages, sizes.devices)
                ),  # type: ignore[misc]
            ]
            for step in steps if number % 2 else reversed(steps):
                step()
            sub, service = found.sub[qos][-1].taken_per_s, found.service[qos][-1].taken_per_s
            say(f"round {number}, QoS {qos}: mosquitto_sub {sub:,.0f}/s, service {service:,.0f}/s, {service / sub:.2f}")
        found.lists.append(measure_service(folder / "lists", 1, sizes.lists, sizes.devices, ELEMENTS))
        values = found.lists[-1].taken_per_s * ELEMENTS * len(METRICS)
        say(f"round {number}, lists of {ELEMENTS}: {values:,.0f} values/s")


def measure_rounds(sizes: Sizes, qualities: list[int], say: Say) -> Measured:
    """As many as wanted, and more where they fit into the time."""
    found, begun, longest = Measured(), time.perf_counter(), 0.0
    for number in range(1, sizes.most + 1):
        started = time.perf_counter()
        if number > sizes.windows and started - begun + longest > 60 * sizes.minutes:
            break
        measure_round(number, sizes, found, qualities, say)
        longest = max(longest, time.perf_counter() - started)
    return found


def beside_the_broker(subs: list[Window], services: list[Window]) -> dict[str, Any]:
    sub, service = (statistics.median(w.taken_per_s for w in windows) for windows in (subs, services))
    return {
        "ratio": round(service / sub, 3),
        "mosquitto_sub_messages_per_s": round(sub),
        "service_messages_per_s": round(service),
        "service_values_per_s": round(service * len(METRICS)),
        "offered_messages_per_s": round(statistics.median(w.offered_per_s for w in services)),
        "undelivered": [w.offered - w.taken for w in services],
        "windows": len(services),
        "messages_a_window": services[0].offered,
        "each": {
            "mosquitto_sub": [round(w.taken_per_s) for w in subs], "service": [round(w.taken_per_s) for w in services],
        },
        "cpu": {"mosquitto_sub": medians(w.cpu for w in subs), "service": medians(w.cpu for w in services)},
    }  # fmt: skip


def of_lists(windows: list[Window]) -> dict[str, Any]:
    values = ELEMENTS * len(METRICS)
    return {
        "values_per_s": round(statistics.median(w.taken_per_s for w in windows) * values),
        "messages_per_s": round(statistics.median(w.taken_per_s for w in windows)),
        "elements_a_message": ELEMENTS,
        "values_a_message": values,
        "windows": len(windows),
        "messages_a_window": windows[0].offered,
        "each": [round(w.taken_per_s * values) for w in windows],
        "cpu": medians(w.cpu for w in windows),
    }


def compare(sizes: Sizes, service: dict[int, float], say: Say, *, with_nodered: bool) -> dict[str, Any]:
    """What a user would otherwise write, one after the other, as many times as windows."""
    found: dict[str, Any] = {"messages_a_window": sizes.contenders, "windows": sizes.windows}
    runners: dict[str, Callable[[Path, int], tuple[float, dict[str, Any]]]] = {
        f"{library}, a commit a {commit}": lambda folder, qos, a=(library, commit): contenders.measure(  # type: ignore[misc]
            *a, folder, qos=qos, messages=sizes.contenders
        )
        for library in contenders.LIBRARIES
        for commit in contenders.COMMITS
    }
    try:
        if not with_nodered:
            raise nodered.NotAtHand("not asked for")
        installed = nodered.install()
        runners["Node-RED"] = lambda folder, qos: nodered.measure(installed, folder, qos=qos, messages=sizes.contenders)
        found["node_red"] = {
            "version": nodered.NODE_RED, "node": program_version("node"), "sqlite_node": nodered.SQLITE_NODE,
        }  # fmt: skip
    except nodered.NotAtHand as why:
        say(f"without Node-RED: {why}")
        found["node_red"] = {"skipped": str(why)}
    for qos, rate in service.items():
        windows: dict[str, list[float]] = {name: [] for name in runners}
        cpu: dict[str, list[Any]] = {name: [] for name in runners}
        for _ in range(sizes.windows):
            for name, run in runners.items():
                with tempfile.TemporaryDirectory(prefix="gridwhistle-bench-") as folder:
                    speed, used = run(Path(folder) / "one", qos)
                windows[name].append(speed)
                cpu[name].append(used)
                say(f"QoS {qos}, {name}: {speed:,.0f}/s")
        rates = {name: round(statistics.median(speeds)) for name, speeds in windows.items()}
        best = max(rates, key=lambda name: rates[name])
        found[f"qos{qos}"] = {
            "messages_per_s": rates,
            "service_messages_per_s": round(rate),
            "best": best,
            "ratio": round(rate / rates[best], 2),
            "each": {name: [round(speed) for speed in speeds] for name, speeds in windows.items()},
            "cpu": {name: medians(used) for name, used in cpu.items()},
        }
    nearest = min((found[f"qos{qos}"] for qos in service), key=lambda of: of["ratio"])
    return found | {"best": nearest["best"], "ratio": nearest["ratio"]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the default and only form of output")
    parser.add_argument("--compare", action="store_true", help="also what a user would otherwise write")
    parser.add_argument("--without-node-red", action="store_true")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    parser.add_argument("--messages", type=int, help="published in each window")
    parser.add_argument("--windows", type=int, help="of each, at least and at most")
    parser.add_argument("--qos", type=int, choices=(0, 1), help="only this one")
    given = parser.parse_args(arguments)
    sizes = QUICK if given.quick else Sizes()
    if given.messages or given.windows:
        sizes = replace(
            sizes, messages=given.messages or sizes.messages, windows=given.windows or sizes.windows,
            most=given.windows or sizes.most,
        )  # fmt: skip

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    machine = Machine()
    qualities = [0, 1] if given.qos is None else [given.qos]
    found = measure_rounds(sizes, qualities, say)
    result: dict[str, Any] = {f"qos{qos}": beside_the_broker(found.sub[qos], found.service[qos]) for qos in qualities}
    result["lists"] = of_lists(found.lists)
    if given.compare:
        rates = {qos: statistics.median(w.taken_per_s for w in found.service[qos]) for qos in qualities}
        result["compare"] = compare(sizes, rates, say, with_nodered=not given.without_node_red)
    result["stream"] = {
        "devices": sizes.devices, "metrics": len(METRICS), "bytes": len(payload(0, 10**12, 0)),
        "rules": GROUPS * RULES_A_GROUP, "rules_a_device": RULES_A_GROUP, "warm_messages": WARM_ROUNDS * sizes.devices,
    }  # fmt: skip
    result["quick"] = given.quick
    packages = ("aiomqtt", "duckdb", "msgspec", "numpy", "paho-mqtt", "sqlalchemy")
    result["machine"], result["versions"] = machine.describe(), versions(packages)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

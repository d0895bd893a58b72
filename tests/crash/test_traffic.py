"""More than usual: a queue that waited, a device that floods, a tenth of rubbish."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.load import AT_ONCE, chunks_of, connect, discard, publish
from tests.conftest import SOAK, Broker
from tests.crash.load import RULES, Load
from tests.crash.proof import prove, settled, values_of
from tests.crash.test_network import GONE, MACHINES, SILENCES, town
from tests.end_to_end.conftest import Service, wait_for

pytestmark = pytest.mark.services

WAITING = 1_000_000 if SOAK else 10_000
MANY = 1_000 if SOAK else MACHINES
QUIET = 5_000 if SOAK else 400
MOST_MB = 400


def test_a_queue_that_waited_is_drained_in_order_and_no_device_is_called_silent(
    make_service: Callable[..., Service], broker: Broker, rules: Path, tmp_path: Path
) -> None:
    every = tmp_path / "every.yaml"
    every.write_text(RULES + GONE)
    service = make_service(rules=every, town=town(tmp_path / "town", MANY))
    service.start()
    assert service.stop() == 0
    subscribe(broker, 0)
    # A bad day's alarms and not a storm's: hundreds.
    with Load(broker, machines=MANY, rate=None, step=2.5 if SOAK else 9) as load:
        load.send(WAITING)
        sent = load.finish()
    began = time.monotonic()
    assert subscribe(broker, WAITING) == 0
    yardstick = time.monotonic() - began
    with Watch(service) as watch:
        service.start()
    assert not [o for rule in SILENCES for o in service.all("occurrences", rule=rule)]
    drained_s = watch.drained_s
    alarms = len(service.all("occurrences"))
    print(f"\n{WAITING} waited: {drained_s:.1f} s, mosquitto_sub {yardstick:.1f} s, {watch.most_mb:.0f} MB, "
          f"lag shown up to {watch.lag_s:.1f} s, {alarms:,} alarms")  # fmt: skip
    assert watch.most_mb < MOST_MB
    if SOAK:
        assert watch.lag_s > drained_s / 2, "the lag is shown"
        assert drained_s < 2 * yardstick
    prove(service, sent, rules, other=[*SILENCES, "gw-backlog"])


def test_rubbish_is_refused_with_its_reason_and_everything_else_is_kept(
    make_service: Callable[..., Service], broker: Broker, rules: Path
) -> None:
    service = make_service()
    service.start()
    with Load(broker, rate=None, hostile=True) as load:
        load.send(200_000 if SOAK else 5_000)
        sent = load.finish()
    settled(service, sent)
    reasons = {row["reason"] for row in service.all("refused")}
    assert {"malformed", "bad_topic", "wrong_topic", "unknown_metric"} <= reasons
    prove(service, sent, rules, refused=load.refused)


class Watch:
    """Looks at a service that starts: when it was linked and ready, its memory, the lag it shows."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._done = threading.Event()
        self._linked = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.most_mb = self.lag_s = self.drained_s = 0.0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drained_s = time.monotonic() - self._linked
        self._done.set()
        self._thread.join(10)

    def _run(self) -> None:
        place = self._service.folder / "data" / "api.json"
        while not self._done.wait(0.05):
            process = self._service.process
            if process is None or not place.exists():
                continue
            self.most_mb = max(self.most_mb, psutil.Process(process.pid).memory_info().rss / 1024 / 1024)
            try:
                broker = httpx.get(json.loads(place.read_text())["url"] + "/readyz", timeout=5).json()["parts"][
                    "broker"
                ]
            except (httpx.HTTPError, ValueError):
                continue
            if broker["ok"] and not self._linked:
                self._linked = time.monotonic()
            self.lag_s = max(self.lag_s, broker["lag_s"])


def subscribe(broker: Broker, count: int) -> int:
    """`mosquitto_sub` with a session of its own: makes it, or takes `count` messages out of it."""
    program = shutil.which("mosquitto_sub")
    assert program
    taking = ["-C", str(count)] if count else ["-E"]
    where = ["-h", broker.host, "-p", str(broker.port), "-i", "yardstick", "-c", "-q", "1", "-t", "gw/v1/#"]
    return subprocess.run([program, *where, *taking], stdout=subprocess.DEVNULL, timeout=600, check=False).returncode


def test_a_device_that_floods_is_limited_and_the_quiet_ones_are_heard_at_once(
    make_service: Callable[..., Service], broker: Broker
) -> None:
    service = make_service(**{"ingest.max_messages_per_s": 100, "ingest.burst_s": 1})
    service.start()
    flood = Load(broker, machines=1, name="flooder", cameras=0, rate=1_000)
    with Load(broker, machines=QUIET, name="q-{}", rate=QUIET / 2, cameras=0) as quiet, flood:
        probe = Load(broker, machines=1, name="probe", cameras=0, rate=None)
        with probe:
            delays = [delay(service, probe) for _ in range(100 if SOAK else 8)]
        heard = quiet.finish()
        poured = flood.finish()
    wanted = Counter(message.device for message in heard)
    wait_for(lambda: stored_of(service, wanted) >= 2 * len(heard), 30)
    wait_for(lambda: by_device(service, "received")["flooder"] >= len(poured), 30)
    stored, refused = by_device(service, "stored"), by_device(service, "refused")
    print(f"\nflood of {len(poured)}: stored {stored['flooder']}, refused {refused['flooder']}; "
          f"a quiet one is heard within {max(delays):.3f} s")  # fmt: skip
    assert max(delays) < 1
    assert refused["flooder"] > len(poured) / 2
    assert stored["flooder"] / 2 + refused["flooder"] == len(poured)
    assert {device: stored[device] for device in wanted} == {device: 2 * n for device, n in wanted.items()}
    assert +refused == Counter(flooder=refused["flooder"])
    assert {row["reason"] for row in service.all("refused")} == {"too_fast"}
    assert service.stop() == 0


def delay(service: Service, probe: Load) -> float:
    """From the broker's acknowledgement of a reading until the API tells it."""
    probe.send(1)
    began, wanted = time.monotonic(), probe.sent[-1]
    assert wanted.values
    while True:
        items = service.get("readings/latest", device="probe")["items"]
        if any(item["metric"] == "temperature" and item["value"] == wanted.values[0] for item in items):
            return time.monotonic() - began
        assert time.monotonic() - began < 20, "never heard"


def stored_of(service: Service, devices: Iterable[str]) -> int:
    stored = by_device(service, "stored")
    return sum(stored[device] for device in devices)


def by_device(service: Service, column: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in service.all("ledger", **{"from": "1970-01-01T00:00:00Z"}):
        found[row["device"]] += row[column]
    return found


@pytest.mark.soak
def test_rubbish_costs_no_more_than_its_share(make_service: Callable[..., Service], broker: Broker) -> None:
    """A stream as fast as the broker takes it: all of it good, and with a tenth of rubbish. What is nested without end
    goes on for 2 KB, or it would be a tenth of the messages and most of the bytes."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    service = make_service()
    service.start()
    for window in range(3):
        for hostile in (False, True):
            # Other devices each time: nothing of one window is late or counted twice beside another's.
            name = f"w{window}-{hostile:d}-{{}}"
            load = Load(broker, name=name, cameras=0, hostile=hostile, longest=2_000)
            packets = load.packets(200_000)
            took = poured(service, broker, packets, values_of(load.sent) + load.refused)
            rates[hostile].append(len(packets) / took)
    good, mixed = (statistics.median(rates[hostile]) for hostile in (False, True))
    print(f"\n{good:,.0f} messages a second, with a tenth of rubbish {mixed:,.0f}: {mixed / good:.2f}")
    assert service.stop() == 0
    assert mixed > 0.9 * good


def poured(service: Service, broker: Broker, packets: list[bytes], values: int) -> float:
    """Seconds from the first byte until the service has settled all of it, so many values."""
    wanted = service.ledger()["received"] + values
    with connect(broker.port) as link:
        threading.Thread(target=discard, args=(link, AT_ONCE), daemon=True).start()
        began = time.monotonic()
        publish(link, chunks_of(packets, 2_000))
        wait_for(lambda: service.ledger()["received"] >= wanted, 120)
        return time.monotonic() - began

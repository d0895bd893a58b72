"""More than usual: a queue that waited, a device that floods, a tenth of rubbish."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import SOAK, Broker
from tests.crash.load import RULES, Load
from tests.crash.proof import prove, settled
from tests.crash.test_network import GONE, MACHINES, SILENCES, town
from tests.end_to_end.conftest import Service, wait_for

pytestmark = pytest.mark.services

WAITING = 1_000_000 if SOAK else 10_000
QUIET = 5_000 if SOAK else 400
MOST_MB = 400


def test_a_queue_that_waited_is_drained_in_order_and_no_device_is_called_silent(
    make_service: Callable[..., Service], broker: Broker, rules: Path, tmp_path: Path
) -> None:
    every = tmp_path / "every.yaml"
    every.write_text(RULES + GONE)
    service = make_service(rules=every, town=town(tmp_path / "town"))
    service.start()
    assert service.stop() == 0
    subscribe(broker, 0)
    with Load(broker, machines=MACHINES, rate=None, hostile=True) as load:
        load.send(WAITING)
        sent = load.finish()
    began = time.monotonic()
    assert subscribe(broker, WAITING) == 0
    yardstick = time.monotonic() - began
    with Watch(service) as watch:
        service.start()
    assert not [o for rule in SILENCES for o in service.all("occurrences", rule=rule)]
    drained_s = watch.drained_s
    print(f"\n{WAITING} waited: {drained_s:.1f} s, mosquitto_sub {yardstick:.1f} s, {watch.most_mb:.0f} MB, "
          f"lag shown up to {watch.lag_s:.0f} s")  # fmt: skip
    assert watch.most_mb < MOST_MB
    if SOAK:
        assert watch.lag_s > 10, "the lag is shown"
        assert drained_s < 2 * yardstick
    reasons = {row["reason"] for row in service.all("refused")}
    assert {"malformed", "bad_topic", "wrong_topic", "unknown_metric"} <= reasons
    prove(service, sent, rules, other=[*SILENCES, "gw-backlog"], refused=load.refused)


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
    took = {}
    for hostile in (False, True):
        service = make_service(**{"broker.client_id": f"rates-{hostile}"})
        service.start()
        service.stop()
        with Load(broker, rate=None, hostile=hostile) as load:
            load.send(200_000)
            load.finish()
        with Watch(service) as watch:
            service.start()
        took[hostile] = watch.drained_s
        counts = settled(service, load.sent)
        assert counts["refused"] == load.refused
        assert service.stop() == 0
    print(f"\n200,000 messages: {took[False]:.1f} s, with a tenth of rubbish: {took[True]:.1f} s")
    assert took[True] < took[False] * 1.15

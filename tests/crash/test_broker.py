"""The broker restarts, dies, or is asked for by two; the service is told to end: what it acknowledged is kept."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SOAK, Broker
from tests.crash.load import Load
from tests.crash.proof import kept_in, prove, values_of
from tests.end_to_end.conftest import Service, wait_for

pytestmark = pytest.mark.services

ROUNDS = 10 if SOAK else 1
# Mosquitto saves its queues at these moments; 60 s is what the embedded broker is given.
EVERY_MINUTE, EVERY_CHANGE = "autosave_interval 60\n", "autosave_on_changes true\nautosave_interval 1\n"


def log_of(service: Service) -> str:
    return (service.folder / "service.log").read_text()


def test_broker_and_service_end_in_order_and_nothing_is_lost_or_doubled(
    make_service: Callable[[], Service], broker: Broker, rules: Path
) -> None:
    service = make_service()
    service.start()
    with Load(broker) as load:
        for _ in range(ROUNDS):
            time.sleep(1)
            began = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - began < 10
            service.start()
        counts = service.ledger()
        assert counts["duplicate"] == 0, "what was settled had been acknowledged"
        for n in range(ROUNDS):
            time.sleep(1)
            broker.stop()
            time.sleep(0.2 if n % 2 else 1.5)
            broker.start()
            wait_for(lambda: service.api.get("/readyz").status_code == 200, 60)
        prove(service, load.finish(), rules)
    links = [line.split()[-1] for line in log_of(service).splitlines() if "link up, session" in line]
    assert links[0] == "new"
    assert links[1:] == ["resumed"] * (2 * ROUNDS)


@pytest.mark.parametrize("autosave", [EVERY_MINUTE, EVERY_CHANGE] if SOAK else [EVERY_MINUTE])
def test_what_a_killed_broker_loses_shows_as_gaps(
    autosave: str, make_broker: Callable[..., Broker], make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """Nothing is doubled, and the gaps in the devices' own numbers are exactly what the broker had acknowledged and
    not saved."""
    broker = make_broker(extra=autosave)
    service = make_service(**{"broker.url": broker.url})
    service.start()
    chance = random.Random(3)
    with Load(broker, rate=800) as load:
        for _ in range(ROUNDS):
            # Four links in a row that last less than 5 s would be taken for another client with our id.
            time.sleep(5 + chance.random() if SOAK else 1)
            broker.stop(signal.SIGKILL)
            broker.start()
            wait_for(lambda: service.api.get("/readyz").status_code == 200, 60)
        load.pause()
        settle_down(service)
        load.send(200)  # after these every device's last number has come
        sent = load.finish()
    counts = settle_down(service)
    ledger = service.all("ledger", **{"from": "1970-01-01T00:00:00Z"})
    assert service.stop() == 0
    kept = kept_in(service.folder / "data")
    stored = [message for message in sent if kept.has(message)]
    lost = len(sent) - len(stored)
    print(f"\n{autosave.split(maxsplit=1)[0]}: {ROUNDS} kills, {len(sent)} acknowledged, {lost} lost, {counts}")
    assert counts["stored"] == values_of(stored)
    assert counts["replaced"] == counts["refused"] == 0
    assert sum(row["gaps"] - row["gaps_filled"] for row in ledger) == lost


def settle_down(service: Service) -> dict[str, int]:
    """The ledger once it has not changed for a second."""
    last, since = service.ledger(), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.2)
        if (now := service.ledger()) != last:
            last, since = now, time.monotonic()
    return last

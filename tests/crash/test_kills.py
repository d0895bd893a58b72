"""`kill -9` of the service under load, at random moments and at the places where it would hurt most."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from store.fault_points import POINTS
from tests.conftest import SOAK, Broker
from tests.crash.load import Load
from tests.crash.proof import prove
from tests.end_to_end.conftest import Service

pytestmark = pytest.mark.services

KILLS, ROUNDS = (50, 3) if SOAK else (2, 1)


def test_kills_lose_nothing_and_double_nothing(
    make_service: Callable[[], Service], broker: Broker, rules: Path
) -> None:
    """Of the places in the snapshot it is the second time: the first snapshot is of the start, and a reload of the
    rules takes the next at once."""
    service, chance = make_service(), random.Random(1)
    service.start()
    with Load(broker, rate=1_500 if SOAK else 800) as load:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.1, 0.9))
            service.kill()
            service.start()
        service.kill()
        for point in POINTS * ROUNDS:
            later = "snapshot" in point
            service.environment["GRIDWHISTLE_FAULT_POINT"] = f"{point}:{2 if later else 3}"
            (service.start if later else service.launch)()
            assert service.process
            if later:
                os.kill(service.process.pid, signal.SIGHUP)
            try:
                assert service.process.wait(60) == -signal.SIGKILL, point
            except subprocess.TimeoutExpired:
                pytest.fail(f"{point} was not reached")
        service.environment.clear()
        service.start()
        prove(service, load.finish(), rules)

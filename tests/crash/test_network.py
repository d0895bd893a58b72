"""The network between service and broker is cut without a word: noticed, mended, and no device is called silent."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import SOAK, Broker
from tests.crash.load import RULES, Load
from tests.crash.proof import prove, settled
from tests.crash.proxy import Network
from tests.end_to_end.conftest import Service, wait_for

pytestmark = pytest.mark.services

KEEP_ALIVE_S, CUT_S = (10, 60) if SOAK else (2, 0)
MACHINES = 10
SILENCES = ("gw-silence", "gone")
GONE = """
  - {id: gone, name: {zh: 无数据}, applies_to: {kind: equipment}, when: "absent(temperature, 2s)", priority: low}
"""


def town(folder: Path, machines: int = MACHINES) -> Path:
    """Machines of which nothing for two seconds is silence."""
    folder.mkdir()
    (folder / "town.yaml").write_text("site: crash\nname: {zh: 镇}\nzone: UTC\n")
    rows = [f"  - {{id: m-{n}, kind: equipment, name: 机, interval: 1, silent_after: 2}}\n" for n in range(machines)]
    (folder / "devices.yaml").write_text("devices:\n" + "".join(rows))
    return folder


def test_a_cut_that_nobody_is_told_of_is_noticed_and_no_device_is_called_silent(
    make_service: Callable[..., Service], broker: Broker, rules: Path, tmp_path: Path
) -> None:
    every = tmp_path / "every.yaml"
    every.write_text(RULES + GONE)
    with Network(broker) as network:
        settings = {"broker.url": network.url, "broker.keep_alive_s": KEEP_ALIVE_S}
        service = make_service(rules=every, town=town(tmp_path / "town"), **settings)
        service.start()
        with Load(broker, machines=MACHINES, rate=300) as load:
            cut_and_mend(service, network, load)
            sent = load.finish()
        # And now they are silent in truth.
        for rule in SILENCES:
            wait_for(partial(fallen_silent, service, rule), 20)
        assert [line for line in log_of(service) if "link up, session" in line][-1].endswith("resumed")
        prove(service, sent, rules, other=[*SILENCES, "gw-link"])


def cut_and_mend(service: Service, network: Network, load: Load) -> None:
    load.send(300)
    settled(service, load.sent)
    load.resume()
    time.sleep(2.5)  # one full limit from the start, so that silence may be judged
    network.cut()
    began = time.monotonic()
    wait_for(lambda: service.api.get("/readyz").json()["failing"] == ["broker"], 1.5 * KEEP_ALIVE_S + 2)
    time.sleep(max(0, CUT_S - (time.monotonic() - began)))
    network.mend()
    wait_for(lambda: service.api.get("/readyz").status_code == 200, 30)
    settled(service, load.sent[: load.acknowledged])
    assert [o for rule in SILENCES for o in service.all("occurrences", rule=rule)] == []


def fallen_silent(service: Service, rule: str) -> bool:
    return len(service.all("occurrences", rule=rule)) == MACHINES


def log_of(service: Service) -> list[str]:
    return (service.folder / "service.log").read_text().splitlines()

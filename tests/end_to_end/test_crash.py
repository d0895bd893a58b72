"""`kill -9` of the service while readings pour in: every reading once, every occurrence once, every order once."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import PROGRAM, Service, gridwhistle

pytestmark = pytest.mark.services

KILLS = 5
ROWS = 6_000
MAPPING = """
site: crash
kind: equipment
device: {column: machine}
time: {column: at, format: epoch_s}
metrics: {t: {metric: temperature}}
"""
RULES = """
rules:
  - {id: hot, name: {zh: 过热}, applies_to: {kind: equipment}, when: temperature > 80, clear: temperature < 70,
     for: 2m, max_gap: none, priority: high, order: {category: equipment.temperature}}
  - {id: cold, name: {zh: 过冷}, applies_to: {kind: equipment}, when: temperature < 20, max_gap: none, priority: low}
"""


def write_rows(file: Path) -> None:
    """Twenty machines, a reading a minute, a random walk that crosses both limits now and then."""
    chance = random.Random(7)
    level = dict.fromkeys(range(20), 50.0)
    with file.open("w") as out:
        out.write("machine,at,t\n")
        for row in range(ROWS):
            machine = row % 20
            level[machine] = min(max(level[machine] + chance.uniform(-12, 12), 0), 110)
            out.write(f"m-{machine},{1_760_000_000 + row // 20 * 60},{level[machine]:.3f}\n")


@pytest.mark.parametrize("seed", [1])
def test_five_kills_during_a_replay_lose_nothing_and_double_nothing(
    make_service: Callable[..., Service], tmp_path: Path, seed: int
) -> None:
    csv, mapping, rules = tmp_path / "rows.csv", tmp_path / "mapping.yaml", tmp_path / "rules.yaml"
    write_rows(csv)
    mapping.write_text(MAPPING)
    rules.write_text(RULES)
    tested = gridwhistle("backtest", "--rules", rules, "--csv", csv, "--mapping", mapping, "--json")
    expected = json.loads(tested.stdout)
    assert expected["readings"] == ROWS

    service = make_service(rules=rules, unknown_devices="accept", **{"clock.max_behind": "none"})
    chance = random.Random(seed)
    # At this speed the rows take about ten seconds, so the kills fall among them.
    replay = subprocess.Popen(
        [PROGRAM, "replay", csv, "--mapping", mapping, "--broker", service.broker.url, "--speed", "1800"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    killed_at = []
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.3, 1.5))
        killed_at.append(service.ledger()["received"])
        service.kill()
        service.start()
    assert replay.wait(120) == 0
    assert killed_at[0] < ROWS, "the first kill came after everything had arrived"

    # Redelivered packets are received again and counted as duplicates, so `received` may pass the rows sent.
    service.wait_received(ROWS)
    deadline = time.monotonic() + 60
    while service.ledger()["stored"] < ROWS and time.monotonic() < deadline:
        time.sleep(0.2)
    counts = service.ledger()
    assert counts["stored"] == ROWS
    assert counts["replaced"] == counts["refused"] == 0

    keys = ("rule", "device", "metric", "since", "raised_at", "cleared_at", "first_value", "peak_value")
    live = [tuple(o[k] for k in keys) for rule in ("hot", "cold") for o in service.all("occurrences", rule=rule)]
    assert sorted(live, key=str) == sorted((tuple(a[k] for k in keys) for a in expected["alarms"]), key=str)
    assert any(o[0] == "hot" for o in live), "no alarm at all proves nothing"
    hot = {o[1] for o in live if o[0] == "hot"}
    ordered = [o["device"] for o in service.all("orders")]
    assert sorted(ordered) == sorted(hot)
    assert service.stop() == 0

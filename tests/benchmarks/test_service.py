"""The benchmarks that start a broker and the service run, in a small form, and print one object with what the page of
performance is made from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ingest, latency, ledger, memory
from benchmarks.chapters import CHAPTERS
from benchmarks.nodered import NotAtHand, install

pytestmark = pytest.mark.services


def printed(capsys: pytest.CaptureFixture[str], main: Callable[[list[str]], None], *arguments: str) -> dict[str, Any]:
    main(["--json", "--quick", *arguments])
    out, _ = capsys.readouterr()
    assert len(out.splitlines()) == 1
    found: dict[str, Any] = json.loads(out)
    assert found["quick"] is True
    assert {"cpu", "cores", "python", "mosquitto", "load_average", "fsync_ms"} <= found["machine"].keys()
    assert found["versions"]["duckdb"]
    return found


@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub is not installed")
def test_ingest_beside_the_broker_and_beside_others(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, ingest.main, "--qos", "1", "--compare", "--without-node-red")
    assert found["qos1"]["ratio"] > 0
    assert found["qos1"]["undelivered"] == [0]
    assert found["qos1"]["cpu"]["service"]["service"].keys() == {"cores", "waiting", "event_loop"}
    assert found["lists"]["values_per_s"] == pytest.approx(found["lists"]["messages_per_s"] * 300, rel=0.05)
    compared = found["compare"]
    assert compared["best"] in compared["qos1"]["messages_per_s"]
    assert compared["ratio"] == compared["qos1"]["ratio"]
    assert len(compared["qos1"]["messages_per_s"]) == 4
    assert compared["node_red"] == {"skipped": "not asked for"}
    assert "qos0" not in found
    assert "Node-RED was left out: not asked for" in CHAPTERS["ingest"](found)[0]


def test_what_the_ledger_costs_is_measured_with_and_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, ledger.main)
    more = found["us_a_message"] - found["without_us_a_message"]
    assert found["cost_percent"] == pytest.approx(100 * more / (found["whole_us_a_message"] - more), abs=0.1)
    assert len(found["each"]["with"]) == len(found["each"]["without"]) == found["windows"]
    assert found["fold_ms"] > 0
    assert f"**{found['cost_percent']} %**" in CHAPTERS["ledger"](found)[0]


def test_latency_hears_every_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, latency.main)
    (of,) = found["rates"].values()
    assert (of["probes"], of["missing"]) == (10, 0)
    assert 0 < of["p50_ms"] <= of["p99_ms"] <= of["max_ms"]
    assert of["until_sealed_ms"]["p50_ms"] < of["p50_ms"]
    assert CHAPTERS["latency"](found)[1].keys() == {"performance-latency.svg"}


def test_memory_is_looked_at_all_along(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, memory.main)
    assert len(found["samples"]) == memory.SAMPLES
    assert found["ready_mb"] > 50
    assert found["peak_mb"] >= found["end_mb"]
    assert found["values"] == 1_200 * memory.A_DEVICE
    assert CHAPTERS["memory"](found)[1].keys() == {"performance-memory.svg"}


def test_node_red_that_is_not_at_hand_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotAtHand, match="not installed"):
        install()

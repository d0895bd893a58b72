"""Real recorded stations through a real broker, service and store, and by backtest: the same alarms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Service, gridwhistle
from tests.end_to_end.recordings import RECORDINGS, Recording

pytestmark = [pytest.mark.shared, pytest.mark.services]
KEYS = ("rule", "device", "metric", "since", "raised_at", "cleared_at", "first_value", "peak_value")


def sorted_alarms(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Only the keys both have, in one order."""
    return sorted(({k: o[k] for k in KEYS} for o in found), key=lambda o: (str(o["raised_at"]), str(o["device"])))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: r.name)
def test_a_recorded_file_gives_the_same_alarms_live_and_by_backtest(
    make_service: Callable[..., Service], tmp_path: Path, shared: Path, recording: Recording
) -> None:
    mapping, rules = recording.write(tmp_path)
    csv = shared / "data" / recording.file
    tested = gridwhistle("backtest", "--rules", rules, "--csv", csv, "--mapping", mapping, "--json")
    assert tested.returncode == 0, tested.stderr
    expected = json.loads(tested.stdout)
    assert len(expected["alarms"]) == recording.count

    service = make_service(rules=rules, unknown_devices="accept", **{"clock.max_behind": "none"})
    replayed = gridwhistle("replay", csv, "--mapping", mapping, "--broker", service.broker.url, "--speed", "max")
    assert replayed.returncode == 0, replayed.stderr
    counts = service.wait_received(expected["readings"])
    # The file of the machine repeats 12 instants and steps back once: what repeats is counted, nothing is lost.
    assert counts["received"] == expected["readings"]
    assert counts["refused"] == counts["quarantined"] == 0

    live = service.all("occurrences", rule="limit")
    assert sorted_alarms(live) == sorted_alarms(expected["alarms"])
    if recording.raised:
        assert tuple(a["raised_at"] for a in expected["alarms"]) == recording.raised
    if recording.cleared:
        assert tuple(a["cleared_at"] for a in expected["alarms"]) == recording.cleared
    if recording.peak is not None:
        assert [a["peak_value"] for a in expected["alarms"]] == [recording.peak]

"""For monitoring: alive, ready or why not, and numbers that say what the records say."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.centre import Centre


def metrics(centre: Centre) -> dict[tuple[str, ...], float]:
    answer = centre.ask("GET", "/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.parametrize("part", ["broker", "sql", "store", "journal"])
def test_not_ready_says_which_part_and_stays_alive(centre: Centre, part: str) -> None:
    assert centre.ask("GET", "/readyz").json()["ready"] is True
    centre.failing.add(part)
    answer = centre.ask("GET", "/readyz")
    assert answer.status_code == 503
    assert (answer.json()["ready"], answer.json()["failing"]) == (False, [part])
    assert centre.ask("GET", "/healthz").status_code == 200
    assert metrics(centre)["gridwhistle_up", part] == 0


def test_the_numbers_are_those_of_the_records(centre: Centre) -> None:
    centre.level(3.8)
    centre.level(3.8, after=0)
    centre.send("ps-1", b"not json")
    centre.app.state.metrics.observe_settle(0.02)
    found = metrics(centre)
    outcomes = {o: found["gridwhistle_values_total", o] for o in ("stored", "duplicate", "replaced", "refused")}
    assert outcomes == {"stored": 1, "duplicate": 1, "replaced": 0, "refused": 1}
    assert found["gridwhistle_values_total", "received"] == sum(outcomes.values())
    assert found["gridwhistle_standing_alarms", "critical"] == 1
    assert found["gridwhistle_open_orders", "filed"] == 1
    assert found["gridwhistle_outbox_messages", "waiting"] == 2
    assert found["gridwhistle_settle_seconds_count",] == 1
    assert found["gridwhistle_settle_seconds_bucket", "0.025"] == 1
    assert found["gridwhistle_settle_seconds_bucket", "0.01"] == 0


def test_two_installations_count_apart(centre: Centre, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Centre(tmp_path_factory.mktemp("other"), centre.peopled).start()
    other.level(3.8)
    assert metrics(other)["gridwhistle_standing_alarms", "critical"] == 1
    assert metrics(centre)["gridwhistle_standing_alarms", "critical"] == 0
    other.stop()

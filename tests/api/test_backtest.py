"""Rules tried on the history of the installation over the API."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from devices.instants import HOUR, MINUTE, from_iso, to_iso
from flow import trying
from flow.trials import Told
from tests.api.centre import START, Centre
from tests.installed import ADMIN

LOWER = """
rules:
  - id: high
    applies_to: {kind: pump_station}
    when: level_inside > 3.2
    clear: level_inside <= 3.0
"""
CHATTERS = """
rules:
  - id: high
    applies_to: {kind: pump_station}
    when: level_inside > 3.5
"""


def flood(centre: Centre) -> None:
    """Rises over 3.2 at 4 min, over 3.5 at 8 min, falls under 3.3 at 12 min and under 3.0 at 15 min."""
    for value in (2.8, 2.9, 3.0, 3.25, 3.3, 3.4, 3.45, 3.6, 3.7, 3.6, 3.4, 3.2, 3.1, 3.05, 2.9, 2.8):
        centre.level(value)


def minute(text: str | None) -> float | None:
    return None if text is None else (from_iso(text) - START) / MINUTE


def ask(
    centre: Centre, body: dict[str, Any], *, who: str = "officer", status: int = 202, kind: str = "backtest"
) -> Any:
    span = {"from": to_iso(START), "to": to_iso(START + HOUR)}
    return centre.post(who, f"/rules/{kind}", span | body, status=status)


def wait(centre: Centre, job: Any, *, who: str = "officer", kind: str = "backtest") -> Any:
    for _ in range(1000):
        job = centre.get(who, f"/rules/{kind}/{job['id']}")
        if job["state"] not in {"waiting", "running"}:
            return job
        time.sleep(0.01)
    raise AssertionError(job)


def result(centre: Centre, **body: Any) -> Any:
    done = wait(centre, ask(centre, body))
    assert done["state"] == "done", done
    assert done["progress"] == 1.0
    return done["result"]


def test_a_lower_limit_is_tried_against_the_one_that_runs(centre: Centre) -> None:
    flood(centre)
    tried = result(centre, rules=LOWER, against="running", only=["high"])
    assert [(a["rule"], a["device"], minute(a["raised_at"]), minute(a["cleared_at"])) for a in tried["alarms"]] == [
        ("high", "ps-1", 4, 15)
    ]
    comparison = tried["comparison"]
    assert (comparison["same"], comparison["gained_count"], comparison["lost_count"]) == (0, 0, 0)
    [moved] = comparison["moved"]
    assert (minute(moved["before"]["raised_at"]), minute(moved["after"]["raised_at"])) == (8, 4)
    assert tried["review"]["alarms"] == tried["against_review"]["alarms"] == 1
    assert tried["readings"] == 16
    assert tried["rules"] == ["high"]


def test_the_rules_that_run_find_what_was_raised(centre: Centre) -> None:
    flood(centre)
    raised = centre.get("officer", "/occurrences")["items"]
    tried = result(centre)
    assert [(a["rule"], a["raised_at"], a["cleared_at"], a["peak_value"]) for a in tried["alarms"]] == [
        (o["rule"], o["raised_at"], o["cleared_at"], o["peak_value"]) for o in raised
    ]
    assert tried["comparison"] is tried["against_review"] is None


def test_an_alarm_from_before_the_span_is_known_at_its_start(centre: Centre) -> None:
    flood(centre)
    start = to_iso(START + 9 * MINUTE)
    [alarm] = result(centre, **{"from": start})["alarms"]
    assert (minute(alarm["raised_at"]), minute(alarm["cleared_at"])) == (8, 12)
    assert result(centre, **{"from": start})["review"]["alarms"] == 0, "it was not raised in the span"
    assert result(centre, **{"from": to_iso(START + 13 * MINUTE)})["alarms"] == []


def test_an_absence_at_the_end_is_found(centre: Centre) -> None:
    flood(centre)
    centre.now += 30 * MINUTE
    rules = "rules: [{id: quiet, applies_to: {kind: pump_station}, when: 'absent(level_inside, 10m)'}]"
    found = {a["device"]: minute(a["raised_at"]) for a in result(centre, rules=rules, devices=["ps-1"])["alarms"]}
    assert found == {"ps-1": 26}


def test_mistakes_are_told_with_file_line_and_column(centre: Centre) -> None:
    problem = ask(centre, {"rules": "rules:\n  - id: high\n    when: levl_inside > 3\n"}, status=422)
    assert problem["type"].endswith(":rules_wrong")
    [mistake] = problem["mistakes"]
    assert (mistake["file"], mistake["line"], mistake["column"]) == ("rules.yaml", 3, 11)
    assert "level_inside" in mistake["message"]
    problem = ask(centre, {"rules": {"a.yaml": LOWER, "b.yaml": LOWER}, "against": "nonsense"}, status=422)
    assert problem["mistakes"][0]["file"] == "b.yaml"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"from": to_iso(START), "to": to_iso(START)}, 422, "empty_span"),
        ({"to": "2026-12-31T00:00:00Z"}, 422, "history_too_long"),
        ({"devices": ["nobody"]}, 404, "no_such_device"),
        ({"devices": ["cam-1"]}, 422, "nothing_to_try"),
        ({"only": ["nothing"]}, 422, "nothing_to_try"),
        ({"rules": ""}, 422, "invalid_request"),
        ({"nonsense": 1}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_tried_is_refused_at_once(centre: Centre, body: dict[str, Any], status: int, code: str) -> None:
    flood(centre)
    assert ask(centre, body, status=status)["type"] == f"urn:gridwhistle:problem:{code}"


def test_a_rule_that_raises_without_end_is_given_up(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "MOST_ALARMS", 2)
    for value in (3.6, 3.4) * 4:
        centre.level(value)
    done = wait(centre, ask(centre, {"rules": CHATTERS}))
    assert (done["state"], done["problem"]["code"], done["result"]) == ("failed", "too_many_alarms", None)


def test_one_at_a_time_and_it_may_be_given_up(centre: Centre) -> None:
    flood(centre)
    go = threading.Event()

    def slow(told: Told) -> None:
        while not go.wait(0.01):
            told(0.5)

    centre.installation.trials.start(ADMIN, centre.installation.wall, "test", slow)
    job = ask(centre, {})
    assert (job["state"], job["progress"]) == ("waiting", 0.0)
    assert ask(centre, {}, status=409)["type"].endswith(":trial_unfinished")
    path = f"/api/v1/rules/backtest/{job['id']}"
    assert centre.ask("GET", path, token=centre.token("admin")).json()["state"] == "waiting"
    assert centre.ask("GET", path.replace("backtest", "suggest"), token=centre.token("admin")).status_code == 404
    assert centre.ask("DELETE", path, token=centre.token("officer")).json()["state"] == "cancelled"
    go.set()
    assert wait(centre, ask(centre, {}))["state"] == "done"


def test_what_would_quieten_a_rule(centre: Centre) -> None:
    for value in (3.6, 3.2) * 5:
        centre.level(value)
    done = wait(centre, ask(centre, {"rule": "high"}, kind="suggest"), kind="suggest")
    assert done["state"] == "done", done
    assert done["result"]["rule"] == "high"
    assert {proposal["key"] for proposal in done["result"]["proposals"]} == {"for", "clear"}
    assert ask(centre, {"rule": "none"}, kind="suggest", status=404)["type"].endswith(":no_such_rule")

"""Why a rule fired or stayed silent, asked over the API of a centre that runs: now, and of any instant before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.batch import Quality
from devices.instants import HOUR, MINUTE, SECOND, from_iso, to_iso
from devices.registry import DeviceStatus
from flow import desk, explaining
from rules.book import load
from store.readings import Columns
from tests.api.centre import PRIVATE, START, Centre
from tests.installed import ADMIN

RULES = """
rules:
  - id: high
    name: {zh: 圩内高水位, en: Polder high}
    applies_to: {kind: pump_station}
    when: level_inside > attr.inside_limit_level
    for: 2m
    clear: level_inside <= attr.inside_limit_level - 0.2
    priority: critical
  - id: west
    applies_to: {kind: pump_station, grids: [west]}
    when: level_inside > 1
  - id: quiet
    applies_to: {kind: pump_station}
    when: absent(level_inside, 10m)
  - id: opened
    applies_to: {kind: door_sensor}
    when: event("door_opened")
    priority: notice
  - id: many
    when: in_grid(count(level_inside > 3) >= 1)
  - id: pumps
    applies_to: {kind: pump_station}
    when: level_inside > 3 and pumps_running == 0
  - id: night
    applies_to: {kind: pump_station}
    when: level_inside > 3 and between("22:00", "06:00")
"""


@pytest.fixture
def centre(tmp_path: Path, peopled: Path) -> Iterator[Centre]:
    centre = Centre(tmp_path, peopled).start()
    centre.settler.reload(load({"rules.yaml": RULES}), centre.now)
    yield centre
    centre.stop()


def explain(centre: Centre, rule: str, device: str = "ps-1", at: int | None = None, *, who: str = "officer") -> Any:
    query = {"device": device} | ({} if at is None else {"at": to_iso(at)})
    return centre.get(who, f"/rules/{rule}/explain", **query)


def alarm(centre: Centre, rule: str, device: str = "ps-1") -> int:
    [found] = [a for a in centre.get("admin", "/alarms")["items"] if (a["rule"], a["device"]) == (rule, device)]
    return int(found["id"])


def of_alarm(centre: Centre, rule: str, *, who: str = "officer", device: str = "ps-1") -> Any:
    return centre.get(who, f"/alarms/{alarm(centre, rule, device)}/explain")


def codes(found: Any) -> list[str]:
    return [why["code"] for why in found["why"]]


def minute(text: str | None) -> float | None:
    return None if text is None else (from_iso(text) - START) / MINUTE


def test_an_alarm_is_explained_at_its_raise_and_now(centre: Centre) -> None:
    for level in (3.4, 3.52, 3.55, 3.56, 3.4):
        centre.level(level)
    found = of_alarm(centre, "high", who="viewer")
    then, now = found["raised"], found["now"]
    assert (then["source"], then["state"], then["when"], then["clear"]) == ("history", "firing", True, False)
    assert (minute(then["at"]), minute(then["since"]), minute(then["raised_at"])) == (4, 2, 4)
    assert (then["for"], then["held"]) == ("2m", "2m")
    assert then["readings"] == [{
        "metric": "level_inside", "value": 3.56, "measured_at": to_iso(START + 4 * MINUTE), "age": "0s",
        "max_age": "3m", "known": True, "quality": "good",
    }]  # fmt: skip
    assert [(part["text"], part["value"], part["depth"]) for part in then["parts"]] == [
        ("level_inside > attr.inside_limit_level", True, 0), ("level_inside", 3.56, 1),
        ("attr.inside_limit_level", 3.5, 1),
    ]  # fmt: skip
    assert (now["source"], now["state"], now["readings"][0]["value"]) == ("live", "firing", 3.4)
    assert minute(now["recorded"]["raised_at"]) == 4
    assert codes(now)[0] == "firing"
    assert "at_odds" not in codes(then) + codes(now)


def test_times_in_the_words_are_those_of_the_site(centre: Centre) -> None:
    for level in (3.52, 3.55, 3.56):
        centre.level(level)
    words = explain(centre, "high")["why"][0]["zh"]
    assert "2025-11-21 12:43:00 +08:00" in words
    assert "Z" not in words


@pytest.mark.parametrize(
    ("after", "state", "when", "code"),
    [(0.5, "normal", False, "false"), (2.5, "pending", True, "pending"), (7.5, "firing", None, "firing")],
)
def test_any_instant_before_is_judged_again(
    centre: Centre, after: float, state: str, when: bool | None, code: str
) -> None:
    for level in (3.4, 3.52, 3.55, 3.56):
        centre.level(level, after=round(1.0 * MINUTE))
    centre.now += HOUR
    centre.level(3.0)
    found = explain(centre, "high", at=START + round((after + 1) * MINUTE))
    assert (found["source"], found["state"], found["when"]) == ("history", state, when)
    assert codes(found)[0] == code


def test_an_unknown_value_is_told_with_its_age(centre: Centre) -> None:
    centre.level(3.4)
    centre.now += 10 * MINUTE
    found = explain(centre, "high")
    assert (found["state"], found["when"]) == ("normal", None)
    assert {"unknown", "too_old"} <= set(codes(found))
    assert (found["readings"][0]["known"], found["readings"][0]["age"]) == (False, "10m")
    assert {"never_seen"} <= set(codes(explain(centre, "pumps")))


def test_an_absence_is_seen_by_the_clock(centre: Centre) -> None:
    centre.level(3.4)
    centre.now += 30 * MINUTE
    centre.level(3.4)
    at = START + 15 * MINUTE
    found = explain(centre, "quiet", at=at)
    assert (found["state"], minute(found["raised_at"])) == ("firing", 11)
    assert explain(centre, "quiet", at=START + 10 * MINUTE)["state"] == "normal"


def test_what_does_not_apply_says_why(centre: Centre) -> None:
    centre.level(3.6)
    assert codes(explain(centre, "high", "cam-1")) == ["other_kind"]
    assert codes(explain(centre, "west", "ps-1")) == ["other_grid"]
    assert codes(explain(centre, "west", "ps-1", START)) == ["other_grid"]
    assert explain(centre, "west", "ps-1")["state"] == "not_judged"
    centre.send("ps-new", {"at": centre.now // 1000, "level_inside": 3.9})
    known = centre.installation.registry.get("ps-new")
    assert known is not None
    assert known.status is DeviceStatus.QUARANTINED
    assert codes(explain(centre, "high", "ps-new")) == ["not_active"]


def test_a_schedule_that_does_not_hold_is_named(centre: Centre) -> None:
    centre.level(3.6)
    found = explain(centre, "night")
    assert found["when"] is False
    assert any("[schedule]" in why["zh"] for why in found["why"])


def test_a_momentary_alarm_is_told_as_such(centre: Centre) -> None:
    centre.door_opens()
    found = of_alarm(centre, "opened", who="handler", device="door-1")
    assert found["raised"]["when"] is True
    assert "momentary" in codes(found["raised"])
    assert "at_odds" not in codes(found["raised"])


def test_bad_readings_near_it_are_listed(centre: Centre) -> None:
    centre.level(3.4)
    series = centre.installation.registry.find_series(0, "level_inside")
    rows = np.array([START + MINUTE + 30 * SECOND])
    bad = Columns(np.array([series], np.int32), rows, np.array([9.9]), np.array([Quality.BAD], np.uint8), START,
                  np.zeros(1, np.uint8))  # fmt: skip
    centre.readings.append(99, [bad])
    centre.now += MINUTE
    for at in (None, START + 2 * MINUTE - SECOND):
        found = explain(centre, "high", at=at)
        assert [(one["metric"], one["value"], one["quality"]) for one in found["left_out"]] == [
            ("level_inside", 9.9, "bad")
        ]
        assert "bad_quality" in codes(found)
        assert found["readings"][0]["value"] == 3.4


def test_who_shelved_it_is_told(centre: Centre) -> None:
    for level in (3.52, 3.55, 3.56):
        centre.level(level)
    before = centre.now
    centre.now += MINUTE
    desk.shelve(
        centre.records, centre.now, ADMIN, alarm=alarm(centre, "high"), until=centre.now + HOUR, reason="检修水泵"
    )
    centre.now += MINUTE
    found = explain(centre, "high")
    assert (found["recorded"]["state"], found["recorded"]["by"]) == ("SHLVD", "admin")
    assert any(why["code"] == "shelved" and "检修水泵" in why["zh"] for why in found["why"])
    assert "shelved" not in codes(explain(centre, "high", at=before)), "not yet, then"


def test_what_holds_it_back_is_named(centre: Centre) -> None:
    rules = RULES.replace("  - id: many\n", "  - id: many\n    suppresses: [high]\n")
    centre.settler.reload(load({"rules.yaml": rules}), centre.now)
    for level in (3.52, 3.55, 3.56, 3.57):
        centre.level(level)
    found = explain(centre, "high")
    assert (found["state"], found["recorded"]["state"]) == ("firing", "DSUPR")
    assert any(why["code"] == "suppressed" and "many grid:east" in why["zh"] for why in found["why"])


def test_a_rule_that_was_changed_since_is_told(centre: Centre) -> None:
    for level in (3.52, 3.55, 3.56):
        centre.level(level)
    centre.now += MINUTE
    changed = RULES.replace("when: level_inside > attr.inside_limit_level", "when: level_inside > 3.9")
    centre.settler.reload(load({"rules.yaml": changed}), centre.now)
    then = of_alarm(centre, "high")["raised"]
    assert {"at_odds", "rule_changed"} <= set(codes(then))
    assert any("attr.inside_limit_level" in why["zh"] for why in then["why"]), "what it said then"
    centre.settler.reload(load({"rules.yaml": RULES.replace("id: high", "id: higher")}), centre.now)
    found = of_alarm(centre, "high")
    assert codes(found["now"])[0] == "rule_not_running"
    assert found["now"]["source"] == "none"


def test_the_service_explains_its_own(centre: Centre) -> None:
    centre.level(3.0)
    centre.settler.link(centre.now)
    centre.now += HOUR
    centre.settler.tick(centre.now)
    [silent] = [
        a for a in centre.get("officer", "/alarms")["items"] if a["rule"] == "gw-silence" and a["device"] == "ps-1"
    ]
    found = centre.get("officer", f"/alarms/{silent['id']}/explain")
    assert codes(found["now"])[:2] == ["service_rule", "stands"]


def test_a_member_is_explained_by_its_group(centre: Centre) -> None:
    centre.level(3.2)
    for name in ("ps-1", "grid:east"):
        found = explain(centre, "many", name)
        assert (found["device"], found["state"]) == ("grid:east", "firing")
        assert "ps-1" in found["why"][0]["zh"]
    centre.level(2.0)
    assert explain(centre, "many", "ps-1")["state"] == "normal"
    found = explain(centre, "many", "grid:east", START + MINUTE + SECOND)
    assert (found["source"], found["state"]) == ("history", "firing")
    assert minute(found["raised_at"]) == 1
    assert explain(centre, "many", "grid:west")["state"] in {"normal", "not_judged"}


def test_an_alarm_that_has_stood_for_long_is_found_again(centre: Centre) -> None:
    centre.level(3.6)
    for _ in range(12):
        centre.level(3.6, after=HOUR)
        centre.level(3.6)
        centre.level(3.6)
    found = explain(centre, "high", at=centre.now - 1)
    assert found["state"] == "firing"
    assert "at_odds" not in codes(found)


def test_dense_readings_are_looked_back_on_for_less(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    for level in (3.4, 3.52, 3.55, 3.56):
        centre.level(level)
    monkeypatch.setattr(explaining, "MOST_READINGS", 3)
    found = explain(centre, "high", at=centre.now - 1)
    assert "looked_back_less" in codes(found)


def test_who_may_not_see_a_door_is_told_nothing_of_it(centre: Centre) -> None:
    centre.door_opens()
    notice = alarm(centre, "opened", "door-1")
    for path in (f"/alarms/{notice}/explain", f"/rules/opened/explain?device=door-1&at={to_iso(START)}"):
        for who in ("viewer", "wall"):
            answer = centre.ask("GET", f"/api/v1{path}", token=centre.token(who))
            assert answer.status_code == (404 if "alarms" in path else 403)
            assert not [word for word in PRIVATE if word in answer.text]
        assert centre.ask("GET", f"/api/v1{path}", token=centre.token("handler")).status_code == 200


def test_what_nobody_knows(centre: Centre) -> None:
    for path, code in (
        ("/alarms/99/explain", "no_such_alarm"),
        ("/rules/none/explain?device=ps-1", "no_such_rule"),
        ("/rules/high/explain?device=none", "no_such_device"),
    ):
        answer = centre.ask("GET", f"/api/v1{path}", token=centre.token("viewer"))
        assert (answer.status_code, answer.json()["type"].split(":")[-1]) == (404, code)
    assert centre.ask("GET", "/api/v1/rules/high/explain", token=centre.token("viewer")).status_code == 422


def refusal(centre: Centre, rule: str, device: str, status: int, *, who: str = "officer", **query: str) -> Any:
    path = f"/api/v1/rules/{rule}/explain"
    answer = centre.ask("GET", path, token=centre.token(who), params={"device": device, **query})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_what_is_yet_to_come_is_refused_and_now_is_named(centre: Centre) -> None:
    refused = refusal(centre, "high", "ps-1", 422, at=to_iso(centre.now + MINUTE))
    assert refused["type"].endswith(":in_the_future")
    assert "now is 2025-11-21 12:40:00 +08:00" in refused["detail"]
    assert explain(centre, "high", at=centre.now)["source"] == "live"


@pytest.mark.parametrize(
    ("rule", "device", "told"),
    [
        ("hihg", "ps-1", "nearest: high"),
        ("high", "ps-11", "nearest: ps-1"),
        ("gw-silence", "ps-1", "explained by the alarm's number"),
        ("high", "zzzz", "there is no device zzzz"),
    ],
)
def test_a_name_nobody_knows_is_answered_with_the_nearest(centre: Centre, rule: str, device: str, told: str) -> None:
    refused = refusal(centre, rule, device, 404)
    assert told in refused["detail"]


def test_a_home_is_no_nearest_name_for_those_who_may_not_see_it(centre: Centre) -> None:
    assert "nearest: door-1" in refusal(centre, "opened", "door-11", 404, who="handler")["detail"]
    assert "nearest" not in refusal(centre, "opened", "door-11", 404, who="viewer")["detail"]

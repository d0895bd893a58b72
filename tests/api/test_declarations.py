"""Declaring over the API: what is answered, what is refused, and what of a home is seen by whom."""

from __future__ import annotations

from typing import Any

import pytest

from devices.instants import DAY, HOUR, to_iso
from tests.api.centre import PRIVATE, RULES, START, Centre

LATER = to_iso(START + DAY)


def declare(centre: Centre, path: str, **body: Any) -> Any:
    return centre.post("officer", path, body, status=201)


def test_a_response_is_declared_and_replaced_and_ended(centre: Centre) -> None:
    first = declare(centre, "/declarations/response", level=4, why="台风蓝色预警", ordered_by="王镇长")
    assert first == {
        "id": 1, "level": 4, "why": "台风蓝色预警", "ordered_by": "王镇长", "by": "officer",
        "start": to_iso(START), "end": None, "declared_at": to_iso(START), "ended_by": None, "ended_at": None,
    }  # fmt: skip
    centre.now += HOUR
    second = declare(centre, "/declarations/response", level=2, why="升级", ordered_by="王镇长", end=LATER)
    standing = centre.get("viewer", "/declarations/response", standing=True)["items"]
    assert [r["id"] for r in standing] == [second["id"]]
    centre.now += HOUR
    ended = centre.post("officer", f"/declarations/response/{second['id']}/end")
    assert (ended["end"], ended["ended_by"]) == (to_iso(START + 2 * HOUR), "officer")
    centre.post("officer", f"/declarations/response/{second['id']}/end", status=409)
    listed = centre.get("viewer", "/declarations/response")["items"]
    assert [(r["id"], r["end"]) for r in listed] == [(2, to_iso(START + 2 * HOUR)), (1, to_iso(START + HOUR))]


def test_a_drill_is_no_response(centre: Centre) -> None:
    drill = declare(centre, "/declarations/drill", why="防汛演练", end=LATER)
    assert centre.get("viewer", "/declarations/drill", standing=True)["items"] == [drill]
    assert centre.get("viewer", "/declarations/response")["items"] == []
    centre.post("officer", f"/declarations/response/{drill['id']}/end", status=404)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/declarations/response", {"level": 0, "why": "x", "ordered_by": "x"}, "invalid_request"),
        ("/declarations/response", {"level": 3, "why": "x"}, "invalid_request"),
        ("/declarations/response", {"level": 3, "why": " ", "ordered_by": "x"}, "reason_required"),
        ("/declarations/response", {"level": 3, "why": "x", "ordered_by": "x", "end": to_iso(START)}, "ends_before"),
        ("/declarations/drill", {"why": "x"}, "invalid_request"),
        ("/declarations/drill", {"why": "x", "end": to_iso(START + 8 * DAY)}, "drill_too_long"),
        ("/pauses", {"device": "ps-1", "end": LATER}, "invalid_request"),
        ("/pauses", {"device": "ps-1", "why": "x"}, "invalid_request"),
        ("/pauses", {"device": "ps-1", "why": "x", "end": LATER, "rules": ["nothing"]}, "no_such_rule"),
        ("/pauses", {"device": "ps-1", "why": "x", "end": LATER, "forever": True}, "invalid_request"),
    ],
)
def test_what_is_incomplete_is_refused(centre: Centre, path: str, body: dict[str, Any], code: str) -> None:
    answer = centre.post("officer", path, body, status=422)
    assert answer["type"].endswith(f":{code}")
    assert centre.get("officer", path)["items"] == []


def test_a_pause_clears_what_stands_and_is_found_by_its_device(centre: Centre) -> None:
    centre.level(3.8)
    declare(centre, "/pauses", device="ps-1", why="限排令 2025-11", end=LATER, rules=["high"])
    (occurrence,) = centre.get("viewer", "/occurrences", rule="high")["items"]
    assert occurrence["cleared_at"] is not None
    (pause,) = centre.get("viewer", "/pauses", device="ps-1")["items"]
    assert (pause["device"], pause["rules"], pause["of_person"], pause["why"]) == (
        "ps-1", ["high"], False, "限排令 2025-11",
    )  # fmt: skip
    assert centre.get("viewer", "/pauses", device="ps-2")["items"] == []


def test_the_pause_of_a_home_is_for_handlers_and_above_and_names_nobody(centre: Centre) -> None:
    pause = declare(centre, "/pauses", device="door-1", of_person=True, why="住院", end=LATER)
    declare(centre, "/pauses", device="ps-1", why="检修", end=LATER)
    assert [p["id"] for p in centre.get("handler", "/pauses")["items"]] == [2, 1]
    assert "陆阿婆" not in str(pause)
    for person in ("viewer", "wall"):
        seen = centre.get(person, "/pauses", limit=1)
        assert ([p["id"] for p in seen["items"]], seen["next"]) == ([2], None)
        assert not any(word in str(seen) for word in (*PRIVATE, "住院"))
        answer = centre.ask("GET", "/api/v1/pauses?device=door-1", token=centre.token(person))
        assert answer.status_code == 403
        assert "住院" not in str(centre.get(person, "/alarms")) + str(centre.get(person, "/occurrences"))


def test_pages_of_pauses_follow_one_another(centre: Centre) -> None:
    for device in ("ps-1", "ps-2", "cam-1"):
        declare(centre, "/pauses", device=device, why="检修", end=LATER)
    first = centre.get("viewer", "/pauses", limit=2)
    second = centre.get("viewer", "/pauses", limit=2, cursor=first["next"])
    assert [p["device"] for p in (*first["items"], *second["items"])] == ["cam-1", "ps-2", "ps-1"]
    assert second["next"] is None


def test_the_rules_are_listed_as_they_run(centre: Centre) -> None:
    items = centre.get("viewer", "/rules")["items"]
    assert [r["id"] for r in items] == ["high", "opened", "tamper"]
    high = items[0]
    assert (high["zh"], high["when"], high["for"], high["clear"], high["priority"]) == (
        "圩内高水位", "level_inside > 3.5", "0s", "level_inside <= 3.3", "critical",
    )  # fmt: skip
    assert high["applies_to"] == {"kind": "pump_station", "devices": None, "grids": None, "tags": None}
    assert (high["max_age"], high["levels"], high["repeat"], high["early"]) == (None, [], None, False)
    assert [r["id"] for r in centre.get("viewer", "/rules", limit=1)["items"]] == ["high"]


def test_rules_with_a_mistake_are_refused_whole_with_its_place(centre: Centre) -> None:
    centre.level(3.8)
    centre.rules = {"rules.yaml": RULES.replace("level_inside > 3.5", "level_insid > 3.0")}
    answer = centre.post("admin", "/rules/reload", status=422)
    assert answer["type"].endswith(":rules_wrong")
    (mistake,) = answer["mistakes"]
    assert (mistake["file"], mistake["line"], mistake["column"]) == ("rules.yaml", 6, 11)
    assert "level_inside" in mistake["message"]
    assert centre.get("viewer", "/rules")["items"][0]["when"] == "level_inside > 3.5"
    assert centre.get("viewer", "/occurrences", rule="high")["items"][0]["cleared_at"] is None


def test_another_book_is_taken_and_says_what_starts_afresh(centre: Centre) -> None:
    centre.level(3.8)
    centre.rules = {"rules.yaml": RULES.replace("level_inside > 3.5", "level_inside > 3.0").replace("被拆", "被拆除")}
    answer = centre.post("admin", "/rules/reload")
    assert answer == {
        "unchanged": ["opened"], "changed": ["high", "tamper"], "removed": [], "added": [], "afresh": ["high"],
        "warnings": [],
    }  # fmt: skip
    assert centre.get("viewer", "/rules")["items"][0]["when"] == "level_inside > 3.0"
    assert centre.get("viewer", "/occurrences", rule="high")["items"][0]["cleared_at"] is not None


def test_what_cleared_an_alarm_where_no_reading_did_is_told_in_words(centre: Centre) -> None:
    centre.level(3.8)
    centre.rules = {"rules.yaml": RULES.replace("level_inside > 3.5", "level_inside > 3.6")}
    centre.post("admin", "/rules/reload")
    end = {
        "code": "rule_removed_or_changed", "zh": "规则已修改或删除，从头判断",
        "en": "the rule was changed or removed and starts afresh",
    }  # fmt: skip
    history = centre.get("viewer", "/alarms/1")["history"]
    assert [(act["act"], act["cleared_by"]) for act in history] == [("raised", None), ("cleared", end)]
    assert centre.get("viewer", "/orders/1")["history"][-1]["cleared_by"] == end
    centre.post("officer", "/alarms/1/comment", {"comment": "paused"})
    assert centre.get("viewer", "/alarms/1")["history"][-1]["cleared_by"] is None, "a person said so"

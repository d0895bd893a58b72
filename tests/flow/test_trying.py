"""Rules tried on stored history find what the running rules recorded: the same engine over the same readings."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from devices.instants import HOUR, MINUTE, SECOND
from devices.town import read_town
from flow import declare
from flow.applying import applied, subject_of
from flow.trying import RUNNING, Question, Tried, answer, grid_tree, prepare
from rules.book import load
from store.records.tables import occurrences
from tests.api.centre import START, TOWN, Centre, people
from tests.installed import ADMIN

RULES = """
rules:
  - {id: held, applies_to: {kind: pump_station}, when: level_inside > 3.5, for: 2m, clear: level_inside <= 3.4}
  - {id: mean, applies_to: {kind: pump_station}, when: "avg(level_inside, 10m) > 3.45 and pumps_running < 2"}
  - {id: quiet, applies_to: {kind: pump_station}, when: "absent(level_inside, 7m)"}
  - {id: thrice, applies_to: {kind: pump_station}, when: level_inside > 3.5, repeat: 3 of 5}
  - {id: kept, applies_to: {kind: pump_station}, when: level_inside > 3.55, keep_for: 15m}
  - {id: rising, applies_to: {kind: pump_station}, when: "rate(level_inside, 10m) > 0.0001"}
  - id: steps
    applies_to: {kind: pump_station}
    levels:
      - {priority: low, when: level_inside > 3.45}
      - {priority: critical, when: level_inside > 3.58, for: 1m}
  - {id: many, when: "in_grid(count(level_inside > 3.5) >= 1)", for: 1m}
  - {id: seen, applies_to: {kind: camera}, when: 'count(event("person_detected"), 10m) >= 3'}
  - {id: lately, applies_to: {kind: camera}, when: 'event("boat_detected")', keep_for: 5m}
  - {id: evening, applies_to: {kind: pump_station}, when: 'level_inside > 3.5 and between("12:50", "13:20")'}
"""


@pytest.fixture
def centre(tmp_path: Path, peopled: Path) -> Iterator[Centre]:
    centre = Centre(tmp_path, peopled).start()
    centre.settler.reload(load({"rules.yaml": RULES}), centre.now)
    centre.settler.link(centre.now)
    yield centre
    centre.stop()


@pytest.fixture(scope="session")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("people") / "records.sqlite")


def live(centre: Centre, seed: int, until: int = START + 3 * HOUR) -> None:
    """Hours of irregular readings and events, the clock ticking before each; some silences in between."""
    chance = random.Random(seed)
    levels = {"ps-1": 3.4, "ps-2": 3.4}
    number = 1000 * seed
    while centre.now < until:
        centre.now += chance.choice([20, 30, 60, 60, 90, 60, 700]) * SECOND
        centre.settler.tick(centre.now)
        at = centre.now // 1000
        for device in chance.sample(sorted(levels), chance.randint(1, 2)):
            levels[device] = min(3.7, max(3.2, levels[device] + chance.uniform(-0.08, 0.08)))
            body: dict[str, float] = {"at": at, "level_inside": round(levels[device], 3)}
            if chance.random() < 0.7:
                body["pumps_running"] = chance.randint(0, 3)
            centre.send(device, body)
        if chance.random() < 0.4:
            number += 1
            event = {"at": at, "event": chance.choice(["person_detected", "boat_detected"]), "id": str(number)}
            centre.send("cam-1", event, channel="events", kind="camera")


def tried(centre: Centre, question: Question) -> Tried:
    here = centre.installation
    return answer(here, prepare(here, question), lambda _: None)


def recorded(centre: Centre) -> set[tuple[object, ...]]:
    c = occurrences.c
    query = select(c.rule, c.device, c.since, c.raised_at, c.cleared_at, c.first_value, c.peak_value)
    with centre.records.connect() as tx:
        return {tuple(row) for row in tx.execute(query.where(~c.rule.startswith("gw-")))}


@pytest.mark.parametrize("seed", range(4))
def test_history_gives_what_was_recorded(centre: Centre, seed: int) -> None:
    live(centre, seed)
    centre.settler.tick(centre.now)
    found = tried(centre, Question(rules=None, against=None, start=START, end=centre.now + 1))
    told = {(f.rule, f.device, f.since, f.raised_at, f.cleared_at, f.first_value, f.peak_value) for f in found.alarms}
    assert len(told) > 30
    assert {finding[0] for finding in told} >= {"held", "mean", "quiet", "steps", "many", "lately"}
    assert told == recorded(centre)


def test_what_was_declared_then_holds_in_history_too(centre: Centre) -> None:
    def pause(tx: Connection, now: int) -> int:
        return declare.pause(
            tx, now, ADMIN, centre.installation.registry, device="ps-1", why="检修", end=now + 40 * MINUTE,
            known_rules=centre.installation.rulebook().rules,
        )  # fmt: skip

    live(centre, 5, until=START + HOUR)
    centre.now += SECOND
    begun = centre.now
    centre.settler.declare(pause, begun)
    live(centre, 6)
    found = tried(centre, Question(rules=None, against=None, start=START, end=centre.now + 1))
    told = {(f.rule, f.device, f.since, f.raised_at, f.cleared_at, f.first_value, f.peak_value) for f in found.alarms}
    assert told == recorded(centre)
    alarms = [f for f in found.alarms if f.device == "ps-1"]
    assert not [f for f in alarms if begun <= f.raised_at < begun + 40 * MINUTE]
    assert {f.cleared_at for f in alarms} >= {begun}, "what stood was cleared by it"
    assert any(f.raised_at >= begun + 40 * MINUTE for f in alarms)


def test_any_part_of_it_is_the_same_as_in_the_whole(centre: Centre) -> None:
    """What lies before the span is judged too, so windows and holds are as they were."""
    live(centre, 9)
    whole = tried(centre, Question(rules=None, against=None, start=START, end=centre.now + 1))
    start = START + 100 * MINUTE
    part = tried(centre, Question(rules=None, against=RUNNING, start=start, end=centre.now + 1))
    stood = [f for f in whole.alarms if f.cleared_at is None or f.cleared_at >= start]
    assert list(part.alarms) == stood
    assert part.review.alarms == sum(f.raised_at >= start for f in stood)
    assert part.comparison is not None
    assert (part.comparison.gained, part.comparison.lost, part.comparison.moved) == ((), (), ())


def test_only_the_chosen_devices_and_rules_are_tried(centre: Centre) -> None:
    live(centre, 3)
    question = Question(rules=None, against=None, start=START, end=centre.now + 1, devices=["ps-2"])
    one = tried(centre, question)
    assert one.devices == ("ps-2",)
    assert {f.device for f in one.alarms} <= {"ps-2", "grid:west"}
    assert any("many" in en for _, en in one.notes), "a group of one device is not the group"
    held = tried(centre, replace(question, devices=None, only=frozenset({"held"})))
    assert {f.rule for f in held.alarms} == {"held"}


def test_the_grid_tree_and_what_a_rule_speaks_of(centre: Centre) -> None:
    assert grid_tree(centre.installation) == {
        "town": frozenset({"town", "east", "west"}), "east": frozenset({"east"}), "west": frozenset({"west"}),
    }  # fmt: skip
    rules = centre.installation.rulebook().rules
    numbers = applied(centre.installation, rules.values())
    assert (numbers["held"], numbers["seen"], numbers["steps"], numbers["many"]) == (2, 1, 2, 2)
    found = subject_of(centre.installation, rules["many"], "ps-2")
    assert found is not None
    assert (found[0], [device.id for device in found[1]]) == ("grid:west", ["ps-2"])
    assert subject_of(centre.installation, rules["held"], "cam-1") is None
    assert len(read_town(TOWN).devices) == 4

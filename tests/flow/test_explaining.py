"""An instant explained later, from stored readings, is told as the engine told it then."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alerts.refusals import Conflict
from devices.instants import HOUR, SECOND
from flow import explaining
from flow.explained import Explanation
from flow.explaining import explain_rule
from rules.book import load
from tests.api.centre import START, Centre, people
from tests.flow.test_trying import RULES, live

ASKED = (
    ("held", "ps-1"), ("mean", "ps-2"), ("quiet", "ps-1"), ("thrice", "ps-2"), ("kept", "ps-1"), ("rising", "ps-2"),
    ("steps", "ps-1"), ("many", "grid:east"), ("seen", "cam-1"), ("lately", "cam-1"), ("evening", "ps-1"),
)  # fmt: skip


@pytest.fixture(scope="session")
def peopled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return people(tmp_path_factory.mktemp("people") / "records.sqlite")


@pytest.fixture
def centre(tmp_path: Path, peopled: Path) -> Iterator[Centre]:
    centre = Centre(tmp_path, peopled).start()
    centre.settler.reload(load({"rules.yaml": RULES}), centre.now)
    centre.settler.link(centre.now)
    yield centre
    centre.stop()


def essence(found: Explanation) -> tuple[object, ...]:
    values = [(reading.metric, reading.value, reading.measured_at, reading.known) for reading in found.readings]
    parts = [(part.text, part.value) for part in found.parts]
    return (found.rule, found.at, found.state, found.when, found.clear, found.since, found.raised_at, values, parts)


@pytest.mark.parametrize("seed", range(3))
def test_the_past_is_told_as_it_was_told_then(centre: Centre, seed: int) -> None:
    chance = random.Random(seed)
    then: list[Explanation] = []
    for step in range(1, 13):
        live(centre, 100 * seed + step, until=START + step * HOUR // 4)
        centre.now += chance.randint(1, 50) * SECOND
        centre.settler.tick(centre.now)
        then += [explain_rule(centre.installation, rule, device, None) for rule, device in ASKED]
    centre.now += SECOND
    states = {(found.rule, found.state) for found in then}
    assert len(states) > 13, "rules in several states"
    for was in then:
        found = explain_rule(centre.installation, was.rule, was.device, was.at)
        assert (was.source, found.source) == ("live", "history")
        assert essence(found) == essence(was)
        assert "at_odds" not in {why.code for why in found.why}


def test_too_many_at_once_are_asked_to_wait(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "_PATIENCE_S", 0.05)
    centre.level(3.0)
    held = [explaining._at_once.acquire(), explaining._at_once.acquire()]
    try:
        with ThreadPoolExecutor(1) as pool, pytest.raises(Conflict, match="too_many_explanations"):
            pool.submit(explain_rule, centre.installation, "held", "ps-1", None).result(5)
    finally:
        for _ in held:
            explaining._at_once.release()
    assert explain_rule(centre.installation, "held", "ps-1", None).state == "normal"

"""Another calendar comes with a reload of the rules: what is judged from there on goes by it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from devices.instants import HOUR, MINUTE
from rules.book import load
from rules.calendar import Calendar, Site
from tests.flow.centre import START, SmallCentre

RULES = """
rules:
  - {id: day-off, applies_to: {kind: pump_station}, when: level_inside > 3.5 and holiday()}
  - {id: flood, applies_to: {kind: pump_station}, when: level_inside > 3.5, only_in: [flood_season]}
  - {id: quiet, applies_to: {kind: pump_station}, when: "absent(level_inside, 5m) and holiday()"}
  - {id: high, applies_to: {kind: pump_station}, when: level_inside > 3.5}
"""
# START is a Friday in November.
CALENDAR = Calendar(frozenset({date(2025, 11, 21)}), years=frozenset({2025}), flood_season=((11, 1), (11, 30)))


def test_the_rules_go_by_the_calendar_they_were_reloaded_with(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "c", RULES).start()
    book = load({"rules.yaml": RULES})
    centre.level(START, 4.0)
    assert [rule for rule, *_ in centre.occurrences()] == ["high"]
    centre.settler.reload(book, START + 1, site=Site("Asia/Shanghai", CALENDAR))
    assert centre.settler.memory.engine.site.calendar == CALENDAR
    centre.level(START + MINUTE, 4.0)
    assert {rule for rule, *_ in centre.occurrences()} == {"high", "day-off", "flood"}
    centre.settler.reload(book, START + MINUTE + 1, site=Site())
    centre.level(START + 2 * MINUTE, 4.0)
    assert {rule: cleared for rule, _, _, cleared in centre.occurrences()} == {
        "high": None, "day-off": START + 2 * MINUTE, "flood": START + 2 * MINUTE,
    }  # fmt: skip
    centre.settler.reload(book, START + 2 * MINUTE + 1)
    assert centre.settler.memory.engine.site == Site(), "without another it stays"
    centre.stop()


def test_the_clock_waits_for_the_turns_of_the_new_calendar(tmp_path: Path) -> None:
    centre = SmallCentre(tmp_path / "c", RULES).start()
    centre.settler.link(START)
    centre.level(START, 3.0)
    tomorrow = Calendar(frozenset({date(2025, 11, 22)}), years=frozenset({2025}))
    centre.settler.reload(load({"rules.yaml": RULES}), START + 1, site=Site("Asia/Shanghai", tomorrow))
    midnight = START + 11 * HOUR + 20 * MINUTE
    for at in (START + 10 * MINUTE, midnight - 1, midnight + 1):
        centre.settler.tick(at)
    assert {rule: raised for rule, _, raised, _ in centre.occurrences() if rule == "quiet"} == {"quiet": midnight}
    centre.stop()

"""The rule book: a file with a mistake is refused whole, and every mistake says where and what was expected."""

from __future__ import annotations

import pytest

from devices.documents import DocumentError
from devices.registry import Device
from rules.book import load
from rules.rule import NO_GAP, Limit, Priority

POLDER = """\
# the polder
rules:
  - id: polder-inside-high
    name: {zh: 圩内水位超最高控制水位, en: Polder inside level above its limit}
    applies_to: {kind: pump_station}
    when: level_inside > attr.inside_limit_level
    for: 90s
    clear: level_inside <= attr.inside_limit_level - 0.20
    priority: critical
    order: {category: flood.polder_inside}
    max_gap: none

  - {id: other, applies_to: {kind: pump_station}, when: level_inside < 2}
"""


def mistakes(**files: str) -> list[str]:
    with pytest.raises(DocumentError) as told:
        load({f"{name}.yaml": text for name, text in files.items()})
    return [str(mistake) for mistake in told.value.mistakes]


def one(fields: str) -> list[str]:
    return mistakes(a="rules:\n  - id: a\n    applies_to: {kind: pump_station}\n" + fields)


def test_a_rule_as_the_architecture_writes_it() -> None:
    rule = load({"polder.yaml": POLDER}).rules["polder-inside-high"]
    assert (rule.name_zh, rule.name_en) == ("圩内水位超最高控制水位", "Polder inside level above its limit")
    assert (rule.hold_us, rule.max_gap_us, rule.max_age_us) == (90_000_000, NO_GAP, None)
    assert (rule.priority, rule.order_category, rule.metric) == (
        Priority.CRITICAL,
        "flood.polder_inside",
        "level_inside",
    )
    assert rule.text.startswith("  - id: polder-inside-high\n")
    assert rule.text.endswith("max_gap: none")


def test_defaults() -> None:
    rule = load({"polder.yaml": POLDER}).rules["other"]
    assert (rule.hold_us, rule.clear, rule.max_gap_us, rule.max_age_us, rule.order_category) == (
        0,
        None,
        None,
        None,
        None,
    )
    assert rule.text == "  - {id: other, applies_to: {kind: pump_station}, when: level_inside < 2}"


def test_a_mistake_in_a_condition_is_told_at_its_very_character() -> None:
    told = one("    when:  level_insde > 3   # the level\n    clear: 'level_inside <'\n")
    assert told[0].startswith("a.yaml:4:12: when: unknown metric 'level_insde' of pump_station; nearest: level_inside")
    assert told[1].startswith("a.yaml:5:27: clear: expected a metric")


def test_a_condition_over_several_lines_is_told_by_its_character() -> None:
    assert one("    when: >\n      level_inside > 3\n      and lvl > 4\n")[0].startswith(
        "a.yaml:4:5: when, character 22:"
    )


def test_every_mistake_of_every_file_is_told() -> None:
    bad = "rules:\n  - {id: x, when: lvl > 3, applies_to: {kind: pump_station}}\n  - {id: x, when: level > 3}\n"
    told = mistakes(a=bad, b="rules:\n  - {id: x, when: level > 3, frequency: 3}\n", c="rules: [\n")
    assert [line.split(":")[0] for line in told] == ["a.yaml", "a.yaml", "b.yaml", "c.yaml"]
    assert "stands twice, first at a.yaml:2" in told[1]


def test_an_id_may_stand_once_in_all_files() -> None:
    fine = "rules:\n  - {id: x, when: level > 3}\n"
    assert mistakes(a=fine, b=fine) == ["b.yaml:2:6: rule 'x' stands twice, first at a.yaml:2"]


@pytest.mark.parametrize("name", ["gw-silence", "Polder", "-a", "a b", "x" * 65, "''", "圩"])
def test_an_id_is_a_name_and_not_the_services_own(name: str) -> None:
    assert mistakes(a=f"rules:\n  - id: {name}\n    when: level > 3\n")[0].startswith("a.yaml:2:5:")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("for: 0", "with its unit"),
        ("for: 60", "with its unit"),
        ("for: 1:30", "with its unit"),
        ("for: yes", "with its unit"),
        ("for: none", "not a duration"),
        ("for: 400d", "at most 366d"),
        ("max_gap: 5", "with its unit"),
        ("max_age:", "written as text"),
        ("clear:", "found nothing"),
        ("max_gap: [1m]", "written as text"),
        ("priority: urgent", "critical"),
        ("priority: off", "critical"),
        ("clear: on", "in quotes"),
        ("clear: 3", "in quotes"),
        ("order: flood", "order"),
        ("order: {category: no}", "in quotes"),
        ("hold: 1m", "not a known key"),
        ("forr: 1m", "not a known key"),
    ],
)
def test_what_yaml_makes_of_a_slip_is_named(line: str, words: str) -> None:
    (told,) = one(f"    when: level_inside > 3\n    {line}\n")
    assert told.startswith("a.yaml:5:")
    assert words in told


def test_an_unknown_kind_names_the_nearest() -> None:
    (told,) = mistakes(a="rules:\n  - {id: a, when: level > 3, applies_to: {kind: pump_staton}}\n")
    assert "nearest: pump_station" in told


def test_metrics_that_no_one_kind_has_together_are_a_mistake() -> None:
    (told,) = mistakes(a="rules:\n  - {id: a, when: level_inside > pm2_5}\n")
    assert "no kind of device has all of level_inside, pm2_5" in told


def test_an_event_cannot_hold() -> None:
    (told,) = mistakes(a="rules:\n  - {id: a, when: 'event(\"door_opened\")', for: 1m}\n")
    assert "lasts no time" in told


@pytest.mark.parametrize(
    "text", ["", "rules:", "rules: 3", "[]", "rule: []", "rules: [3]", "rules: [{}]", "a: &a [*a]"]
)
def test_a_file_that_is_no_rule_file(text: str) -> None:
    assert mistakes(a=text)


def test_a_book_may_be_empty() -> None:
    assert load({}).rules == load({"a.yaml": "rules: []"}).rules == {}


def test_the_fingerprint_is_of_the_meaning() -> None:
    def of(**fields: str) -> str:
        body = {"when": "level_inside > 3", **fields}
        lines = "".join(f"    {key}: {value}\n" for key, value in body.items())
        return load({"a.yaml": "rules:\n  - id: a\n" + lines}).rules["a"].fingerprint

    assert of() == of(priority="low", name="{zh: 高}", when="(level_inside  >  3.0)", **{"for": "0s"})
    others = [{"when": "level_inside >= 3"}, {"for": "1s"}, {"clear": "level_inside < 3"}, {"max_gap": "none"},
              {"max_age": "3m"}]  # fmt: skip
    assert len({of(), *(of(**fields) for fields in others)}) == len(others) + 1


def test_the_lines_on_a_chart_are_the_limits_of_the_device() -> None:
    text = (
        "attr.top - 0.2 < level_inside and not level_outside > 4 and level_inside > attr.none or level_inside * 2 > 3"
    )
    rule = load({"a.yaml": f"rules:\n  - {{id: a, when: {text}}}\n"}).rules["a"]
    device = Device(0, "ps-1", "s", "pump_station", attributes={"top": 3.5})
    assert rule.limits(device, 0) == [Limit("level_inside", 3.3, "above"), Limit("level_outside", 4.0, "below")]

"""The rule book: a file with a mistake is refused whole, and every mistake says where and what was expected."""

from __future__ import annotations

import pytest

from devices.documents import DocumentError
from devices.instants import MINUTE
from devices.registry import Device
from rules.book import load
from rules.expression import Group
from rules.rule import NO_GAP, Limit, Priority, Rule

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


@pytest.mark.parametrize(
    ("written", "place"),
    [
        (">\n      level_inside > 3\n      and lvl > 4\n", "6:11"),
        (">-\n      level_inside > 3\n\n      and lvl > 4\n    for: 1m\n", "7:11"),
        (">-   # why\n      level_inside > 3 and\n        (lvl > 4)\n", "6:10"),
        ("|\n      level_inside > 3   \n        and lvl > 4\n", "6:13"),
        ("|2-\n      level_inside > 3 and\n      lvl > 4\n", "6:7"),
        (">-\n      lvl > 4\n", "5:7"),
        ("level_inside > 3\n      and lvl > 4   # why\n", "5:11"),
        ("'level_inside > 3\n      and lvl > 4'\n", "5:11"),
        ('"lvl > 4"\n', "4:12"),
    ],
)
def test_a_condition_over_several_lines_is_told_at_its_own(written: str, place: str) -> None:
    assert one(f"    when: {written}")[0].startswith(f"a.yaml:{place}: when: unknown metric 'lvl'")


def test_what_is_missing_at_the_end_of_several_lines_is_told_behind_the_last() -> None:
    assert one("    when: >-\n      level_inside > 3\n      and\n    for: 1m\n")[0].startswith(
        "a.yaml:6:10: when: expected"
    )


def test_a_condition_that_the_file_writes_otherwise_is_told_by_its_character() -> None:
    assert one('    when: "level_inside \\x3e 3\\\n      \\ and lvl > 4"\n')[0].startswith(
        "a.yaml:4:5: when, character 22:"
    )


def test_every_mistake_of_every_file_is_told() -> None:
    bad = "rules:\n  - {id: x, when: lvl > 3, applies_to: {kind: pump_station}}\n  - {id: x, when: level > 3}\n"
    told = mistakes(a=bad, b="rules:\n  - {id: x, when: level > 3, frequency: 3}\n", c="rules: [\n")
    assert [line.split(":")[0] for line in told] == ["a.yaml", "a.yaml", "b.yaml", "c.yaml"]
    assert "stands twice, first at a.yaml:2" in told[1]


def test_an_entry_with_a_mistake_has_those_of_its_conditions_told_too() -> None:
    told = one("    when: lvl > 3\n    clear: level_inside <\n    priority: urgent\n")
    assert [line.split(": ")[0] for line in told] == ["a.yaml:6:5", "a.yaml:4:11", "a.yaml:5:26"]
    assert "unknown metric 'lvl' of pump_station" in told[1]
    levels = one(
        "    frequency: 3\n    levels:\n      - {priority: urgent, when: lvl > 3}\n      - {priority: high, when: 3}\n"
    )
    assert sum("unknown metric 'lvl'" in line for line in levels) == 1
    assert len(levels) == 4


@pytest.mark.parametrize("choice", ["{kind: pond}", "{kind: 3}", "{kind: [a]}"])
def test_metrics_of_a_kind_that_is_none_are_no_mistakes(choice: str) -> None:
    [told] = mistakes(a=f"rules:\n  - {{id: a, applies_to: {choice}, when: lvl > 3}}\n")
    assert "kind" in told


def test_a_group_names_the_nearest_of_its_condition_and_has_a_tag() -> None:
    assert "unknown metric 'absnt' of pump_station; nearest: absent" in one("    when: of_group('g', absnt) > 0.5\n")[0]
    for tag in ("''", "' '"):
        assert one(f"    when: of_group({tag}, absent) > 0.5\n") == [
            'a.yaml:4:20: when: expected a tag, as in of_group("gateway-7", absent) > 0.5, found nothing in the quotes'
        ]


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
        ("forr: 1m", "not a known key; nearest: for"),
        ("prioriy: high", "not a known key; nearest: priority"),
        ("repeats: 3 of 5", "not a known key; nearest: repeat"),
        ("applies: {kind: camera}", "not a known key; nearest: applies_to"),
        ("priority: hihg", "one of critical, high, medium, low, notice, found 'hihg'; nearest: high"),
        ("repeat: 3", "such as 3 of 5"),
        ("repeat: 3/5", "such as 3 of 5"),
        ("repeat: 0 of 5", "k at least 1"),
        ("repeat: 6 of 5", "k at most n"),
        ("repeat: 3 of 33", "n at most 32"),
        ("keep_for: 400d", "at most 366d"),
        ("keep_for: 10", "with its unit"),
        ("only_in: flood_season", "a list of modes such as [flood_season]"),
        ("only_in: []", "a list of modes"),
        ("only_in: [flod_season]", "unknown mode 'flod_season'; nearest: flood_season"),
        ("suppresses: [gw-silence]", "only a rule of several devices"),
        ("clear: in_grid(count(level_inside > 3) < 1)", "clear only what `when` has raised"),
        ("clear: forecast(level_inside, 1h) < 3", "not cleared by a forecast"),
    ],
)
def test_what_yaml_makes_of_a_slip_is_named(line: str, words: str) -> None:
    (told,) = one(f"    when: level_inside > 3\n    {line}\n")
    assert told.startswith("a.yaml:5:")
    assert words in told


def test_unknown_keys_below_a_key_name_the_nearest_of_that_place() -> None:
    (told, missing) = one("    when: level_inside > 3\n    order: {categry: x.y}\n")
    assert "order.categry: not a known key; nearest: category" in told + missing
    (told,) = mistakes(a="rules:\n  - {id: a, when: level > 3, applies_to: {kinds: river_gauge}}\n")
    assert told.startswith("a.yaml:2:")
    assert "applies_to.kinds: not a known key; nearest: kind" in told
    (told,) = one("    levels:\n      - {priority: low, when: level_inside > 3, cler: level_inside < 2}\n")
    assert told.startswith("a.yaml:5:")
    assert "not a known key; nearest: clear" in told


def rule_of(fields: str) -> Rule:
    return load({"a.yaml": "rules:\n  - id: a\n    applies_to: {kind: pump_station}\n" + fields}).rules["a"]


def test_repeat_keep_for_and_only_in() -> None:
    rule = rule_of("    when: level_inside > 3\n    repeat: 3 of 5\n    keep_for: 10m\n    only_in: [flood_season]\n")
    assert (rule.repeat, rule.keep_us, rule.only_in) == ((3, 5), 10 * MINUTE, ("flood_season",))


LEVELS = """\
    levels:
      - {priority: medium, when: level_outside > 3.8, for: 5m, clear: level_outside <= 3.6, name: {zh: 警戒}}
      - priority: critical
        when: level_outside > 4.2
"""


def test_levels_rise_and_each_has_its_own_conditions() -> None:
    rule = rule_of(LEVELS)
    mild, worst = rule.levels
    assert (mild.priority, mild.hold_us, mild.clear_text, mild.name_zh, mild.name_en) == (
        Priority.MEDIUM, 5 * MINUTE, "level_outside <= 3.6", "警戒", "警戒",
    )  # fmt: skip
    assert (worst.priority, worst.hold_us, worst.clear, worst.when_text, worst.name_zh) == (
        Priority.CRITICAL, 0, None, "level_outside > 4.2", "",
    )  # fmt: skip
    assert (rule.when, rule.when_text, rule.clear, rule.priority) == (mild.when, mild.when_text, None, Priority.MEDIUM)


COUNTED = "in_grid(count(level_outside > 3) > 3)"


def level(fields: str) -> str:
    return f"      - {{{fields}}}\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (LEVELS + "    when: level_outside > 3\n", "8:5", "has `when` in each of them"),
        (LEVELS + "    for: 0s\n", "8:5", "has `for` in each of them"),
        (LEVELS + "    clear: level_outside < 3\n", "8:5", "has `clear` in each of them"),
        (LEVELS + "    priority: medium\n", "8:5", "has `priority` in each of them"),
        ("    levels: []\n", "4:5", "1 to 20 levels"),
        ("    levels:\n" + level("priority: low, when: level_outside > 3") * 21, "4:5", "1 to 20 levels, this has 21"),
        (LEVELS.replace("critical", "medium"), "6:9", "medium is not above medium"),
        (LEVELS.replace("critical", "low"), "6:9", "low is not above medium"),
        (LEVELS.replace("level_outside > 4.2", "level_inside > 4.2"), "7:9", "the same metric, here level_outside"),
        (LEVELS.replace("level_outside > 4.2", "level_outsid > 4.2"), "7:15", "nearest: level_outside"),
        (LEVELS.replace("level_outside <= 3.6", "level_outsid <= 3.6"), "5:71", "clear: unknown metric 'level_outsid'"),
        (LEVELS.replace("level_outside > 4.2", "forecast(level_outside, 1h) > 4.2"), "4:5", "every level has one"),
        (LEVELS.replace("> 3.8", "> by_response(3.8)"), "5:65", "and the value for level IV"),
        ("    levels:\n" + level("priority: low"), "5:9", "when"),
        ("    priority: low\n", "2:5", "when: is required, or levels"),
        ("    levels:\n" + level(f"priority: low, when: {COUNTED}"), "4:5", "have no levels"),
        ("    levels:\n" + level(f"priority: low, when: level_outside > 3, clear: {COUNTED}"), "5:50", "have no"),
    ],
)  # fmt: skip
def test_mistakes_in_levels(text: str, place: str, words: str) -> None:
    told = one(text)
    assert told[0].startswith(f"a.yaml:{place}: "), told
    assert words in told[0]


def test_a_level_is_no_event() -> None:
    text = "rules:\n  - id: a\n    levels: [{priority: low, when: 'event(\"tamper\")'}]\n"
    (told,) = mistakes(a=text)
    assert "lasts no time, so it is no level" in told


def test_a_group_and_what_it_suppresses() -> None:
    text = """\
rules:
  - {id: a, when: 'of_group("g", absent) > 0.5', clear: 'of_group("g", absent) < 0.2', suppresses: [b, gw-silence]}
"""
    other = "rules:\n  - {id: b, when: 'absent(level, 1h)'}\n"
    rule = load({"a.yaml": text, "b.yaml": other}).rules["a"]
    assert isinstance(rule.when, Group)
    assert rule.suppresses == frozenset({"b", "gw-silence"})
    (told,) = mistakes(a=text)
    assert told.startswith("a.yaml:2:"), told
    assert "suppresses" not in told
    assert "no rule 'b'" in told
    (told,) = mistakes(a=text.replace("[b,", "[a,"))
    assert "does not suppress itself" in told
    (told,) = mistakes(a=text.replace("gw-silence", "gw-silenc"), b=other)
    assert "no rule 'gw-silenc'; nearest: gw-silence" in told


@pytest.mark.parametrize(
    ("clear", "ok"),
    [
        ('of_group("g", battery < 10) < 0.2', True),
        ('of_group("h", battery < 10) < 0.2', False),
        ('of_group("g", battery < 20) < 0.2', False),
        ("in_grid(share(battery < 10) < 0.2)", False),
        ("battery > 20", False),
    ],
)
def test_a_group_clears_what_it_counted(clear: str, ok: bool) -> None:
    text = f'rules:\n  - id: a\n    when: of_group("g", battery < 10) > 0.5\n    clear: {clear}\n'
    if ok:
        assert load({"a.yaml": text})
    else:
        (told,) = mistakes(a=text)
        assert told.startswith("a.yaml:4:")
        assert 'counts what `when` counts, of_group("g", battery < 10) > 0.5, with another limit' in told


def test_a_forecast_is_never_critical_and_may_end_what_a_forecast_began() -> None:
    text = "    when: forecast(level_inside, 1h) > 3\n    clear: forecast(level_inside, 1h) < 2.8 or level_inside < 2\n"
    assert rule_of(text).early
    (told,) = one(text + "    priority: critical\n")
    assert told.startswith("a.yaml:6:")
    assert "never critical" in told


@pytest.mark.parametrize("when", ['event("tamper")', "absent(open, 1h)", 'since(event("door_opened")) > 1h',
                                  'count(event("door_opened"), 1h) > 3 and open'])  # fmt: skip
def test_what_no_reading_decides_is_not_repeated(when: str) -> None:
    (told,) = mistakes(a=f"rules:\n  - id: a\n    when: {when}\n    repeat: 3 of 5\n")
    assert told.startswith("a.yaml:4:5: repeat counts readings, and no reading decides ")
    assert when.split(" ", maxsplit=1)[0] in told


def test_a_group_is_not_repeated_but_a_window_is() -> None:
    text = "rules:\n  - id: a\n    when: {}\n    repeat: 3 of 5\n"
    assert "no in_grid(…)" in mistakes(a=text.format("in_grid(count(battery < 10) > 3)"))[0]
    assert load({"a.yaml": text.format("count(battery, 1h) > 3 and avg(battery, 1h) < 10")})


def test_a_comma_that_ends_a_value_is_named() -> None:
    (told,) = mistakes(a="rules:\n  - {id: a, when: avg(level, 10m) > 3}\n")
    assert told.startswith("a.yaml:2:30: ")
    assert "inside { } a comma ends a value: put the value in quotes" in told


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
    others = [{"repeat": "1 of 2"}, {"keep_for": "1m"}, {"only_in": "[drill]"},
              {"when": "level_inside >= 3"}, {"for": "1s"}, {"clear": "level_inside < 3"}, {"max_gap": "none"},
              {"max_age": "3m"}]  # fmt: skip
    assert len({of(), *(of(**fields) for fields in others)}) == len(others) + 1


def test_the_lines_on_a_chart_are_the_limits_of_the_device() -> None:
    text = (
        "attr.top - 0.2 < level_inside and not level_outside > 4 and level_inside > attr.none or level_inside * 2 > 3"
    )
    rule = load({"a.yaml": f"rules:\n  - {{id: a, when: {text}}}\n"}).rules["a"]
    device = Device(0, "ps-1", "s", "pump_station", attributes={"top": 3.5})
    assert rule.limits(device, 0) == [Limit("level_inside", 3.3, "above"), Limit("level_outside", 4.0, "below")]

"""Scenario files: the stories a duty officer writes, what they find, and every mistake at its place."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.documents import DocumentError
from devices.instants import format_duration
from rules.scenario import Played, Status, play, priority_of
from rules.scenario_file import has_scenarios, parse_scenarios

SAMPLE = """
name: a probe that trembles on the limit raises one alarm
rules: [{id: high, when: level_inside > 3.5, for: 1m, clear: level_inside <= 3.3, priority: high, applies_to: {kind: pump_station}, name: {zh: 高, en: high}}]
device: {kind: pump_station, id: ps-1}
every: 30s
series: {level_inside: [3.49, 3.51, 3.49, 3.51, 3.52, 3.53, 3.54, 3.40, 3.51, 3.29]}
expect:
  - {rule: high, edge: raised, at: 2m30s}     # true since 1m30s, held one minute
  - {rule: high, edge: cleared, at: 4m30s}
"""  # noqa: E501 - as the issue that asked for it has it
PUMP = "applies_to: {kind: pump_station}"


def played(text: str, files: Mapping[str, str] | None = None) -> list[Played]:
    def read(path: str) -> Mapping[str, str]:
        if path not in (files or {}):
            raise FileNotFoundError(2, "no such file", path)
        return {path: (files or {})[path]}

    return [play(scenario) for scenario in parse_scenarios(textwrap.dedent(text), "s.yaml", read)]


def told(one: Played) -> list[str]:
    """Every line as "+2m30s raised high ps-1": + unexpected, - missing, = as expected."""
    found = []
    for line in one.lines:
        sign = {Status.MATCHED: "=", Status.MISSING: "-", Status.UNEXPECTED: "+"}[line.status]
        edge, rule = (line.happened or line.expected).edge, (line.happened or line.expected).rule  # type: ignore[union-attr]
        device = line.happened.device if line.happened else (line.expected.device if line.expected else None)
        found.append(f"{sign}{format_duration(line.at - one.scenario.start)} {edge} {rule} {device}")
    return found


def happens(text: str, files: Mapping[str, str] | None = None) -> list[str]:
    """What a scenario without expectations finds, without the sign."""
    (one,) = played(textwrap.dedent(text) + "\nexpect: []\n", files)
    return [line[1:] for line in told(one)]


def test_the_sample_of_the_issue_passes_exactly() -> None:
    (one,) = played(SAMPLE)
    assert told(one) == ["=2m30s raised high ps-1", "=4m30s cleared high ps-1"]
    assert one.ok
    assert one.scenario.name == "a probe that trembles on the limit raises one alarm"
    assert one.scenario.line == 2


def test_what_is_missing_and_what_is_unexpected_stand_in_order_of_time() -> None:
    (one,) = played(SAMPLE.replace("at: 2m30s", "at: 2m").replace("at: 4m30s", "at: 4m30s, device: ps-1"))
    assert not one.ok
    assert told(one) == ["-2m raised high None", "+2m30s raised high ps-1", "=4m30s cleared high ps-1"]


@pytest.mark.parametrize("change", [("raised", "cleared"), ("{rule: high, edge: cleared, at: 4m30s}", "")])
def test_another_edge_or_one_too_few_is_a_difference(change: tuple[str, str]) -> None:
    (one,) = played(SAMPLE.replace(*change).replace("  - \n", ""))
    assert not one.ok


def test_a_wrong_priority_is_a_difference_and_the_right_one_is_none() -> None:
    for priority, ok in (("high", True), ("critical", False)):
        (one,) = played(SAMPLE.replace("edge: raised,", f"edge: raised, priority: {priority},"))
        assert one.ok is ok


def test_one_expectation_answers_one_edge() -> None:
    twice = SAMPLE.replace("expect:\n", "expect:\n  - {rule: high, edge: raised, at: 2m30s}\n")
    assert told(played(twice)[0])[:2] == ["=2m30s raised high ps-1", "-2m30s raised high None"]


STORY = """
    name: x
    device: {kind: pump_station, id: ps-1}
    every: 1m
"""


def test_null_is_no_value_and_neither_holds_nor_resets() -> None:
    high = f"    rules: [{{id: high, when: level_inside > 3.5, for: 2m, {PUMP}}}]\n"
    assert happens(f"{STORY}{high}    series: {{level_inside: [3.6, null, 3.6]}}") == ["2m raised high ps-1"]
    assert happens(f"{STORY}{high}    series: {{level_inside: [3.6, 3.4, 3.6]}}") == []


def test_the_clock_goes_on_until_it_is_told_and_to_the_last_expectation() -> None:
    gone = f"    rules: [{{id: gone, when: 'absent(level_inside, 15m)', {PUMP}}}]\n    series: {{level_inside: [1]}}\n"
    assert happens(STORY + gone) == []
    assert happens(f"{STORY}{gone}    until: 14m59s") == []
    assert happens(f"{STORY}{gone}    until: 3h") == ["15m raised gone ps-1"]
    (one,) = played(f"{STORY}{gone}    expect: [{{rule: gone, edge: raised, at: 15m}}]")
    assert one.ok


def test_hours_of_the_night_are_judged_in_the_sites_zone() -> None:
    rules = (
        'rules: [{id: night, when: \'between("22:00", "06:00") and open == true\', applies_to: {kind: door_sensor}}]'
    )
    text = f"""
    name: x
    {rules}
    device: {{kind: door_sensor, id: door}}
    values: [{{at: 21h, open: true}}]
    until: 1d12h
    """
    assert happens(text) == ["22h raised night door", "1d6h cleared night door"]
    abroad = text.replace("name: x", "name: x\n    zone: UTC\n    start: 2026-07-01T00:00:00+08:00")
    assert happens(abroad.replace("at: 21h", "at: 2h"))[0] == "6h raised night door"


def test_times_may_be_moments_of_the_site_or_with_an_offset() -> None:
    text = f"""
    name: x
    start: "2026-10-01 08:00"
    rules: [{{id: high, when: level_inside > 3.5, {PUMP}}}]
    device: {{kind: pump_station}}
    values:
      - {{at: 2026-10-01T08:10, level_inside: 3.6}}
      - {{at: 2026-10-01T00:20:00Z, level_inside: 3.0}}
    """
    assert happens(text) == ["10m raised high pump_station", "20m cleared high pump_station"]


def test_events_and_what_a_door_says_by_its_contact() -> None:
    rules = "rules: [{id: opened, when: event('door_opened'), applies_to: {kind: door_sensor}, priority: notice}]"
    device = "device: {kind: door_sensor, id: door}"
    said = f"{{name: x, {rules}, {device}, events: [{{at: 5m, event: door_opened, device: door}}], expect: []}}"
    assert [line[1:] for line in told(played(said)[0])] == ["5m raised opened door", "5m cleared opened door"]
    contact = f"{{name: x, {rules}, {device}, every: 1m, series: {{open: [true, false, true]}}, expect: []}}"
    assert [line[1:] for line in told(played(contact)[0])] == ["2m raised opened door", "2m cleared opened door"]
    both = contact.replace("every:", "events: [{at: 90s, event: door_opened}], every:")
    assert [line[1:] for line in told(played(both)[0])] == ["1m30s raised opened door", "1m30s cleared opened door"]


def test_several_devices_have_their_series_by_name_and_grids_a_tree() -> None:
    text = """
    name: three stations of one polder stand high
    rules:
      - {id: many, applies_to: {kind: pump_station, grids: [polder]}, when: in_grid(count(level_inside > 3.5) >= 2)}
    grids: {town: [polder, dry], polder: [east, west]}
    devices:
      - {kind: pump_station, id: ps-1, grid: east}
      - {kind: pump_station, id: ps-2, grid: west}
      - {kind: pump_station, id: ps-3, grid: dry}
    every: 1m
    series:
      ps-1: {level_inside: [3.0, 3.6, 3.6, 3.6]}
      ps-2: {level_inside: [3.0, 3.0, 3.6, 3.0]}
      ps-3: {level_inside: [3.6, 3.6, 3.6, 3.6]}
    expect:
      - {rule: many, edge: raised, at: 2m, device: "grid:polder"}
      - {rule: many, edge: cleared, at: 3m}
    """
    assert told(played(text)[0]) == ["=2m raised many grid:polder", "=3m cleared many grid:polder"]


LEVELS = """
    rules:
      - id: outside
        applies_to: {kind: pump_station}
        levels:
          - {priority: medium, when: level_outside > attr.outside_warning_level}
          - {priority: critical, when: level_outside > attr.outside_guarantee_level}
"""


def test_a_changed_severity_is_an_edge_of_its_own() -> None:
    text = f"""{LEVELS}
    name: x
    device: {{kind: pump_station, id: ps-1, attributes: {{outside_warning_level: 3.8, outside_guarantee_level: 4.2}}}}
    every: 1m
    series: {{level_outside: [3.0, 3.9, 4.3, 3.9, 3.0]}}
    expect:
      - {{rule: outside, edge: raised, at: 1m, priority: medium}}
      - {{rule: outside, edge: changed, at: 2m, priority: critical}}
      - {{rule: outside, edge: changed, at: 3m, priority: medium}}
      - {{rule: outside, edge: cleared, at: 4m}}
    """
    (one,) = played(text)
    assert one.ok, told(one)
    assert [str(priority_of(one.scenario, line.happened)) for line in one.lines[:3] if line.happened] == [
        "medium", "critical", "medium",
    ]  # fmt: skip


def test_thresholds_by_declared_response_level_and_a_drill() -> None:
    text = f"""
    name: x
    rules:
      - {{id: high, {PUMP}, when: "level_inside > by_response(3.5, 3.5, 3.2, 3.2, 3.2)"}}
      - {{id: drill, {PUMP}, when: mode("drill") and level_inside > 0}}
    device: {{kind: pump_station, id: ps-1}}
    every: 1m
    series: {{level_inside: ["3.3 x 10"]}}
    declared: {{response: [{{level: III, from: 2m, to: 5m}}], drill: [{{from: 6m30s, to: 7m30s}}]}}
    """
    assert happens(text) == [
        "2m raised high ps-1", "5m cleared high ps-1", "6m30s raised drill ps-1", "7m30s cleared drill ps-1",
    ]  # fmt: skip


def test_a_pause_ends_what_stands_and_lets_nothing_begin() -> None:
    text = f"""
    name: pumps stopped under a declared order are no fault
    rules:
      - {{id: stopped, {PUMP}, when: pumps_running == 0}}
      - {{id: gone, {PUMP}, when: "absent(pumps_running, 5m)"}}
    device: {{kind: pump_station, id: ps-1}}
    every: 1m
    series: {{pumps_running: [0, 0, 0, 0, 0, 0, 0]}}
    until: 20m
    declared: {{pauses: [{{device: ps-1, from: 90s, to: 4m30s, why: 限排, rules: [stopped]}}]}}
    """
    assert happens(text) == [
        "0s raised stopped ps-1", "1m30s cleared stopped ps-1", "5m raised stopped ps-1", "11m raised gone ps-1",
    ]  # fmt: skip


def test_holidays_and_flood_season_come_from_a_calendar() -> None:
    text = f"""
    name: x
    start: 2026-10-09T00:00
    rules:
      - {{id: idle, {PUMP}, when: holiday() and level_inside > 0}}
      - {{id: wet, {PUMP}, when: level_inside > 0, only_in: [flood_season]}}
    device: {{kind: pump_station, id: ps-1}}
    every: 1m
    series: {{level_inside: [1]}}
    until: 3d
    """
    rules_only = happens(text.replace("id: idle", "id: idle, max_age: none"))
    assert rules_only == ["1d raised idle ps-1", "3d cleared idle ps-1"]  # 10 October 2026 is a Saturday
    inline = "calendar: {years: {2026: {workdays: [2026-10-10]}}, flood_season: {from: 05-01, to: 10-09}}\n"
    with_calendar = happens(text.replace("id: idle", "id: idle, max_age: none") + inline)
    assert with_calendar == ["0s raised wet ps-1", "1d cleared wet ps-1", "2d raised idle ps-1",
                             "3d cleared idle ps-1"]  # fmt: skip
    named = happens(
        text.replace("id: idle", "id: idle, max_age: none") + "calendar: c.yaml\n",
        {"c.yaml": "years: {2026: {workdays: [2026-10-10]}}\nflood_season: {from: 05-01, to: 10-09}\n"},
    )
    assert named == with_calendar


def test_what_comes_late_finds_the_clock_ahead() -> None:
    text = f"""
    name: x
    rules: [{{id: gone, {PUMP}, when: "absent(level_inside, 5m)"}}]
    device: {{kind: pump_station, id: ps-1}}
    values:
      - {{at: 0s, level_inside: 1}}
      - {{at: 4m, level_inside: 1%s}}
      - {{at: 8m, level_inside: 1}}
    """
    assert happens(text % "") == []
    assert happens(text % ", arrives: 6m") == ["5m raised gone ps-1", "5m cleared gone ps-1"]


def test_what_the_service_would_leave_out_is_left_out_and_counted() -> None:
    text = f"""
    name: x
    rules: [{{id: high, when: level_inside > 3.5, {PUMP}}}]
    device: {{kind: pump_station, id: ps-1}}
    values:
      - {{at: 1m, level_inside: 900}}
      - {{at: 2m, level_inside: 3.0}}
      - {{at: 1m, level_inside: 3.6, arrives: 3m}}
    expect: []
    """
    (one,) = played(text)
    assert (one.ok, one.impossible, one.stale) == (True, 1, 1)


def test_a_device_reports_as_often_as_its_kind_or_as_the_story_says() -> None:
    high = f"    rules: [{{id: high, when: level_inside > 3.5, for: 30m, {PUMP}}}]\n"
    series = "    series: {level_inside: [3.6, 3.6, 3.6, 3.6]}"
    story = STORY.replace("1m", "15m")
    assert happens(f"{story}{high}{series}") == ["30m raised high ps-1"]
    often = story.replace("id: ps-1", "id: ps-1, interval: 60")
    assert happens(f"{often}{high}{series}") == []  # fifteen minutes are then a gap


def test_values_may_be_written_as_runs() -> None:
    high = f"    rules: [{{id: high, when: level_inside > 3.5, {PUMP}}}]\n"
    assert happens(f"{STORY}{high}    series: {{level_inside: ['3.0 x 60', '3.0 .. 3.6 x 7', null x 2, 3.5]}}") == [
        "1h6m raised high ps-1", "1h9m cleared high ps-1",
    ]  # fmt: skip


BOOK = "rules:\n  - {id: high, when: level_inside > 3.5}\n  - {id: low, when: level_inside < 1}\n"


def test_several_scenarios_as_documents_or_as_a_list_share_a_book() -> None:
    one = "name: {0}\ndevice: {{kind: pump_station}}\nvalues: [{{at: 1m, level_inside: {1}}}]\nexpect: [{2}]\n"
    raised = "{rule: high, edge: raised, at: 1m}"
    documents = "---\n".join(f"rules: book.yaml\n{one.format(*w)}" for w in (("a", 4, raised), ("b", 2, "")))
    found = played(f"# two stories\n---\n{documents}", {"book.yaml": BOOK})
    assert [(p.scenario.name, p.ok, p.scenario.line) for p in found] == [("a", True, 4), ("b", True, 10)]
    indented = "".join(
        textwrap.indent(one.format(*w), "    ").replace("    name", "  - name", 1)
        for w in (("a", 4, raised), ("b", 0, ""))
    )
    found = played(f"rules: book.yaml\nscenarios:\n{indented}", {"book.yaml": BOOK})
    assert [(p.scenario.name, p.ok) for p in found] == [("a", True), ("b", False)]
    only = indented.replace("name: b", "name: b\n    only: [high]")
    assert all(p.ok for p in played(f"rules: book.yaml\nscenarios:\n{only}", {"book.yaml": BOOK}))


def mistakes(text: str, files: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(DocumentError) as refused:
        played(text, files)
    return [str(mistake) for mistake in refused.value.mistakes]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("device:", "divice:"), ["s.yaml:4:1: divice: not a known key; nearest: device"]),
        (("kind: pump_station, id", "kind: pump_statio, id"), ["s.yaml:4:10: device.kind: unknown kind 'pump_statio'"]),
        (("series: {level_inside", "series: {level_insid"), ["s.yaml:6:10: pump_station has no metric 'level_insid'"]),
        (("3.49, 3.51, 3.49", "3.49, high, 3.49"), ["s.yaml:6:31: level_inside is a number, found 'high'"]),
        (("3.49, 3.51, 3.49", "3.49, true, 3.49"), ["s.yaml:6:31: level_inside is a number, found True"]),
        (("rule: high, edge: raised", "rule: hihg, edge: raised"), ["8:6: there is no rule 'hihg'; nearest: high"]),
        (("edge: raised", "edge: risen"), ["s.yaml:8:18: expect.0.edge: "]),
        (("at: 2m30s", "at: 150"), ["s.yaml:8:32: expect.0.at: expected a time after the start such as 2m30s"]),
        (("at: 2m30s", "at: 2m30s, device: ps-2"), ["s.yaml:8:43: there is no device 'ps-2'; nearest: ps-1"]),
        (("every: 30s", "every: 30"), ["s.yaml:5:1: every: expected a duration with its unit"]),
        (("every: 30s\n", ""), ["s.yaml:5:1: every: is required with series"]),
        (("when: level_inside", "when: level_insde"), ["s.yaml:3:26: when: unknown metric 'level_insde'"]),
        (("priority: high", "priorty: high"), ["s.yaml:3:83: rules.0.priorty: not a known key; nearest: priority"]),
        (("rules: [{", "rules: nowhere.yaml\nxules: [{"), ["s.yaml:4:1: xules: not a known key"]),
        (("name: a probe", "nome: a probe"), ["name: is required", "s.yaml:2:1: nome: not a known key"]),
        (("id: ps-1}", "id: ps-1, attributes: {inside_limt_level: 3}}"),
         ["s.yaml:4:53: no rule reads attribute 'inside_limt_level'; nearest: inside_limit_level"]),
        (("every: 30s", "every: 30s\nstart: soon"), ["s.yaml:6:1: start: expected a time after the start"]),
        (("every: 30s", "every: 30s\nzone: Asia/Nowhere"), ["s.yaml:6:1: zone: unknown zone 'Asia/Nowhere'"]),
        (("every: 30s", "every: 30s\nuntil: 2026-01-01T00:00:00Z"), ["s.yaml:6:1: until: before the start"]),
        (("every: 30s", "every: 30s\nevents: [{at: 1m, event: door_opened}]"),
         ["s.yaml:6:19: pump_station has no event 'door_opened'; it has no events"]),
        (("every: 30s", "every: 30s\nvalues: [{level_inside: 3}]"), ["s.yaml:6:10: at: is required"]),
        (("every: 30s", "every: 30s\nvalues: [{at: 2m, arrives: 1m, level_inside: 3}]"), ["arrives: before it is"]),
        (("every: 30s", "every: 30s\ndeclared: {pauses: [{device: ps-9, from: 1m, to: 2m}]}"),
         ["s.yaml:6:22: there is no device 'ps-9'; nearest: ps-1"]),
        (("every: 30s", "every: 30s\ndeclared: {response: [{level: 5, from: 1m}]}"), ["expected a response level, 1"]),
        (("every: 30s", "every: 30s\ndeclared: {drill: [{from: 2m, to: 1m}]}"), ["s.yaml:6:31: to: not after from"]),
        (("every: 30s", "every: 30s\ncalendar: {years: {2026: {holidys: []}}}"),
         ["s.yaml:6:27: years.2026.holidys: not a known key; nearest: holidays"]),
        (("every: 30s", "every: 30s\ncalendar: c.yaml"), ["s.yaml:6:1: c.yaml: cannot be read: no such file"]),
        (("every: 30s", "every: 30s\nonly: [hihg]"), ["s.yaml:6:8: there is no rule 'hihg'; nearest: high"]),
        (("id: ps-1}", "id: ps-1}\ndevices: [{kind: camera}]"), ["expected device: {kind: …}, or devices: a list"]),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)  # fmt: skip
def test_every_mistake_has_its_line_its_column_and_the_nearest_name(
    change: tuple[str, str], expected: list[str]
) -> None:
    assert change[0] in SAMPLE
    found = mistakes(SAMPLE.replace(*change, 1))
    assert len(found) == len(expected), found
    for message, part in zip(found, expected, strict=True):
        assert part in message


def test_mistakes_of_several_scenarios_are_told_together_each_at_its_place() -> None:
    text = SAMPLE + "---" + SAMPLE.replace("level_inside >", "level_insde >") + "---" + SAMPLE.replace("ps-1", "PS 1")
    found = mistakes(text)
    assert [line.split(" ")[0] for line in found] == ["s.yaml:12:26:", "s.yaml:22:30:"]


def test_mistakes_in_a_rule_written_inside_a_list_keep_their_place() -> None:
    text = """\
    scenarios:
      - name: x
        rules:
          - id: high   # a comment
            when: level_inside > 3,5
        device: {kind: pump_station}
        expect: []
    """
    (found,) = mistakes(text)
    assert found.startswith("s.yaml:5:31: when: ")


def test_a_named_rule_file_has_its_own_name_in_the_mistake_told_once() -> None:
    one = "name: x\nrules: book.yaml\ndevice: {kind: pump_station}\nexpect: []\n"
    found = mistakes(f"{one}---\n{one}", {"book.yaml": BOOK.replace("low", "Low")})
    assert len(found) == 1
    assert found[0].startswith("book.yaml:3:")
    assert mistakes(one) == ["s.yaml:2:1: book.yaml: cannot be read: no such file"]


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n---\n", "rules: []\n", "[]", "x", "name: [", "scenarios: []"]
)
def test_what_holds_no_scenario_is_refused(text: str) -> None:
    assert mistakes(text)


@given(st.text(max_size=200) | st.text(alphabet=SAMPLE, max_size=200))
def test_no_text_is_a_crash(text: str) -> None:
    with suppress(DocumentError):
        assert parse_scenarios(text, "s.yaml", lambda _: {})


@given(st.integers(0, len(SAMPLE)), st.text(alphabet="{}[],:-'\"x1 \n#", max_size=3), st.integers(0, 20))
def test_a_damaged_sample_is_read_or_refused(place: int, put: str, cut: int) -> None:
    with suppress(DocumentError):
        for scenario in parse_scenarios(SAMPLE[:place] + put + SAMPLE[place + cut :], "s.yaml", lambda _: {}):
            lines = play(scenario).lines
            assert {line.expected for line in lines if line.expected is not None} == set(scenario.expect)


def test_a_series_or_a_scenario_has_bounds() -> None:
    huge = STORY + f"    rules: [{{id: high, when: level_inside > 3.5, {PUMP}}}]\n"
    assert (
        "at most 200,000 values" in mistakes(f"{huge}    series: {{level_inside: [1 x 999999999]}}\n    expect: []")[0]
    )
    both = "{level_inside: [1 x 150000], level_outside: [1 x 150000]}"
    assert "at most 200,000 values" in mistakes(f"{huge}    series: {both}\n    expect: []")[0]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (SAMPLE, True),
        (BOOK, False),
        ("site: qidu\nname: {zh: 七都}\n", False),
        ("name: x\nexpect:\n - {", True),
        ("- a", False),
    ],
)
def test_a_folder_tells_scenarios_from_what_lies_beside_them(text: str, meant: bool) -> None:
    assert has_scenarios(text, "x.yaml") is meant

"""Quietening a rule that chatters: what is suggested really is the smallest that helps, and costs what it says."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from devices.instants import HOUR, MINUTE, SECOND, format_duration, parse_duration
from rules.backtest import Finding, backtest
from rules.book import RuleBook, load
from rules.expression import Arithmetic, Attribute, ByResponse, Compare, Number
from rules.language import parse
from rules.review import chattering
from rules.rewriting import constant_text, with_key
from rules.rule import Rule
from rules.suggest import HOLDS, Run, bands, cost, suggest
from tests.rules.desk import at, rows, rule, town

EVERY = 20
LIMIT = 3.5


def trembling(seed: int = 1, readings: int = 400) -> list[float]:
    """Well below, then an hour at the limit, then above, then at the limit again, then below."""
    chance = random.Random(seed)
    middle = [3.2] * 60 + [LIMIT] * 120 + [3.9] * 100 + [LIMIT] * 60 + [3.0] * 60
    return [round(chance.gauss(level, 0.02), 3) for level in middle[:readings]]


def on(values: list[float], **attributes: float) -> Run:
    devices = town(**attributes)
    elements = [("ps-1", f"{(n + 1) * EVERY}s", {"level_inside": value}) for n, value in enumerate(values)]
    history = rows(devices, elements)
    return lambda form: backtest(RuleBook({form.id: form}, {}), devices, [history])


def the(book: RuleBook) -> Rule:
    (only,) = book.rules.values()
    return only


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_smallest_hold_and_band_that_remove_chattering(seed: int) -> None:
    run, today = on(trembling(seed)), the(rule("level_inside > 3.5", max_gap="none"))
    found = suggest(today, run, EVERY * SECOND)
    assert found.within == 10 * EVERY * SECOND
    assert found.chattering[0].device == "ps-1"
    assert found.why_not == {}
    hold, band = found.proposals
    steps = sorted({*HOLDS, *(n * EVERY * SECOND for n in (1, 2, 3, 4, 5, 10))} - {0})
    quiet = [s for s in steps if not chattering(run(replace(today, hold_us=s)), within=found.within)]
    assert (hold.key, hold.value) == ("for", format_duration(quiet[0]))
    tried = [(b, run(with_clear(today, f"level_inside <= {LIMIT - b:.10g}"))) for b in bands("level_inside", None)]
    wide = [b for b, findings in tried if not chattering(findings, within=found.within)]
    assert (band.key, band.band) == ("clear", wide[0])
    assert band.value == f"level_inside <= {LIMIT - wide[0]:.10g}"


def with_clear(today: Rule, text: str) -> Rule:
    return replace(today, clear=parse(text), clear_text=text)


def test_a_rule_that_does_not_chatter_gets_no_proposal() -> None:
    found = suggest(the(rule("level_inside > 3.5")), on([3.4, 3.6, 3.6, 3.4]), EVERY * SECOND)
    assert (found.alarms, found.chattering, found.proposals, found.why_not) == (1, (), (), {})


def test_what_comes_rarely_chatters_within_ten_reports() -> None:
    assert suggest(the(rule("level_inside > 3.5")), on([3.4]), 15 * MINUTE).within == 150 * MINUTE
    assert suggest(the(rule("level_inside > 3.5")), on([3.4]), SECOND).within == MINUTE


def test_the_proposals_are_for_pasting() -> None:
    text = "rules:\n  - id: r  # watch\n    applies_to: {kind: pump_station, devices: [ps-1]}\n    max_gap: none\n"
    text += "    when: level_inside > attr.inside_limit_level\n    for: 0s  # at once\n"
    today = the(load({"r.yaml": text}))
    found = suggest(today, on(trembling(), inside_limit_level=LIMIT), EVERY * SECOND)
    hold, band = found.proposals
    assert f"\n    for: {hold.value}  # at once" in hold.yaml
    assert hold.yaml.startswith("  - id: r  # watch\n")
    clear = f"level_inside <= attr.inside_limit_level - {band.band:g}"
    assert f"when: level_inside > attr.inside_limit_level\n    clear: {clear}\n    for: 0s" in band.yaml
    for proposal in found.proposals:
        again = the(load({"r.yaml": f"rules:\n{proposal.yaml}\n"}))
        assert suggest(again, on(trembling(), inside_limit_level=LIMIT), EVERY * SECOND).chattering == ()


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("  - {id: r, when: level > 2}", "  - {id: r, when: level > 2, for: 2m}"),
        ("  - {id: r, for: 1m, when: level > 2}", "  - {id: r, for: 2m, when: level > 2}"),
        ("- id: r\n  when: level > 2\n  priority: low", "- id: r\n  when: level > 2\n  for: 2m\n  priority: low"),
        ("  - when: level > 2\n    id: r", "  - when: level > 2\n    for: 2m\n    id: r"),
        ("  - id: r\n    for: 1m\n    when: level > 2", "  - id: r\n    for: 2m\n    when: level > 2"),
        # Where the text cannot be edited line by line, only the key is told.
        ("  - id: r\n    when: >-\n      level\n      > 2", "  - id: r\n    for: 2m"),
    ],
)
def test_the_rule_is_rewritten_as_its_author_wrote_it(text: str, changed: str) -> None:
    today = the(load({"r.yaml": f"rules:\n{text}\n"}))
    assert with_key(today, replace(today, hold_us=2 * MINUTE), "for", "2m") == changed


@pytest.mark.parametrize(
    "text",
    ["3.5", "-2.5", "attr.a", "attr.a - 0.2", "(attr.a - attr.b) * 2", "attr.a - (attr.b - 1)", "attr.a / (2 * attr.b)",
     "-(attr.a + 1)", "attr.a - -attr.b", "1 - 2 - 3"],
)  # fmt: skip
def test_a_limit_is_written_as_it_was_meant(text: str) -> None:
    tree = parse(f"level > {text}")
    assert isinstance(tree, Compare)
    assert parse(f"level > {constant_text(tree.right)}") == tree


def test_a_limit_by_response_level_is_written_too() -> None:
    limit = ByResponse(Number(3.5), Attribute("a"), Arithmetic("-", Attribute("a"), Number(0.1)), Number(3), Number(2))
    assert constant_text(limit) == "by_response(3.5, attr.a, attr.a - 0.1, 3, 2)"


@pytest.mark.parametrize(
    ("when", "clear"),
    [
        ("level_inside > 3.5", "level_inside <= "), ("level_inside >= 3.5", "level_inside < "),
        ("3.5 < level_inside", "level_inside <= "), ("3.5 <= level_inside", "level_inside < "),
    ],
)  # fmt: skip
def test_the_band_lies_on_the_good_side_of_a_high_limit(when: str, clear: str) -> None:
    _, band = suggest(the(rule(when, max_gap="none")), on(trembling()), EVERY * SECOND).proposals
    assert band.value == f"{clear}{LIMIT - (band.band or 0):.10g}"


def test_the_band_of_a_low_limit_lies_above_it() -> None:
    mirrored = on([7 - value for value in trembling()])
    for when, clear in (("level_inside < 3.5", "level_inside >= "), ("level_inside <= 3.5", "level_inside > ")):
        _, band = suggest(the(rule(when, max_gap="none")), mirrored, EVERY * SECOND).proposals
        assert band.value == f"{clear}{LIMIT + (band.band or 0):.10g}"


@pytest.mark.parametrize(
    ("when", "missing"),
    [
        ("level_inside > 3.5 and pumps_available != 1", {"clear"}),
        ("level_inside - 0.5 > 3.0", {"clear"}),
    ],
)
def test_why_there_is_no_band_is_said(when: str, missing: set[str]) -> None:
    devices = town()
    elements = [("ps-1", f"{(n + 1) * EVERY}s", {"level_inside": v, "pumps_available": 2.0})
                for n, v in enumerate(trembling())]  # fmt: skip
    history = rows(devices, elements)
    found = suggest(
        the(rule(when, max_gap="none")),
        lambda form: backtest(RuleBook({"r": form}, {}), devices, [history]),
        EVERY * SECOND,
    )
    assert set(found.why_not) == missing
    assert [proposal.key for proposal in found.proposals] == ["for"]


def test_why_there_is_no_hold_is_said() -> None:
    devices = town()
    history = rows(devices, [("cam", f"{n}s", {"event:person_detected": 1.0}) for n in range(5)])
    event = the(rule('event("person_detected")', applies_to="{kind: camera}"))
    found = suggest(event, lambda form: backtest(RuleBook({"r": form}, {}), devices, [history]), SECOND)
    assert set(found.why_not) == {"for", "clear"}


def found_at(raised: str, stood: str | None, device: str = "ps-1") -> Finding:
    begin = at(raised)
    return Finding("r", device, None, begin, begin, stood and begin + parse_duration(stood), None, None)  # type: ignore[arg-type]


def test_the_cost_is_what_comes_late_and_what_never_comes() -> None:
    today = [
        found_at("0s", "1m"),
        found_at("1h", "30m"),
        found_at("3h", "2h"),
        found_at("8h", "3m"),
        found_at("9h", "5m"),
    ]
    then = [found_at("1h2m", "28m"), found_at("3h10m", "2h")]
    found = cost(today, then)
    assert (found.alarms, found.lost, found.lost_longest) == (2, 3, 5 * MINUTE)
    assert (found.median_delay, found.max_delay) == (6 * MINUTE, 10 * MINUTE)


def test_what_joins_a_standing_alarm_is_neither_late_nor_lost() -> None:
    found = cost([found_at("1h", "1m"), found_at("1h5m", "1m")], [found_at("1h", "20m")])
    assert (found.lost, found.lost_longest, found.median_delay, found.max_delay) == (0, 0, 0, 0)


def test_another_device_covers_nothing_and_what_still_stands_is_lost_without_end() -> None:
    found = cost([found_at("1h", None)], [found_at("1h", "1h", device="ps-2")])
    assert (found.lost, found.lost_longest) == (1, None)
    assert found.as_json()["lost_longest"] is None
    assert cost([found_at("1h", None)], [found_at("5h", None)]).max_delay == 4 * HOUR

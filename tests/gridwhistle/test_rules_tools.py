"""`test-rules`, `backtest` with its review and chart, and `suggest`: what they answer and with which status."""

from __future__ import annotations

import json
import random
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from gridwhistle.backtest_plot import html
from tests.gridwhistle.test_recorded import ISO_T, call, mapping, rule, written
from tests.rules.test_scenario import SAMPLE


def test_scenarios_that_pass_are_named_with_status_0(tmp_path: Path) -> None:
    file = written(tmp_path / "s.yaml", SAMPLE)
    shown = call("test-rules", file)
    assert shown.exit_code == 0, shown.output
    assert "✓ a probe that trembles on the limit raises one alarm" in shown.stdout
    assert "1 通过 passed，0 不符 failed" in shown.stdout


def test_a_difference_shows_what_was_expected_beside_what_happened(tmp_path: Path) -> None:
    file = written(tmp_path / "s.yaml", SAMPLE.replace("at: 2m30s", "at: 2m"))
    shown = call("test-rules", file)
    assert shown.exit_code == 1
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0][:3] == ["✗", "a", "probe"]
    assert ["−", "2m", "触发", "raised", "high"] in lines
    assert ["+", "2m30s", "触发", "raised", "high", "ps-1", "high"] in lines
    assert ["4m30s", "解除", "cleared", "high", "解除", "cleared", "high", "ps-1"] in lines
    assert "missing: it did not happen" in shown.stdout
    assert "true since 1m30s; it must hold for 1m" in shown.stdout  # by the scenario's own time
    assert "level_inside = 3.53" in shown.stdout


def test_the_answer_as_json(tmp_path: Path) -> None:
    passes = written(tmp_path / "a.yaml", SAMPLE)
    fails = written(tmp_path / "b.yaml", SAMPLE.replace("at: 2m30s", "at: 2m"))
    shown = call("test-rules", passes, fails, "--json")
    assert shown.exit_code == 1
    answer = json.loads(shown.stdout)
    assert (answer["ok"], answer["passed"], answer["failed"]) == (False, 1, 1)
    missing, unexpected, matched = answer["scenarios"][1]["edges"]
    assert (missing["status"], missing["after"], missing["line"]) == ("missing", "2m", 7)
    assert missing["why"][0]["en"].startswith("true since")
    assert (unexpected["status"], unexpected["device"], unexpected["priority"]) == ("unexpected", "ps-1", "high")
    assert unexpected["reason"]["values"] == {"level_inside": 3.53}
    assert (matched["status"], matched["edge"], matched["at"]) == ("matched", "cleared", "2026-06-30T16:04:30Z")


def test_folders_hold_scenarios_beside_the_rules_they_name(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "rules").mkdir()
    written(tmp_path / "rules" / "one.yaml", "rules:\n  - {id: high, when: level_inside > 3.5}\n")
    written(tmp_path / "rules" / "two.yaml", "rules:\n  - {id: low, when: level_inside < 1}\n")
    story = "name: at {0}\nrules: ../rules\ndevice: {{kind: pump_station}}\nvalues: [{{at: 1m, level_inside: {0}}}]\n"
    for value, found in ((4, "high"), (0, "low")):
        expect = f"expect: [{{rule: {found}, edge: raised, at: 1m}}]\n"
        written(tmp_path / "scenarios" / f"{found}.yaml", story.format(value) + expect)
    for places in ([tmp_path], [tmp_path / "scenarios"], [tmp_path, tmp_path / "scenarios" / "low.yaml"]):
        shown = call("test-rules", *places)
        assert shown.exit_code == 0, shown.output
        assert "2 个场景 scenarios：2 通过" in shown.stdout


def test_mistakes_are_wrong_use_with_their_place_and_nothing_is_played(tmp_path: Path) -> None:
    good = written(tmp_path / "good.yaml", SAMPLE)
    bad = written(tmp_path / "bad.yaml", SAMPLE.replace("rule: high", "rule: hihg"))
    shown = call("test-rules", good, bad)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert f"{bad}:7:6: there is no rule 'hihg'; nearest: high" in shown.stderr
    (tmp_path / "rules.yaml").write_text("rules: []\n")
    assert call("test-rules", tmp_path / "rules.yaml").exit_code == 2
    (tmp_path / "empty").mkdir()
    shown = call("test-rules", tmp_path / "empty")
    assert (shown.exit_code, shown.stderr) == (2, "没有找到场景 no scenario found\n")
    bad.write_bytes(b"name: \xff\n")
    assert "不是 UTF-8" in call("test-rules", bad).stderr


LEVELS = "t,v\n" + "".join(
    f"2026-01-01T{hour:02}:{minute:02}Z,{2.5 if hour in {3, 9} and minute < 40 else 1}\n"
    for hour in range(12)
    for minute in range(0, 60, 10)
)


@pytest.fixture
def recorded(tmp_path: Path) -> list[object]:
    csv = written(tmp_path / "x.csv", LEVELS)
    return ["--csv", csv, "--mapping", mapping(tmp_path, "river_gauge", "v: {metric: level}", time=ISO_T)]


def tried(*arguments: object) -> dict[str, Any]:
    shown = call("backtest", *arguments, "--json")
    assert shown.exit_code == 0, shown.output
    answer: dict[str, Any] = json.loads(shown.stdout)
    return answer


def test_a_backtest_comes_with_a_review(tmp_path: Path, recorded: list[object]) -> None:
    rules = rule(tmp_path, "river_gauge", "level > 2")
    answer = tried("--rules", rules, *recorded)
    assert (len(answer["alarms"]), answer["review"]["alarms"], answer["review"]["per_day"]) == (2, 2, 2.0)
    assert answer["review"]["worst_rules"] == [{"rule": "the-rule", "alarms": 2, "share": 1.0}]
    assert answer["comparison"] is None
    shown = call("backtest", "--rules", rules, *recorded).stdout
    for words in ("评审 Review", "每日 per day", "≤ 150", "十分钟最多", "抖动 chattering", "告警最多的规则"):
        assert words in shown, words


def test_against_other_rules_it_says_what_is_gained_lost_and_moved(tmp_path: Path, recorded: list[object]) -> None:
    (tmp_path / "old").mkdir()
    old = rule(tmp_path / "old", "river_gauge", "level > 2")
    new = written(tmp_path / "new.yaml", """
        rules:
          - {id: the-rule, applies_to: {kind: river_gauge}, when: level > 2, for: 20m, priority: high}
          - {id: other, applies_to: {kind: river_gauge}, when: level < 2 and level > 1.5}
    """)  # fmt: skip
    answer = tried("--rules", new, "--against", old, *recorded)
    compared = answer["comparison"]
    assert (compared["same"], compared["gained"], compared["lost"]) == (0, [], [])
    assert [moved["what"] for moved in compared["moved"]] == [["raised_at"]] * 2
    assert compared["moved"][0]["after"]["raised_at"] == "2026-01-01T03:20:00Z"
    assert answer["against_review"]["alarms"] == 2
    shown = call("backtest", "--rules", new, "--against", old, *recorded).stdout
    assert "不变 same 0，新增 gained 0，消失 lost 0，移动 moved 2" in shown
    assert "~ 移动 moved" in shown
    assert "触发 raised 2026-01-01T03:00:00Z" in shown


@pytest.mark.parametrize(
    "wrong",
    [
        [], ["--rules", "R"], ["--from", "2026-01-01T00:00Z"], ["--csv", "C", "--mapping", "M"],
        ["--rules", "R", "--csv", "C"], ["--rules", "R", "--csv", "C", "--mapping", "M", "--from", "2026-01-01T00:00Z"],
        ["--rules", "R", "--csv", "C", "--mapping", "M", "--against", "running"],
        ["--rules", "R", "--csv", "C", "--mapping", "M", "--against", "/no/such"],
        ["--from", "soon", "--to", "2026-01-01T00:00Z"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_file_or_the_running_service_not_both_nor_neither(
    tmp_path: Path, recorded: list[object], wrong: list[str]
) -> None:
    files = {"R": rule(tmp_path, "river_gauge", "level > 2"), "C": recorded[1], "M": recorded[3]}
    shown = call("backtest", *(files.get(word, word) for word in wrong))
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr


def page_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    page: dict[str, Any] = json.loads(data)
    return page


def test_the_chart_has_every_alarm_the_limits_and_the_peaks(tmp_path: Path, recorded: list[object]) -> None:
    peak = written(tmp_path / "x.csv", LEVELS.replace("T03:10Z,2.5", "T03:10Z,7.25"))
    rules = rule(tmp_path, "river_gauge", "level > 2", name="{zh: 水位 </script> 高, en: high}")
    drawn = tmp_path / "out.html"
    shown = call("backtest", "--rules", rules, "--csv", peak, *recorded[2:], "--plot", drawn)
    assert shown.exit_code == 0, shown.output
    text = drawn.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=|@import|url\(""", text.split("echarts", 1)[0])
    assert "default-src 'none'" in text
    (subject,) = page_of(drawn)["subjects"]
    assert subject["alarms_count"] == len(subject["areas"]) == 2
    (panel,) = subject["panels"]
    (limit,) = panel["limits"]
    assert (limit["value"], limit["name"], limit["priority"]) == (2.0, "水位 </script> 高", "high")
    assert max(value for _, value in panel["lines"][0]["points"] if value is not None) == 7.25


def test_a_chart_that_cannot_be_written_is_said(tmp_path: Path, recorded: list[object]) -> None:
    rules = rule(tmp_path, "river_gauge", "level > 2")
    shown = call("backtest", "--rules", rules, *recorded, "--plot", tmp_path / "none" / "out.html")
    assert shown.exit_code == 2
    assert "cannot be written" in shown.stderr


def test_suggest_prints_what_quietens_the_rule_and_its_cost(tmp_path: Path) -> None:
    chance = random.Random(5)
    rows = "".join(f"{1_760_000_000 + 10 * n},{2 + chance.gauss(0, 0.05):.3f}\n" for n in range(300))
    csv = written(tmp_path / "x.csv", f"t,v\n{rows}")
    mapped = mapping(tmp_path, "river_gauge", "v: {metric: level}", time="{column: t, format: epoch_s}")
    rules = rule(tmp_path, "river_gauge", "level > 2")
    command = ["suggest", "--rules", rules, "--rule", "the-rule", "--csv", csv, "--mapping", mapped]
    answer = json.loads(call(*command, "--json").stdout)
    assert [proposal["key"] for proposal in answer["proposals"]] == ["for", "clear"]
    assert answer["within"] == "1m40s"
    shown = call(*command)
    assert shown.exit_code == 0, shown.output
    for proposal in answer["proposals"]:
        assert f"{proposal['key']}: {proposal['value']}" in shown.stdout
        assert textwrap.indent(proposal["yaml"], "    ") in shown.stdout
        assert f"中位 median {proposal['cost']['median_delay']}" in shown.stdout
        again = written(tmp_path / "again.yaml", f"rules:\n{proposal['yaml']}\n")
        quiet = call("suggest", "--rules", again, *command[3:])
        assert "无抖动 no chattering" in quiet.stdout
    unknown = call("suggest", "--rules", rules, "--rule", "the-role", *command[5:])
    assert unknown.exit_code == 2
    assert "nearest: the-rule" in unknown.stderr


def test_a_page_without_a_subject_is_a_page() -> None:
    page = {"title": "</script><b>", "zone": "UTC", "from": 0, "to": 1, "alarms": 0, "against": None, "left_out": 0,
            "subjects": []}  # fmt: skip
    assert "</script><b>" not in html(page)

"""`backtest` and `suggest` on the history of the running service, through its API; charts of its series."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

from devices.instants import HOUR, to_iso
from tests.api.centre import START
from tests.gridwhistle.test_recorded import call, written
from tests.gridwhistle.test_remote_rules import data_dir
from tests.gridwhistle.test_rules_tools import page_of

__all__ = ["data_dir"]
SPAN = ("--from", to_iso(START), "--to", to_iso(START + HOUR))
LOWER = "rules: [{id: high, name: {zh: 低一些}, applies_to: {kind: pump_station}, when: level_inside > 3.2}]"


def asked(command: str, folder: Path, *more: object) -> Result:
    return call(command, *more, *SPAN, "--set", f"data_dir={folder}")


def test_rules_are_tried_on_the_history_and_compared_with_those_that_run(data_dir: Path, tmp_path: Path) -> None:
    rules = written(tmp_path / "mine.yaml", LOWER)
    answer = json.loads(asked("backtest", data_dir, "--rules", rules, "--against", "running", "--json").stdout)
    assert (answer["alarms_count"], answer["comparison"]["moved_count"]) == (2, 2)
    shown = asked("backtest", data_dir, "--rules", rules, "--against", "running")
    assert shown.exit_code == 0, shown.output
    assert "2 次告警 alarms" in shown.stdout
    assert "移动 moved 2" in shown.stdout
    other = written(tmp_path / "other.yaml", LOWER.replace("3.2", "3.9"))
    assert "消失 lost 2" in asked("backtest", data_dir, "--rules", other, "--against", rules).stdout


def test_the_rules_that_run_are_tried_where_none_are_named(data_dir: Path) -> None:
    shown = asked("backtest", data_dir, "--device", "ps-1")
    assert (shown.exit_code, "2 次告警 alarms" in shown.stdout) == (0, True), shown.output


def test_the_series_of_the_service_are_drawn(data_dir: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "out.html"
    rules = written(tmp_path / "mine.yaml", LOWER)
    shown = asked("backtest", data_dir, "--rules", rules, "--against", "running", "--plot", drawn)
    assert shown.exit_code == 0, shown.output
    page = page_of(drawn)
    assert (page["alarms"], page["against"]) == (2, 2)
    subject = next(one for one in page["subjects"] if one["id"] == "ps-1")
    assert [area["against"] for area in subject["areas"]] == [False, False, True, True]
    (panel,) = subject["panels"]
    assert [limit["value"] for limit in panel["limits"]] == [3.2]
    values = [value for _, value in panel["lines"][0]["points"] if value is not None]
    assert (min(values), max(values), len(values)) == (3.0, 3.7, 8)
    assert asked("backtest", data_dir, "--plot", drawn).exit_code == 0
    running = next(one for one in page_of(drawn)["subjects"] if one["id"] == "ps-1")
    assert 3.5 in {limit["value"] for panel in running["panels"] for limit in panel["limits"]}


def test_suggestions_for_a_rule_that_runs(data_dir: Path) -> None:
    shown = asked("suggest", data_dir, "--rule", "high")
    assert (shown.exit_code, "无抖动 no chattering" in shown.stdout) == (0, True), shown.output
    unknown = asked("suggest", data_dir, "--rule", "none")
    assert (unknown.exit_code, unknown.stdout) == (1, "")


def test_mistakes_and_absence_are_said(data_dir: Path, tmp_path: Path) -> None:
    wrong = written(tmp_path / "mine.yaml", LOWER.replace("level_inside", "levl_inside"))
    shown = asked("backtest", data_dir, "--rules", wrong)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "mine.yaml:1:" in shown.stderr
    nobody = asked("backtest", tmp_path)
    assert nobody.exit_code == 1
    assert "没有服务在运行" in nobody.stderr


@pytest.mark.parametrize("wrong", [["--rules", "x"], ["--csv", "x"]])
def test_suggest_takes_the_rule_that_runs(data_dir: Path, tmp_path: Path, wrong: list[str]) -> None:
    file = written(tmp_path / "x", LOWER)
    shown = asked("suggest", data_dir, "--rule", "high", wrong[0], file)
    assert (shown.exit_code, shown.stdout) == (2, "")

"""Rules on the running installation from the command line: through its API, with the token it left in its folder."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.instants import HOUR, MINUTE, to_iso
from flow.access import open_local_session
from gridwhistle.reach import NotDone, WrongRules
from gridwhistle.remote_rules import backtest_running, explain_alarm, explain_rule, suggest_running
from tests.api.centre import START, Centre, people
from tests.gridwhistle.test_cli import COMMAND

LOWER = {"mine.yaml": "rules: [{id: high, applies_to: {kind: pump_station}, when: level_inside > 3.2}]"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as a running service leaves it: locked, with its address and token."""
    folder = tmp_path_factory.mktemp("data")
    centre = Centre(folder, people(tmp_path_factory.mktemp("people") / "records.sqlite")).start()
    for value in (3.0, 3.3, 3.6, 3.7, 3.4, 3.2, 3.6, 3.2):
        centre.level(value)
    with centre.served() as url, (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "api.token").write_text(open_local_session(centre.records, centre.now))
        (folder / "api.json").write_text(json.dumps({"url": url, "token_file": "api.token"}))
        yield folder
    centre.stop()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, env=environment)


def test_a_backtest_is_asked_watched_and_fetched(data_dir: Path) -> None:
    parts: list[float] = []
    found = backtest_running(data_dir, rules=LOWER, against="running", start=START, end=START + HOUR, told=parts.append)
    assert (found["alarms_count"], found["against_review"]["alarms"]) == (2, 2)
    assert found["comparison"]["moved_count"] == 2
    assert parts[-1] == 1.0


def test_suggestions_come_the_same_way(data_dir: Path) -> None:
    found = suggest_running(data_dir, rule="high", start=START, end=START + HOUR, told=lambda _: None)
    assert (found["rule"], found["alarms"]) == ("high", 2)


def test_mistakes_and_refusals_are_told(data_dir: Path) -> None:
    wrong = {"mine.yaml": LOWER["mine.yaml"].replace("level_", "levl_")}
    end = START + HOUR
    with pytest.raises(WrongRules, match=r"mine\.yaml:1:\d+: .*level_inside"):
        backtest_running(data_dir, rules=wrong, against=None, start=START, end=end, told=lambda _: None)
    with pytest.raises(NotDone, match="there is no rule none"):
        suggest_running(data_dir, rule="none", start=START, end=end, told=lambda _: None)
    with pytest.raises(NotDone, match="没有告警 99"):
        explain_alarm(data_dir, 99)


def test_where_no_service_runs_that_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotDone, match="没有服务在运行"):
            explain_rule(folder, rule="high", device="ps-1", at=None)
    (tmp_path / "lock").touch()
    with pytest.raises(NotDone, match="没有服务在运行"):
        explain_rule(tmp_path, rule="high", device="ps-1", at=None)


def test_explain_an_alarm(data_dir: Path) -> None:
    shown = run("explain", "1", "--set", f"data_dir={data_dir}")
    assert (shown.returncode, shown.stderr) == (0, "")
    for part in ("触发时", "现在", "已触发 firing", "✓ level_inside > 3.5", "level_inside = 3.6", "good"):
        assert part in shown.stdout, part
    as_json = run("explain", "1", "--json", "--set", f"data_dir={data_dir}")
    assert json.loads(as_json.stdout)["raised"]["state"] == "firing"


def test_explain_why_nothing_was_raised(data_dir: Path) -> None:
    at = to_iso(START + 2 * MINUTE)
    shown = run("explain", "--rule", "high", "--device", "ps-1", "--at", at, "--set", f"data_dir={data_dir}")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "未触发 normal" in shown.stdout
    assert "✗ level_inside > 3.5" in shown.stdout
    refused = run("explain", "--rule", "none", "--device", "ps-1", "--set", f"data_dir={data_dir}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no rule none" in refused.stderr
    misused = run(
        "explain", "--rule", "high", "--device", "ps-1", "--at", "2125-01-01T00:00:00Z", "--set", f"data_dir={data_dir}"
    )
    assert (misused.returncode, misused.stdout) == (2, "")
    assert "is yet to come: now is " in misused.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        [], ["1", "--rule", "high", "--device", "ps-1"], ["--rule", "high"], ["--device", "ps-1"],
        ["1", "--at", "2025-01-01T00:00:00Z"], ["0"], ["--rule", "high", "--device", "ps-1", "--at", "soon"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_use_is_status_2(wrong: list[str], tmp_path: Path) -> None:
    shown = run("explain", *wrong, "--set", f"data_dir={tmp_path}")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr

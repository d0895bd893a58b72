"""The command line: what it teaches, how it says no, and where it writes what."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from gridwhistle.cli import app

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).parent / "gridwhistle"
COMMANDS = (
    "demo", "run", "simulate", "replay", "test-rules", "backtest", "suggest", "explain", "ledger", "users", "refused",
    "init", "check", "doctor",
)  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("GRIDWHISTLE_")} | environ,
    )  # fmt: skip


def test_help_names_every_command_in_chinese_and_english() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in shown.stdout
    assert "工单" in shown.stdout
    assert "work order" in shown.stdout
    assert "…" not in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(command: str) -> None:
    shown = call(*({"users": ["users", "add"], "refused": ["refused", "retry"]}.get(command, [command])), "--help")
    assert shown.exit_code == 0
    usage, _, rest = shown.stdout.strip().partition("\n")
    assert "Usage" in usage
    assert f"gridwhistle {command} " in rest
    assert "…" not in shown.stdout  # a Chinese phrase that is longer than its column is cut


def test_help_loads_nothing_heavy() -> None:
    """It must answer within half a second on an old machine: the heavy parts are imported by the commands."""
    program = (
        "import sys\nfrom gridwhistle.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'fastapi', 'sqlalchemy', 'duckdb', 'pydantic', 'httpx') if m in sys.modules],"
        " file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stderr.strip() == "[]"


def test_version() -> None:
    assert run("--version").stdout == "gridwhistle 0.1.0\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["nonsense"],
        ["run", "--nonsense"],
        ["run", "--set", "http.port=x"],
        ["run", "--config", "/no/such.toml"],
        ["demo", "--for", "soon"],
        ["replay", "/no/such.csv", "--mapping", "/no/such.yaml"],
        ["users", "add", "wang", "--role", "emperor"],
        ["init"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_status_2_with_the_reason_on_standard_error(wrong: list[str]) -> None:
    shown = call(*wrong)
    assert shown.exit_code == 2
    assert shown.stderr
    assert shown.stdout == ""


def test_all_mistakes_of_the_settings_are_told_and_nothing_is_started(tmp_path: Path) -> None:
    config = tmp_path / "gridwhistle.toml"
    config.write_text('[broker]\nurl = "nonsense"\n', encoding="utf-8")
    shown = run("run", "--config", config, "--set", f"data_dir={tmp_path / 'data'}", GRIDWHISTLE_HTTP__PORT="many")
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert f"{config}:2: broker.url: " in shown.stderr
    assert "GRIDWHISTLE_HTTP__PORT: http.port: " in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (tmp_path / "data").exists()


def test_the_answer_goes_to_standard_output_and_the_rest_to_standard_error(tmp_path: Path) -> None:
    made = run("init", tmp_path / "site")
    assert all(Path(line).is_file() for line in made.stdout.splitlines())
    assert "gridwhistle check" in made.stderr
    checked = run("check", tmp_path / "site" / "gridwhistle.toml", "--json")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert json.loads(checked.stdout)["ok"] is True


def test_the_commands_reference_is_what_the_commands_say() -> None:
    made = subprocess.run([sys.executable, "scripts/commands_doc.py"], cwd=ROOT, capture_output=True, check=True)
    assert made.stdout.decode() == (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), (
        "run: python scripts/commands_doc.py > docs/commands.md"
    )


def examples() -> list[str]:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    return re.findall(r"^    ((?:[A-Z_]+=\S+ )?gridwhistle .+)$", page, re.MULTILINE)


def test_every_example_uses_a_command_and_options_that_there_are() -> None:
    assert len(examples()) >= 2 * len(COMMANDS) - 2
    for example in examples():
        words = [word for word in shlex.split(re.split(r" [|<] ", example)[0]) if "=" not in word or "." in word]
        command: Any = typer.main.get_command(app)
        rest = words[1:]
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        known = {name for option in command.params for name in option.opts}
        assert {word for word in rest if word.startswith("-") and not word[1:2].isdigit()} - {"-"} <= known, example

"""Commands as the pages write them, run in a folder of their own: the guide's first day, the examples of the reference.

Left out: examples that address a broker elsewhere or never end; tests/gridwhistle checks the options of every one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.docs.pages import blocks, read

COMMAND = Path(sys.executable).parent / "gridwhistle"
GUIDE = read("docs/guide.zh.md")
WITHIN_S = 90
# A page's levels are few: enough to raise an alarm and to end it.
LEVELS = "".join(f"2025-09-12T08:{minute:02}:00+08:00,{3.42 + minute / 50:.2f}\n" for minute in range(12))


def environ() -> dict[str, str]:
    """Port 0: the pages name the usual one, which may be another's here."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GRIDWHISTLE_")}
    return clean | {"GRIDWHISTLE_HTTP__PORT": "0", "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"}


def run(command: str, folder: Path, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One line of a page; what is piped elsewhere is left out."""
    words = shlex.split(re.split(r" [|<] ", command)[0])
    return subprocess.run(
        words, cwd=folder, env=environ(), input=stdin, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


@contextmanager
def running(command: str, folder: Path) -> Iterator[str]:
    """The service, from the line it prints when it is ready."""
    process = subprocess.Popen(
        shlex.split(command), cwd=folder, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        yield line
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the examples take for granted: the files they name."""
    for info in ("csv", "yaml"):
        for block in blocks(GUIDE, info):
            name = block.info.split(" ")[1]
            (tmp_path / name).write_text(block.text, encoding="utf-8")
    return tmp_path


def test_the_first_day_of_the_guide(folder: Path) -> None:
    """Every line of its shell blocks, in order; the service is up from `run` to the end, as on that day."""
    lines = [line for block in blocks(GUIDE, "sh") for line in block.text.splitlines()]
    start = next(n for n, line in enumerate(lines) if line.startswith("gridwhistle run "))
    for line in lines[:start]:
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    with running(lines[start], folder) as ready:
        assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", ready)
        assert any(line.startswith("gridwhistle users add ") for line in lines[start + 1 :])
        for line in lines[start + 1 :]:
            done = run(line, folder)
            # The embedded broker is on a port of its own; the one of the file is not there.
            assert done.returncode == (1 if "doctor" in line else 0), f"{line}\n{done.stdout}{done.stderr}"
    assert {"duty_officer", "handler", "checker"} <= set(
        re.findall(r"duty_officer|handler|checker", run(lines[-2], folder).stdout)
    )


def test_the_guide_finds_the_alarm_in_its_own_data(folder: Path) -> None:
    lines = [line for block in blocks(GUIDE, "sh") for line in block.text.splitlines()]
    assert run(lines[0], folder).returncode == 0
    (backtest,) = (line for line in lines if line.startswith("gridwhistle backtest "))
    found = json.loads(run(f"{backtest} --json", folder).stdout)
    assert [(a["rule"], a["device"], a["raised_at"], a["cleared_at"]) for a in found["alarms"]] == [
        ("polder-inside-high", "pump-east-01", "2025-06-19T21:03:00Z", "2025-06-19T21:04:00Z")
    ]


def test_the_readme_starts_a_site_as_the_guide_does() -> None:
    """What the guide's first day runs need not be run twice."""
    lines = [line for block in blocks(read("README.md"), "sh") for line in block.text.splitlines()]
    site = [line for line in lines if line.startswith("gridwhistle ")]
    assert [line.split()[1] for line in site] == ["init", "check", "run"]
    assert set(site) <= {line for block in blocks(GUIDE, "sh") for line in block.text.splitlines()}


def examples(*commands: str) -> list[str]:
    found = re.findall(r"^    (gridwhistle .+)$", read("docs/commands.md"), re.MULTILINE)
    return [line for line in found if line.split()[1] in commands]


def test_the_demo_of_the_reference_for_a_few_seconds(tmp_path: Path) -> None:
    (example,) = (
        found for found in re.findall(r"`(gridwhistle demo [^`]+)`", read("docs/commands.md")) if "--report -" in found
    )
    done = run(f"{example.replace('60s', '5s')} --port 0", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["published"] == report["received"] > 0
    assert report["received"] == sum(report[name] for name in ("stored", "duplicates", "replaced", "refused"))
    assert report["truth"]["missed"] == report["truth"]["false"] == []


@pytest.fixture
def site(folder: Path) -> Path:
    """An installation in the working folder, as the examples of the reference write it."""
    assert run("gridwhistle init .", folder).returncode == 0
    (folder / "levels.csv").write_text(f"time,level\n{LEVELS}", encoding="utf-8")
    (folder / "password.txt").write_text("correct horse battery\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("example", [e for e in examples("init", "backtest", "suggest") if "--from" not in e])
def test_an_example_that_needs_no_service(example: str, site: Path) -> None:
    done = run(example, site)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_check_and_users_as_the_reference_has_them(site: Path) -> None:
    assert run("gridwhistle init my-town", site).returncode == 0
    (check,) = set(examples("check")) & set(examples("init", "check"))
    assert run(check, site).returncode == 0
    added = examples("users")
    assert len(added) == 3
    for number, example in enumerate(added):
        done = run(example.replace("wang.min", f"wang.min{number}"), site, stdin="correct horse battery\n")
        assert done.returncode == 0, f"{example}\n{done.stderr}"


@pytest.mark.services
def test_replay_and_doctor_as_the_reference_has_them(site: Path, broker: Broker) -> None:
    replays = examples("replay")
    assert replays
    for example in replays:
        wanted = example.replace("mqtt://127.0.0.1:1883", broker.url)
        done = run(wanted if "--broker" in wanted else f"{wanted} --broker {broker.url} --speed max", site)
        assert done.returncode == 0, f"{example}\n{done.stderr}"
    (doctor,) = examples("doctor")
    done = run(f"{doctor} --set broker.url={broker.url}", site)
    assert done.returncode == 0, done.stdout

"""Both READMEs: the commands are there, the layout table is the folders, the picture is a Board and small."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess

import pytest

from tests.docs.pages import ROOT, blocks, links, read, table_under, tables, top_folders

READMES = ("README.md", "README.zh.md")
LAYOUT = {"README.md": "| folder | what it is |", "README.zh.md": "| 目录 | 内容 |"}


def commands(page: str) -> list[str]:
    return [line for block in blocks(read(page), "sh") for line in block.text.splitlines()]


@pytest.mark.parametrize("page", READMES)
def test_the_make_commands_are_targets_that_call_what_is_said(page: str) -> None:
    make = shutil.which("make")
    assert make, "make is not installed"
    targets = [line.removeprefix("make ") for line in commands(page) if line.startswith("make ")]
    assert targets == ["demo", "test"]
    wanted = {"demo": ("gridwhistle demo",), "test": ("ruff check", "ruff format", "mypy", "lint-imports", "pytest")}
    for target in targets:
        dry = subprocess.run([make, "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for part in wanted[target]:
            assert part in dry, f"make {target} does not call {part}"


@pytest.mark.parametrize("page", READMES)
def test_the_layout_table_is_the_folders_that_exist(page: str) -> None:
    listed = [row[0].strip("`") for row in table_under(read(page), LAYOUT[page])]
    assert sorted(listed) == sorted(f"{folder.name}/" for folder in top_folders())


def test_both_say_the_same() -> None:
    english, chinese = (read(page) for page in READMES)
    assert commands("README.md") == commands("README.zh.md")
    assert [[row[0] for row in table] for table in tables(english)] == [
        [row[0] for row in table] for table in tables(chinese)
    ]
    assert set(links(english)) ^ set(links(chinese)) == {"README.md", "README.zh.md"}


@pytest.mark.parametrize("page", READMES)
def test_the_life_of_one_reading_has_ten_lines(page: str) -> None:
    assert re.findall(r"^(\d+)\. ", read(page), re.MULTILINE) == [str(n) for n in range(1, 11)]


def test_the_picture_is_a_desk_screen_and_small() -> None:
    assert "docs/img/board.png" in links(read("README.md"))
    picture = (ROOT / "docs" / "img" / "board.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack("!II", picture[16:24]) == (1366, 768)
    assert len(picture) < 300_000


def test_the_changelog_has_this_version_and_its_form() -> None:
    text = read("CHANGELOG.md")
    (version,) = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    heads = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert version in heads
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "To know before you run it"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_the_licence_is_the_one_the_project_names() -> None:
    assert read("LICENSE").startswith("MIT License\n")
    assert "Gridwhistle contributors" in read("LICENSE")
    assert 'license = "MIT"' in read("pyproject.toml")

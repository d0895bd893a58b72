"""docs/console.md says what is so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx

import console
from tests.console.township import Township

HERE = Path(console.__file__).parent
DOC = (HERE.parent / "docs" / "console.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    section = DOC.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_page_of_the_table_answers_whom_it_says(visitor: Callable[..., httpx.Client], township: Township) -> None:
    township.flood()
    guest, handler, officer = visitor("guest"), visitor("li"), visitor("wang")
    assert len(rows("Pages")) > 10
    for path, _, who in rows("Pages"):
        desk = who == "duty officer and admin"
        assert officer.get(path.strip("`")).status_code == 200, path
        assert handler.get(path.strip("`")).status_code == (403 if desk else 200), path
        assert guest.get(path.strip("`")).status_code == (403 if desk or who == "handler and above" else 200), path


def test_every_hook_of_the_table_is_on_a_page() -> None:
    templates = "".join(path.read_text(encoding="utf-8") for path in (HERE / "templates").rglob("*.html"))
    present = set(re.findall(r'data-testid="([^"]+)"', templates))
    present |= set(re.findall(r'form\("\w+", "([^"]+)"', templates))  # test_id of the alarm page's macro
    named = [name for cells in rows("Hooks for tests") for name in re.findall(r"`([a-z-]+…?)`", cells[0])]
    assert len(named) > 20
    for name in named:
        stem = name.rstrip("…")
        assert any(found == stem or (name.endswith("…") and found.startswith(stem)) for found in present), name


def test_the_cookies_and_events_named_are_ours() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("*.py"))
    sources += (HERE / "static" / "stream-worker.js").read_text(encoding="utf-8")
    for name in ("gw_form", "gw_language", "gw_theme", "beat", "presence", "latest", "reset"):
        assert f"`{name}`" in DOC
        assert name in sources

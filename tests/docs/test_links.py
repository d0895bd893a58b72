"""Nothing a page or a comment points at is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, is_kept, links, pages, read, table_under, top_folders

REFERENCE = re.compile(r"docs/[a-z0-9./-]*[a-z0-9]")
SECTION = re.compile(r"docs/architecture\.md §(\d+)")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), f"{link} leads nowhere"
        assert place.is_relative_to(ROOT), f"{link} leads out of the project"
        if anchor:
            assert anchor in anchors(place.read_text(encoding="utf-8")), f"{link}: no such heading"


def test_the_pages_are_found_and_have_links() -> None:
    names = {str(page.relative_to(ROOT)) for page in pages()}
    assert {"README.md", "README.zh.md", "CHANGELOG.md", "docs/architecture.md", "docs/adr/index.md"} <= names
    assert sum(len(links(page.read_text(encoding="utf-8"))) for page in pages()) > 40


def test_every_page_is_listed_in_both_readmes() -> None:
    listed = {name: set(links(read(name))) for name in ("README.md", "README.zh.md")}
    wanted = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} | {"docs/adr/index.md", "CHANGELOG.md"}
    for name, found in listed.items():
        assert wanted <= found, f"{name} does not list {wanted - found}"


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    rows = table_under(read("docs/adr/index.md"), "| number | decision |")
    listed = {re.sub(r"\[(\d{4})\]\((.+)\)", r"\2", cell): title for cell, title in rows}
    files = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("[0-9]*.md")}
    assert listed.keys() == files.keys()
    for name, text in files.items():
        assert text.startswith(f"# {name[:4]} {listed[name]}\n"), f"{name} and the index call it differently"
        heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert heads == ["Context", "Decision", "Consequences", "What would make us change it"], name


def sources() -> list[Path]:
    """Comments, messages and files of settings name pages, sections and decisions."""
    kinds = {".py", ".yaml", ".toml", ".html", ".sh"}
    below = (path for folder in top_folders() for path in folder.rglob("*") if path.suffix in kinds and is_kept(path))
    here = ROOT / "tests" / "docs"
    return [*(p for p in below if here not in p.parents), ROOT / "pyproject.toml", ROOT / "Makefile"]


def named() -> set[tuple[str, str]]:
    """(what is named, who names it)"""
    return {
        (name, str(path.relative_to(ROOT)))
        for path in sources()
        for name in REFERENCE.findall(path.read_text(encoding="utf-8"))
    }


def test_the_pages_the_code_names_are_there() -> None:
    wanted = {(name, who) for name, who in named() if not name.startswith("docs/adr/")}
    assert len(wanted) > 15
    assert not {(name, who) for name, who in wanted if not (ROOT / name).exists()}


def test_the_decisions_the_code_names_are_there() -> None:
    wanted = {(name, who) for name, who in named() if name.startswith("docs/adr/")}
    assert wanted
    assert not {(name, who) for name, who in wanted if not list(ROOT.glob(f"{name}*"))}


def test_the_sections_the_code_names_are_there() -> None:
    sections = set(re.findall(r"^## (\d+)\. ", read("docs/architecture.md"), re.MULTILINE))
    wanted = {number for path in sources() for number in SECTION.findall(path.read_text(encoding="utf-8"))}
    assert wanted
    assert wanted <= sections

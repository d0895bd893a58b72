"""The pages people read, as text: code blocks, tables and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)
_CODE = re.compile(r"`+[^`\n]*`+")
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `info` is what stands behind the fence: a language, then perhaps a file's name."""

    info: str
    text: str


def ignored() -> list[str]:
    return [line.strip("/ ") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if line]


def is_kept(path: Path) -> bool:
    """Whether the path, below ROOT, is part of the project: vendored files are, what .gitignore names is not."""
    parts = path.relative_to(ROOT).parts
    return ".git" not in parts and not any(fnmatch(part, pattern) for part in parts for pattern in ignored())


def pages() -> list[Path]:
    """Every Markdown file of the project's own."""
    found = (
        p for folder in (ROOT, *top_folders()) for p in (folder.glob("*.md") if folder == ROOT else _below(folder))
    )
    return sorted(p for p in found if "vendor" not in p.parts)


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.md") if is_kept(path))


def top_folders() -> list[Path]:
    """Hidden folders are tools' own, except that of CI."""
    return sorted(
        p for p in ROOT.iterdir() if p.is_dir() and is_kept(p) and (not p.name.startswith(".") or p.name == ".ci")
    )


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, info: str) -> list[Block]:
    return [Block(i.strip(), body) for i, body in _BLOCK.findall(text) if i.strip().split(" ")[0] == info]


def tables(text: str) -> list[list[list[str]]]:
    """Every table as rows of cells, without its header and rule."""
    return [
        [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.strip().splitlines()[2:]]
        for table in _TABLE.findall(_BLOCK.sub("", text))
    ]


def table_under(text: str, header: str) -> list[list[str]]:
    """The one table whose first line is this."""
    assert text.count(header) == 1, f"{text.count(header)} tables begin with {header!r}"
    (found,) = tables(text[text.index(header) :])[:1]
    return found


def links(text: str) -> list[str]:
    """Targets of links and pictures; what stands in code is none."""
    return _LINK.findall(_CODE.sub("", _BLOCK.sub("", text)))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "").lower()).replace(" ", "-") for head in heads}

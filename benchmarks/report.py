"""Writes the page about performance from what was measured: `python -m benchmarks.report build/bench` (`make bench`).

The folder holds one JSON object a measurement (ingest.json, latency.json, …). They are kept together beside the page,
in performance.json: a measurement that was not taken again stays as it was. Every measured number on the page and in
its plots is from there; only what is wanted, and the words, are here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.chapters import CHAPTERS, INTRODUCTION, MADE, shown, table

ROOT = Path(__file__).resolve().parent.parent
MEASUREMENTS = ("ingest", "ledger", "latency", "memory", "store", "rules")


def collect(folder: Path, kept: Path) -> dict[str, Any]:
    """What was kept, with what lies in the folder in its place."""
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name in MEASUREMENTS:
        file = folder / f"{name}.json"
        if file.exists():
            found[name] = json.loads(file.read_text(encoding="utf-8"))
    return found


def page(found: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The page and its plots by file name."""
    parts = [MADE, INTRODUCTION]
    plots: dict[str, str] = {}
    small = [name for name in MEASUREMENTS if found.get(name, {}).get("quick")]
    if small:
        parts.append(
            f"> **Not measurements.** These sections are of the small form that only shows that the scripts run: "
            f"{', '.join(small)}. `make bench` makes the real ones."
        )
    for name, chapter in CHAPTERS.items():
        if name in found:
            text, pictures = chapter(found[name])
            parts.append(text)
            plots |= pictures
    parts.append(_where(found))
    return flowed("\n\n".join(parts)) + "\n", plots


def _where(found: Mapping[str, Any]) -> str:
    """The machines, once if they are one, and how busy each was."""
    rows: list[Sequence[object]] = []
    hardware: dict[str, None] = {}
    for name in (name for name in MEASUREMENTS if name in found):
        m = found[name]["machine"]
        hardware[
            f"{m['cores']} cores of {m['cpu']}, {m['memory_gb']} GB, {m['system']}, Python {m['python']}, "
            f"Mosquitto {m['mosquitto']}"
        ] = None
        load = ("/".join(map(shown, m["load_average"][end])) for end in ("begin", "end"))
        packages = ", ".join(f"{package} {version}" for package, version in found[name]["versions"].items())
        rows.append((name, m["at"], *load, m["fsync_ms"], packages))
    header = ("measurement", "when", "load average at begin", "at end", "ms to make 4 KiB durable", "versions")
    listed = "\n".join(f"- {line}" for line in hardware)
    return f"## The machine\n\n{listed}\n\n{table(header, rows)}"


def flowed(text: str) -> str:
    """Paragraphs in lines of equal length; everything else as it is."""
    parts = text.split("\n\n")
    return "\n\n".join(
        fill(part, 120, break_long_words=False, break_on_hyphens=False) if part[:1] not in "#|-!<>" else part
        for part in parts
    )


def write(found: Mapping[str, Any], folder: Path) -> None:
    """performance.json, performance.md and img/performance-*.svg."""
    text, plots = page(found)
    (folder / "img").mkdir(parents=True, exist_ok=True)
    (folder / "performance.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / "performance.md").write_text(text, encoding="utf-8")
    for name, picture in plots.items():
        (folder / "img" / name).write_text(picture, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with ingest.json, latency.json, …")
    parser.add_argument("--into", type=Path, default=ROOT / "docs")
    given = parser.parse_args(arguments)
    found = collect(given.folder, given.into / "performance.json")
    if not found:
        sys.exit(f"{given.folder} holds no measurement")
    write(found, given.into)
    print(f"{given.into / 'performance.md'}: {', '.join(name for name in MEASUREMENTS if name in found)}")


if __name__ == "__main__":
    main()

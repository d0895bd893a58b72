"""The page about performance is made from what was measured and from nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import chapters, report

# A run of the small forms.
RECORDED = Path(__file__).with_name("measured.json")
DOCS = report.ROOT / "docs"
# Numbers in words and names, not measured: QoS 0 and 1, MQTT 5, 4 KiB, 24 h, 30 days, p50, `--minutes 60`,
# 5,000 a second.
WORDS = {"0", "1", "3", "4", "5", "24", "30", "50", "60", "99", "5000"}


@pytest.fixture
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


def spread_out(found: dict[str, Any], folder: Path) -> Path:
    folder.mkdir()
    for name, measured in found.items():
        (folder / f"{name}.json").write_text(json.dumps(measured))
    return folder


def marked(value: Any) -> Any:
    """The same with 8888 for every number and no digit in any text but keys."""
    if isinstance(value, dict):
        return {key: value[key] if key == "quick" else marked(value[key]) for key in value}
    if isinstance(value, list):
        return [marked(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\d+", "x", value)
    return 8888 if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def test_a_run_becomes_a_page_with_its_plots(recorded: dict[str, Any], tmp_path: Path) -> None:
    report.main([str(spread_out(recorded, tmp_path / "measured")), "--into", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Beside the broker", "Beside what one would otherwise write", "What the ledger costs", "From publish to alarm",
        "Memory", "Store", "Rules alone", "The machine",
    ]  # fmt: skip
    assert f"**{recorded['ingest']['qos1']['ratio']}**" in text
    assert "Not measurements." in text
    plots = re.findall(r"!\[.+\]\((.+)\)", text)
    assert len(plots) == 5
    for plot in plots:
        picture = ElementTree.parse(tmp_path / "docs" / plot).getroot()
        assert "nan" not in ElementTree.tostring(picture, encoding="unicode").lower()
    assert json.loads((tmp_path / "docs" / "performance.json").read_text()) == recorded


def test_what_is_not_measured_again_stays(recorded: dict[str, Any], tmp_path: Path) -> None:
    report.write(recorded, tmp_path)
    again = {"latency": recorded["latency"] | {"devices": 4_711, "quick": False}}
    found = report.collect(spread_out(again, tmp_path / "again"), tmp_path / "performance.json")
    assert found == recorded | again
    text, _ = report.page(found)
    assert "4,711 devices publish" in text
    assert "run: ingest, ledger, memory, rules." in text


def test_every_number_is_measured_or_wanted(recorded: dict[str, Any]) -> None:
    """With the same number everywhere in what was measured, that one is left, and what is wanted."""
    text, _ = report.page(marked(recorded))
    wanted = {
        chapters.RATIO, chapters.TIMES, chapters.VALUES_PER_S, chapters.P99_MS, chapters.MEMORY_MB, chapters.DAY_MS,
        chapters.MONTH_MS, chapters.COMMIT_MS, chapters.LEDGER_PERCENT,
    }  # fmt: skip
    keys = {key for rates in recorded["rules"]["plain"]["by_rules_and_batch"].values() for key in rates}
    keys |= recorded["rules"]["plain"]["by_rules_and_batch"].keys()
    numbers = {number.replace(",", "") for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}
    assert numbers - {"8888"} - {str(number) for number in wanted} - keys <= WORDS


def test_the_page_is_the_one_that_its_numbers_make() -> None:
    found = json.loads((DOCS / "performance.json").read_text(encoding="utf-8"))
    text, plots = report.page(found)
    assert (DOCS / "performance.md").read_text(encoding="utf-8") == text
    for name, picture in plots.items():
        assert (DOCS / "img" / name).read_text(encoding="utf-8") == picture

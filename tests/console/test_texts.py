"""Every text in both languages, one word for one idea, and the vendored files as they were published."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import console
from alerts.alarms import AlarmState, Happening
from alerts.orders import STEP_NAMES, Act, CloseBy, OrderState, Source, Step
from alerts.roles import ROLE_NAMES, Role
from console.texts import TEXTS
from devices.kinds import KINDS
from flow.ledger import COLUMNS
from rules.rule import Priority

HERE = Path(console.__file__).parent
CHINESE = re.compile(r"[一-鿿]")
SOURCES = [*sorted((HERE / "templates").rglob("*.html")), *sorted(HERE.glob("*.py"))]
# t("x.y"), say(language, "x.y"), done(request, visit, "x.y"), key = "x.y"
KEYS = re.compile(r"""(?:\bt\(|say\([^"\n]*|say_or\([^"\n]*|done\([^"\n]*|key = )["']([a-z_.]+[a-z_])["']\s*[,)\n]""")


def test_every_text_is_in_both_languages() -> None:
    same_in_both = {"pH", "PM2.5", "PM10", "“{what}”"}
    for key, (zh, en) in TEXTS.items():
        assert zh.strip(), key
        assert en.strip(), key
        if not key.startswith("language."):
            assert not CHINESE.search(en), f"{key}: Chinese in the English text"
            assert CHINESE.search(zh) or zh in same_in_both, f"{key}: no Chinese in the Chinese text"
        assert set(re.findall(r"{(\w+)}", zh)) == set(re.findall(r"{(\w+)}", en)), key


def test_no_text_stands_twice() -> None:
    pairs = json.loads((HERE / "texts.json").read_text(encoding="utf-8"), object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_text_a_page_asks_for_exists(source: Path) -> None:
    asked = set(KEYS.findall(source.read_text(encoding="utf-8")))
    assert asked <= TEXTS.keys(), asked - TEXTS.keys()


def test_the_test_above_finds_keys() -> None:
    assert KEYS.findall('{{ t("board.title") }} say(visit.language, "grid.none") done(request, visit, "x.y", n=1)') == [
        "board.title", "grid.none", "x.y",
    ]  # fmt: skip
    assert sum(len(KEYS.findall(source.read_text(encoding="utf-8"))) for source in SOURCES) > 200


def test_no_page_carries_chinese_of_its_own() -> None:
    for source in (HERE / "templates").rglob("*.html"):
        assert not CHINESE.search(source.read_text(encoding="utf-8")), source.name


def test_everything_the_desk_can_meet_has_a_word() -> None:
    wanted = {
        "alarm": AlarmState, "order": OrderState, "act": Act, "priority": Priority, "step": Step, "role": Role,
        "source": Source, "close_by": CloseBy, "ledger": COLUMNS, "quality": "012",
        "chain": list(Happening), "limit": ("accept_by", "arrive_by", "handle_by"),
        "event": {event for kind in KINDS.values() for event in kind.events},
        "attribute": {name for kind in KINDS.values() for name in kind.attributes},
        "metric": {name for kind in KINDS.values() for name in kind.metrics},
    }  # fmt: skip
    missing = [f"{group}.{name}" for group, names in wanted.items() for name in names if f"{group}.{name}" not in TEXTS]
    assert not missing


def test_the_words_are_those_of_the_domain() -> None:
    assert {role: TEXTS[f"role.{role}"][0] for role in Role} == {role: zh for role, (zh, _) in ROLE_NAMES.items()}
    assert {step: TEXTS[f"step.{step}"][0] for step in Step} == {step: zh for step, (zh, _) in STEP_NAMES.items()}
    metrics = {name: metric.zh for kind in KINDS.values() for name, metric in kind.metrics.items()}
    assert {name: TEXTS[f"metric.{name}"][0] for name in metrics} == metrics


def test_the_vendored_files_are_the_published_ones() -> None:
    folder = HERE / "static" / "vendor"
    listed = {}
    for line in (folder / "VENDORED.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if len(cells) == 7 and len(cells[6]) == 64:
            listed[cells[4]] = cells[6]
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "VENDORED.md"
    }
    assert found == listed
    assert {name.split("/")[0] for name in listed} == {"htmx.org-4.0.1", "echarts-6.1.0", "pico-2.1.1"}


def test_pages_have_nothing_the_policy_forbids() -> None:
    """No inline script, style or handler, and nothing from another site."""
    for source in (HERE / "templates").rglob("*.html"):
        text = source.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), source.name
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|https?://", text), source.name
    for script in (HERE / "static").glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert not re.search(r"\beval\(|new Function|innerHTML|https?://", text), script.name
    for sheet in (HERE / "static").glob("*.css"):
        assert not re.search(r"https?://|url\((?!\"vendor/)", sheet.read_text(encoding="utf-8")), sheet.name

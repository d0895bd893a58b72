"""docs/glossary.md and the code have the same values, and people read the same words in both."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

import pytest

import gridwhistle.settings
import ingest.decoder
from alerts.alarms import AlarmState, Happening
from alerts.categories import BUILT_IN
from alerts.commands import CommandState
from alerts.limits import Limits
from alerts.orders import STEPS, Act, CloseBy, OrderState, Source, Step
from alerts.roles import ROLE_NAMES, Role
from alerts.service_rules import SERVICE_RULES
from console.texts import TEXTS
from devices.batch import Quality
from devices.kinds import KINDS
from devices.registry import DeviceStatus
from flow.ledger import COLUMNS
from flow.messages import PRIORITY_NAMES
from gridwhistle.findings import Level
from rules.expression import MODES
from rules.rule import Priority
from tests.docs.pages import ROOT, read, tables

PAGE = read("docs/glossary.md")
Words = Mapping[str, tuple[str, str]]


def rows(section: str) -> dict[str, list[str]]:
    """value → the cells after it."""
    begin = PAGE.index(f"<!-- {section} -->")
    found = tables(PAGE[begin:])[0]
    values = [row[0].strip("`") for row in found]
    assert len(values) == len(set(values)), f"{section}: a value stands twice"
    return {value: row[1:] for value, row in zip(values, found, strict=True)}


def said(group: str, values: Iterable[object]) -> Words:
    """What the console calls them."""
    return {str(value): TEXTS[f"{group}.{value}"] for value in values}


def lower(words: Words) -> Words:
    return {value: (zh, en.lower()) for value, (zh, en) in words.items()}


# Which argument of a call is the reason of a refusal.
REASON_AT = {"refuse": 2, "Refused": 2, "_refuse_value": 4, "_drop": 4, "_keep": 3, "Refusal": 0}
REFUSING = (
    "ingest/decoder.py", "ingest/columns.py", "ingest/topics.py", "ingest/formats/native.py", "flow/judging.py",
    "flow/commands.py",
)  # fmt: skip


def reasons() -> set[str]:
    """Every machine name under which something received is refused."""
    found: set[str] = set()
    for name in REFUSING:
        for node in ast.walk(ast.parse(read(name))):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                place = REASON_AT.get(called, len(node.args))
                found |= texts(node.args[place]) if place < len(node.args) else set()
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "reason":
                found |= texts(node.value)
    return found


def texts(node: ast.expr) -> set[str]:
    """The text, or both texts of `a if … else b`."""
    chosen = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
    return {n.value for n in chosen if isinstance(n, ast.Constant) and isinstance(n.value, str)}


SECTIONS: dict[str, Callable[[], Words]] = {
    "alarm": lambda: said("alarm", AlarmState),
    "happening": lambda: said("chain", Happening),
    "priority": lambda: said("priority", Priority),
    "order": lambda: said("order", OrderState),
    "step": lambda: said("step", Step),
    "act": lambda: said("act", Act),
    "limit": lambda: said("limit", Limits.__dataclass_fields__),
    "role": lambda: said("role", Role),
    "close_by": lambda: said("close_by", CloseBy),
    "source": lambda: said("source", Source),
    "status": lambda: said("status", DeviceStatus),
    "command": lambda: said("command", CommandState),
    "presence": lambda: said("presence", ("heard", "online", "offline", "silent", "never")),
    "mode": lambda: said("mode", MODES),
    "quality": lambda: said("quality", (int(q) for q in Quality)),
    "refused": lambda: said("refused", reasons()),
    "ledger": lambda: said("ledger", COLUMNS),
    "service_rule": lambda: {r.id: (r.name_zh, r.name_en) for r in SERVICE_RULES.values()},
    "kind": lambda: {k.name: (k.zh, k.en) for k in KINDS.values()},
    "category": lambda: {c.id: (c.zh, c.en) for c in BUILT_IN.categories.values()},
}
ENUMS: dict[str, Iterable[StrEnum]] = {
    "unknown_devices": ingest.decoder.UnknownDevices,
    "clock_source": gridwhistle.settings.ClockSource,
    "finding": Level,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_the_values_and_words_of_the_code(section: str) -> None:
    listed = {value: (cells[0], cells[1]) for value, cells in rows(section).items()}
    assert listed == SECTIONS[section]()


@pytest.mark.parametrize("section", ENUMS)
def test_the_page_has_the_values_of_settings_and_findings(section: str) -> None:
    assert set(rows(section)) == {str(value) for value in ENUMS[section]}


def test_every_section_is_compared() -> None:
    assert set(re.findall(r"<!-- (\w+) -->", PAGE)) == SECTIONS.keys() | ENUMS.keys()


def test_nothing_else_refuses() -> None:
    """Were a refusal made in another file, its reason would be missing here."""
    for folder in ("ingest", "ingest/formats", "flow"):
        for path in (ROOT / folder).glob("*.py"):
            name = f"{folder}/{path.name}"
            makes = re.search(r"(?<!def )\brefuse\(|\b_No\(\"|(?<!class )\bRefused\((?!code|Exc)", read(name))
            known = name in {
                *REFUSING,
                "ingest/columns.py",
                "ingest/link.py",
            }  # a builder's own; a broker's refusal of us
            assert known or not makes, name
    assert len(reasons()) >= 14


def test_the_states_of_a_step_are_those_of_the_code() -> None:
    for step, cells in rows("step").items():
        assert cells[2] == ", ".join(state for state in OrderState if STEPS[state] == step), step


def test_who_ends_a_category() -> None:
    for name, cells in rows("category").items():
        assert cells[2] == f"`{BUILT_IN.categories[name].close_by}`", name


def test_folders_that_have_words_of_their_own_use_the_same() -> None:
    assert lower(said("priority", Priority)) == {str(p): words for p, words in PRIORITY_NAMES.items()}
    assert lower(said("role", Role)) == {str(r): words for r, words in ROLE_NAMES.items()}


def test_one_word_is_not_two_ideas() -> None:
    """Within a section, where people choose between the words."""
    for section in SECTIONS.keys() - {"presence"}:
        for column in (0, 1):
            words = [cells[column] for cells in rows(section).values()]
            assert len(words) == len(set(words)), f"{section}: {words}"


def test_the_chinese_guide_uses_the_words_of_the_pages() -> None:
    guide = read("docs/guide.zh.md")
    quoted = set(re.findall(r"“([^”]+)”", guide))
    known = {zh for zh, _ in TEXTS.values()} | {rule.name_zh for rule in SERVICE_RULES.values()}
    unknown = {word for word in quoted if not any(zh.startswith(word) for zh in known)}
    assert not unknown
    assert len(quoted) > 30

"""The rule books that ship: every scenario happens as written, and no rule is without one that raises and clears it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.categories import BUILT_IN
from gridwhistle.checking import check_all
from gridwhistle.cli import app
from gridwhistle.scenario_files import read_scenarios
from gridwhistle.starter import book_names
from rules.book import RuleBook, load
from rules.expression import Attribute, leaves
from rules.outcome import Edge
from rules.scenario import Played, Scenario, Status, play, priority_of
from tests.docs.pages import read, table_under

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "books"
BOOKS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SCENARIOS, MISTAKES = read_scenarios([FOLDER / "scenarios"])


def book(name: str) -> RuleBook:
    return load({f"{name}.yaml": (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")})


def of(name: str) -> list[Scenario]:
    return [scenario for scenario in SCENARIOS if Path(scenario.file).stem == name]


def test_every_book_has_scenarios_and_all_can_be_read() -> None:
    assert MISTAKES == []
    assert {Path(scenario.file).stem for scenario in SCENARIOS} == set(BOOKS)
    wanted = "air camera device-health door equipment lake polder pond rain sewage surface-water"
    assert wanted.split() == BOOKS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: f"{Path(s.file).stem}: {s.name}")
def test_a_scenario_happens_as_written(scenario: Scenario) -> None:
    played = play(scenario)
    assert played.ok, [line for line in played.lines if line.status is not Status.MATCHED]
    assert (played.impossible, played.stale) == (0, 0), "a value no sensor can send, or one sent twice, proves nothing"


@pytest.mark.parametrize("name", BOOKS)
def test_every_rule_is_raised_and_cleared_and_every_level_is_reached(name: str) -> None:
    met: set[tuple[str, str]] = set()
    for played in map(play, of(name)):
        met |= _met(played)
    for rule in book(name).rules.values():
        assert {(rule.id, "raised"), (rule.id, "cleared")} <= met, rule.id
        assert {(rule.id, str(level.priority)) for level in rule.levels} <= met, rule.id


def _met(played: Played) -> set[tuple[str, str]]:
    happened = [line.happened for line in played.lines if line.happened is not None]
    edges = {(each.rule, str(each.edge)) for each in happened}
    standing = {(t.rule, str(priority_of(played.scenario, t))) for t in happened if t.edge is not Edge.CLEARED}
    return edges | standing


@pytest.mark.parametrize("name", BOOKS)
def test_every_book_has_scenarios_in_which_nothing_happens(name: str) -> None:
    """Of the rule, or of one of its devices: what must not raise is as much the rule as what must."""
    quiet = [scenario for scenario in of(name) if not scenario.expect or len(scenario.devices) > 1]
    assert quiet


def test_all_books_together_are_one_book_with_names_in_both_languages() -> None:
    files = {f"{name}.yaml": (FOLDER / f"{name}.yaml").read_text(encoding="utf-8") for name in BOOKS}
    for rule in load(files).rules.values():
        assert any("\u4e00" <= letter <= "\u9fff" for letter in rule.name_zh), rule.id
        assert rule.name_en.isascii(), rule.id
        assert rule.order_category is None or rule.order_category in BUILT_IN.categories, rule.id


def test_only_the_weather_service_warns() -> None:
    rule = book("rain").rules["rain-standard"]
    names = [rule.name_zh, rule.name_en, *(name for level in rule.levels for name in (level.name_zh, level.name_en))]
    assert all("标准" in name or "standard" in name or "mm in" in name for name in names)
    assert not any(word in name.lower() for name in names for word in ("预警", "警报", "warning", "alert"))


def test_the_books_fit_the_shipped_town(tmp_path: Path) -> None:
    for name in BOOKS:
        (tmp_path / f"{name}.yaml").write_bytes((FOLDER / f"{name}.yaml").read_bytes())
    config = tmp_path / "site.toml"
    config.write_text(f'town = "{ROOT / "examples" / "qidu"}"\nrules = "{tmp_path}"\n')
    assert check_all(config).mistakes == []


def test_init_takes_the_books_that_are_named_with_their_scenarios(tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["init", str(tmp_path / "site"), "--books", "polder, door"])
    assert made.exit_code == 0
    assert {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.yaml")} == {
        "rules/polder.yaml", "rules/door.yaml", "scenarios/polder.yaml", "scenarios/door.yaml",
        "town/town.yaml", "town/devices.yaml", "town/categories.yaml",
    }  # fmt: skip
    checked = check_all(tmp_path / "site" / "gridwhistle.toml")
    assert (checked.mistakes, checked.rules) == ([], len(book("polder").rules) + len(book("door").rules))
    scenarios, mistakes = read_scenarios([tmp_path / "site" / "scenarios"])
    assert mistakes == []
    assert len(scenarios) == len(of("polder")) + len(of("door"))
    assert play(scenarios[0]).ok


def test_init_names_the_book_that_was_meant_and_writes_nothing(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["init", str(tmp_path / "site"), "--books", "polder,dor"])
    assert refused.exit_code == 2
    assert "'dor'; nearest: door; air, camera" in refused.stderr.replace("\n", " ")
    assert not (tmp_path / "site").exists()


def test_the_help_names_every_book(tmp_path: Path) -> None:
    shown = " ".join(CliRunner().invoke(app, ["init", "--help"], env={"COLUMNS": "400"}).stdout.split())
    assert all(name in shown for name in BOOKS)
    assert book_names() == BOOKS


def test_the_page_of_the_books_names_their_rules_attributes_and_tags() -> None:
    rows = table_under(read("docs/books.md"), "| book | rules | attributes they read | tags they choose by |")
    assert [row[0].strip("`") for row in rows] == BOOKS
    for name, *cells in rows:
        rules = book(name.strip("`")).rules.values()
        attributes = {
            leaf.name for r in rules for tree in r.trees for leaf in leaves(tree) if isinstance(leaf, Attribute)
        }
        groups = {rule.group.tag for rule in rules if rule.group is not None and rule.group.tag is not None}
        tags = {tag for rule in rules for tag in rule.applies_to.tags or ()} | groups
        assert [cell.replace("`", "").split() for cell in cells] == [
            [rule.id for rule in rules], sorted(attributes), sorted(tags),
        ]  # fmt: skip

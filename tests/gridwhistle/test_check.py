"""`init` and `check`: a start that is right, and every mistake told with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gridwhistle.checking import check_all
from gridwhistle.cli import app
from gridwhistle.starter import FILES, write_starter

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write_starter(tmp_path / "site")
    return tmp_path / "site"


def told(site: Path) -> list[str]:
    return [str(m).removeprefix(f"{site}/") for m in check_all(site / "gridwhistle.toml").mistakes]


def change(path: Path, old: str, new: str) -> int:
    """Returns the line on which the change was made."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (old, text.count(old))
    path.write_text(text.replace(old, new), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


def test_what_init_makes_passes_check_without_a_warning(tmp_path: Path) -> None:
    made = call("init", tmp_path / "new")
    assert made.exit_code == 0
    assert sorted(made.stdout.split()) == sorted(str(tmp_path / "new" / name) for name in FILES)
    checked = call("check", tmp_path / "new" / "gridwhistle.toml", "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout) == {
        "ok": True, "mistakes": [], "warnings": [], "rules": 3, "devices": 2, "grids": 2,
    }  # fmt: skip


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "example.yaml").write_text("mine")
    refused = call("init", tmp_path)
    assert refused.exit_code == 2
    assert "example.yaml 已存在" in refused.stderr
    assert (tmp_path / "rules" / "example.yaml").read_text() == "mine"
    assert not (tmp_path / "gridwhistle.toml").exists()


def test_the_shipped_town_passes_check_without_a_warning(tmp_path: Path) -> None:
    town = ROOT / "examples" / "qidu"
    (tmp_path / "qidu.toml").write_text(f'town = "{town}"\nrules = "{town / "rules"}"\n')
    checked = check_all(tmp_path / "qidu.toml")
    assert (checked.mistakes, checked.warnings) == ([], [])
    assert checked.devices > 80


def test_mistakes_in_every_file_are_told_at_once_each_with_its_line(site: Path) -> None:
    port = change(site / "gridwhistle.toml", "port = 8080", "port = 80800")
    kind = change(site / "town/devices.yaml", "kind: pump_station", "kind: pump_staton")
    parent = change(site / "town/grids.geojson", '"parent": "mytown"', '"parent": "nowhere"')
    limit = change(site / "town/categories.yaml", "accept: 5m", "accept: soon")
    rule = change(site / "rules/example.yaml", "level_inside > attr", "level_inside >> attr")
    found = told(site)
    assert parent > 0  # GeoJSON mistakes name the grid, not the line
    for start in (
        f"gridwhistle.toml:{port}:0: http.port: 应为 expected 0 to 65535",
        f"town/devices.yaml:{kind}:",
        "town/grids.geojson:0:0: grid 'east-01': no parent 'nowhere'",
        f"town/categories.yaml:{limit}:",
        f"rules/example.yaml:{rule}:",
    ):
        assert [t for t in found if t.startswith(start)], (start, found)
    shown = call("check", site / "gridwhistle.toml")
    assert shown.exit_code == 1
    assert len(shown.stdout.splitlines()) == len(found)


def test_names_of_the_town_that_are_not_there_name_the_nearest(site: Path) -> None:
    change(site / "town/devices.yaml", "kind: pump_station", "kind: pump_staton")
    assert "unknown kind 'pump_staton'; nearest: pump_station; one of" in "\n".join(told(site))
    change(site / "town/devices.yaml", "kind: pump_staton", "kind: pump_station")
    text = (site / "town/devices.yaml").read_text(encoding="utf-8").replace("grid: east-01", "grid: east-1", 1)
    (site / "town/devices.yaml").write_text(text.replace("keeper: ", "keper: "), encoding="utf-8")
    found = "\n".join(told(site))
    assert "not a known key; nearest: keeper" in found
    (site / "town/devices.yaml").write_text(text, encoding="utf-8")
    assert "no grid 'east-1' in grids.geojson; nearest: east-01" in "\n".join(told(site))


def test_a_rule_for_a_device_or_grid_that_is_not_there_is_a_mistake(site: Path) -> None:
    line = change(
        site / "rules/example.yaml",
        "applies_to: {kind: door_sensor}",
        "applies_to: {kind: door_sensor, devices: [door-east-1], grids: [west]}",
    )
    assert [t.split(": ", 1)[1] for t in told(site) if t.startswith(f"rules/example.yaml:{line}:")] == [
        "elder-door-silent: no device 'door-east-1' in the town; nearest: door-east-01",
        "elder-door-silent: no grid 'west' in the town",
    ]


def test_a_rule_that_can_never_be_true_and_an_unknown_category_are_warnings(site: Path) -> None:
    change(site / "town/devices.yaml", "inside_limit_level: 3.50, ", "")
    change(site / "rules/example.yaml", "applies_to: {kind: door_sensor}", "applies_to: {kind: door_sensor, tags: [x]}")
    change(site / "rules/example.yaml", "category: flood.mains", "category: flood.main")
    checked = check_all(site / "gridwhistle.toml")
    assert checked.mistakes == []
    assert [w.message for w in checked.warnings] == [
        "polder-inside-high: none of its 1 devices has attribute 'inside_limit_level', so it can never be true",
        "pump-without-mains: category 'flood.main' is not in the catalogue; it gets the limits of `other`"
        "; nearest: flood.mains",
        "elder-door-silent: no device of the town has tag 'x'",
    ]
    assert all(w.line > 1 for w in checked.warnings)
    assert call("check", site / "gridwhistle.toml").exit_code == 0


def warned(site: Path, rule: str) -> tuple[list[str], list[str]]:
    """The mistakes and the warnings of a book with this one rule, without its name."""
    lines = "rules:\n  - id: r\n" + "".join(f"    {line}\n" for line in rule.splitlines())
    (site / "rules/example.yaml").write_text(lines, encoding="utf-8")
    checked = check_all(site / "gridwhistle.toml")
    place = f"{site / 'rules/example.yaml'}"
    assert all(m.file == place and m.line > 1 for m in (*checked.mistakes, *checked.warnings)), checked
    mistakes, warnings = (
        [m.message.removeprefix("r: ") for m in found] for found in (checked.mistakes, checked.warnings)
    )
    return mistakes, warnings


@pytest.mark.parametrize(
    ("rule", "warning"),
    [
        ("when: level_inside > attr.inside_limit_levl", "none of its 1 devices has attribute 'inside_limit_levl', so "
         "it can never be true; nearest: inside_limit_level"),
        ("when: level_inside > 3\nclear: level_inside < attr.low", "none of its 1 devices has attribute 'low', so"),
        ("when: level_inside > attr.datum", "attribute 'datum' of its devices is a text, not a number"),
        ("levels:\n  - {priority: low, when: level_inside > attr.low}", "none of its 1 devices has attribute 'low'"),
        ("when: of_group(\"gateway-7\", absent) > 0.5", "no device of the town has tag 'gateway-7'"),
        ("applies_to: {grids: [mytown]}\nwhen: in_grid(count(level_inside > 3) >= 2)",
         "no grid has 2 of its devices (most: mytown 1), so it can never be true"),
        ("when: in_grid(count(level_inside > 3) > 1)", "no grid has 2 of its devices (most: east-01 1)"),
        ("when: pm2_5 > 3", "applies to no device of the town"),
    ],
)  # fmt: skip
def test_what_can_never_be_true_is_a_warning(site: Path, rule: str, warning: str) -> None:
    mistakes, warnings = warned(site, rule)
    assert mistakes == []
    assert len(warnings) == 1
    assert warnings[0].startswith(warning), warnings


def test_a_grid_without_devices_of_the_rule_is_told(site: Path) -> None:
    west = '{"type": "Feature", "properties": {"id": "west-01", "name": "西", "parent": "mytown"}, "geometry": null},'
    change(site / "town/grids.geojson", '"features": [', f'"features": [{west}')
    assert warned(site, "applies_to: {grids: [mytown]}\nwhen: level_inside > 3") == ([], [])
    told = warned(site, "applies_to: {grids: [west-01]}\nwhen: level_inside > 3")
    assert told == ([], ["applies to no device of the town"])


def test_a_rule_of_several_devices_that_there_are_is_fine(site: Path) -> None:
    change(site / "town/devices.yaml", "interval: 60 ", "tags: [gateway-7]\n    interval: 60 ")
    assert warned(site, 'when: of_group("gateway-7", absent) > 0.5') == ([], [])
    assert warned(site, "when: in_grid(count(level_inside > 3) >= 1)") == ([], [])
    assert warned(site, "when: in_grid(count(absent) < 9)") == ([], [])
    told = warned(site, 'when: of_group("gatway-7", absent) > 0.5')[1]
    assert told == ["no device of the town has tag 'gatway-7'; nearest: gateway-7"]


def test_a_rule_that_compares_levels_of_two_datums_is_a_mistake_that_names_the_device(site: Path) -> None:
    change(site / "town/devices.yaml", "datum: 吴淞", "datum: 吴淞, level_outside_datum: 1985")
    mistakes, _ = warned(site, "when: level_outside > level_inside + 0.1")
    assert mistakes == [
        "does not apply to pump-east-01, whose levels have different datums: level_outside > level_inside + 0.1: "
        "level_outside is above 1985, level_inside is above 吴淞"
    ]
    assert warned(site, "when: level_inside > attr.inside_limit_level") == ([], [])


def test_a_channel_whose_url_cannot_be_used_is_told_without_the_url(site: Path) -> None:
    (site / "duty.url").write_text("nonsense://hunter2")
    config = site / "gridwhistle.toml"
    extra = '\n[notify.channels]\nduty = "file:duty.url"\nnight = "file:absent.url"\ncloud = "env:SURELY_NOT_SET"\n'
    config.write_text(config.read_text(encoding="utf-8") + extra, encoding="utf-8")
    checked = check_all(config)
    assert [m.message.split(":")[0] for m in checked.mistakes] == ["notify.channels.duty", "notify.channels.night"]
    assert [w.message.split(":")[0] for w in checked.warnings] == ["notify.channels.cloud"]
    assert all(m.line > 0 for m in checked.mistakes)
    assert "hunter2" not in str(checked)


def test_a_configuration_that_is_not_there_or_not_toml_is_a_mistake(tmp_path: Path) -> None:
    assert call("check", tmp_path / "absent.toml").exit_code == 1
    (tmp_path / "bad.toml").write_text("= = =")
    shown = call("check", tmp_path / "bad.toml")
    assert shown.exit_code == 1
    assert shown.stdout.startswith(f"{tmp_path / 'bad.toml'}:1:1: TOML")


def test_the_environment_does_not_change_what_check_says(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDWHISTLE_HTTP__PORT", "nonsense")
    assert told(site) == []


@pytest.mark.parametrize(
    ("rule", "warning"),
    [
        ("when: avg(level_inside, 1m) > 3", "at most one reading lies in avg(level_inside, 1m) of pump-east-01, which "
         "reports every 1m"),
        ("when: level_inside > 3\nclear: max(level_inside, 30s) < 3", "at most one reading lies in max(level_inside"),
        ("when: flat(level_inside, 30s, 0.01)", "at most one reading lies in flat(level_inside, 30s, 0.01) of"),
        ("when: forecast(level_inside, 1h, 1m) > 4", "at most one reading lies in forecast("),
        ("when: absent(level_inside, 60s)", "absent(level_inside, 1m) is true between any two readings of pump"),
        ("levels:\n  - {priority: low, when: 'avg(level_inside, 1m) > 4'}", "at most one reading lies in avg("),
        ("when: in_grid(count(absent(level_inside, 1m)) >= 1)", "absent(level_inside, 1m) is true between"),
    ],
)  # fmt: skip
def test_a_span_in_which_a_device_reports_once_is_a_warning_at_its_line(site: Path, rule: str, warning: str) -> None:
    mistakes, warnings = warned(site, rule)
    assert mistakes == []
    assert len(warnings) == 1
    assert warnings[0].startswith(warning), warnings


def test_a_span_of_several_reports_is_fine_also_where_another_device_is_slower(site: Path) -> None:
    assert warned(site, "when: avg(level_inside, 3m) > 3 or absent(level_inside, 2m)") == ([], [])
    assert warned(site, 'when: count(event("door_opened"), 1m) > 3') == ([], [])
    slow = "  - id: slow\n    kind: pump_station\n    interval: 3600\n"
    devices = site / "town/devices.yaml"
    devices.write_text(devices.read_text(encoding="utf-8").rstrip("\n") + "\n" + slow, encoding="utf-8")
    _, (told,) = warned(site, "when: avg(level_inside, 3m) > 3")
    assert told == "at most one reading lies in avg(level_inside, 3m) of slow, which reports every 1h"
    assert warned(site, "applies_to: {grids: [mytown]}\nwhen: avg(level_inside, 3m) > 3") == ([], [])

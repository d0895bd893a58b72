"""The zone and the calendar that rules go by: read from the town's folder, and told where they do not say enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.documents import DocumentError
from devices.instants import from_iso
from devices.town import read_town
from gridwhistle.checking import check_all
from gridwhistle.folders import read_town_files
from gridwhistle.site import CALENDAR, read_site, remarks
from gridwhistle.starter import write_starter
from rules.book import load
from rules.calendar import EMPTY, Site

ROOT = Path(__file__).resolve().parents[2]
SUMMER, DECEMBER = from_iso("2026-07-01T00:00:00+08:00"), from_iso("2026-12-15T00:00:00+08:00")
ASKING = """
rules:
  - {id: on-holidays, when: level_inside > 3 and holiday()}
  - {id: in-season, when: level_inside > 3, only_in: [flood_season]}
  - id: in-levels
    levels: [{priority: low, when: level_inside > 3 and not mode("flood_season")}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_starter(tmp_path / "site")
    return tmp_path / "site"


def test_the_shipped_town_brings_its_calendar() -> None:
    files = read_town_files(ROOT / "examples" / "qidu")
    site = read_site(None, read_town(files), files)
    assert (site.zone, site.calendar.years) == ("Asia/Shanghai", frozenset({2025, 2026}))
    assert site.calendar.flood_season == ((5, 1), (9, 30))


def test_the_settings_zone_goes_before_the_towns() -> None:
    town = read_town({"town.yaml": "site: s\nname: {zh: 镇}\nzone: Asia/Urumqi\n"})
    assert [read_site(zone, town, {}).zone for zone in (None, "UTC")] == ["Asia/Urumqi", "UTC"]
    assert read_site(None, None, {}) == Site("Asia/Shanghai", EMPTY)


def test_a_zone_nobody_knows_is_a_mistake_of_the_town() -> None:
    with pytest.raises(DocumentError, match=r"town.yaml:3:1: zone: no such zone 'Asia/Wuxi'"):
        read_town({"town.yaml": "site: s\nname: {zh: 镇}\nzone: Asia/Wuxi\n"})


def test_what_the_calendar_does_not_say_is_told_only_where_a_rule_asks() -> None:
    files = read_town_files(ROOT / "examples" / "qidu")
    known = read_site(None, None, files)
    assert list(remarks(load({"a.yaml": ASKING}), known, SUMMER)) == []
    (soon,) = remarks(load({"a.yaml": ASKING}), known, DECEMBER)
    assert "no year 2027: holiday() then knows weekends only (rules on-holidays)" in soon
    year, season = remarks(load({"a.yaml": ASKING}), Site(), SUMMER)
    assert "no year 2026" in year
    assert "no flood_season: it never is, and rules in-season, in-levels ask for it" in season
    assert list(remarks(load({"a.yaml": "rules: [{id: a, when: level_inside > 3}]"}), Site(), SUMMER)) == []


def test_check_warns_of_a_year_nobody_told_and_tells_mistakes_of_the_calendar(folder: Path) -> None:
    (folder / "rules" / "example.yaml").write_text(ASKING)
    calendar = folder / "town" / CALENDAR
    calendar.write_text("years: {2025: {}}\nflood_season: {from: 05-01, to: 09-30}\n")
    checked = check_all(folder / "gridwhistle.toml", SUMMER)
    warned = [w for w in checked.warnings if w.file == str(calendar)]
    assert [("2026" in w.message) for w in warned] == [True]
    calendar.write_text("years:\n  2026:\n    holidays: [2026-02-30]\n")
    checked = check_all(folder / "gridwhistle.toml", SUMMER)
    assert [str(m) for m in checked.mistakes] == [f"{calendar}:3:16: years.2026.holidays.0: there is no day 2026-02-30"]

"""The samples of docs/simulator.md and docs/town.md are read by the code they describe."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

from devices.attributes import value_at
from devices.instants import from_iso
from devices.town import DeviceEntry, read_town
from rules.calendar_file import read_calendar
from simulator.recorded import read_mapping
from simulator.scenarios import SCENARIOS
from tests.simulator.township import qidu

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_mappings_of_the_page_are_good() -> None:
    kinds = [read_mapping(text, "simulator.md").kind for text in blocks("simulator.md", "yaml")]
    assert kinds == ["river_gauge", "air_monitor"]


def test_every_scenario_is_on_the_page_with_its_hour() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|.*\| (\d\d):00 \|$", (DOCS / "simulator.md").read_text(), re.MULTILINE)
    assert {name: int(hour) for name, hour in rows} == {
        name: (int(scenario.start[11:13]) + 8) % 24 for name, scenario in SCENARIOS.items()
    }


def test_the_town_of_the_page_is_one() -> None:
    written = blocks("town.md", "yaml")
    town, devices = written[:2]
    (dated,), (calendar,) = ([text for text in written if key in text] for key in ("valid_from", "flood_season"))
    read = read_town({"town.yaml": town, "devices.yaml": devices, "grids.geojson": blocks("town.md", "json")[0]})
    assert list(read.devices) == ["pump-wanghu-north", "door-01"]
    assert read.under("qidu") == {"qidu", "wanghu"}
    entry = "devices:\n- id: x\n  kind: pump_station\n" + indent(dated, "  ")
    limit = read_town({"town.yaml": town, "devices.yaml": entry}).devices["x"].attributes["inside_limit_level"]
    assert value_at(limit, from_iso("2026-07-01T00:00:00+08:00")) == 3.40
    assert len(read_calendar(calendar, "calendar.yaml").holidays) == 12


def test_every_field_of_a_device_is_in_the_table() -> None:
    table = (DOCS / "town.md").read_text(encoding="utf-8").split("| field |")[1]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(DeviceEntry.model_fields)


def test_the_number_of_devices_is_what_the_page_says() -> None:
    assert f"{len(qidu().devices)} devices" in (DOCS / "town.md").read_text(encoding="utf-8")

"""The path of a reading without link and pages, in the process that measures it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.load import DEVICES
from benchmarks.parts import write_installation
from devices.faults import ClockLimits
from flow.memory import Limits
from flow.readings import Settler
from flow.start import start_settler
from gridwhistle.clock import wall
from gridwhistle.folders import read_rule_files, town_in
from ingest.decoder import Decoder, UnknownDevices
from rules.book import load
from store.readings.duckdb import DuckDBReadings
from store.records.database import migrate, open_records


def open_path(folder: Path, *, devices: int = DEVICES) -> tuple[Settler, Decoder]:
    """Over the installation that `write_installation` writes to the folder."""
    write_installation(folder, devices=devices)
    migrate(folder / "records.sqlite")
    settler = start_settler(
        open_records(folder / "records.sqlite"),
        DuckDBReadings(folder / "readings.duckdb"),
        book=load(read_rule_files(folder / "rules.yaml")),
        town=town_in(folder / "town"),
        limits=Limits(ClockLimits(None, None), 1 << 34, 65_535),
        now=wall(),
    )
    decoder = Decoder(
        settler.memory.registry, unknown=UnknownDevices.REFUSE, now=wall, first_arrival=settler.first_arrival
    )
    return settler, decoder

"""A file of one table, as versions before this one wrote it, is opened as it is and carried over by upkeep."""

from __future__ import annotations

import logging
from pathlib import Path

import duckdb
import pytest

from devices.instants import DAY, HOUR, MINUTE
from store.readings import Fn
from store.readings.layout import RAW
from tests.store.opened import Opened
from tests.store.test_upkeep import Stored, asked, counted

# What that version ran, word for word.
SCHEMA = """
create table if not exists readings (
    series integer not null, measured_at bigint not null, value double not null,
    quality utinyint not null, stored_at bigint not null);
create table if not exists applied (number bigint not null);
insert into applied select 0 where not exists (select 1 from applied);
"""
FIRST = 20_000 * DAY


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_nothing_is_lost_and_the_number_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, killed: bool
) -> None:
    path = tmp_path / "readings.duckdb"
    old = duckdb.connect(str(path), config={"checkpoint_threshold": "1TB"} if killed else {})
    if killed:
        old.execute("pragma disable_checkpoint_on_shutdown")  # what was written is only in the write-ahead log
    old.execute(SCHEMA)
    old.execute(
        f"insert into readings select i % 5, {FIRST} + i // 5 * {MINUTE}, (i * 7) % 31 / 8, 0, 1 from range(20000) t(i)"
    )
    old.execute("update applied set number = 41")
    old.close()
    stored: Stored = {(i % 5, FIRST + i // 5 * MINUTE): (i * 7) % 31 / 8 for i in range(20_000)}

    with caplog.at_level(logging.INFO), Opened(path) as opened:
        assert "20,000 readings" in caplog.text
        for _ in range(2):
            assert opened.store.applied() == 41
            assert opened.store.series() == dict.fromkeys(range(5), 4_000)
            for every in (MINUTE, HOUR):
                span = (3, FIRST, FIRST + 3 * DAY, every, Fn.AVG)
                assert asked(opened, *span) == counted(stored, *span)
            opened.keep_up(FIRST + 9 * DAY)
            opened.again()
        with opened.store._file.reading() as now:
            assert [part.number for part in now.parts(RAW)] == [20_000, 20_001, 20_002]
            assert now.one("select count(*) from arrived") == 0

"""A recorded file is read as written: every row sent, skipped or named with its line and reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices.documents import DocumentError
from devices.instants import to_iso
from simulator.recorded import LISTED, RecordedError, RecordedFile, devices_of, read_mapping

RIVER = """\
site: calder
kind: river_gauge
device: {const: Hebden Bridge}
attributes: {warning_level: 0.2}
time: {column: at, format: %s}
metrics:
  value: {metric: level}
missing: ["", "NA"]
"""


def read(
    tmp_path: Path, text: str | bytes, mapping: str, rows: int = 8192
) -> tuple[list[tuple[str, list[float]]], RecordedFile]:
    path = tmp_path / "recorded.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    recorded = RecordedFile(read_mapping(mapping, "mapping.yaml"), path)
    found = [
        (to_iso(int(at)), values.tolist())
        for chunk in recorded.chunks(rows)
        for at, values in zip(chunk.measured_at, chunk.values, strict=True)
    ]
    return found, recorded


@pytest.mark.parametrize(
    ("time", "text", "instant"),
    [
        ("iso, zone: UTC", "2025-09-12T07:00:00", "2025-09-12T07:00:00Z"),
        ("iso, zone: UTC", "2025-09-12 07:00", "2025-09-12T07:00:00Z"),
        ("iso, zone: Asia/Shanghai", "2025-09-12T07:00:00", "2025-09-11T23:00:00Z"),
        ("iso, zone: Asia/Shanghai", "2022-03-24T09:00:00+01:00", "2022-03-24T08:00:00Z"),
        ("iso", "2022-03-24T09:00:00.123456Z", "2022-03-24T09:00:00.123456Z"),
        ("epoch_ms", "1763721600000", "2025-11-21T10:40:00Z"),
        ("epoch_s", "1763721600.25", "2025-11-21T10:40:00.25Z"),
        ("'%d/%m/%Y %H:%M', zone: Europe/London", "01/07/2024 12:00", "2024-07-01T11:00:00Z"),
        ("'%d/%m/%Y %H:%M%z'", "01/07/2024 12:00+0800", "2024-07-01T04:00:00Z"),
        # The clocks go back at 02:00 to 01:00: the first passing. They go forward at 01:00 to 02:00: never shown.
        ("iso, zone: Europe/London", "2024-10-27T01:30:00", "2024-10-27T00:30:00Z"),
        ("iso, zone: Europe/London", "2024-03-31T01:30:00", "2024-03-31T01:30:00Z"),
    ],
)
def test_times(tmp_path: Path, time: str, text: str, instant: str) -> None:
    found, recorded = read(tmp_path, f"at,value\n{text},1.5\n", RIVER % time)
    assert found == [(instant, [1.5])]
    assert recorded.counts.ambiguous == (1 if "Europe/London" in time and ":30:" in text else 0)


def test_time_in_several_columns(tmp_path: Path) -> None:
    mapping = (RIVER % "iso").replace(
        "{column: at, format: iso}", "{columns: [year, month, day, hour], zone: Asia/Shanghai}"
    )
    text = "No,year,month,day,hour,value\n1,2013,3,1,0,4\n2,2013,2,29,1,5\n3,2013,3,1,24,5\n4,2013,3,x,1,5\n"
    found, recorded = read(tmp_path, text, mapping)
    assert found == [("2013-02-28T16:00:00Z", [4.0])]
    assert [p.line for p in recorded.counts.problems] == [3, 4, 5]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2025-01-01,nan", "not a finite number"),
        ("2025-01-01,inf", "not a finite number"),
        ("2025-01-01,1e999", "not a finite number"),
        ("2025-01-01,1_000", "not a finite number"),
        ("2025-01-01,abc", "value: 'abc': not a number"),
        ('2025-01-01,"0,25"', "value: '0,25': not a number"),
        ("2025-01-01,1,2", "3 columns where the header has 2"),
        ("2025-01-01", "1 columns where the header has 2"),
        ("yesterday,1", "'yesterday': not an ISO 8601 time"),
        ("1901-01-01,1", "before 1970"),
        ("2025-01-01,\ufffd1", "not a number"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_its_neighbours_are_read(tmp_path: Path, row: str, reason: str) -> None:
    found, recorded = read(tmp_path, f"at,value\n2025-01-01,1\n{row}\n2025-01-02,2\n", RIVER % "iso, zone: UTC")
    assert [values for _, values in found] == [[1.0], [2.0]]
    assert [p.line for p in recorded.counts.problems] == [3]
    assert reason in recorded.counts.problems[0].reason
    assert (recorded.counts.read, recorded.counts.skipped, recorded.counts.unreadable) == (2, 0, 1)


def test_no_zone_is_guessed(tmp_path: Path) -> None:
    _, recorded = read(tmp_path, "at,value\n2025-01-01T00:00:00,1\n", RIVER % "iso")
    assert "no offset" in recorded.counts.problems[0].reason
    _, recorded = read(tmp_path, "at,value\n1970-01-01T00:00:00,1\n", RIVER % "iso, zone: Asia/Shanghai")
    assert recorded.counts.problems[0].reason == "a time before 1970 or after 9999"


def test_byte_order_mark_quotes_crlf_blank_lines_and_a_line_break_inside_a_cell(tmp_path: Path) -> None:
    text = (
        '\ufeff"at","note","value"\r\n\r\n"2025-01-01","two\r\nlines","1"\r\n   \r\n2025-01-02,,NA\r\n2025-01-03,,x\r\n'
    )
    found, recorded = read(tmp_path, text, RIVER % "iso, zone: UTC")
    assert found == [("2025-01-01T00:00:00Z", [1.0])]
    assert (recorded.counts.read, recorded.counts.skipped, recorded.counts.unreadable) == (1, 1, 1)
    assert recorded.counts.problems[0].line == 7


def test_bytes_that_are_not_utf8_spoil_their_cell_only(tmp_path: Path) -> None:
    text = b"at,note,value\n2025-01-01,\xff\xfe,1\n2025-01-02,ok,\xff2\n"
    found, recorded = read(tmp_path, text, RIVER % "iso, zone: UTC")
    assert [values for _, values in found] == [[1.0]]
    assert [p.line for p in recorded.counts.problems] == [3]


def test_a_quote_never_closed_costs_one_row(tmp_path: Path) -> None:
    text = 'at,value\n2025-01-01,1\n"2025-01-02,2\n2025-01-03,3\n'
    found, recorded = read(tmp_path, text, RIVER % "iso, zone: UTC")
    assert [values for _, values in found] == [[1.0]]
    assert [p.line for p in recorded.counts.problems] == [3]


def test_order_duplicates_and_backward_steps_stay(tmp_path: Path) -> None:
    text = "at,value\n2025-01-02,1\n2025-01-01,2\n2025-01-01,2\n2025-01-03,3\n"
    found, _ = read(tmp_path, text, RIVER % "iso, zone: UTC", rows=3)
    assert [values for _, values in found] == [[1.0], [2.0], [2.0], [3.0]]


def test_scale_offset_several_metrics_and_booleans(tmp_path: Path) -> None:
    mapping = """\
site: Qidu Town
kind: pump_station
device: {column: 站}
time: {column: t, format: epoch_s}
metrics:
  inside mm: {metric: level_inside, scale: 0.001, offset: 1.0}
  power: {metric: mains_ok}
"""
    text = "t,站,inside mm,power\n1,North Gate,2200,TRUE\n2,s2,,false\n3,North Gate,,\n4,北,1,1\n"
    found, recorded = read(tmp_path, text, mapping)
    assert found[0] == ("1970-01-01T00:00:01Z", [3.2, 1.0])
    assert np.isnan(found[1][1][0])
    assert found[1][1][1] == 0.0
    assert list(recorded.devices) == ["north-gate", "s2"]
    assert (recorded.counts.read, recorded.counts.skipped) == (2, 1)
    assert [p.line for p in recorded.counts.problems] == [5]
    assert recorded.mapping.site == "qidu-town"


def test_two_names_that_become_one_device_are_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    mapping = read_mapping((RIVER % "iso, zone: UTC").replace("const: Hebden Bridge", "column: d"), "m.yaml")
    path = tmp_path / "two.csv"
    path.write_text("d,at,value\nPump 1,2025-01-01,1\nPump 1,2025-01-02,1\npump-1,2025-01-03,1\n")
    with pytest.raises(RecordedError, match="'Pump 1' and 'pump-1' would both be called 'pump-1'"):
        devices_of(mapping, path)


def test_devices_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("d,at,value\nB,2025-01-01,1\nA,x,1\nB,2025-01-03,1\n")
    mapping = read_mapping((RIVER % "iso, zone: UTC").replace("const: Hebden Bridge", "column: d"), "m.yaml")
    assert [(d.id, d.name, d.kind, d.attributes) for d in devices_of(mapping, path)] == [
        ("b", "B", "river_gauge", {"warning_level": 0.2}),
        ("a", "A", "river_gauge", {"warning_level": 0.2}),
    ]
    constant = read_mapping(RIVER % "iso", "m.yaml")
    assert [d.id for d in devices_of(constant, path)] == ["hebden-bridge"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no header"),
        ("time,value\n", "no column 'at'; the header has time, value"),
        ("at,value,value\n", "2 columns 'value'"),
    ],
)
def test_a_file_without_its_columns_is_refused_whole(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecordedError, match=said):
        read(tmp_path, text, RIVER % "iso")


def test_the_list_of_unreadable_rows_is_bounded_and_their_number_is_not(tmp_path: Path) -> None:
    _, recorded = read(tmp_path, "at,value\n" + "x,1\n" * 1000, RIVER % "iso", rows=64)
    assert recorded.counts.unreadable == 1000
    assert len(recorded.counts.problems) == LISTED


CELL = st.one_of(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=8),
    st.sampled_from(["", "NA", "1", "-2.5", "1e400", "nan", "2025-01-01", "9999-12-31T23:59:59.9", "1970-01-01", '"']),
    st.integers(-(10**30), 10**30).map(str),
)


@pytest.mark.parametrize(
    "time",
    [
        "{column: at, format: iso, zone: America/New_York}",
        "{column: at, format: epoch_s}",
        "{column: at, format: '%Y-%m-%d', zone: Asia/Shanghai}",
        "{columns: [at, value, other], zone: UTC}",
    ],
)
@given(
    rows=st.lists(st.lists(CELL, min_size=1, max_size=4), max_size=20),
    breaks=st.sampled_from(["\n", "\r\n", "\r"]),
    chunk=st.integers(1, 30),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_breaks_the_reader(tmp_path: Path, time: str, rows: list[list[str]], breaks: str, chunk: int) -> None:
    mapping = (RIVER % "iso").replace("{column: at, format: iso}", time)
    text = breaks.join(["at,value,other", *(",".join(cells) for cells in rows)])
    found, recorded = read(tmp_path, text, mapping, rows=chunk)
    counts = recorded.counts
    assert len(found) == counts.read
    assert counts.read + counts.skipped + counts.unreadable <= 20 * sum(len(cells) for cells in rows) + 1
    assert len(counts.problems) == min(counts.unreadable, LISTED)
    for instant, values in found:
        assert "1970" <= instant[:4] <= "9999"
        assert np.isfinite(values).all()


def test_every_mistake_of_a_mapping_is_told_with_its_line() -> None:
    text = """\
site: calder
kind: river_gauge
device: {const: a, column: b}
time: {column: t, format: sometimes, zone: Mars/Olympus}
metrics:
  value: {metric: level, scale: .nan}
surprise: 1
"""
    with pytest.raises(DocumentError) as caught:
        read_mapping(text, "m.yaml")
    said = [str(m) for m in caught.value.mistakes]
    assert [m.line for m in caught.value.mistakes] == [3, 4, 4, 6, 7]
    assert any("unknown zone 'Mars/Olympus'" in s for s in said)
    assert any("strptime" in s for s in said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("metric: level", "metric: depth"), "m.yaml:7:11: river_gauge has no metric 'depth'; one of level, flow"),
        (("kind: river_gauge", "kind: river"), "m.yaml:2:1: kind: unknown kind 'river'"),
        (("format: iso", "format: '%Y'"), "zone: is required"),
        (("{column: at, format: iso}", "{columns: [y, m, d], format: iso}"), "columns need no format"),
        (("{column: at, format: iso}", "{columns: [y, m, d]}"), "zone: is required"),
        (("const: Hebden Bridge", "const: 河"), "can stand in a name"),
    ],
)
def test_mapping_mistakes(change: tuple[str, str], said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_mapping((RIVER % "iso").replace(*change), "m.yaml")
    assert said in str(caught.value)

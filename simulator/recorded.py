"""A recorded CSV file as columns of readings, in file order and bounded memory (docs/simulator.md).

Duplicate instants and backward steps stay as they are: what they mean is for whoever settles the readings.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from devices.attributes import Attribute
from devices.batch import F64, I32, I64, Bool
from devices.kinds import KINDS
from simulator.cells import Clock, DeviceNames, Reasons, RecordedError, number, numbers, parse_column, truth
from simulator.mapping import FileMapping, read_mapping

__all__ = [
    "Chunk", "Counts", "FileMapping", "RecordedDevice", "RecordedError", "RecordedFile", "Unreadable", "devices_of",
    "read_mapping",
]  # fmt: skip

CHUNK_ROWS = 8192
LISTED = 100  # unreadable rows kept with line and reason; all are counted

if TYPE_CHECKING:
    from _csv import Reader

Row = tuple[int, list[str]]  # the line it starts on, its cells


@dataclass(frozen=True, slots=True)
class Unreadable:
    line: int
    reason: str


@dataclass(slots=True)
class Counts:
    """Rows so far, each counted once; `problems` holds the first 100 of `unreadable`.

    `skipped` rows hold no value. `ambiguous` are those read whose local time the clock shows twice (taken as the
    first) or never (taken with the offset before the change).
    """

    read: int = 0
    skipped: int = 0
    unreadable: int = 0
    ambiguous: int = 0
    problems: list[Unreadable] = field(default_factory=list)

    def refuse(self, line: int, reason: str) -> None:
        self.unreadable += 1
        if len(self.problems) < LISTED:
            self.problems.append(Unreadable(line, reason))


@dataclass(frozen=True, slots=True)
class RecordedDevice:
    """`name` is what the file calls it."""

    id: str
    name: str
    site: str
    kind: str
    attributes: dict[str, Attribute]


@dataclass(frozen=True, slots=True)
class Chunk:
    """n readable rows in file order: `line` and `measured_at` (µs) are (n,), `device` (n,) indexes `devices`,
    `values` is (n, metrics) with NaN where the row has no value; every row has at least one."""

    devices: Sequence[str]
    metrics: tuple[str, ...]
    line: I64
    device: I32
    measured_at: I64
    values: F64

    def __len__(self) -> int:
        return len(self.line)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in a row the mapped columns stand."""

    width: int
    device: int | None
    time: tuple[int, ...]
    metrics: tuple[int, ...]


class RecordedFile:
    """Iterate `chunks()` once; `counts` and `progress` (0 to 1) are true after each chunk."""

    def __init__(self, mapping: FileMapping, path: Path) -> None:
        self.mapping = mapping
        self.path = path
        self.metrics = tuple(source.metric for source in mapping.metrics.values())
        self.counts = Counts()
        self.progress = 0.0
        self._clock = Clock(mapping.time)
        self._names = DeviceNames(mapping)
        self._missing = frozenset(text.strip() for text in mapping.missing)
        # Where no number stands for a missing value, a column of numbers has none missing.
        self._numbers_count = all(numbers([text]) is None for text in self._missing)

    @property
    def devices(self) -> Sequence[str]:
        """Ids of the devices met so far, in order of first appearance."""
        return self._names.ids

    def described(self) -> list[RecordedDevice]:
        """The devices met so far, in order of first appearance."""
        return _described(self.mapping, self._names)

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """Raises RecordedError where the whole file cannot be used, OSError where it cannot be opened."""
        size = max(self.path.stat().st_size, 1)
        with _opened(self.path) as file:
            layout, blocks = _begin(self.mapping, file, self.path.name, rows)
            for block in blocks:
                if well_formed := self._well_formed(block, layout.width):
                    yield self._chunk(well_formed, layout)
                self.progress = min(1.0, file.buffer.tell() / size)
        self.progress = 1.0

    def _well_formed(self, block: list[Row | int], width: int) -> list[Row]:
        rows: list[Row] = []
        for row in block:
            if isinstance(row, int):
                self.counts.refuse(row, "not CSV: a quote that is never closed, or a cell beyond 128 KiB")
            elif len(row[1]) != width:
                self.counts.refuse(row[0], f"{len(row[1])} columns where the header has {width}")
            else:
                rows.append(row)
        return rows

    def _chunk(self, block: list[Row], layout: _Layout) -> Chunk:
        columns = list(zip(*(cells for _, cells in block), strict=True))
        device: I32 = np.zeros(len(block), np.int32)
        bad: Reasons = {}
        if layout.device is not None:
            device, bad = self._names.column(columns[layout.device])
        at, ambiguous, wrong_time = self._clock.instants([columns[i] for i in layout.time])
        bad = wrong_time | bad
        values, keep = self._values([columns[i] for i in layout.metrics], bad)
        keep[list(bad)] = False
        for i in sorted(bad):
            self.counts.refuse(block[i][0], bad[i])
        kept = int(keep.sum())
        self.counts.read += kept
        self.counts.skipped += len(block) - kept - len(bad)
        self.counts.ambiguous += int((ambiguous & keep).sum())
        line = np.fromiter((row[0] for row in block), np.int64, len(block))
        return Chunk(self.devices, self.metrics, line[keep], device[keep], at[keep], values[keep])

    def _values(self, columns: list[tuple[str, ...]], bad: Reasons) -> tuple[F64, Bool]:
        """Values, NaN where missing, and which rows have any; rows that hold something else are added to `bad`."""
        values = np.full((len(columns[0]), len(columns)), np.nan)
        present = np.zeros(len(values), np.bool_)
        for j, (texts, (column, source)) in enumerate(zip(columns, self.mapping.metrics.items(), strict=True)):
            whole = numbers(texts) if self._numbers_count else None
            if whole is not None and np.isfinite(scaled := whole * source.scale + source.offset).all():
                values[:, j], present[:] = scaled, True
                continue
            given = [i for i, text in enumerate(texts) if text.strip() not in self._missing]
            boolean = KINDS[self.mapping.kind].metrics[source.metric].boolean
            found, wrong = parse_column([texts[i] for i in given], truth if boolean else number, 0.0)
            for k, reason in wrong.items():
                bad.setdefault(given[k], f"{column}: {reason}")
            with np.errstate(over="ignore"):
                scaled = np.asarray(found, np.float64) * source.scale + source.offset
            for k in np.flatnonzero(~np.isfinite(scaled)).tolist():
                bad.setdefault(given[k], f"{column}: {texts[given[k]]!r}: too large once scaled")
            values[given, j] = scaled
            present[given] = True
        return values, present


def devices_of(mapping: FileMapping, path: Path) -> list[RecordedDevice]:
    """The devices of the file in order of appearance; reads the whole file where their names stand in a column.

    Raises RecordedError where two names of the file would become the same device id.
    """
    names = DeviceNames(mapping)
    if mapping.device.const is None:
        with _opened(path) as file:
            layout, blocks = _begin(mapping, file, path.name, CHUNK_ROWS)
            place = layout.device or 0
            rows = (row[1] for block in blocks for row in block if not isinstance(row, int))
            names.column(list(dict.fromkeys(cells[place] for cells in rows if len(cells) == layout.width)))
    return _described(mapping, names)


def _described(mapping: FileMapping, names: DeviceNames) -> list[RecordedDevice]:
    return [
        RecordedDevice(device, name, mapping.site, mapping.kind, dict(mapping.attributes))
        for device, name in zip(names.ids, names.originals, strict=True)
    ]


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Bytes that are not UTF-8 become U+FFFD, so that they spoil their own cell and no other."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        yield file


def _begin(mapping: FileMapping, file: TextIO, name: str, rows: int) -> tuple[_Layout, Iterator[list[Row | int]]]:
    """The place of every mapped column, and the rows after the header."""
    reader = csv.reader(file)
    header: Row | None = None
    while header is None and (block := _block(reader, 1)) is not None:
        header = next((row for row in block if not isinstance(row, int)), None)
    if header is None:
        raise RecordedError(f"{name}: no header line")
    line, cells = header
    columns = [cell.strip() for cell in cells]

    def place(column: str) -> int:
        found = columns.count(column.strip())
        if found != 1:
            what = "no column" if not found else f"{found} columns"
            raise RecordedError(f"{name}:{line}: {what} {column!r}; the header has {', '.join(columns)}")
        return columns.index(column.strip())

    time = mapping.time.columns or [mapping.time.column or ""]
    device = None if mapping.device.column is None else place(mapping.device.column)
    layout = _Layout(len(columns), device, tuple(map(place, time)), tuple(place(column) for column in mapping.metrics))
    return layout, iter(lambda: _block(reader, rows), None)


def _block(reader: Reader, rows: int) -> list[Row | int] | None:
    """The next so many rows with the line each starts on, blank ones left out; the bare line number where the text is
    not CSV. None at the end of the file."""
    found: list[Row | int] = []
    line = reader.line_num + 1
    begun = False
    try:
        for cells in itertools.islice(reader, rows):
            begun = True
            if len(cells) > 1 or (cells and cells[0].strip()):
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error:
        return [*found, line]
    return found if begun else None

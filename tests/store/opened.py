"""A readings store that can be closed and opened, and the rows to put into it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from devices.batch import Quality
from store.readings import Columns
from store.readings.duckdb import DuckDBReadings


class Opened:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = DuckDBReadings(path)

    def again(self) -> DuckDBReadings:
        self.store.close()
        self.store = DuckDBReadings(self.path)
        return self.store

    def put(self, *rows: tuple[int, int, float], replaces: tuple[int, ...] = ()) -> None:
        self.store.append(self.store.applied() + 1, [columns(*rows, replaces=replaces)])

    def keep_up(self, now: int) -> None:
        while self.store.upkeep(now):
            pass

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()


def columns(*rows: tuple[int, int, float], replaces: tuple[int, ...] = ()) -> Columns:
    """Rows of (series, measured_at, value); `replaces` are the positions of those that may be stored already."""
    mark = np.zeros(len(rows), np.uint8)
    mark[list(replaces)] = 1
    return Columns(
        np.array([r[0] for r in rows], np.int32),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.float64),
        np.full(len(rows), Quality.GOOD, np.uint8),
        99,
        mark,
    )

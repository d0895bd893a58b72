"""A recorded file and its town as the history that rules are tried on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from devices.instants import SECOND
from devices.kinds import KINDS
from devices.registry import Registry
from devices.town import Town
from gridwhistle.recorded_rows import Counted, registry_of, rows_of
from gridwhistle.recorded_survey import Interval, interval_of, survey
from rules.backtest import Backtest
from rules.book import RuleBook
from rules.calendar import Site
from rules.outcome import Rows
from simulator.mapping import FileMapping
from simulator.recorded import Counts, RecordedFile


@dataclass(slots=True)
class RecordedHistory:
    """`start` and `end` are the first and last instant of the rows read so far, 0 before.

    `intervals` are those of the devices, by id, that are not the one of their kind.
    """

    mapping: FileMapping
    path: Path
    registry: Registry
    grid_tree: Mapping[str, frozenset[str]]
    site: Site
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    counted: Counted = field(default_factory=Counted)
    start: int = 0
    end: int = 0

    def rows(self, told: Callable[[float], None] = lambda _: None) -> Iterator[Rows]:
        """The whole file, a chunk at a time. Raises RecordedError, OSError."""
        recorded = RecordedFile(self.mapping, self.path)
        self.counts, self.counted, self.start, self.end = recorded.counts, Counted(), 0, 0
        for rows in rows_of(recorded, self.registry, self.counted, told):
            if len(rows):
                first, last = int(rows.at.min()), int(rows.at.max())
                self.start, self.end = min(self.start or first, first), max(self.end, last)
            yield rows

    def trial(self, book: RuleBook) -> Backtest:
        """An engine before this history."""
        return Backtest(book, self.registry, grid_tree=self.grid_tree, site=self.site)

    def only(self, book: RuleBook, told: Callable[[float], None]) -> list[Rows]:
        """Rows of what the book reads alone, all in memory: 28 bytes each. A group asks whether anything was heard."""
        rules = book.rules.values()
        names = {name for rule in rules for name in rule.series}
        wanted = np.array([metric in names for metric in self.registry.series_metric], np.bool_)
        if any(rule.group is not None for rule in rules):
            wanted[:] = True
        found = []
        for rows in self.rows(told):
            keep = wanted[rows.series]
            if keep.any():
                found.append(
                    Rows(rows.series[keep], rows.at[keep], rows.value[keep], rows.element[keep], rows.device[keep])
                )
        return found

    def interval(self, chunks: Iterable[Rows]) -> int:
        """The usual time between two rows of a series, µs; that of the devices' kind where no series has two."""
        gaps = []
        for rows in chunks:
            order = np.argsort(rows.series, kind="stable")
            step, same = np.diff(rows.at[order]), np.diff(rows.series[order]) == 0
            gaps.append(step[same & (step > 0)])
        found = np.concatenate([np.empty(0, np.int64), *gaps])
        if len(found):
            return int(np.median(found))
        return max((round(device.interval_s * SECOND) for device in self.registry.devices), default=SECOND)


def open_history(mapping: FileMapping, path: Path, town: Town | None, site: Site | None) -> RecordedHistory:
    """Surveys the file first: its devices, when each begins and how often it reports.

    Raises RecordedError where the file cannot be used or contradicts the town, OSError.
    """
    found = survey(mapping, path)
    registry = registry_of(mapping, found, town)
    taken = {device.id: interval_of(device, mapping, town, found) for device in found.devices}
    usual = KINDS[mapping.kind].interval_s
    taken = {device: interval for device, interval in taken.items() if interval.seconds != usual}
    grids = {grid: town.under(grid) for grid in town.grids} if town else {}
    return RecordedHistory(mapping, path, registry, grids, site or Site(), taken)

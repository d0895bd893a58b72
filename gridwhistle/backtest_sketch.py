"""Series of any length as few points as a screen can show, their peaks kept: the least and the most of every stretch.

Fed chunk by chunk, in bounded memory: what has been thinned is thinned again, and an extreme stays one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from devices.batch import F64, I64, Bool
from devices.instants import SECOND
from devices.registry import Registry
from rules.outcome import Rows

# Each stretch keeps two points. More than the pixels of a screen, so that a chart can be zoomed into.
STRETCHES = 25_000
# Of all series together, about 17 bytes a point.
POINTS = 6_000_000
_FEWEST = 100
# A line is broken where the device was silent for longer than so many of its intervals, or of the usual step.
_SILENT, _UNUSUAL = 3, 5


@dataclass(frozen=True, slots=True)
class Points:
    """In order of time; `broken` where a silence lies before the point."""

    at: I64
    value: F64
    broken: Bool

    def __len__(self) -> int:
        return len(self.at)


NONE = Points(np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_))


@dataclass(slots=True)
class _Line:
    gap: int
    points: Points = NONE
    waiting: list[tuple[I64, F64]] = field(default_factory=list)
    count: int = 0


class Sketch:
    """Of every metric of the registry that is named; events have no line."""

    def __init__(self, registry: Registry, metrics: frozenset[str], stretches: int = STRETCHES) -> None:
        series = [n for n, metric in enumerate(registry.series_metric) if metric in metrics]
        devices = registry.devices
        self._lines = {
            n: _Line(round(_SILENT * devices[registry.series_device[n]].interval_s * SECOND)) for n in series
        }
        self._stretches = max(_FEWEST, min(stretches, POINTS // (9 * max(1, len(series)))))

    def take(self, rows: Rows) -> None:
        order = np.argsort(rows.series, kind="stable")
        series = rows.series[order]
        cuts = np.flatnonzero(np.diff(series)) + 1
        for part in np.split(order, cuts):
            line = self._lines.get(int(rows.series[part[0]])) if len(part) else None
            if line is not None:
                line.waiting.append((rows.at[part], rows.value[part]))
                line.count += len(part)
                if line.count > 6 * self._stretches:
                    self._settle(line)

    def points(self, series: int) -> Points:
        """At most two a stretch, and the ends of silences where they are few; none for a series not sketched."""
        line = self._lines.get(series)
        if line is None:
            return NONE
        self._settle(line)
        return line.points

    def _settle(self, line: _Line) -> None:
        if not line.waiting:
            return
        new = _newer(np.concatenate([at for at, _ in line.waiting]), np.concatenate([v for _, v in line.waiting]))
        old = line.points
        if not len(old) and len(new[0]) > 1:
            line.gap = max(line.gap, int(_UNUSUAL * np.median(np.diff(new[0]))))
        fresh = new[0] > old.at[-1] if len(old) else np.ones(len(new[0]), np.bool_)
        at, value = new[0][fresh], new[1][fresh]
        before = np.concatenate([old.at[-1:], at])
        broken = np.diff(before) > line.gap if len(old) else np.concatenate([[False], np.diff(at) > line.gap])
        points = Points(
            np.concatenate([old.at, at]),
            np.concatenate([old.value, value]),
            np.concatenate([old.broken, broken[: len(at)]]).astype(np.bool_),
        )
        line.points, line.waiting, line.count = thin(points, self._stretches), [], 0


def _newer(at: I64, value: F64) -> tuple[I64, F64]:
    """Only what is newer than everything before it, as the rules see it."""
    top = np.maximum.accumulate(at)
    keep = np.concatenate([[True], at[1:] > top[:-1]]) if len(at) else np.empty(0, np.bool_)
    return at[keep], value[keep]


def thin(points: Points, stretches: int) -> Points:
    """The least and the most of every of so many equal stretches of time, and both ends."""
    if len(points) <= 2 * stretches:
        return points
    at, value = points.at, points.value
    place = (at - at[0]) * stretches // max(1, int(at[-1] - at[0]) + 1)
    order = np.lexsort((value, place))
    turns = np.flatnonzero(np.diff(place[order]))
    keep = np.zeros(len(at), np.bool_)
    keep[order[np.concatenate([[0], turns + 1])]] = True
    keep[order[np.concatenate([turns, [len(at) - 1]])]] = True
    keep[[0, -1]] = True
    silences = np.flatnonzero(points.broken)
    broken = points.broken
    if len(silences) <= stretches // 4:
        keep[silences] = True
        keep[silences - 1] = True
    else:
        broken = np.zeros(len(at), np.bool_)
    return Points(at[keep], value[keep], broken[keep])

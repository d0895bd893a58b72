"""What people have declared: the response level, drills, and pauses of devices. The complete set each time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from devices.batch import I64, Bool
from rules.outcome import FAR

# The mildest level is IV, the most severe I; 0 is none.
MILDEST = 4


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to, not including, `end`; None: still on."""

    start: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """Level 1 (the most severe) to 4, from `start` up to, not including, `end`; None: still on."""

    level: int
    start: int
    end: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.level <= MILDEST:
            raise ValueError(f"response level {self.level}: there are 1 to {MILDEST}")


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is judged of the device in [start, end); `rules` None: of any rule."""

    device: str
    start: int
    end: int
    why: str
    rules: frozenset[str] | None = None


@dataclass(frozen=True)
class Declared:
    """Spans may overlap: of several response levels the most severe holds."""

    responses: tuple[Response, ...] = ()
    drills: tuple[Span, ...] = ()
    pauses: tuple[Pause, ...] = ()

    def level_at(self, at: I64) -> I64:
        """0 where none is declared, else 1 to 4."""
        marks, level = self._levels
        return level[np.searchsorted(marks, at, "right")]

    def drill_at(self, at: I64) -> Bool:
        marks, drilling = self._drills
        return drilling[np.searchsorted(marks, at, "right")]

    def next_change(self, at: I64) -> I64:
        """The next start or end of any response or drill after each instant; FAR where there is none."""
        return self._changes[np.searchsorted(self._changes[:-1], at, "right")]

    def paused(self, device_id: str) -> tuple[Pause, ...]:
        """The pauses of the device by their start, then their end; those that end before they start are none."""
        return self._pauses.get(device_id, ())

    @cached_property
    def _pauses(self) -> dict[str, tuple[Pause, ...]]:
        found: dict[str, list[Pause]] = {}
        for pause in sorted(self.pauses, key=lambda p: (p.start, p.end, p.why, sorted(p.rules or ()))):
            if pause.start < pause.end:
                found.setdefault(pause.device, []).append(pause)
        return {device: tuple(pauses) for device, pauses in found.items()}

    @cached_property
    def _levels(self) -> tuple[I64, I64]:
        marks = _marks(self.responses)
        level = np.zeros(len(marks) + 1, np.int64)
        for grade in range(MILDEST, 0, -1):
            level[_covered(marks, [r for r in self.responses if r.level == grade])] = grade
        return marks, level

    @cached_property
    def _drills(self) -> tuple[I64, Bool]:
        marks = _marks(self.drills)
        return marks, _covered(marks, self.drills)

    @cached_property
    def _changes(self) -> I64:
        return np.append(_marks([*self.responses, *self.drills]), FAR)


def _marks(spans: Iterable[Span | Response]) -> I64:
    """Every start and end, rising, each once."""
    return np.array(sorted({mark for span in spans for mark in (span.start, span.end) if mark is not None}), np.int64)


def _covered(marks: I64, spans: Iterable[Span | Response]) -> Bool:
    """Which stretches between neighbouring marks, the first before all and the last after all, some span covers."""
    steps = np.zeros(len(marks) + 2, np.int64)
    for span in spans:
        end = FAR if span.end is None else span.end
        if span.start < end:
            steps[np.searchsorted(marks, span.start) + 1] += 1
            steps[np.searchsorted(marks, end) + 1] -= 1
    return np.cumsum(steps[:-1]) > 0

"""What the engine remembers: per pair of rule and device its phase and occurrence, per series its newest value.

Everything is columns. A batch never changes them: it makes a `Change`, which `Engine.adopt` writes after the commit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from devices.batch import F64, I64
from rules.outcome import FAR, NEVER

NORMAL, PENDING, FIRING = 0, 1, 2
I8 = NDArray[np.int8]


@dataclass(slots=True)
class Tracks:
    """The occurrence of each pair; where the phase is NORMAL only `phase` means anything."""

    phase: I8
    since: I64
    first: F64
    peak: F64
    raised: I64

    def take(self, where: I64) -> Tracks:
        """A copy of some."""
        return Tracks(*(getattr(self, f.name)[where] for f in fields(self)))

    def put(self, where: I64, other: Tracks) -> None:
        for f in fields(self):
            getattr(self, f.name)[where] = getattr(other, f.name)


@dataclass(slots=True)
class State:
    """`instant` is the rule's instant per pair, `heard` that of its last element (ticks apart), `due` when the clock
    must look at the pair next (FAR: never). Where no clock judges, `due` is empty and `heard` is `instant`."""

    tracks: Tracks
    instant: I64
    heard: I64
    due: I64

    def take(self, where: I64) -> State:
        return State(
            self.tracks.take(where),
            self.instant[where],
            self.heard[where],
            self.due[where] if len(self.due) else self.due,
        )

    def put(self, where: I64, other: State) -> None:
        self.tracks.put(where, other.tracks)
        self.instant[where], self.heard[where] = other.instant, other.heard
        if len(self.due):
            self.due[where] = other.due


def fresh(count: int, *, timed: bool) -> State:
    instant = np.full(count, NEVER, np.int64)
    # Never heard is no silence: an absence may be pending before the first element comes.
    heard = np.full(count, FAR, np.int64) if timed else instant
    due = np.full(count if timed else 0, FAR, np.int64)
    tracks = Tracks(
        np.zeros(count, np.int8),
        np.zeros(count, np.int64),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.zeros(count, np.int64),
    )
    return State(tracks, instant, heard, due)


@dataclass(slots=True)
class Change:
    """New values for some pairs of one kernel: all that were judged, those whose occurrence changed (`loud`), those
    standing ones whose peak alone did (`quiet`)."""

    pairs: I64
    instant: I64
    by_clock: bool
    loud: I64
    tracks: Tracks | None
    quiet: I64
    peak: F64
    due: I64 | None = None

    def apply(self, state: State) -> None:
        state.instant[self.pairs] = self.instant
        if not self.by_clock:
            state.heard[self.pairs] = self.instant
        if self.tracks is not None:
            state.tracks.put(self.loud, self.tracks)
        if len(self.quiet):
            state.tracks.peak[self.quiet] = self.peak
        if self.due is not None:
            state.due[self.pairs] = self.due


class Times:
    """Instants of the events of one series, oldest first; appending and forgetting cost nothing on average."""

    __slots__ = ("_end", "_room", "_start")

    def __init__(self, instants: I64) -> None:
        self._room = instants.copy()
        self._start, self._end = 0, len(instants)

    def view(self) -> I64:
        return self._room[self._start : self._end]

    def append(self, instants: I64, forget_until: int) -> None:
        """Forgets instants up to and including `forget_until`."""
        end = self._end + len(instants)
        if end > len(self._room):
            live = self.view()
            live = live[np.searchsorted(live, forget_until, "right") :]
            self._room = np.empty(2 * (len(live) + len(instants)) + 8, np.int64)
            self._room[: len(live)] = live
            self._start, self._end = 0, len(live)
            end = self._end + len(instants)
        self._room[self._end : end] = instants
        self._end = end

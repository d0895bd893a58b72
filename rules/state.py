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
U64 = NDArray[np.uint64]


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
    """`instant` is the rule's instant per pair, `heard` that of its last element (ticks and what people declare apart),
    `due` when the clock must look at the pair next (FAR: never); empty where no clock judges. `bits` are the latest
    opinions of a rule that repeats, the newest lowest, 1 for true; else empty."""

    tracks: Tracks
    instant: I64
    heard: I64
    due: I64
    bits: U64

    def take(self, where: I64) -> State:
        return State(
            self.tracks.take(where),
            self.instant[where],
            self.heard[where],
            self.due[where] if len(self.due) else self.due,
            self.bits[where] if len(self.bits) else self.bits,
        )

    def put(self, where: I64, other: State) -> None:
        self.tracks.put(where, other.tracks)
        self.instant[where], self.heard[where] = other.instant, other.heard
        if len(self.due):
            self.due[where] = other.due
        if len(self.bits):
            self.bits[where] = other.bits


def idle(count: int) -> Tracks:
    """So many pairs without an occurrence."""
    return Tracks(
        np.zeros(count, np.int8),
        np.zeros(count, np.int64),
        np.full(count, np.nan),
        np.full(count, np.nan),
        np.zeros(count, np.int64),
    )


def fresh(count: int, *, timed: bool, repeats: bool) -> State:
    instant = np.full(count, NEVER, np.int64)
    # Never heard is no silence: an absence may be pending before the first element comes.
    heard = np.full(count, FAR if timed else NEVER, np.int64)
    due = np.full(count if timed else 0, FAR, np.int64)
    return State(idle(count), instant, heard, due, np.zeros(count if repeats else 0, np.uint64))


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
    bits: U64 | None = None

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
        if self.bits is not None:
            state.bits[self.pairs] = self.bits


def unstirred(pairs: I64, instant: I64) -> Change:
    """These pairs were judged up to these instants, and nothing came of it."""
    none = np.empty(0, np.int64)
    return Change(pairs, instant, False, none, None, none, np.empty(0))

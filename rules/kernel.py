"""One kernel judges every pair (rule, device) of one shape at once.

Most evaluations change nothing: those are seen to in columns. Only pairs whose occurrence may change go through
rules.walk one after the other, and that jumps from change to change, not from evaluation to evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from devices.batch import F64, I64, Bool
from rules.logic import Condition, Sight, compile_condition
from rules.rule import Rule
from rules.shape import Shape
from rules.state import FIRING, I8, NORMAL, PENDING, Change, State
from rules.walk import Course, Step, walk

N = TypeVar("N", bound=np.generic)
_NOTHING = np.empty(0, np.int64)
_NO_VALUES = np.empty(0, np.float64)


@dataclass(frozen=True, slots=True)
class Conditions:
    when_true: Condition
    when_false: Condition
    clear_true: Condition


@cache
def conditions(shape: Shape) -> Conditions:
    when_false = compile_condition(shape.when, False)
    clear_true = compile_condition(shape.clear, True) if shape.clear is not None else when_false
    return Conditions(compile_condition(shape.when, True), when_false, clear_true)


@dataclass(frozen=True, slots=True)
class Block:
    """The pairs of one rule: rows start to stop of the kernel, one for each device, by rising device number."""

    rule: Rule
    start: int
    stop: int
    devices: I64


@dataclass(slots=True)
class Kernel:
    """Columns over pairs: `series` (slot, pair) with -1 where the device never sent it, `params` (parameter, pair)."""

    shape: Shape
    blocks: list[Block]
    series: I64
    params: F64
    device: I64
    first_seen: I64
    hold: I64
    max_gap: I64
    max_age: I64
    state: State
    holds: bool
    block_starts: I64

    def __len__(self) -> int:
        return len(self.device)

    def block_of(self, pair: int) -> Block:
        return self.blocks[int(np.searchsorted(self.block_starts, pair, "right")) - 1]


@dataclass(slots=True)
class Verdict:
    """What one judging of a kernel gives. `steps` index the evaluations of `sight`, which holds those of pairs with
    something standing or true; `evaluations` are their places among all that were judged."""

    change: Change
    sight: Sight
    evaluations: I64
    steps: list[Step] = field(default_factory=list)
    peaks: list[tuple[int, int, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Groups:
    """The evaluations of each pair stand together: `starts` where they begin, `pairs` whose they are.

    `places` are the rows of the state the pairs have: the pairs themselves, or positions in a copy of some.
    """

    starts: I64
    pairs: I64
    places: I64
    count: int

    def spread(self, per_group: NDArray[N]) -> NDArray[N]:
        """One value a group to one an evaluation."""
        if len(self.starts) == self.count:
            return per_group
        return np.repeat(per_group, np.diff(self.starts, append=self.count))

    def ends(self) -> I64:
        """The last evaluation of each group."""
        return np.append(self.starts[1:], self.count) - 1

    def of(self, evaluations: I64) -> I64:
        """The group of each evaluation."""
        if len(self.starts) == self.count:
            return evaluations
        return np.searchsorted(self.starts, evaluations, "right") - 1

    def only(self, chosen: Bool) -> tuple[Groups, I64]:
        """The chosen groups alone, and which evaluations those are."""
        evaluations = np.flatnonzero(self.spread(chosen))
        sizes = np.diff(self.starts, append=self.count)[chosen]
        starts = np.cumsum(sizes) - sizes
        return Groups(starts, self.pairs[chosen], self.places[chosen], len(evaluations)), evaluations


def judge(kernel: Kernel, sight: Sight, groups: Groups, state: State, *, by_clock: bool) -> Verdict:
    """Judge the evaluations of the sight against the state, which stays as it is."""
    when = conditions(kernel.shape).when_true(sight)
    phase = state.tracks.phase[groups.places]
    change = Change(groups.places, sight.instant[groups.ends()], by_clock, _NOTHING, None, _NOTHING, _NO_VALUES)
    concerned = phase != NORMAL
    concerned[groups.of(np.flatnonzero(when))] = True
    if not concerned.any():
        return Verdict(change, sight, _NOTHING)
    groups, evaluations = groups.only(concerned)
    sight, when, phase = sight.only(evaluations), when[evaluations], phase[concerned]
    course = _course(kernel, sight, groups, state, when=when, by_clock=by_clock)
    marked = np.zeros(len(phase), bool)
    marked[groups.of(_loud(kernel, course, groups, state, phase))] = True
    verdict = Verdict(change, sight, evaluations)
    if kernel.shape.peak >= 0:
        _quiet_peaks(course, groups, state, verdict=verdict, chosen=np.flatnonzero(~marked & (phase != NORMAL)))
    chosen = np.flatnonzero(marked)
    if len(chosen):
        _walk_all(kernel, course, groups, state, verdict=verdict, chosen=chosen)
    return verdict


def _course(kernel: Kernel, sight: Sight, groups: Groups, state: State, *, when: Bool, by_clock: bool) -> Course:
    """`reset` is where a pending occurrence ends or starts anew: `when` false, or a silence before it too long."""
    clear = conditions(kernel.shape).clear_true(sight)
    reset = np.zeros(0, bool)
    if kernel.holds:
        reset = conditions(kernel.shape).when_false(sight)
        if not by_clock:
            before = np.empty_like(sight.instant)
            before[1:] = sight.instant[:-1]
            before[groups.starts] = state.heard[groups.places]
            reset = reset | (sight.instant - before > kernel.max_gap[sight.pairs])
    worst = sight.values[kernel.shape.peak] if kernel.shape.peak >= 0 else None
    return Course(sight.instant, when, clear, reset, worst, kernel.shape.peak_is_maximum, kernel.shape.momentary)


def _loud(kernel: Kernel, course: Course, groups: Groups, state: State, phase: I8) -> I64:
    """Evaluations at which an occurrence may change. A pending one that is still true and not yet ripe is not."""
    spread = groups.spread(phase)
    loud = (course.when & (spread == NORMAL)) | (course.clear & (spread == FIRING))
    pending = np.flatnonzero(spread == PENDING)
    if len(pending):
        ripe_at = groups.spread(state.tracks.since[groups.places] + kernel.hold[groups.pairs])[pending]
        ripe = course.when[pending] & (course.instant[pending] >= ripe_at)
        loud[pending] = course.reset[pending] | ripe
    return np.flatnonzero(loud)


def _quiet_peaks(course: Course, groups: Groups, state: State, *, verdict: Verdict, chosen: I64) -> None:
    if not len(chosen) or course.worst is None:
        return
    worse = np.fmax if course.peak_is_maximum else np.fmin
    tracks, places = state.tracks, groups.places[chosen]
    old = tracks.peak[places]
    new = worse(old, worse.reduceat(course.worst, groups.starts)[chosen])
    moved = (new != old) & ~np.isnan(new)
    verdict.change.quiet, verdict.change.peak = places[moved], new[moved]
    firing = moved & (tracks.phase[places] == FIRING)
    pairs, raised = groups.pairs[chosen[firing]], tracks.raised[places[firing]]
    verdict.peaks += zip(pairs.tolist(), raised.tolist(), new[firing].tolist(), strict=True)


def _walk_all(kernel: Kernel, course: Course, groups: Groups, state: State, *, verdict: Verdict, chosen: I64) -> None:
    places, pairs = groups.places[chosen], groups.pairs[chosen]
    tracks = state.tracks.take(places)
    starts = groups.starts[chosen].tolist()
    stops = (groups.ends() + 1)[chosen].tolist()
    holds = kernel.hold[pairs].tolist()
    course.freeze()
    for row, (pair, start, stop, hold) in enumerate(zip(pairs.tolist(), starts, stops, holds, strict=True)):
        worse = walk(course, tracks, row, (start, stop), hold=hold, pair=pair, steps=verdict.steps)
        if worse is not None:
            verdict.peaks.append((pair, int(tracks.raised[row]), worse))
    verdict.change.loud, verdict.change.tracks = places, tracks

"""One kernel judges every pair (rule, device) of one shape at once.

Most evaluations change nothing: those are seen to in columns. Only pairs whose occurrence may change go through
rules.walk one after the other, and that jumps from change to change, not from evaluation to evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from devices.batch import I64, Bool
from rules.grouping import Groups
from rules.logic import Condition, Sight, compile_condition
from rules.outcome import NEVER
from rules.params import Params
from rules.pausing import Pauses
from rules.repeating import repeat
from rules.rule import Rule
from rules.shape import Shape
from rules.state import FIRING, I8, NORMAL, PENDING, Change, State
from rules.walk import Course, Step, walk

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
    """The pairs of one part of a rule: rows start to stop of the kernel, one for each device, by rising device number.
    `meaning` tells whether a state of it is still good."""

    rule: Rule
    meaning: str
    start: int
    stop: int
    devices: I64


@dataclass(slots=True)
class Kernel:
    """Columns over pairs: `series` (slot, pair) with -1 where the device never sent it. `holds` and `keeps`: some pair
    has a hold, a time that an occurrence is kept."""

    shape: Shape
    blocks: list[Block]
    series: I64
    params: Params
    device: I64
    first_seen: I64
    hold: I64
    keep: I64
    max_gap: I64
    max_age: I64
    state: State
    holds: bool
    keeps: bool
    block_starts: I64
    pauses: Pauses = field(default_factory=Pauses)

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
class _Opinion:
    """Where `when` is true at each evaluation; of a rule that repeats also where it is false. `held`: a pause holds."""

    true: Bool
    false: Bool | None
    held: Bool | None

    def only(self, which: I64) -> _Opinion:
        return _Opinion(
            self.true[which],
            None if self.false is None else self.false[which],
            None if self.held is None else self.held[which],
        )


def judge(kernel: Kernel, sight: Sight, groups: Groups, state: State, *, by_clock: bool) -> Verdict:
    """Judge the evaluations of the sight against the state, which stays as it is."""
    change = Change(groups.places, sight.instant[groups.ends()], by_clock, _NOTHING, None, _NOTHING, _NO_VALUES)
    opinion = _opinion(kernel, sight, groups, state, change=change, by_clock=by_clock)
    phase = state.tracks.phase[groups.places]
    concerned = phase != NORMAL
    concerned[groups.of(np.flatnonzero(opinion.true))] = True
    if not concerned.any():
        return Verdict(change, sight, _NOTHING)
    groups, evaluations = groups.only(concerned)
    sight, opinion, phase = sight.only(evaluations), opinion.only(evaluations), phase[concerned]
    course = _course(kernel, sight, groups, state, opinion=opinion, by_clock=by_clock)
    marked = np.zeros(len(phase), bool)
    marked[groups.of(_loud(kernel, course, groups, state, phase))] = True
    verdict = Verdict(change, sight, evaluations)
    if kernel.shape.peak >= 0:
        _quiet_peaks(course, groups, state, verdict=verdict, chosen=np.flatnonzero(~marked & (phase != NORMAL)))
    chosen = np.flatnonzero(marked)
    if len(chosen):
        _walk_all(kernel, course, groups, state, verdict=verdict, chosen=chosen)
    return verdict


def _opinion(kernel: Kernel, sight: Sight, groups: Groups, state: State, *, change: Change, by_clock: bool) -> _Opinion:
    """A pause leaves nothing true or false; what a rule that repeats has seen goes into the change."""
    true, false = conditions(kernel.shape).when_true(sight), None
    held = kernel.pauses.hold(sight.pairs, sight.instant)
    if held is not None:
        true = true & ~held
    if kernel.shape.repeat is not None:
        false = conditions(kernel.shape).when_false(sight)
        if held is not None:
            false = false & ~held
        anew = _broken(kernel, sight, groups, state, by_clock=by_clock)
        seen = repeat(kernel.shape.repeat, groups, true=true, false=false, anew=anew, bits=state.bits[groups.places])
        change.bits = seen.bits
        true, false = seen.true, seen.false
    return _Opinion(true, false, held)


def _broken(kernel: Kernel, sight: Sight, groups: Groups, state: State, *, by_clock: bool) -> Bool:
    """Where too long a silence or a pause lies before an evaluation, so that nothing reaches over it."""
    before = np.empty_like(sight.instant)
    before[1:] = sight.instant[:-1]
    last = state.instant[groups.places]
    # Never heard is NEVER or FAR, and neither is a silence; the clock hears nothing.
    before[groups.starts] = last if by_clock else state.heard[groups.places]
    broken = np.zeros(len(before), bool) if by_clock else sight.instant - before > kernel.max_gap[sight.pairs]
    broken &= before > NEVER
    before[groups.starts] = last
    crossed = kernel.pauses.crossed(sight.pairs, before, sight.instant)
    return broken if crossed is None else broken | crossed


def _course(kernel: Kernel, sight: Sight, groups: Groups, state: State, *, opinion: _Opinion, by_clock: bool) -> Course:
    """`reset` is where a pending occurrence ends or starts anew: `when` false, too long a silence before, a pause."""
    shape, held, false = kernel.shape, opinion.held, opinion.false
    if false is None and (kernel.holds or shape.clear is None):
        false = conditions(shape).when_false(sight)
        false = false if held is None else false & ~held
    clear = false if shape.clear is None else conditions(shape).clear_true(sight)
    assert clear is not None
    reset, ended = np.zeros(0, bool), None
    if kernel.holds and false is not None:
        reset = false | _broken(kernel, sight, groups, state, by_clock=by_clock)
    if by_clock and kernel.pauses.of:
        raised = state.tracks.raised[groups.places]
        ends_at = kernel.pauses.end_of(groups.pairs, sight.instant, raised, ticked=sight.clock.ticked)
        ended = ends_at <= sight.instant
        clear = clear | ended
    elif shape.lingers and not by_clock:
        clear = np.zeros(len(clear), bool)
    worst = sight.values[shape.peak] if shape.peak >= 0 else None
    return Course(sight.instant, opinion.true, clear, reset, worst, shape.peak_is_maximum, shape.momentary, ended)


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
    keep = kernel.keep[pairs]
    if course.paused is not None:  # a pause ends what stands, however long it was to be kept
        keep = np.where(course.paused[groups.starts[chosen]], 0, keep)
    holds, keeps = kernel.hold[pairs].tolist(), keep.tolist()
    course.freeze()
    for row, (pair, start, stop) in enumerate(zip(pairs.tolist(), starts, stops, strict=True)):
        worse = walk(
            course, tracks, row, (start, stop), hold=holds[row], keep=keeps[row], pair=pair, steps=verdict.steps
        )
        if worse is not None:
            verdict.peaks.append((pair, int(tracks.raised[row]), worse))
    verdict.change.loud, verdict.change.tracks = places, tracks

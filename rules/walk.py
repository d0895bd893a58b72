"""The life of one occurrence along the evaluations of one pair: normal, pending, firing, and back.

It jumps: the next true evaluation is found in a string of bytes, so a thousand dull evaluations cost one search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from devices.batch import F64, I64, Bool
from rules.outcome import Edge
from rules.state import FIRING, NORMAL, PENDING, Tracks

_TRUE = b"\x01"


@dataclass(frozen=True, slots=True)
class Step:
    """A transition of a pair at evaluation `at` of the sight; peak is NaN where the rule has no metric."""

    pair: int
    edge: Edge
    at: int
    instant: int
    since: int
    first: float
    peak: float


@dataclass(slots=True)
class Course:
    """What was found at every evaluation of a kernel: `worst` is the value of the rule's metric, `paused` where the
    clock found that a pause ends what stands."""

    instant: I64
    when: Bool
    clear: Bool
    reset: Bool
    worst: F64 | None
    peak_is_maximum: bool
    momentary: bool
    paused: Bool | None = None
    when_bytes: bytes = field(default=b"")
    clear_bytes: bytes = field(default=b"")
    reset_bytes: bytes = field(default=b"")

    def freeze(self) -> None:
        self.when_bytes = self.when.tobytes()
        self.clear_bytes = self.clear.tobytes()
        self.reset_bytes = self.reset.tobytes()

    def value(self, at: int) -> float:
        return math.nan if self.worst is None else float(self.worst[at])

    def worse(self, peak: float, start: int, stop: int) -> float:
        """The peak after evaluations start to stop, stop not included; unknown values do not count."""
        if self.worst is None or start >= stop:
            return peak
        if stop - start == 1:
            value = float(self.worst[start])
        else:
            value = float((np.fmax if self.peak_is_maximum else np.fmin).reduce(self.worst[start:stop]))
        if math.isnan(peak) or math.isnan(value):
            return value if math.isnan(peak) else peak
        return max(peak, value) if self.peak_is_maximum else min(peak, value)


@dataclass(slots=True)
class _Occurrence:
    phase: int
    since: int
    first: float
    peak: float
    raised: int

    def begin(self, course: Course, at: int) -> None:
        self.phase, self.since = PENDING, int(course.instant[at])
        self.first, self.peak = course.value(at), math.nan

    def step(self, pair: int, edge: Edge, at: int, instant: int) -> Step:
        return Step(pair, edge, at, instant, self.since, self.first, self.peak)


def walk(
    course: Course,
    tracks: Tracks,
    row: int,
    span: tuple[int, int],
    *,
    hold: int,
    keep: int,
    pair: int,
    steps: list[Step],
) -> float | None:
    """Carry row `row` of the tracks through its evaluations; the peak where it stands at the end and is news."""
    now = _Occurrence(
        int(tracks.phase[row]),
        int(tracks.since[row]),
        float(tracks.first[row]),
        float(tracks.peak[row]),
        int(tracks.raised[row]),
    )
    at, stop = span
    told = now.peak
    while at < stop:
        if now.phase == NORMAL:
            at = _normal(course, now, at, stop, hold)
        elif now.phase == PENDING:
            at = _pending(course, now, (at, stop), hold=hold, pair=pair, steps=steps)
            told = now.peak
        else:
            at = _firing(course, now, (at, stop), keep=keep, pair=pair, steps=steps)
    tracks.phase[row], tracks.since[row], tracks.first[row] = now.phase, now.since, now.first
    tracks.peak[row], tracks.raised[row] = now.peak, now.raised
    same = now.peak == told or math.isnan(now.peak)
    return None if now.phase != FIRING or same else now.peak


def _normal(course: Course, now: _Occurrence, at: int, stop: int, hold: int) -> int:
    """To the first true evaluation, where the occurrence begins; the evaluation itself is then judged as pending."""
    begin = course.when_bytes.find(_TRUE, at, stop)
    if begin < 0:
        return stop
    now.begin(course, begin)
    if hold == 0:
        return begin
    now.peak = course.worse(now.peak, begin, begin + 1)
    return begin + 1


def _pending(
    course: Course, now: _Occurrence, span: tuple[int, int], *, hold: int, pair: int, steps: list[Step]
) -> int:
    """To the evaluation at which it fires, ends, or begins anew; the reset wins where both fall together."""
    at, stop = span
    ripe = at + int(np.searchsorted(course.instant[at:stop], now.since + hold))
    fires = course.when_bytes.find(_TRUE, ripe, stop)
    ends = course.reset_bytes.find(_TRUE, at, stop) if hold else -1
    if ends >= 0 and (fires < 0 or ends <= fires):
        if not course.when[ends]:
            now.phase = NORMAL
            return ends + 1
        now.begin(course, ends)
        now.peak = course.worse(now.peak, ends, ends + 1)
        return ends + 1
    if fires < 0:
        now.peak = course.worse(now.peak, at, stop)
        return stop
    now.peak = course.worse(now.peak, at, fires + 1)
    now.phase, now.raised = FIRING, int(course.instant[fires])
    steps.append(now.step(pair, Edge.RAISED, fires, now.raised))
    if course.momentary:
        now.phase = NORMAL
        steps.append(now.step(pair, Edge.CLEARED, fires, now.raised))
    return fires + 1


def _firing(course: Course, now: _Occurrence, span: tuple[int, int], *, keep: int, pair: int, steps: list[Step]) -> int:
    """It clears at the first evaluation that says so and at which it has stood for `keep`."""
    at, stop = span
    free = at + int(np.searchsorted(course.instant[at:stop], now.raised + keep)) if keep else at
    clears = course.clear_bytes.find(_TRUE, free, stop)
    now.peak = course.worse(now.peak, at, clears if clears >= 0 else stop)
    if clears < 0:
        return stop
    now.phase = NORMAL
    steps.append(now.step(pair, Edge.CLEARED, clears, int(course.instant[clears])))
    return clears + 1

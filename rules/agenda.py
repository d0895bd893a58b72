"""When the clock must look at a pair again: the earliest instant at which time alone can change what is true.

`ready` is when the wall clock may judge it, `instant` the instant it is judged at. They differ only for an absence:
after the link came back it gets one full interval, and is then dated as if nothing had happened.
"""

from __future__ import annotations

import numpy as np

from devices.batch import I64
from rules.kernel import Kernel
from rules.logic import Sight, next_scheduled
from rules.outcome import FAR, NEVER
from rules.shape import Part, walk
from rules.state import FIRING, PENDING, Tracks

# An attribute may hold any number; beyond this a duration is never reached and an instant would overflow.
_LONGEST = 2.0**59


def agenda(kernel: Kernel, sight: Sight, ends: I64, tracks: Tracks, *, looked: bool = False) -> tuple[I64, I64]:
    """(ready, instant), each (what, group): `ends` is the last evaluation of each group in the sight, `tracks` are the
    occurrences as after it. FAR where there is nothing to wait for. `looked`: that evaluation was the clock's own."""
    parts = walk(kernel.shape.when) + (walk(kernel.shape.clear) if kernel.shape.clear else [])
    at, pairs = sight.instant[ends], sight.pairs[ends]
    ripe_at = tracks.since + kernel.hold[pairs]
    ripe = np.where((tracks.phase == PENDING) & (at < ripe_at), ripe_at, FAR)
    ready, instant = [ripe], [ripe]
    if kernel.keeps:
        over_at = tracks.raised + kernel.keep[pairs]
        # What lives for one element is ended by the clock alone, however late it comes.
        waits = (at < over_at) | (kernel.shape.lingers and not looked)
        over = np.where((tracks.phase == FIRING) & waits, over_at, FAR)
        ready.append(over)
        instant.append(over)
    if kernel.pauses.of:
        paused = kernel.pauses.end_of(pairs, at, tracks.raised, ticked=sight.clock.ticked)
        paused[tracks.phase != FIRING] = FAR
        ready.append(paused)
        instant.append(paused)
    for part in parts:
        if part[0] == "absent":
            soon, when = _absent(part, kernel, sight, ends, at)
        elif part[0] == "since":
            soon = when = _since(part, kernel, sight, ends, at)
        elif part[0] == "count":
            soon = when = sight.leaving(part[1], part[2])[ends]
        elif part[0] in ("between", "weekday", "holiday", "mode"):
            # Before its first judging a pair waits for no schedule.
            soon = when = np.where(at == NEVER, FAR, next_scheduled(part, at, sight.clock))
        else:
            continue
        ready.append(soon)
        instant.append(when)
    return np.stack(ready), np.stack(instant)


def _absent(part: Part, kernel: Kernel, sight: Sight, ends: I64, at: I64) -> tuple[I64, I64]:
    span = sight.param(part[2])[ends].astype(np.int64)
    silent, resumed_at = sight.measured[part[1]][ends], sight.clock.resumed_at
    idle = silent == NEVER
    silent = kernel.pauses.will_count_from(sight.pairs[ends], at, silent, span)
    idle |= (silent + span <= at) & (sight.newest_known()[ends] - resumed_at >= span)
    ready = np.maximum(silent, resumed_at) + span
    return np.where(idle, FAR, ready), np.where(idle, FAR, silent + span)


def _since(part: Part, kernel: Kernel, sight: Sight, ends: I64, at: I64) -> I64:
    last = sight.measured[part[2]][ends]
    span = sight.param(part[3])[ends]
    known = ~np.isnan(span) & (last > NEVER)
    whole = np.ceil(np.clip(np.where(known, span, 0.0), -_LONGEST, _LONGEST)).astype(np.int64)
    turn = kernel.pauses.will_count_from(sight.pairs[ends], at, last, whole) + whole
    return np.where(known & (at < turn), turn, FAR)

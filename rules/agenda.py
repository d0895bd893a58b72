"""When the clock must look at a pair again: the earliest instant at which time alone can change what is true.

`ready` is when the wall clock may judge it, `instant` the instant it is judged at. They differ only for an absence:
after the link came back it gets one full interval, and is then dated as if nothing had happened.
"""

from __future__ import annotations

import numpy as np

from devices.batch import I64
from rules.kernel import Kernel
from rules.logic import Sight
from rules.outcome import FAR, NEVER
from rules.shape import Part, walk
from rules.state import I8, PENDING

# An attribute may hold any number; beyond this a duration is never reached and an instant would overflow.
_LONGEST = 2.0**59


def agenda(kernel: Kernel, sight: Sight, ends: I64, phase: I8, since: I64) -> tuple[I64, I64]:
    """(ready, instant), each (what, group): `ends` is the last evaluation of each group in the sight, `phase` and
    `since` are as after it. FAR where there is nothing to wait for."""
    parts = walk(kernel.shape.when) + (walk(kernel.shape.clear) if kernel.shape.clear else [])
    at = sight.instant[ends]
    ripe = np.where((phase == PENDING) & (at < since + kernel.hold[sight.pairs[ends]]),
                    since + kernel.hold[sight.pairs[ends]], FAR)  # fmt: skip
    ready, instant = [ripe], [ripe]
    for part in parts:
        if part[0] == "absent":
            soon, when = _absent(part, sight, ends, at)
        elif part[0] == "since":
            soon = when = _since(part, sight, ends, at)
        elif part[0] == "count":
            soon = when = sight.leaving[(part[1], part[2])][ends]
        else:
            continue
        ready.append(soon)
        instant.append(when)
    return np.stack(ready), np.stack(instant)


def _absent(part: Part, sight: Sight, ends: I64, at: I64) -> tuple[I64, I64]:
    silent = sight.measured[part[1]][ends]
    span = sight.param(part[2])[ends].astype(np.int64)
    judged = (silent + span <= at) & (sight.clock()[ends] - sight.resumed_at >= span)
    idle = judged | (silent == NEVER)
    ready = np.maximum(silent, sight.resumed_at) + span
    return np.where(idle, FAR, ready), np.where(idle, FAR, silent + span)


def _since(part: Part, sight: Sight, ends: I64, at: I64) -> I64:
    last = sight.measured[part[2]][ends]
    span = sight.param(part[3])[ends]
    known = ~np.isnan(span) & (last > NEVER)
    turn = last + np.ceil(np.clip(np.where(known, span, 0.0), -_LONGEST, _LONGEST)).astype(np.int64)
    return np.where(known & (at < turn), turn, FAR)

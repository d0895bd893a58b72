"""How far history can be judged in one batch before the clock would have had something to do in between.

Live, the clock ticks on; in a backtest a tick before every instant would cost a batch for every reading. Looking ahead
instead: where no pair comes due before it is judged again, the ticks between would have found nothing.
"""

from __future__ import annotations

import numpy as np

from devices.batch import I64
from rules.agenda import agenda
from rules.kernel import Kernel, conditions
from rules.seeing import View
from rules.state import FIRING, PENDING, idle


def first_due(kernel: Kernel, view: View | None, at: I64, now: int) -> int:
    """The first row before which a tick at that row's instant would find a pair of the kernel due; len(at) if none.

    `view` is the kernel's evaluations of the rows, `at` what the clock shows at each row: it ticks where that rises
    above `now`, up to which it has ticked.
    May be too early, never too late: a hold is taken to begin at every evaluation that is true.
    """
    nothing = len(at)
    due = np.maximum(kernel.state.due, now + 1)
    if view is None:
        return int(np.searchsorted(at, due.min())) if len(due) else nothing
    groups, sight, rows = view.groups, view.sight, view.rows
    first = np.full(len(kernel), nothing, np.int64)
    first[groups.pairs] = rows[groups.starts]
    state_due = np.searchsorted(at, due)
    found = [nothing, *state_due[state_due <= first].tolist()]
    following = np.append(rows[1:], nothing)
    following[groups.ends()] = nothing
    everywhere = np.arange(groups.count)
    ready = agenda(kernel, sight, everywhere, idle(groups.count))[0].min(axis=0)
    next_tick = np.searchsorted(at, at[rows], "right")
    wanted = np.maximum(np.searchsorted(at, ready), next_tick)
    found += wanted[wanted <= following].tolist()
    if kernel.holds:
        found += _ripe(kernel, view, at, next_tick, now=now)
    if kernel.keeps:
        found += _over(kernel, view, at, next_tick, now=now)
    return int(min(found))


def _ripe(kernel: Kernel, view: View, at: I64, next_tick: I64, *, now: int) -> list[int]:
    groups, sight, tracks = view.groups, view.sight, kernel.state.tracks
    true = np.flatnonzero(conditions(kernel.shape).when_true(sight))
    ripe = np.searchsorted(at, sight.instant[true] + kernel.hold[sight.pairs[true]])
    pending = groups.pairs[tracks.phase[groups.pairs] == PENDING]
    old_ripe = tracks.since[pending] + kernel.hold[pending]
    # One that was ripe and still did not fire has an unknown in it: no clock will change that.
    old = np.searchsorted(at, np.maximum(old_ripe[old_ripe > kernel.state.instant[pending]], now + 1))
    return [*np.maximum(ripe, next_tick[true]).tolist(), *old.tolist()]


def _over(kernel: Kernel, view: View, at: I64, next_tick: I64, *, now: int) -> list[int]:
    """When an occurrence that begins here, or stands already, may end because it was kept for long enough."""
    groups, sight, tracks = view.groups, view.sight, kernel.state.tracks
    true = np.flatnonzero(conditions(kernel.shape).when_true(sight))
    over = np.searchsorted(at, sight.instant[true] + kernel.keep[sight.pairs[true]])
    firing = groups.pairs[tracks.phase[groups.pairs] == FIRING]
    old_over = tracks.raised[firing] + kernel.keep[firing]
    old = np.searchsorted(at, np.maximum(old_over[old_over > kernel.state.instant[firing]], now + 1))
    return [*np.maximum(over, next_tick[true]).tolist(), *old.tolist()]

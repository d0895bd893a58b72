"""`repeat: 3 of 5`: how many of the latest opinions of a condition were true, along the evaluations of each pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.batch import I64, Bool
from rules.grouping import Groups
from rules.state import U64


@dataclass(frozen=True, slots=True)
class Repeated:
    """At each evaluation whether enough of the opinions were true, and whether too many were false for that; neither
    where there is none yet to say it. `bits` by group: the newest opinion lowest, a 1 above the oldest."""

    true: Bool
    false: Bool
    bits: U64


def repeat(wanted: tuple[int, int], groups: Groups, *, true: Bool, false: Bool, anew: Bool, bits: U64) -> Repeated:
    """(k, n): k of the last n opinions. An evaluation that is neither true nor false is no opinion and does not count;
    one marked `anew` forgets all before it. `bits` are the opinions of each group before the batch."""
    enough, most = wanted
    known = true | false
    # Each group is a row of its old opinions followed by its new ones; sums of neighbours never reach another's row.
    sizes = np.diff(groups.starts, append=groups.count)
    width = sizes + most
    begin = np.cumsum(width) - width
    told = np.zeros(int(width.sum()), np.int64)
    had = np.frexp(bits.astype(np.float64))[1] - 1
    had = np.maximum(had, 0).astype(np.int64)
    for age in range(most):
        told[begin + (most - 1 - age)] = ((bits >> np.uint64(age)) & np.uint64(1)).astype(np.int64)
    rank: I64 = np.cumsum(known) - groups.spread(np.cumsum(known)[groups.starts] - known[groups.starts])
    place = groups.spread(begin) + most - 1 + rank
    told[place[known]] = true[known]
    # From here on opinions count; an evaluation that begins anew and is itself an opinion is the first.
    # Rows of later groups lie further on, so the most so far never reaches over from one to the next.
    fresh = np.maximum.accumulate(np.where(anew, place - known + 1, groups.spread(begin + most - had)))
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(told)])
    first = np.minimum(np.maximum(place + 1 - most, fresh), place + 1)
    yes = sums[place + 1] - sums[first]
    no = place + 1 - first - yes
    ends = groups.ends()
    bits = _bits(told, place[ends], first[ends], most)
    return Repeated(known & (yes >= enough), known & (no > most - enough), bits)


def _bits(told: I64, last: I64, first: I64, most: int) -> U64:
    found = np.uint64(1) << (last + 1 - first).astype(np.uint64)
    for age in range(most):
        there = last - age
        opinion = np.where(there >= first, told[np.maximum(there, 0)], 0)
        found |= opinion.astype(np.uint64) << np.uint64(age)
    return found

"""The newest samples of every series that some rule looks back on, in one pool of columns.

Each series has a stretch of the pool; its samples lie in it one after the other, in order of time. A batch is staged
behind the end of its series, where nobody sees it who does not count from there, and becomes part of the history when
it is adopted: so judging changes nothing, and a window over a batch is a plain stretch of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from devices.batch import F64, I64

# More samples of one series than this are forgotten, oldest first, however long the window: it bounds memory and time.
MOST_SAMPLES = 65_536
_SMALLEST = 8


def _none() -> I64:
    return np.empty(0, np.int64)


@dataclass(slots=True)
class History:
    """By series: `span` is how long samples are kept in microseconds (0: not at all), `begin` and `room` its stretch,
    `start` to `end` its samples. `at` and `value` are the pool."""

    span: I64 = field(default_factory=_none)
    begin: I64 = field(default_factory=_none)
    room: I64 = field(default_factory=_none)
    start: I64 = field(default_factory=_none)
    end: I64 = field(default_factory=_none)
    at: I64 = field(default_factory=_none)
    value: F64 = field(default_factory=lambda: np.empty(0, np.float64))
    used: int = 0
    _keeps: bool = False

    def keep(self, span: I64) -> None:
        """From now on keep this much of each series; a series that nobody looks back on any more is forgotten."""
        more = len(span) - len(self.span)
        if more > 0:
            zero = np.zeros(more, np.int64)
            for name in ("begin", "room", "start", "end"):
                setattr(self, name, np.concatenate([getattr(self, name), zero]))
        self.span, self._keeps = span, bool(span.any())
        dropped = (span == 0) & (self.room > 0)
        self.room[dropped] = 0
        self.start[dropped] = self.end[dropped] = self.begin[dropped]

    def stage(self, series: I64, at: I64, value: F64) -> I64:
        """Write the rows of a batch behind what is kept of their series. Where each was written, -1 where it is not
        kept; `series` ends at the newest of the rows. Staging again replaces what was staged and not adopted."""
        places = np.full(len(series), -1, np.int64)
        rows = np.flatnonzero(self.span[series]) if self._keeps else _none()
        if not len(rows):
            return places
        order = rows[np.argsort(series[rows], kind="stable")]
        owners, first, counts = np.unique(series[order], return_index=True, return_counts=True)
        self._make_room(owners, counts)
        rank = np.arange(len(order)) - np.repeat(first, counts)
        where = np.repeat(self.end[owners], counts) + rank
        places[order] = where
        self.at[where], self.value[where] = at[order], value[order]
        return places

    def adopt(self, series: I64, counts: I64) -> None:
        """The staged rows are part of the history now: so many of each of these series."""
        if self._keeps:
            self.end[series] += np.where(self.span[series] > 0, counts, 0)

    def sizes(self) -> I64:
        return self.end - self.start

    def samples(self, series: I64) -> tuple[I64, F64]:
        """The samples of these series, one series after the other."""
        where = stretches(self.start[series], self.end[series])
        return self.at[where], self.value[where]

    def put(self, series: I64, sizes: I64, at: I64, value: F64) -> None:
        """Take samples as `samples` gave them, of series that have none."""
        self._make_room(series, sizes)
        where = stretches(self.end[series], self.end[series] + sizes)
        self.at[where], self.value[where] = at, value
        self.end[series] += sizes

    def _make_room(self, series: I64, needed: I64) -> None:
        """Room for so many more samples of each: forget what is too old, else move to a stretch twice as long."""
        full = self.end[series] + needed > self.begin[series] + self.room[series]
        if not full.any():
            return
        series, needed = series[full], needed[full]
        self._forget(series)
        live = self.end[series] - self.start[series]
        small = 2 * (live + needed) > self.room[series]
        source = stretches(self.start[series], self.end[series])
        at, value = self.at[source], self.value[source]
        if small.any():
            room = np.maximum(2 * (live[small] + needed[small]), _SMALLEST)
            self._lay_out(series[small], room)
        self.start[series] = self.begin[series]
        self.end[series] = self.begin[series] + live
        target = stretches(self.start[series], self.end[series])
        self.at[target], self.value[target] = at, value

    def _forget(self, series: I64) -> None:
        """What no window can reach any more. One sample before the window stays: it says what was before; and two in
        any case, which are neighbours."""
        start, end = self.start[series], self.end[series]
        newest = self.at[np.maximum(end - 1, 0)] if len(self.at) else np.zeros(len(series), np.int64)
        first = first_after(self.at, start, end, newest - self.span[series])
        keep = np.minimum(first - 1, end - 2)
        self.start[series] = np.maximum(np.maximum(start, keep), end - MOST_SAMPLES)

    def _lay_out(self, series: I64, room: I64) -> None:
        """New stretches at the end of the pool; where most of it lies idle the whole pool is laid out anew."""
        wanted = int(room.sum())
        if self.used + wanted > len(self.at):
            others = np.setdiff1d(np.flatnonzero(self.room), series)
            if 2 * (int(self.room[others].sum()) + wanted) < self.used:
                self._close_up(others)
            size = max(2 * (self.used + wanted), 1024)
            if size > len(self.at):
                self.at = np.concatenate([self.at, np.zeros(size - len(self.at), np.int64)])
                self.value = np.concatenate([self.value, np.zeros(size - len(self.value))])
        after = np.cumsum(room)
        self.begin[series] = self.used + after - room
        self.room[series] = room
        self.used += wanted

    def _close_up(self, series: I64) -> None:
        source = stretches(self.start[series], self.end[series])
        at, value, live = self.at[source], self.value[source], self.end[series] - self.start[series]
        room = self.room[series]
        begin = np.cumsum(room) - room
        self.begin[series] = self.start[series] = begin
        self.end[series] = begin + live
        self.used = int(room.sum())
        target = stretches(begin, begin + live)
        self.at[target], self.value[target] = at, value


def stretches(start: I64, stop: I64) -> I64:
    """start[0], …, stop[0] - 1, start[1], …: every place of every stretch."""
    sizes = stop - start
    after = np.cumsum(sizes)
    total = int(after[-1]) if len(after) else 0
    places: I64 = np.arange(total) + np.repeat(start - (after - sizes), sizes)
    return places


def first_after(at: I64, start: I64, stop: I64, limit: I64) -> I64:
    """In each stretch the first place whose instant is after its limit; `stop` where there is none."""
    low, high = start.copy(), stop.copy()
    longest = int((high - low).max(initial=0))
    for _ in range(longest.bit_length()):
        middle = (low + high) >> 1
        open_ = low < high
        after = at[np.minimum(middle, len(at) - 1)] > limit
        np.copyto(high, middle, where=open_ & after)
        np.copyto(low, middle + 1, where=open_ & ~after)
    return low

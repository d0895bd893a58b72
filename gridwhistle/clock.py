"""The one clock. Everything else is told the time.

Rules, holds, absence and limits follow the rule clock: the wall, kept steady, or the data clock of a site (demo at
speed, replay). Sign-in, retries and the outbox always follow the wall.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from devices.instants import HOUR, SECOND, format_duration

log = logging.getLogger("gridwhistle.clock")

# The rule clock runs at most a tenth faster or slower than it should while it catches up with a step of the machine's:
# faster, and a step by mistake has made devices silent before anybody sets it right.
STEERED = 10
# Further off, the machine was asleep or its clock had never been set: followed at once.
MOST_STEERED = 2 * HOUR
# Seconds in a file, added to the machine's clock: how the crash tests step it.
_OFFSET_FILE = os.environ.get("GRIDWHISTLE_CLOCK_OFFSET_FILE")


class _Offset:
    """What the file says, read once a second."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._said = self._due = 0

    def __call__(self, at: int) -> int:
        if at >= self._due:
            self._due = at + SECOND
            text = self._file.read_text() if self._file.exists() else ""
            self._said = round(float(text or 0) * SECOND)
        return self._said


_offset = _Offset(Path(_OFFSET_FILE)) if _OFFSET_FILE else None


def wall() -> int:
    """Microseconds since 1970 UTC."""
    at = time.time_ns() // 1000
    return at if _offset is None else at + _offset(at)


def running() -> int:
    """Microseconds on a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime_ns(_RUNNING) // 1000


# Linux alone has it; elsewhere a sleep of the machine looks like a step.
_RUNNING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SteadyClock:
    """The wall without its steps: it goes on as before and comes nearer by a tenth, so that no device is silent, no
    limit has run out and no reading is older than the last because somebody set the clock of this machine."""

    def __init__(self, read: Callable[[], int] = wall, run: Callable[[], int] = running) -> None:
        self._read, self._run = read, run
        self._looked = run()
        self._base = read() - self._looked
        self._steering = False
        self._lock = threading.Lock()
        # Counts what was followed at once: absence starts anew then.
        self.jumps = 0

    def now(self) -> int:
        at = self._run()
        if at - self._looked >= SECOND and self._lock.acquire(blocking=False):
            try:
                self._look(at)
            finally:
                self._lock.release()
        return at + self._base

    def _look(self, at: int) -> None:
        off, most = self._read() - at - self._base, (at - self._looked) // STEERED
        self._looked = at
        if abs(off) > MOST_STEERED:
            log.warning("the machine's clock is %s off and is followed at once", format_duration(abs(off)))
            self._base += off
            self.jumps += 1
        else:
            if not self._steering and abs(off) > most:
                log.warning("the machine's clock stepped by %.1f s and is followed slowly", off / SECOND)
            self._base += min(max(off, -most), most)
        self._steering = most < abs(off) <= MOST_STEERED


class DataClock:
    """The last instant the site's clock topic said; 0 until it said one."""

    def __init__(self) -> None:
        self._at = 0

    def now(self) -> int:
        return self._at

    def set(self, at: int) -> None:
        """Forward only: time that runs back would raise and clear what it already judged."""
        self._at = max(self._at, at)

    @property
    def started(self) -> bool:
        return self._at > 0

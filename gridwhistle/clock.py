"""The one clock. Everything else is told the time.

Rules, holds, absence and limits follow the rule clock: the wall, or the data clock of a site (demo at speed, replay).
Sign-in, retries and the outbox always follow the wall.
"""

from __future__ import annotations

import time


def wall() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


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

"""Whether what arrives can be saved: commits that fail or hang, and a readings store that takes nothing.

While the database is away nothing can be recorded in it, the alarm about it included: health and the pages say so at
once, and the alarm is written with its true begin and end when the database is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from flow.appender import Appender
from flow.readings import JournalFull

# A commit or an append that takes longer is trouble: a busy disk answers within a second or two.
STUCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Nothing could be committed from `since` to `until`, instants of the rule clock; `until` None: still."""

    since: int
    until: int | None
    why: str


class Storage:
    """`work` is entered in the settling thread; everything else may be asked from any thread."""

    def __init__(self, appender: Appender, *, now: Callable[[], int]) -> None:
        self._appender = appender
        self._now = now
        self._working: tuple[float, int] | None = None
        self._moved = (appender.applied, time.monotonic())
        self.failing: Trouble | None = None
        self.over: list[Trouble] = []

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around what ends in a commit."""
        begun, since = self._working = (time.monotonic(), self._now())
        try:
            yield
        except (SQLAlchemyError, JournalFull) as error:
            self.failing = self.failing or Trouble(since, None, first_line(error))
            raise
        finally:
            self._working = None
        took = time.monotonic() - begun
        if took > STUCK_S and self.failing is None:
            self.over.append(Trouble(since, self._now(), f"a commit took {took:.0f} s"))

    def saved(self) -> None:
        """Everything could be committed again: the trouble is over."""
        if self.failing is not None:
            self.over.append(Trouble(self.failing.since, self._now(), self.failing.why))
            self.failing = None

    def sql_trouble(self) -> str | None:
        failing, working = self.failing, self._working
        if failing is not None:
            return f"cannot commit: {failing.why}"
        waited = 0.0 if working is None else time.monotonic() - working[0]
        return f"a commit has been waiting for {waited:.0f} s" if waited > STUCK_S else None

    def store_trouble(self) -> str | None:
        """Of the readings store: what it said, or that it has not taken an entry for too long while one waits."""
        applied, seen_at = self._moved
        now = time.monotonic()
        if self._appender.applied != applied or not self._appender.lag():
            self._moved = (self._appender.applied, now)
            seen_at = now
        if self._appender.trouble is not None:
            return self._appender.trouble
        stuck = now - seen_at
        return f"an entry has been waiting for {stuck:.0f} s" if stuck > STUCK_S else None


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

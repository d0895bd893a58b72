"""The maintenance thread: upkeep of the readings store, piece by piece, and once an hour what retention deletes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flow.regularly import Regularly
from flow.retention import Retention
from store.readings import ReadingStore, StoreUnavailable

log = logging.getLogger("gridwhistle.keeping")

LOOK_EVERY_S = 5.0
RETENTION_EVERY_S = 3600.0
# A start has other work to do, and somebody may have started it to look at what is old.
FIRST_RETENTION_S = 600.0
# The settling thread waits for it.
PATIENCE_S = 5.0
T = TypeVar("T")


class KeepingThread(Regularly):
    """`now` is the rule clock; 0 while it has not spoken."""

    def __init__(
        self, readings: ReadingStore, retention: Retention, *, now: Callable[[], int], wall: Callable[[], int]
    ) -> None:
        super().__init__("keeping", self._keep_up, LOOK_EVERY_S)
        self._readings = readings
        self._retention = retention
        self._now = now
        self._wall = wall
        self._turn = threading.Lock()
        self._awaited = threading.Event()
        self._due = time.monotonic() + FIRST_RETENTION_S

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is deleted meanwhile and all that was is in the ledger. Waits for the piece under way; raises
        StoreUnavailable where somebody else has it still for longer, a backup for instance."""
        self._awaited.set()
        acquired = self._turn.acquire(timeout=PATIENCE_S)
        self._awaited.clear()
        if not acquired:
            raise StoreUnavailable("readings are being copied or deleted just now")
        try:
            self._retention.count(self._now())
            yield
        finally:
            self._turn.release()

    def paused(self, act: Callable[[], T]) -> T:
        """What `act` says while it is `still`."""
        with self.still():
            return act()

    def _keep_up(self) -> float:
        with self._turn:
            return self._keep()

    def _keep(self) -> float:
        """One piece; how long to rest. Half of the time at most it works: the core belongs to what arrives."""
        now, begun = self._now(), time.monotonic()
        if not now:
            return LOOK_EVERY_S
        if self._readings.upkeep(now):
            return time.monotonic() - begun
        if begun >= self._due:
            gone = self._retention.run(now, self._wall(), self._pressed)
            self._due = begun + (RETENTION_EVERY_S if not self._pressed() else 0.0)
            if gone:
                log.info("%s readings and events were older than they are kept", f"{gone:,}")
        return LOOK_EVERY_S

    def _pressed(self) -> bool:
        return self.stopping or self._awaited.is_set()

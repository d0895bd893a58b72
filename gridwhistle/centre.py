"""The settling thread, and what the subscriber hands it: one call at a time, in the order of arrival."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from devices.batch import Batch
from devices.instants import SECOND, format_duration
from flow.clock import tick_desk
from flow.readings import Settler
from flow.service_alarms import BACKLOG, LINK, STORAGE, installation_transition
from gridwhistle.storage import Storage
from store.readings import StoreUnavailable

log = logging.getLogger("gridwhistle.centre")
T = TypeVar("T")

# A link that is back within this is no alarm: brokers are restarted.
LINK_GRACE_S = 30.0
# Behind by more than this, what the rules see is history: absence is not judged and the backlog is an alarm.
BACKLOG_S = 60.0
# Whoever asks for an explanation waits so long at most.
PATIENCE_S = 10.0


class SettlingCentre:
    """Everything that changes what the settler remembers runs here, in one thread; `poke` is called after commits."""

    def __init__(
        self, settler: Settler, *, poke: Callable[[], None], now: Callable[[], int], told: Callable[[], bool]
    ) -> None:
        """`told` is False until the clock that rules follow has said what time it is."""
        self._settler = settler
        self._poke = poke
        self._now = now
        self._told = told
        self._drained = False
        self._thread = ThreadPoolExecutor(1, "settle")
        self._standing: dict[str, int] = {}
        self.storage = Storage(settler.appender, now=now)
        self.linked = False
        self.settle_seconds: Callable[[float], None] = lambda _: None

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in the settling thread, between two batches."""
        result = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._poke()
        return result

    async def _commit(self, work: Callable[[], T]) -> T:
        """`run`, watched: work that fails or hangs is trouble of the storage."""

        def watched() -> T:
            with self.storage.work():
                return work()

        return await self.run(watched)

    def ask(self, look: Callable[[], T]) -> T:
        """From another thread: look in the settling thread, between two batches. Raises StoreUnavailable where what is
        settled there waits for a store."""
        asked = self._thread.submit(look)
        try:
            return asked.result(PATIENCE_S)
        except TimeoutError as error:
            asked.cancel()
            raise StoreUnavailable("settling has not come round to it") from error

    async def settle(self, batch: Batch, now: int) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._commit(lambda: self._settler.settle(batch, now))
        self.settle_seconds(loop.time() - begun)

    async def clock(self, now: int, *, heard: int | None = None) -> None:
        """The clock moved: the data clock's message, or the wall's second. What was missing at `heard` is missed; since
        then it may be under way."""
        if self._drained and not self.linked:
            await self._link(now)
        if self.linked:
            at = now if heard is None else min(now, heard)
            await self._commit(lambda: self._settler.tick(at))
        await self._commit(lambda: tick_desk(self._settler.records, now))

    async def drained(self, now: int) -> None:
        self._drained = True
        if self._told():
            await self._link(now)

    async def _link(self, now: int) -> None:
        """Absence counts from here."""
        await self._commit(lambda: self._settler.link(now))
        self.linked = True
        for rule in (LINK, BACKLOG):
            await self._end(rule)

    async def jumped(self, now: int) -> None:
        """The rule clock jumped to `now`: nobody has been silent for as long as that."""
        if self.linked:
            await self._link(now)

    async def lost(self) -> None:
        self.linked = self._drained = False

    async def watch_link(self, *, down_s: float, lag_s: float, drained: bool, trouble: str | None) -> None:
        """Called every second: the service's own alarms about its link and its backlog."""
        if down_s > LINK_GRACE_S:
            await self._begin(LINK, f"{trouble or 'no link'}, {format_duration(round(down_s) * SECOND)}")
        elif lag_s > BACKLOG_S:
            self.linked = self._drained = False
            await self._begin(BACKLOG, f"readings are {format_duration(round(lag_s) * SECOND)} behind")
        elif drained and not self._drained:
            await self.drained(self._now())

    async def watch_storage(self) -> None:
        """Called every second. Raises a database error while nothing can be committed."""
        if self.storage.failing is not None:
            await self._commit(self._settler.snapshot)  # larger than most of what has to fit
            self.storage.saved()
        while self.storage.over:
            trouble = self.storage.over[0]
            if STORAGE not in self._standing:
                await self._begin(STORAGE, trouble.why, trouble.since)
                await self._end(STORAGE, trouble.until)
            self.storage.over.pop(0)
        store = self.storage.store_trouble()
        if store is not None:
            await self._begin(STORAGE, store)
        else:
            await self._end(STORAGE)

    async def stop(self) -> None:
        """Save the state, unless nothing can be saved; nothing is settled after this."""
        try:
            if self.storage.sql_trouble() is None:
                await self.run(self._settler.snapshot)
        finally:
            self._thread.shutdown()

    async def _begin(self, rule: str, why: str, since: int | None = None) -> None:
        if rule not in self._standing:
            now = self._now()
            raised_at = now if since is None else since
            transition = installation_transition(rule, raised_at=raised_at, cleared_at=None, why=why)
            await self._commit(lambda: self._settler.service_alarm(transition, now))
            self._standing[rule] = raised_at
            log.error("%s: %s", rule, why)

    async def _end(self, rule: str, until: int | None = None) -> None:
        raised_at = self._standing.get(rule)
        if raised_at is not None:
            now = self._now()
            cleared_at = max(raised_at, now if until is None else until)
            transition = installation_transition(rule, raised_at=raised_at, cleared_at=cleared_at, why="")
            await self._commit(lambda: self._settler.service_alarm(transition, now))
            del self._standing[rule]
            log.info("%s is over", rule)

    def remember_standing(self, standing: dict[str, int]) -> None:
        """Alarms about the installation that stood when the last run ended."""
        self._standing.update(standing)

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
from flow.service_alarms import BACKLOG, LINK, installation_transition
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
        self.linked = False
        self.settle_seconds: Callable[[float], None] = lambda _: None

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in the settling thread, between two batches."""
        result = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._poke()
        return result

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
        await self.run(lambda: self._settler.settle(batch, now))
        self.settle_seconds(loop.time() - begun)

    async def clock(self, now: int) -> None:
        """The clock moved: the data clock's message, or the wall's second."""
        if self._drained and not self.linked:
            await self._link(now)
        if self.linked:
            await self.run(lambda: self._settler.tick(now))
        await self.run(lambda: tick_desk(self._settler.records, now))

    async def drained(self, now: int) -> None:
        self._drained = True
        if self._told():
            await self._link(now)

    async def _link(self, now: int) -> None:
        """Absence counts from here."""
        await self.run(lambda: self._settler.link(now))
        self.linked = True
        for rule in (LINK, BACKLOG):
            await self._end(rule)

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

    async def stop(self) -> None:
        """Save the state; nothing is settled after this."""
        try:
            await self.run(self._settler.snapshot)
        finally:
            self._thread.shutdown()

    async def _begin(self, rule: str, why: str) -> None:
        if rule not in self._standing:
            at = self._now()
            transition = installation_transition(rule, raised_at=at, cleared_at=None, why=why)
            await self.run(lambda: self._settler.service_alarm(transition, at))
            self._standing[rule] = at

    async def _end(self, rule: str) -> None:
        raised_at = self._standing.pop(rule, None)
        if raised_at is not None:
            at = self._now()
            transition = installation_transition(rule, raised_at=raised_at, cleared_at=at, why="")
            await self.run(lambda: self._settler.service_alarm(transition, at))

    def remember_standing(self, standing: dict[str, int]) -> None:
        """Alarms about the installation that stood when the last run ended."""
        self._standing.update(standing)

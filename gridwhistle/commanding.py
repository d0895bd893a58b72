"""Sends commands to devices: claimed from their rows, handed to the broker, marked after; ended when nobody answers.

One task beside the link. A row is pending until the broker has acknowledged its message, so whatever dies in between,
it is sent again with the same id: twice beats never, and a device knows a command it has done by its id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from devices.instants import SECOND
from flow.commands import expire, mark_sent, message, waiting

log = logging.getLogger("gridwhistle.commands")

POLL_S = 1.0
# A broker that has not acknowledged by then has lost it, or we read nothing because settling is stuck.
TAKEN_WITHIN_S = 30.0


class Publish(Protocol):
    async def __call__(self, topic: str, payload: bytes, *, expiry_s: int) -> None:
        """Returns when the broker has it. Raises OSError."""


class Commander:
    """`wall` is microseconds; `drained` says that no answer waits unread at the broker."""

    def __init__(
        self,
        records: Engine,
        publish: Publish,
        *,
        wall: Callable[[], int],
        drained: Callable[[], bool],
        poke: Callable[[], None],
    ) -> None:
        self._records = records
        self._publish = publish
        self._wall = wall
        self._drained = drained
        self._poke = poke
        self._loop = asyncio.get_running_loop()
        self._asked = asyncio.Event()
        self._trouble = ""

    def wake(self) -> None:
        """A command is committed; from any thread."""
        self._loop.call_soon_threadsafe(self._asked.set)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._asked.clear()
            try:
                await self._send_all()
                if await asyncio.to_thread(expire, self._records, self._wall(), heard=self._drained()):
                    self._poke()
            except SQLAlchemyError:
                log.exception("commands: the records do not answer")
            try:
                async with asyncio.timeout(POLL_S):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def _send_all(self) -> None:
        """In the order they were asked in; where the link is away they wait for it."""
        for row in await asyncio.to_thread(waiting, self._records, self._wall()):
            left = row.expires_at - self._wall()
            if left <= 0:
                continue
            try:
                async with asyncio.timeout(TAKEN_WITHIN_S):
                    await self._publish(row.topic, message(row), expiry_s=-(-left // SECOND))
            except OSError as error:
                if str(error) != self._trouble:
                    log.warning("command %s of %s is not sent yet: %s", row.id, row.device, error or "no answer")
                self._trouble = str(error)
                return
            self._trouble = ""
            await asyncio.to_thread(mark_sent, self._records, self._wall(), row)
            self._poke()

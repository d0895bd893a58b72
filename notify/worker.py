"""Sends what is in the outbox: claim, send, mark. One task a channel, so that a slow one delays only itself.

Nothing in the service waits for it: messages are rows, written with what they tell of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from flow.outbox import Message, bury_unknown, claim, mark_failed, mark_sent
from notify.channel import Channel, NotSent

# Shorter than flow.outbox.LEASE by enough to mark the message afterwards.
SEND_WITHIN_S = 30.0
# Retries fall due without anyone waking the worker.
POLL_S = 1.0
STOP_WITHIN_S = 5.0
AT_ONCE = 8

T = TypeVar("T")
log = logging.getLogger(__name__)


class Worker:
    """`wall` gives microseconds since 1970; set `wake` (in the loop) after a commit that may have added messages."""

    def __init__(
        self,
        records: Engine,
        channels: Mapping[str, Channel],
        *,
        wall: Callable[[], int],
        wake: asyncio.Event,
        attempts: int = 12,
    ) -> None:
        self._records = records
        self._channels = channels
        self._wall = wall
        self._wake = wake
        self._attempts = attempts

    async def run(self) -> None:
        """Until cancelled; then gives what is under way a few seconds and closes the channels."""
        woken = {name: asyncio.Event() for name in self._channels}
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, channel in self._channels.items():
                    tasks.create_task(self._serve(name, channel, woken[name]), name=f"notify {name}")
                while True:
                    await self._sql(bury_unknown, self._records, self._wall(), tuple(self._channels))
                    await _wait(self._wake)
                    self._wake.clear()
                    for event in woken.values():
                        event.set()
        finally:
            for channel in self._channels.values():
                await channel.close()

    async def _serve(self, name: str, channel: Channel, woken: asyncio.Event) -> None:
        while True:
            messages = await self._sql(_claimed, self._records, self._wall(), name)
            if messages:
                delivering = asyncio.gather(*(self._deliver(channel, message) for message in messages))
                try:
                    await asyncio.shield(delivering)
                except asyncio.CancelledError:
                    # A stop waits for what is under way, or it would be sent again after the start.
                    await asyncio.wait([delivering], timeout=STOP_WITHIN_S)
                    delivering.cancel()
                    raise
            else:
                await _wait(woken)
                woken.clear()

    async def _deliver(self, channel: Channel, message: Message) -> None:
        reason, for_good = "", False
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                await channel.send(message)
        except NotSent as error:
            reason, for_good = str(error), error.for_good
        except TimeoutError:
            reason = f"no answer within {SEND_WITHIN_S:.0f} s"
        except Exception as error:
            # The outermost loop of a message: one that no channel foresaw must not end the service.
            log.exception("message %s to %s", message.key, message.channel)
            reason = type(error).__name__
        if not reason:
            await self._sql(mark_sent, self._records, self._wall(), message)
            return
        allowed = 0 if for_good else self._attempts
        dead = await self._sql(_failed, self._records, self._wall(), message, reason, allowed)
        log.warning("message %s to %s %s: %s", message.key, message.channel, "given up" if dead else "not sent", reason)

    async def _sql(self, act: Callable[..., T], *arguments: object) -> T | None:
        """In a thread: a busy database must not stop the loop. None where SQL is down; the message comes again."""
        try:
            return await asyncio.to_thread(act, *arguments)
        except SQLAlchemyError:
            log.exception("outbox: %s", act.__name__)
            # Without this a failing claim would spin.
            await asyncio.sleep(POLL_S)
            return None


def _claimed(records: Engine, now: int, name: str) -> list[Message]:
    return claim(records, now, AT_ONCE, channel=name)


def _failed(records: Engine, now: int, message: Message, reason: str, allowed: int) -> bool:
    return mark_failed(records, now, message, reason, allowed=allowed)


async def _wait(event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(POLL_S):
            await event.wait()
    except TimeoutError:
        return

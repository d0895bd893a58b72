"""What the worker asks of a channel, and how a channel says no."""

from __future__ import annotations

from typing import Protocol

from flow.outbox import Message


class NotSent(Exception):
    """The receiver did not take the message. `for_good`: trying again cannot help. The text is stored and logged, so
    it never holds the receiver's address."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


class Channel(Protocol):
    async def send(self, message: Message) -> None:
        """Returns when the receiver has taken the message; raises NotSent."""

    async def close(self) -> None:
        """Frees connections; nothing is sent afterwards."""

"""The broker child where there is no Mosquitto: `python -m gridwhistle.broker_amqtt PORT`.

amqtt speaks MQTT 3.1.1 only, and a CONNECT of version 5 leaves it waiting for bytes that never come, so that a client
never learns to ask for less. It is answered here, as MQTT 3.1.1 §3.1.2.2 wants it.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

HOST = "127.0.0.1"
CONNECT = 0x10
KNOWN_LEVELS = {3, 4}
UNACCEPTABLE_LEVEL = b"\x20\x02\x00\x01"
HEAD_WITHIN_S = 10.0


class Polite(Broker):
    """amqtt that refuses what it does not speak."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        try:
            async with asyncio.timeout(HEAD_WITHIN_S):
                head, level = await _read_head(reader)
            if level is None or level in KNOWN_LEVELS:
                await self.external_connected(_Again(head, reader), StreamWriterAdapter(writer), listener_name)
                return
            writer.write(UNACCEPTABLE_LEVEL)
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            logging.getLogger(__name__).info("a connection that said too little", exc_info=True)
        writer.close()


async def _read_head(reader: asyncio.StreamReader) -> tuple[bytes, int | None]:
    """What was read up to the protocol level, and the level; None where it is no CONNECT: amqtt says so itself."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) < 5:
        head += await reader.readexactly(1)
    if head[0] != CONNECT:
        return head, None
    name = await reader.readexactly(2)
    rest = await reader.readexactly(min(int.from_bytes(name, "big"), 8) + 1)
    return head + name + rest, rest[-1]


class _Again(StreamReaderAdapter):
    """The stream with what was read already in front."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._head = head

    async def read(self, n: int = -1) -> bytes:
        taken = self._head if n == -1 else self._head[:n]
        self._head = self._head[len(taken) :]
        if n != -1 and len(taken) == n:
            return taken
        return taken + bytes(await super().read(n if n == -1 else n - len(taken)))


async def serve(port: int) -> None:
    """Until standard input ends: it is a pipe from the parent, whose end is our end."""
    listener = {"type": "tcp", "bind": f"{HOST}:{port}"}
    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Polite({"listeners": {"default": listener}, "plugins": anonymous})
    await broker.start()
    print("running", flush=True)
    parent = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(parent), sys.stdin)
    await parent.read()
    await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(int(sys.argv[1])))

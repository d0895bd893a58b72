"""A channel that POSTs JSON. The address is a secret (many carry their token in the path): it is never logged."""

from __future__ import annotations

import httpx

from devices.instants import to_iso
from flow.outbox import Message
from notify.channel import NotSent

TIMEOUT_S = 10.0
# 408 and 429 mean later; every other 4xx means that this request is wrong and stays wrong.
LATER = frozenset({408, 429})


class Webhook:
    """2xx is sent. The `Idempotency-Key` header and the body are the same at every attempt of a message."""

    def __init__(self, url: str) -> None:
        self._url = httpx.URL(url)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S)

    async def send(self, message: Message) -> None:
        body = {
            "key": message.key,
            "channel": message.channel,
            "created_at": to_iso(message.created_at),
            "message": dict(message.body),
        }
        headers = {"Idempotency-Key": message.key}
        try:
            # Streamed: the answer's body does not matter and may be of any size.
            async with self._client.stream("POST", self._url, json=body, headers=headers) as answer:
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Its text may hold the address.
            raise NotSent(type(error).__name__) from None
        if not 200 <= status < 300:
            raise NotSent(f"HTTP {status}", for_good=400 <= status < 500 and status not in LATER)

    async def close(self) -> None:
        await self._client.aclose()

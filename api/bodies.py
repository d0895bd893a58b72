"""The bound on request bodies and the headers every answer carries.

The bound is ours because the framework's own answers in plain text, and every error here is problem+json.
"""

from __future__ import annotations

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The largest honest request is 500 alarm ids or an order with a long description: some kilobytes.
MAX_BODY = 1_000_000


class TooLarge(HTTPException):
    def __init__(self) -> None:
        super().__init__(413)


class BoundedBodies:
    """Stops reading a body at MAX_BODY bytes, whatever length it declared, and marks API answers as not to be kept."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        too_large = not declared.isdigit() or int(declared) > MAX_BODY
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if too_large or read > MAX_BODY:
                raise TooLarge
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                if scope["path"].startswith("/api/"):
                    headers.setdefault("Cache-Control", "no-store")
                if too_large:
                    headers["Connection"] = "close"
            await send(message)

        await self.app(scope, bounded, marked)

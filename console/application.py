"""The console as one application beside the API: its pages, its files, its event stream, its answers to mistakes.

It is mounted at the root and answers every path nobody before it wants, so it is attached last.
"""

from __future__ import annotations

import os
from os import PathLike
from typing import Final

from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alerts.refusals import Invalid, NotAllowed, NotFound, Refusal
from console import (
    account,
    alarm,
    board,
    commands,
    devices,
    events,
    intake,
    ledger,
    maps,
    modes,
    order,
    orders,
    pumps,
    review,
    rules,
    sources,
    trying,
    wall,
    why,
)
from console.pages import STATIC, refusal
from console.visits import visit_of
from flow.installation import Installation

# `why` before `alarm`, which takes every other address below an alarm's.
ROUTERS: Final = (
    account, board, why, alarm, pumps, orders, order, devices, sources, commands, intake, ledger, modes, maps, rules,
    review, trying, wall, events,
)  # fmt: skip
# Forms of the console carry a title and a description; nothing longer belongs here.
MAX_BODY: Final = 64 * 1024
# Hashing a password takes 19 MiB and a core; more at once would keep the pages waiting.
SIGN_INS_AT_ONCE: Final = 2
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "worker-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


_MALFORMED: Final = Invalid("malformed", "请求内容不完整或格式不对", "the request is incomplete or malformed")


def attach(app: FastAPI, installation: Installation) -> None:
    """Add the pages to the application. Call it after every other route: it takes all paths that are left."""
    console = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, max_body_size=MAX_BODY)
    console.state.installation = installation
    console.state.sign_ins = CapacityLimiter(SIGN_INS_AT_ONCE)
    for module in ROUTERS:
        console.include_router(module.router)
    console.mount("/static", _Files(directory=STATIC))
    console.add_exception_handler(Refusal, _refused)
    console.add_exception_handler(RequestValidationError, _malformed)
    console.add_exception_handler(HTTPException, _http)
    app.mount("/", _Guarded(console))


class _Guarded:
    """Headers of every answer. Pages are of one person and one moment: nobody keeps them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, guarded)


class _Files(StaticFiles):
    """Files under an address with their digest or their version never change; others are asked for again each time."""

    def file_response(
        self, full_path: PathLike[str] | str, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        versioned = scope.get("query_string", b"").startswith(b"v=") or "/vendor/" in scope["path"]
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refusal(request, visit_of(request), error)


def _malformed(request: Request, _error: Exception) -> Response:
    return _refused(request, _MALFORMED)


def _http(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: an unknown path, a method nobody answers, a body too long."""
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(("/api/", "/static/")):
        return PlainTextResponse(str(error.detail), error.status_code)
    known = {
        404: NotFound("no_such_page", "没有这个页面", "there is no such page"),
        405: NotAllowed("no_such_way", "此页面不支持该操作", "this page does not do that"),
        413: Invalid("too_long", "内容过长", "this is too long"),
    }
    refused = known.get(error.status_code, _MALFORMED)
    return refusal(request, visit_of(request), refused, status=error.status_code)

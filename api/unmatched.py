"""What no route takes: problem+json for unknown addresses and wrong methods, before the console takes what is left.

The framework would refuse a wrong method by itself only as long as nothing behind it matches the path, and the console
matches every path.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

# Below these everything is the API's own.
_PATHS = ("/api", "/api/{rest:path}", "/healthz", "/readyz", "/metrics")


def refuse_unmatched(app: FastAPI) -> None:
    """Call it after every other route of the API."""
    endpoint = _Unmatched(tuple(app.router.routes))
    for path in _PATHS:
        app.router.routes.append(Route(path, endpoint, include_in_schema=False))


_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


class _Unmatched:
    """An ASGI application, not a function: a route then takes every method."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        taken = [method for method in _METHODS if self._takes(scope, method)]
        if taken:
            raise HTTPException(405, headers={"Allow": ", ".join(taken)})
        raise HTTPException(404)

    def _takes(self, scope: Scope, method: str) -> bool:
        asked = {**scope, "method": method}
        return any(route.matches(asked)[0] is Match.FULL for route in self._routes)

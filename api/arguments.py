"""Query parameters no route knows are refused: a filter with a typing error would silently be no filter.

The framework ignores them; what a route declares, and its dependencies with it, stands in its description.
"""

from __future__ import annotations

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


def refuse_unknown_query(request: Request) -> None:
    route = request.scope["route"]
    assert isinstance(route, APIRoute), "a dependency of API routes only"
    known = {field.alias for field in get_flat_params(route.dependant)}
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise RequestValidationError([
            {"type": "extra_forbidden", "loc": ("query", name), "msg": "no such query parameter"} for name in unknown
        ])  # fmt: skip

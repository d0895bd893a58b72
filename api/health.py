"""Whether the service lives, whether it is ready, and its metrics: for monitoring, without sign-in."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from api.caller import Here

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Part(BaseModel, extra="allow"):
    ok: bool
    detail: str = ""


class Ready(BaseModel):
    ready: bool
    parts: dict[str, Part]
    failing: list[str]


@router.get("/healthz", summary="Alive / 存活")
async def healthz() -> Alive:
    """Answers while the process does, whatever it waits for: restarting would not bring the broker back."""
    return Alive()


@router.get("/readyz", summary="Ready / 就绪", responses={503: {"model": Ready, "description": "Which part fails"}})
def readyz(here: Here, response: Response) -> Ready:
    parts = {name: Part.model_validate(part) for name, part in here.health().items()}
    failing = sorted(name for name, part in parts.items() if not part.ok)
    if failing:
        response.status_code = 503
    return Ready(ready=not failing, parts=parts, failing=failing)


@router.get("/metrics", summary="Prometheus metrics / 指标", response_class=PlainTextResponse)
def see_metrics(request: Request) -> Response:
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)

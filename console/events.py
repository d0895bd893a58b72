"""The console's event stream: only that something changed, never what; the page then asks for what it may see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from console.visits import Signed, SignedVisit
from flow.access import actor_of
from flow.stream import MAX_CLIENTS, sse

router = APIRouter()

# Said often enough for the page to know within half a minute that a line is dead.
HEARTBEAT_S = 8.0


@router.get("/events")
async def listen(visit: Signed, last_event_id: Annotated[str | None, Header(max_length=64)] = None) -> Response:
    installation = visit.installation
    if installation.hub.clients >= MAX_CLIENTS:
        return PlainTextResponse("too many listeners", 503)
    return StreamingResponse(
        _happenings(visit, last_event_id),
        media_type="text/event-stream",
        # Without the second header nginx keeps events back until its buffer is full.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _happenings(visit: SignedVisit, last_id: str | None) -> AsyncIterator[str]:
    installation = visit.installation

    def allowed() -> bool:
        return actor_of(installation.records, installation.wall(), visit.token) == visit.actor

    personal = visit.allows("person.see")
    async for message in sse(installation.hub, last_id, personal=personal, allowed=allowed, heartbeat_s=HEARTBEAT_S):
        yield bare(message)


def bare(message: str) -> str:
    """The message without its body; a comment, which no script can see, becomes `event: beat`."""
    lines = message.splitlines()
    kept = [line for line in lines if line.startswith(("id:", "event:", "retry:"))]
    if not any(line.startswith("event:") for line in kept):
        kept.append("event: beat")
    return "\n".join([*kept, "data: {}"]) + "\n\n"

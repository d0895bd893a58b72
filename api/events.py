"""The event stream as server-sent events (`flow.stream` says what is on it)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from api.caller import Here, Listener
from api.privacy import sees_personal
from api.problems import Busy, describe
from flow.access import actor_of
from flow.stream import MAX_CLIENTS, sse

router = APIRouter(tags=["stream"])

MEDIA_TYPE = "text/event-stream"
_TEXT = {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "Events until either side ends"}


@router.get(
    "/stream",
    summary="Events as they happen / 事件流",
    response_class=StreamingResponse,
    responses={**describe(401, 503), 200: _TEXT},
)
def stream(
    here: Here,
    listener: Listener,
    *,
    last_event_id: Annotated[str | None, Header(max_length=64, description="Where to go on")] = None,
    last_event_id_query: Annotated[str | None, Query(alias="last_event_id", max_length=64)] = None,
    values: Annotated[bool, Query(description="Also latest values, at most once a second")] = True,
    device: Annotated[list[str] | None, Query(max_length=100, description="Latest values of these only")] = None,
) -> StreamingResponse:
    """`alarm`, `order` and `presence` carry an id: reconnect with it as Last-Event-ID and nothing is missed for 24 h;
    an id older than that, or unknown, gets `event: reset` (load the lists again). `latest` carries none. `ready` comes
    first where no id was given."""
    actor, token = listener
    if here.hub.clients >= MAX_CLIENTS:
        raise Busy
    events = sse(
        here.hub,
        last_event_id if last_event_id is not None else last_event_id_query,
        personal=sees_personal(actor),
        values=values,
        devices=None if device is None else frozenset(device),
        allowed=lambda: actor_of(here.records, here.wall(), token) is not None,
    )
    # Without the second header nginx keeps events back until its buffer is full.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type=MEDIA_TYPE, headers=headers)

"""Intake: unknown devices to approve or reject with what they sent, and refused packets with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from alerts.refusals import Invalid
from console.devices import Value, values_of
from console.ledger import again, ledger_of
from console.packets import Packet, packets_of
from console.pages import done, page, part
from console.places import is_personal
from console.visits import Posted, Signed, SignedVisit, is_fragment
from devices.registry import Device, DeviceStatus
from flow import redriving
from flow.ledger_book import Span
from store.records.refused import Wanted, count_refused

router = APIRouter()

MOST_WAITING = 100
MOST_PACKETS = 50
MAX_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Waiting:
    id: str
    kind: str
    site: str
    personal: bool
    first_seen: int
    values: Sequence[Value]
    stored: int


@dataclass(frozen=True, slots=True)
class Intake:
    """`reasons`: each with the packets kept and what the ledger counted for them; `count`: packets of the reason that
    is shown alone."""

    path: str
    reason: str
    waiting: Sequence[Waiting]
    reasons: Sequence[tuple[str, int, int]]
    count: int
    packets: Sequence[Packet]


def intake_of(visit: SignedVisit, reason: str = "") -> Intake:
    """Raises NotAllowed for a viewer: what strangers send may be anything."""
    visit.actor.require("intake.see")
    with visit.installation.records.connect() as tx:
        reasons = count_refused(tx)
    devices = visit.installation.registry.devices
    waiting = [d for d in devices if d.status is DeviceStatus.QUARANTINED]
    waiting.sort(key=lambda d: -d.first_seen)
    packets, _ = packets_of(visit, reason=reason or None, limit=MOST_PACKETS)
    return Intake(
        path="/intake" + (f"?reason={quote(reason)}" if reason else ""),
        reason=reason,
        waiting=[_waiting(visit, d) for d in waiting[:MOST_WAITING]],
        count=reasons.get(reason, (0, 0))[0],
        reasons=sorted(((name, *n) for name, n in reasons.items()), key=lambda item: -item[2]),
        packets=packets,
    )


def _waiting(visit: SignedVisit, device: Device) -> Waiting:
    personal = is_personal(device.kind)
    counted = visit.installation.book.by_device(Span(device=device.number))
    return Waiting(
        id=device.id,
        kind=device.kind,
        site=device.site,
        personal=personal,
        first_seen=device.first_seen,
        values=[] if personal else values_of(visit, device),
        stored=sum(sums.counts["stored"] for sums in counted.values()),
    )


@router.get("/intake")
def see_intake(request: Request, visit: Signed, reason: Annotated[str, Query(max_length=64)] = "") -> Response:
    view = intake_of(visit, reason)
    if is_fragment(request.headers):
        return part(request, visit, "parts/intake.html", view=view, done="")
    return page(request, visit, "intake.html", here="intake", view=view, ledger=ledger_of(visit), done="")


@router.post("/devices/{device_id}/approve")
async def approve(request: Request, visit: Posted, device_id: str) -> Response:
    visit.actor.require("device.approve")
    return await _set(request, visit, device_id, DeviceStatus.ACTIVE, said="intake.approved")


@router.post("/devices/{device_id}/reject")
async def reject(request: Request, visit: Posted, device_id: str) -> Response:
    visit.actor.require("device.reject")
    return await _set(request, visit, device_id, DeviceStatus.REJECTED, said="intake.rejected")


@router.post("/intake/retry")
async def retry(
    request: Request,
    visit: Posted,
    *,
    packet: Annotated[int | None, Form(ge=1, le=MAX_ID)] = None,
    reason: Annotated[str, Form(max_length=64)] = "",
    showing: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Read one packet again, or all of a reason; `showing` is the reason that is shown alone."""
    visit.actor.require("refused.retry")
    if packet is None and not reason:
        raise Invalid("malformed", "请指明要重新处理哪些数据", "say what is to be read again")
    here = visit.installation
    wanted = Wanted(reason=reason) if packet is None else Wanted(ids=(packet,))
    taken, again, left, after = 0, 0, 0, None
    while True:
        done_now = await redriving.retry(here.records, here.read_again, here.wall(), visit.actor, wanted, after=after)
        taken += done_now.taken
        again += sum(done_now.again.values())
        left += sum(done_now.left.values())
        if (after := done_now.next) is None:
            break
    here.hub.poke()
    return await _answer(request, visit, "intake.retried", showing=showing, taken=taken, again=again, left=left)


async def _set(request: Request, visit: SignedVisit, device_id: str, status: DeviceStatus, *, said: str) -> Response:
    await visit.installation.set_device_status(device_id, status, visit.actor)
    visit.installation.hub.poke()
    return await _answer(request, visit, said, device=device_id)


async def _answer(request: Request, visit: SignedVisit, said: str, *, showing: str = "", **values: object) -> Response:
    """The list as it is now, with what was done."""
    view = await run_in_threadpool(intake_of, visit, showing)
    if showing and not view.count:
        view = await run_in_threadpool(intake_of, visit)
    if not is_fragment(request.headers):
        return RedirectResponse(view.path, 303)
    message = done(request, visit, said, **values) + await run_in_threadpool(again, request, visit)
    return part(request, visit, "parts/intake.html", view=view, done=message)

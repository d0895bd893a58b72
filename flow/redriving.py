"""Kept refused packets: read again once a format, a rule or a device is mended, or thrown away.

A packet that is read again goes the way of every reading, as if it came when it came: decoded, classified, judged,
committed; the same commit takes its row and its count out of what was refused. What is refused again is a new row. The
surprise: they make a batch of their own, settled between two others, so that what became of them can be told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from anyio import to_thread
from sqlalchemy import Connection, Engine

from alerts.refusals import NotFound
from alerts.roles import Actor
from devices.batch import Batch, Redriven
from devices.instants import to_iso
from flow.readings import JournalFull, Settler
from store.readings import StoreUnavailable
from store.records.access import write_audit
from store.records.database import write
from store.records.refused import RefusedRow, Wanted, number_refused, oldest_refused, purge_refused

# Packets of one commit: more would keep the batches behind them waiting, and one is never without limit of size.
MOST_AT_ONCE, MOST_BYTES = 500, 4 * 1024 * 1024
# Refused for want of a time, which nothing mends: it would be taken for a reading of the instant it came.
TIMELESS = frozenset({"retained_without_time", "no_clock_yet"})


class Left(StrEnum):
    """Why a kept packet is not read again."""

    CUT = "cut"  # its bytes are not all kept
    STATUS = "status"  # it says how a device was then, not how it is
    TIMELESS = "timeless"


@dataclass(frozen=True, slots=True)
class Retried:
    """`taken` packets were read without complaint, `again` were refused anew (by the reason of today), `left` were not
    read (by why) and stay. `waiting` are not looked at yet: `next` says where to go on, None at the end."""

    taken: int
    again: Mapping[str, int]
    left: Mapping[str, int]
    waiting: int
    next: tuple[int, int] | None


# Reads packets into a batch of their own, and says of each of the batch's refusals which packet it is of.
Decode = Callable[[Sequence[RefusedRow]], tuple[Batch, Sequence[int]]]
# Reads packets again and settles them: how many were refused anew, by reason.
ReadAgain = Callable[[Sequence[RefusedRow]], Awaitable[Mapping[str, int]]]


def redriven(packet: RefusedRow) -> Redriven:
    return Redriven(packet.id, packet.device, packet.at, packet.reason, packet.count)


def settle_again(
    settler: Settler, packets: Sequence[RefusedRow], decoded: tuple[Batch, Sequence[int]], now: int
) -> dict[str, int]:
    """Settle what was read again, in the settling thread; how many packets were refused anew, each by its first
    reason. Raises as `Settler.settle`."""
    batch, whose = decoded
    # What is refused again has come when it came, or the next reading would be of another instant.
    came = [replace(found, arrived_at=packets[n].arrived_at) for found, n in zip(batch.refused, whose, strict=False)]
    refused = settler.settle(replace(batch, refused=(*came, *batch.refused[len(came) :])), now)
    reasons: dict[int, str] = {}
    for found, packet in zip(refused, whose, strict=False):
        reasons.setdefault(packet, found.reason)
    by_topic = {packets[n].topic: n for n in reversed(range(len(packets))) if n not in reasons}
    # Judging refuses values, not packets: those of a topic's packets are the first of them that was read.
    for found in refused[len(whose) :]:
        if (number := by_topic.get(found.topic)) is not None:
            reasons.setdefault(number, found.reason)
    return dict(Counter(reasons.values()))


async def retry(
    records: Engine,
    read_again: ReadAgain,
    now: int,
    actor: Actor,
    wanted: Wanted,
    *,
    after: tuple[int, int] | None = None,
) -> Retried:
    """Read the first packets of those wanted again, oldest first; `after` is `next` of the call before. `now` is the
    wall's, for the audit. Raises NotAllowed, NotFound where none of the numbers is kept, StoreUnavailable."""
    actor.require("refused.retry")
    begun = await to_thread.run_sync(lambda: _begin(records, now, actor, wanted, after))
    readable = [packet for packet in begun.packets if why_left(packet) is None]
    try:
        again = await read_again(readable) if readable else {}
    except JournalFull as error:
        raise StoreUnavailable(str(error)) from error
    left = Counter(why.value for packet in begun.packets if (why := why_left(packet)) is not None)
    next_ = (begun.packets[-1].id, begun.through) if begun.waiting else None
    return Retried(len(readable) - sum(again.values()), again, left, begun.waiting, next_)


def purge(records: Engine, now: int, actor: Actor, wanted: Wanted) -> int:
    """Throw kept packets away; how many. That they were refused stays in the ledger."""
    actor.require("refused.purge")
    with write(records) as tx:
        gone = purge_refused(tx, wanted)
        write_audit(tx, now, actor.name, "refused_purged", subject=_say(wanted), why=f"{gone} packets")
    return gone


@dataclass(frozen=True, slots=True)
class _Begun:
    packets: Sequence[RefusedRow]
    waiting: int
    through: int


def _begin(records: Engine, now: int, actor: Actor, wanted: Wanted, after: tuple[int, int] | None) -> _Begun:
    """The packets of one call, and the audit of it before anything is done."""
    with write(records) as tx:
        first, through = after or (0, _newest(tx, wanted))
        packets = oldest_refused(tx, wanted, after=first, through=through, limit=MOST_AT_ONCE, most_bytes=MOST_BYTES)
        waiting = 0
        if packets:
            waiting, _ = number_refused(tx, wanted, after=packets[-1].id, through=through)
            write_audit(tx, now, actor.name, "refused_retried", subject=_say(wanted), why=f"{len(packets)} packets")
    return _Begun(packets, waiting, through)


def _newest(tx: Connection, wanted: Wanted) -> int:
    count, newest = number_refused(tx, wanted)
    if not count and wanted.ids is not None:
        raise NotFound("nothing_refused", "没有这样的拒收数据", "no such refused packet is kept")
    return newest


def why_left(packet: RefusedRow) -> Left | None:
    """Why a kept packet cannot be read again; None where it can."""
    if not packet.whole:
        return Left.CUT
    if packet.reason in TIMELESS:
        return Left.TIMELESS
    return Left.STATUS if packet.topic.endswith("/status") else None


def _say(wanted: Wanted) -> str:
    """What was asked for, for the audit."""
    if wanted.ids is not None:
        return " ".join(map(str, wanted.ids[:20])) + (" …" if len(wanted.ids) > 20 else "")
    said = [
        wanted.reason,
        None if wanted.device is None else f"device {wanted.device}",
        None if wanted.before is None else f"before {to_iso(wanted.before)}",
    ]
    return ", ".join(part for part in said if part) or "all"

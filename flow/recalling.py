"""What the records say of an alarm at an instant: whether it stood, who shelved it, what suppressed it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sqlalchemy import Connection, select

from alerts.alarms import AlarmState, Happening
from devices.instants import from_iso, to_datetime
from flow.explained import Reason, Recorded
from flow.installation import Installation
from store.records.tables import alarm_history, alarms, occurrences


def recall(here: Installation, rule: str, device: str, at: int) -> Recorded | None:
    """None: there is no such alarm."""
    with here.records.connect() as tx:
        alarm = tx.execute(select(alarms.c.id).where(alarms.c.rule == rule, alarms.c.device == device)).scalar()
        return None if alarm is None else _recall(tx, alarm, at)


def _recall(tx: Connection, alarm: int, at: int) -> Recorded:
    h, o = alarm_history.c, occurrences.c
    told = select(h.act, h.by, h.at, h.why, h.to_state).where(h.alarm == alarm, h.at <= at)
    last = tx.execute(told.where(h.act != Happening.COMMENTED).order_by(h.id.desc()).limit(1)).first()
    raised = select(o.since, o.raised_at, o.cleared_at, o.reason).where(o.alarm == alarm, o.raised_at <= at)
    latest = tx.execute(raised.order_by(o.raised_at.desc()).limit(1)).first()
    kept = None if last is None else _INTO.get(last.to_state)
    if last is not None and kept is not None and last.act != kept:
        # While it is kept back it goes on being raised and cleared; what put it there is what is asked for.
        last = tx.execute(told.where(h.act == kept).order_by(h.id.desc()).limit(1)).first() or last
    found = Recorded(alarm, state=None) if last is None else Recorded(alarm, last.to_state, *last[:4])
    if latest is None:
        return found
    cleared_at = latest.cleared_at if latest.cleared_at is not None and latest.cleared_at <= at else None
    return Recorded(
        alarm, found.state, found.act, found.by, found.at, found.why, latest.since, latest.raised_at, cleared_at,
        str(latest.reason.get("when", "")),
    )  # fmt: skip


def told_by_records(
    here: Installation, recorded: Recorded | None, instant: int, state: str | None = None
) -> Iterator[Reason]:
    """In words: that it stood or was raised just then, and what kept it from the board. `state` as it was judged: that
    it fires says that it stands."""
    if recorded is None:
        return
    if recorded.raised_at == recorded.cleared_at == instant:
        yield Reason("momentary", "告警此刻触发，随即解除", "raised at this instant and over with it")
    elif recorded.raised_at is not None and recorded.cleared_at is not None:
        raised, cleared = local(here, recorded.raised_at), local(here, recorded.cleared_at)
        yield Reason(
            "cleared", f"上一次告警 {raised} 触发，{cleared} 解除", f"last raised at {raised}, cleared at {cleared}"
        )
    if recorded.stands and recorded.raised_at is not None and state != "firing":
        at = local(here, recorded.raised_at)
        yield Reason("stands", f"告警自 {at} 起一直未解除", f"the alarm has stood since {at}")
    words = _KEPT.get(recorded.state or "")
    if words is not None and recorded.at is not None:
        at, by, why = local(here, recorded.at), recorded.by or "", recorded.why or ""
        code, zh, en = words
        yield Reason(code, zh.format(at=at, by=by, why=why), en.format(at=at, by=by, why=why))


_INTO: Mapping[str, Happening] = {
    AlarmState.SHLVD: Happening.SHELVED,
    AlarmState.DSUPR: Happening.SUPPRESSED,
    AlarmState.OOSRV: Happening.REMOVED,
}
_KEPT: Mapping[str, tuple[str, str, str]] = {
    AlarmState.SHLVD: ("shelved", "告警已由 {by} 于 {at} 搁置：{why}", "shelved by {by} at {at}: {why}"),
    AlarmState.DSUPR: ("suppressed", "告警自 {at} 起归入 {why}，被其抑制", "held back since {at} by {why}"),
    AlarmState.OOSRV: ("out_of_service", "告警由 {by} 于 {at} 停用：{why}", "out of service by {by} at {at}: {why}"),
}


_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def in_local_time(here: Installation, text: str) -> str:
    """Instants in the text as the clock on the wall shows them."""
    return _ISO.sub(lambda found: local(here, from_iso(found[0])), text)


def local(here: Installation, at: int) -> str:
    """2026-07-01 05:00:00 +08:00 in the site's zone."""
    text = to_datetime(at).astimezone(here.zone).isoformat(" ", "seconds")
    return f"{text[:19]} {text[19:]}"

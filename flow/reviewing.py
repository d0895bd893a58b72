"""What the alarms that were raised meant for the duty desk, by the same review that judges a trial."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, select

from alerts.alarms import AlarmState, Happening
from alerts.refusals import Invalid
from devices.instants import DAY
from flow.installation import Installation
from rules.backtest import Finding
from rules.review import Review, review
from rules.rule import Priority
from store.records.tables import alarm_history, alarms, devices, occurrences

MAX_SPAN = 366 * DAY
MOST_OCCURRENCES = 200_000


def review_recorded(here: Installation, start: int, end: int, *, hide_kinds: Collection[str] = ()) -> Review:
    """Of the occurrences raised in [start, end), the service's own included; without those of devices of `hide_kinds`
    and without those that never came to the desk: found later, or suppressed from their raise to their end.
    An alarm counts with the severities it had; of a rule with one, that which it has now. Raises Invalid where the span
    is empty or too long."""
    if start >= end:
        raise Invalid("empty_span", "开始时间须早于结束时间", "the span must begin before it ends")
    if end - start > MAX_SPAN:
        days = MAX_SPAN // DAY
        raise Invalid("span_too_long", f"时段最长 {days} 天", f"a span is {days} days at most")
    o, a = occurrences.c, alarms.c
    query = select(
        o.rule,
        o.device,
        o.metric,
        o.since,
        o.raised_at,
        o.cleared_at,
        o.first_value,
        o.peak_value,
        a.priority,
        o.severity,
    ).select_from(occurrences.join(alarms, a.id == o.alarm))
    query = query.where(
        o.raised_at >= start, o.raised_at < end, o.retroactive.is_(False), o.id.not_in(_held_back(start))
    )
    if hide_kinds:
        query = query.where(o.device.not_in(select(devices.c.id).where(devices.c.kind.in_(hide_kinds))))
        query = query.where(a.kind.is_(None) | a.kind.not_in(hide_kinds))
    with here.records.connect() as tx:
        rows = tx.execute(query.order_by(o.raised_at).limit(MOST_OCCURRENCES + 1)).all()
    if len(rows) > MOST_OCCURRENCES:
        zh = f"时段内告警超过 {MOST_OCCURRENCES:,} 次，请缩短时段"
        raise Invalid("span_too_long", zh, f"more than {MOST_OCCURRENCES:,} alarms: choose a shorter span")
    findings = [Finding(*row[:8], priority=_severities(row)) for row in rows]
    return review(findings, start, min(end, max(here.now(), start + 1)), zone=here.zone.key)


def _held_back(start: int) -> Select[Any]:
    """Raised under another alarm and never told after it. What is written down is never older than its raise."""
    h = alarm_history.c
    told = select(h.occurrence).where(
        h.act == Happening.UNSUPPRESSED, h.to_state != AlarmState.NORM, h.occurrence.is_not(None), h.at >= start
    )
    raised = h.act == Happening.RAISED, h.to_state == AlarmState.DSUPR
    return select(h.occurrence).where(*raised, h.occurrence.is_not(None), h.at >= start, h.occurrence.not_in(told))


def _severities(row: Any) -> tuple[tuple[int, Priority], ...]:
    known = row.severity or [{"at": row.raised_at, "priority": row.priority}]
    return tuple((each["at"], Priority(each["priority"])) for each in known)

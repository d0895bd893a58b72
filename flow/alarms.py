"""What the rules decided, written down: alarms, occurrences, history, orders, messages and stream rows of one telling.

It runs inside the transaction that settles the readings, so an alarm exists exactly if the readings that raised it do.
Thousands of transitions cost a few statements: everything is loaded at once, decided in memory, written at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.dialects.sqlite import insert as upsert

from alerts.alarms import AlarmState, Happening
from alerts.roles import SERVICE
from devices.instants import MINUTE
from devices.registry import Registry
from flow.covering import review
from flow.filing import follow_with_orders, hold_orders
from flow.held import Happened, HeldAlarm, HeldOccurrence, Pair, RuleLike, Severity, is_suppressed
from flow.holding import RuleBookLike, definitions, hold, hold_suppressed
from flow.messages import Message, alarm_event, alarm_raised, post, tell
from flow.occurring import apply, mark_retroactive
from flow.suppressing import Counting, cause_first
from rules.outcome import Edge, Peak, Transition
from rules.rule import Priority
from store.records.tables import alarm_history, alarms, occurrences, rules

# Older than this behind now when raised, and over already: recorded, but nobody is woken for it.
LATE_AFTER = 10 * MINUTE
# What is told to people, and how its message is told apart from the first of the occurrence.
_AGAIN: Mapping[str, str] = MappingProxyType({
    Happening.RAISED: "", Happening.WORSENED: Happening.WORSENED, Happening.UNSUPPRESSED: Happening.UNSUPPRESSED,
})  # fmt: skip


def record_transitions(
    tx: Connection,
    transitions: Sequence[Transition],
    *,
    now: int,
    registry: Registry,
    rulebook: RuleBookLike,
    counting: Counting,
) -> None:
    """Record them in order of arrival, inside the caller's transaction. Telling the same again changes nothing.

    What one element or one tick brings begins with the alarms of several devices: what they hold back is then raised
    under them. A change or a clear of an alarm nobody raised is ignored. Raises KeyError for a raise by a rule the book
    does not have.
    """
    known = definitions((t.rule for t in transitions), rulebook)
    told = cause_first(t for t in transitions if t.edge is not Edge.RAISED or known[t.rule])
    if not told:
        return
    _keep_rules(tx, known.values())
    held, shades = hold(tx, told, now, registry, rulebook, counting=counting)
    told = [t for t in told if (t.rule, t.device) in held]
    known |= definitions((rule for rule, _ in held), rulebook)
    happened = apply(held, known, told, shades)
    mark_retroactive(held.values(), now - LATE_AFTER)
    if happened:
        _write(tx, held, happened, known, now=now, registry=registry)


def record_found(
    tx: Connection, transitions: Sequence[Transition], *, now: int, registry: Registry, rulebook: RuleBookLike
) -> None:
    """Whole occurrences of the past, found when all was over: kept and marked, and nothing else follows from them."""
    known = definitions((t.rule for t in transitions), rulebook)
    told = [t for t in transitions if t.rule in known]
    if not told:
        return
    _keep_rules(tx, known.values())
    held, _ = hold(tx, told, now, registry, rulebook, counting=lambda _: frozenset())
    happened = [h for h in apply(held, known, told, past=True) if h.act == Happening.RAISED]
    for alarm in held.values():
        alarm.current = alarm.current or max(alarm.occurrences.values(), key=lambda o: o.raised_at, default=None)
        alarm.version = alarm.version or 1
    _write_occurrences(tx, held.values(), now)
    _write_alarms(tx, [a for a in held.values() if a.changed], now)
    if happened:
        _write_history(tx, happened, now)


def review_suppression(
    tx: Connection, *, now: int, registry: Registry, rulebook: RuleBookLike, counting: Counting
) -> None:
    """After the rules or the devices changed, or a member came back: nothing stays held back by what no longer covers
    it."""
    held, shades = hold_suppressed(tx, registry, rulebook, counting=counting)
    happened = review(held.values(), now, shades)
    if any(alarm.changed for alarm in held.values()):
        known = definitions((rule for rule, _ in held), rulebook)
        _write(tx, held, happened, known, now=now, registry=registry)


def update_peaks(tx: Connection, peaks: Iterable[Peak]) -> None:
    """Peaks that went further since the last commit; of occurrences that are known."""
    values = [
        {"b_rule": p.rule, "b_device": p.device, "b_raised_at": p.raised_at, "b_peak": finite(p.peak_value)}
        for p in peaks
    ]
    if values:
        tx.execute(
            update(occurrences)
            .where(
                occurrences.c.rule == bindparam("b_rule"),
                occurrences.c.device == bindparam("b_device"),
                occurrences.c.raised_at == bindparam("b_raised_at"),
            )
            .values(peak_value=bindparam("b_peak")),
            values,
        )


def finite(value: float | None) -> float | None:
    """SQL keeps no NaN and JSON no infinity."""
    return value if value is not None and math.isfinite(value) else None


def plain(value: Any) -> Any:
    """As JSON can hold it."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _write(
    tx: Connection,
    held: Mapping[Pair, HeldAlarm],
    happened: Sequence[Happened],
    known: Mapping[str, RuleLike],
    *,
    now: int,
    registry: Registry,
) -> None:
    by_alarm = hold_orders(tx, sorted({h.alarm.id for h in happened}))
    _write_occurrences(tx, held.values(), now)
    _write_alarms(tx, [a for a in held.values() if a.changed], now)
    if not happened:
        return
    _write_history(tx, happened, now)
    messages = [m for h in happened if h.act in _AGAIN and (m := _message(h, known, now, registry)) is not None]
    messages += follow_with_orders(tx, by_alarm, happened, known, now=now, registry=registry)
    post(tx, now, messages)


def _message(happened: Happened, known: Mapping[str, RuleLike], now: int, registry: Registry) -> Message | None:
    """For people on duty; None for what wakes nobody: notices, the suppressed, what is long over."""
    alarm, occurrence = happened.alarm, happened.occurrence
    if happened.priority is Priority.NOTICE or occurrence.retroactive or is_suppressed(alarm):
        return None
    if happened.is_suppressed or happened.to_state is AlarmState.NORM:
        return None
    over = occurrence.cleared_at is not None
    if over and happened.act == Happening.UNSUPPRESSED:
        return None
    if over and happened.act == Happening.WORSENED and happened.at < now - LATE_AFTER:
        return None
    again = _AGAIN[happened.act]
    assert occurrence.id is not None
    return alarm_raised(
        alarm, occurrence.id, known[alarm.rule], device=registry.get(alarm.device), priority=happened.priority,
        again=again and f"{again}:{happened.at}",
    )  # fmt: skip


def _keep_rules(tx: Connection, known: Iterable[RuleLike]) -> None:
    """The rule as written stands beside the alarms it raised, so that a page can explain them after it has changed."""
    rows = [
        {
            "id": rule.id,
            "name_zh": rule.name_zh,
            "name_en": rule.name_en,
            "priority": rule.priority,
            "order_category": rule.order_category,
            "text": rule.text,
        }
        for rule in known
    ]
    if rows:
        statement = upsert(rules)
        changed = {c: statement.excluded[c] for c in rows[0] if c != "id"}
        tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed), rows)


def _write_occurrences(tx: Connection, held: Iterable[HeldAlarm], now: int) -> None:
    every = [o for alarm in held for o in alarm.occurrences.values()]
    new = sorted((o for o in every if o.id is None), key=lambda o: o.raised_at)
    if new:
        rows = [_occurrence_row(o, now) for o in new]
        ids = tx.scalars(insert(occurrences).returning(occurrences.c.id, sort_by_parameter_order=True), rows)
        for occurrence, id_ in zip(new, ids.all(), strict=True):
            occurrence.id, occurrence.changed = id_, False
    changed = [
        {"b_id": o.id, "b_end": o.cleared_at, "b_peak": finite(o.peak_value), "b_severity": _grades(o.severity)}
        for o in every
        if o.changed
    ]
    if changed:
        c = occurrences.c
        values: dict[str, Any] = {
            "cleared_at": bindparam("b_end"), "peak_value": bindparam("b_peak"), "severity": bindparam("b_severity"),
        }  # fmt: skip
        tx.execute(update(occurrences).where(c.id == bindparam("b_id")).values(values), changed)


def _occurrence_row(occurrence: HeldOccurrence, now: int) -> dict[str, Any]:
    return {
        "alarm": occurrence.alarm.id,
        "rule": occurrence.alarm.rule,
        "device": occurrence.alarm.device,
        "metric": occurrence.metric,
        "since": occurrence.since,
        "raised_at": occurrence.raised_at,
        "cleared_at": occurrence.cleared_at,
        "first_value": finite(occurrence.first_value),
        "peak_value": finite(occurrence.peak_value),
        "reason": plain(occurrence.reason),
        "retroactive": occurrence.retroactive,
        "severity": _grades(occurrence.severity),
        "recorded_at": now,
    }


def _grades(severity: Sequence[Severity]) -> list[dict[str, Any]] | None:
    return [{"at": s.at, "priority": s.priority, "reason": plain(s.reason)} for s in severity] or None


_WRITTEN = ("grid", "priority", "state", "active", "raised_count", "version", "kind", "early", "suppressed_by")


def _write_alarms(tx: Connection, changed: Sequence[HeldAlarm], now: int) -> None:
    """A new occurrence asks to be acknowledged anew, so who acknowledged the last one is history."""
    if not changed:
        return
    values: dict[str, Any] = {name: bindparam(f"b_{name}") for name in (*_WRITTEN, "occurrence")}
    statement = update(alarms).where(alarms.c.id == bindparam("b_id"))
    tx.execute(
        statement.values(**values, changed_at=now),
        [
            {f"b_{name}": getattr(a, name) for name in _WRITTEN}
            | {"b_id": a.id, "b_occurrence": a.current.id if a.current else None}
            for a in changed
        ],
    )
    unasked = [{"b_id": a.id} for a in changed if a.state is AlarmState.UNACK]
    if unasked:
        tx.execute(statement.values(acknowledged_by=None, acknowledged_at=None), unasked)
    tell(tx, now, [alarm_event(alarm) for alarm in changed])


def _write_history(tx: Connection, happened: Sequence[Happened], now: int) -> None:
    tx.execute(
        insert(alarm_history),
        [
            {
                "alarm": h.alarm.id,
                "occurrence": h.occurrence.id,
                "at": now,
                "by": SERVICE,
                "act": h.act,
                "from_state": h.from_state,
                "to_state": h.to_state,
                "why": h.why,
            }
            for h in happened
        ],
    )

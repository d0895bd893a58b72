"""What the rules decided, written down: alarms, occurrences, history, orders, messages and stream rows of one telling.

It runs inside the transaction that settles the readings, so an alarm exists exactly if the readings that raised it do.
Thousands of transitions cost a few statements: everything is loaded at once, decided in memory, written at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, bindparam, insert, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert as upsert

from alerts.alarms import AlarmState, Happening
from alerts.roles import SERVICE
from alerts.service_rules import SERVICE_RULES
from devices.instants import MINUTE
from devices.registry import Registry
from flow.filing import follow_with_orders, hold_orders
from flow.messages import Message, alarm_event, alarm_raised, post, tell
from flow.occurring import (
    Happened,
    HeldAlarm,
    HeldOccurrence,
    Pair,
    RuleLike,
    apply,
    is_suppressed,
    mark_retroactive,
)
from rules.outcome import Edge, Peak, Transition
from rules.rule import Priority
from store.records.database import chunks
from store.records.tables import alarm_history, alarms, occurrences, rules

# Older than this behind now when raised, and over already: recorded, but nobody is woken for it.
LATE_AFTER = 10 * MINUTE


class RuleBookLike(Protocol):
    @property
    def rules(self) -> Mapping[str, RuleLike]: ...


def record_transitions(
    tx: Connection, transitions: Sequence[Transition], *, now: int, registry: Registry, rulebook: RuleBookLike
) -> None:
    """Record them in order of arrival, inside the caller's transaction. Telling the same again changes nothing.

    A clear of an alarm nobody raised is ignored. Raises KeyError for a raise by a rule the book does not have.
    """
    known = _definitions(transitions, rulebook)
    told = [t for t in transitions if t.edge is Edge.CLEARED or known[t.rule]]
    if not told:
        return
    _keep_rules(tx, known.values())
    held = _hold(tx, told, now, registry, known)
    told = [t for t in told if (t.rule, t.device) in held]
    happened = apply(held, known, told)
    if not happened:
        return
    mark_retroactive(held.values(), now - LATE_AFTER)
    by_alarm = hold_orders(tx, sorted({h.alarm.id for h in happened}))
    _write_occurrences(tx, held.values(), now)
    _write_alarms(tx, [a for a in held.values() if a.changed], now)
    _write_history(tx, happened, now)
    messages = [
        message
        for h in happened
        if h.act == Happening.RAISED and (message := _message(h, known[h.alarm.rule], registry)) is not None
    ]
    messages += follow_with_orders(tx, by_alarm, happened, known, now=now, registry=registry)
    post(tx, now, messages)


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


def _message(happened: Happened, rule: RuleLike, registry: Registry) -> Message | None:
    """For people on duty; None for what wakes nobody: notices, the suppressed, what is long over."""
    alarm, occurrence = happened.alarm, happened.occurrence
    if alarm.priority is Priority.NOTICE or is_suppressed(alarm) or occurrence.retroactive:
        return None
    assert occurrence.id is not None
    return alarm_raised(alarm, occurrence.id, rule, device=registry.get(alarm.device))


def finite(value: float | None) -> float | None:
    """SQL keeps no NaN and JSON no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _definitions(transitions: Sequence[Transition], rulebook: RuleBookLike) -> dict[str, RuleLike]:
    """The rules spoken of. A rule that is gone may still be told to have cleared."""
    found: dict[str, RuleLike] = {}
    for rule in {t.rule for t in transitions}:
        definition = rulebook.rules.get(rule) or SERVICE_RULES.get(rule)
        if definition is not None:
            found[rule] = definition
    return found


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


def _hold(
    tx: Connection, told: Sequence[Transition], now: int, registry: Registry, known: Mapping[str, RuleLike]
) -> dict[Pair, HeldAlarm]:
    """The alarms spoken of, made where a raise is their first, with every occurrence the transitions may mean."""
    pairs = sorted({(t.rule, t.device) for t in told})
    held = _load_alarms(tx, pairs)
    old = list(held.values())
    for alarm in old:
        if (device := registry.get(alarm.device)) is not None:
            alarm.grid = device.grid  # it may have been moved since
    first = sorted({(t.rule, t.device) for t in told if t.edge is Edge.RAISED} - held.keys())
    if first:
        held |= _make_alarms(tx, first, now, registry, known)
    _load_occurrences(tx, old, [t for t in told if t.edge is Edge.RAISED])
    return held


def _load_alarms(tx: Connection, pairs: Sequence[Pair]) -> dict[Pair, HeldAlarm]:
    c = alarms.c
    columns = (c.id, c.rule, c.device, c.grid, c.priority, c.state, c.active, c.raised_count, c.version)
    held: dict[Pair, HeldAlarm] = {}
    for some in chunks(pairs):
        for row in tx.execute(select(*columns).where(tuple_(c.rule, c.device).in_(some))):
            held[row.rule, row.device] = HeldAlarm(
                row.id, row.rule, row.device, row.grid, Priority(row.priority), AlarmState(row.state),
                row.active, row.raised_count, row.version,
            )  # fmt: skip
    return held


def _make_alarms(
    tx: Connection, pairs: Sequence[Pair], now: int, registry: Registry, known: Mapping[str, RuleLike]
) -> dict[Pair, HeldAlarm]:
    rows: list[dict[str, Any]] = []
    for rule, device in pairs:
        place = registry.get(device)
        rows.append({
            "rule": rule, "device": device, "grid": place.grid if place else None,
            "priority": known[rule].priority, "state": AlarmState.NORM, "active": False,
            "raised_count": 0, "changed_at": now, "version": 0,
        })  # fmt: skip
    ids = tx.scalars(insert(alarms).returning(alarms.c.id, sort_by_parameter_order=True), rows).all()
    return {
        (row["rule"], row["device"]): HeldAlarm(
            id_, row["rule"], row["device"], row["grid"], row["priority"], AlarmState.NORM, False, 0, 0
        )
        for id_, row in zip(ids, rows, strict=True)
    }


def _load_occurrences(tx: Connection, held: Sequence[HeldAlarm], raises: Sequence[Transition]) -> None:
    """Of the alarms that existed: the latest occurrence, those that stand, and those raised at the same instants."""
    by_id = {alarm.id: alarm for alarm in held}
    by_pair = {(alarm.rule, alarm.device) for alarm in held}
    latest = select(alarms.c.occurrence)
    for ids in chunks(list(by_id)):
        _take(tx, by_id, select(occurrences).where(occurrences.c.id.in_(latest.where(alarms.c.id.in_(ids)))))
        for alarm in (by_id[i] for i in ids):
            alarm.current = next(iter(alarm.occurrences.values()), None)
        _take(tx, by_id, select(occurrences).where(occurrences.c.alarm.in_(ids), occurrences.c.cleared_at.is_(None)))
    instants = sorted({(t.rule, t.device, t.at) for t in raises if (t.rule, t.device) in by_pair})
    key = tuple_(occurrences.c.rule, occurrences.c.device, occurrences.c.raised_at)
    for some in chunks(instants):
        _take(tx, by_id, select(occurrences).where(key.in_(some)))


def _take(tx: Connection, by_id: Mapping[int, HeldAlarm], query: Any) -> None:
    for row in tx.execute(query):
        alarm = by_id[row.alarm]
        if row.raised_at not in alarm.occurrences:
            alarm.occurrences[row.raised_at] = HeldOccurrence(
                alarm, row.since, row.raised_at, row.cleared_at, row.id, row.metric, row.first_value, row.peak_value,
                row.reason, row.cleared_at, row.retroactive,
            )  # fmt: skip


def _write_occurrences(tx: Connection, held: Iterable[HeldAlarm], now: int) -> None:
    every = [o for alarm in held for o in alarm.occurrences.values()]
    new = sorted((o for o in every if o.id is None), key=lambda o: o.raised_at)
    if new:
        rows = [_occurrence_row(o, now) for o in new]
        ids = tx.scalars(insert(occurrences).returning(occurrences.c.id, sort_by_parameter_order=True), rows)
        for occurrence, id_ in zip(new, ids.all(), strict=True):
            occurrence.id, occurrence.changed = id_, False
    changed = [{"b_id": o.id, "b_end": o.cleared_at, "b_peak": finite(o.peak_value)} for o in every if o.changed]
    if changed:
        c = occurrences.c
        values: dict[str, Any] = {"cleared_at": bindparam("b_end"), "peak_value": bindparam("b_peak")}
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
        "reason": _plain(occurrence.reason),
        "retroactive": occurrence.retroactive,
        "recorded_at": now,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _write_alarms(tx: Connection, changed: Sequence[HeldAlarm], now: int) -> None:
    """A new occurrence asks to be acknowledged anew, so who acknowledged the last one is history."""
    if not changed:
        return
    values: dict[str, Any] = {
        name: bindparam(f"b_{name}") for name in ("grid", "priority", "state", "active", "occurrence", "raised_count")
    }
    statement = update(alarms).where(alarms.c.id == bindparam("b_id"))
    tx.execute(
        statement.values(**values, version=bindparam("b_version"), changed_at=now),
        [
            {
                "b_id": a.id,
                "b_grid": a.grid,
                "b_priority": a.priority,
                "b_state": a.state,
                "b_active": a.active,
                "b_occurrence": a.current.id if a.current else None,
                "b_raised_count": a.raised_count,
                "b_version": a.version,
            }
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

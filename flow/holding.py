"""The alarms a telling speaks of, read from the tables all at once; made where a raise is their first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, insert, select

from alerts.alarms import AlarmState
from alerts.service_rules import SERVICE_RULES
from devices.kinds import KINDS
from devices.registry import Registry
from devices.subjects import grid_of, is_group
from flow.held import HeldAlarm, HeldOccurrence, Pair, RuleLike, Severity
from flow.suppressing import (
    Counting,
    Umbrella,
    called,
    group_rules,
    held_back_by,
    kind_of,
    possible_children,
    standing_parents,
    umbrellas,
    under_of,
)
from rules.outcome import Edge, Transition
from rules.rule import Priority, Rule
from store.records.database import among, chunks
from store.records.tables import alarms, occurrences

_COLUMNS = ("id", "rule", "device", "grid", "priority", "state", "active", "raised_count", "version", "kind", "early",
            "suppressed_by")  # fmt: skip


class RuleBookLike(Protocol):
    @property
    def rules(self) -> Mapping[str, RuleLike]: ...


def definitions(rules: Iterable[str], rulebook: RuleBookLike) -> dict[str, RuleLike]:
    """The rules of these names. A rule that is gone may still be told to have cleared."""
    found = {rule: rulebook.rules.get(rule) or SERVICE_RULES.get(rule) for rule in set(rules)}
    return {rule: definition for rule, definition in found.items() if definition is not None}


def hold(
    tx: Connection,
    told: Sequence[Transition],
    now: int,
    registry: Registry,
    rulebook: RuleBookLike,
    *,
    counting: Counting,
) -> tuple[dict[Pair, HeldAlarm], list[Umbrella]]:
    """The alarms spoken of and those that a parent among them holds back or may have to, with every occurrence the
    transitions may mean; and whom each alarm of several devices covers."""
    held, old = _spoken_of(tx, told, now, registry, rulebook)
    groups = group_rules(rulebook.rules)
    parents = {alarm.id: alarm for alarm in held.values() if is_group(alarm.device)}
    if groups:
        parents = {alarm.id: alarm for alarm in load_alarms(tx, [standing_parents(groups)]).values()} | parents
    shades = umbrellas(parents.values(), rulebook.rules, registry, under_of(tx), counting=counting)
    children = _children(tx, told, held, shades)
    _load_occurrences(tx, [*old, *children.values()], [t for t in told if t.edge is Edge.RAISED])
    return held | children, shades


def hold_suppressed(
    tx: Connection, registry: Registry, rulebook: RuleBookLike, *, counting: Counting
) -> tuple[dict[Pair, HeldAlarm], list[Umbrella]]:
    """Every alarm that something holds back, and what stands over others by the book."""
    held = load_alarms(tx, [alarms.c.suppressed_by.is_not(None)])
    if not held:
        return {}, []
    groups = group_rules(rulebook.rules)
    parents = load_alarms(tx, [standing_parents(groups)]).values() if groups else ()
    _load_occurrences(tx, list(held.values()), ())
    return held, umbrellas(parents, rulebook.rules, registry, under_of(tx), counting=counting)


def load_alarms(tx: Connection, wanted: Iterable[ColumnElement[bool]]) -> dict[Pair, HeldAlarm]:
    """Those of any of the conditions."""
    held: dict[Pair, HeldAlarm] = {}
    for condition in wanted:
        for row in tx.execute(select(*(alarms.c[name] for name in _COLUMNS)).where(condition)):
            found = dict(row._mapping)
            found |= {"priority": Priority(row.priority), "state": AlarmState(row.state)}
            held[row.rule, row.device] = HeldAlarm(**found)
    return held


def _spoken_of(
    tx: Connection, told: Sequence[Transition], now: int, registry: Registry, rulebook: RuleBookLike
) -> tuple[dict[Pair, HeldAlarm], list[HeldAlarm]]:
    """Those told of, as their rule and their devices are now (they may have changed since), and those of them that
    were there before."""
    pairs, raised = {(t.rule, t.device) for t in told}, {(t.rule, t.device) for t in told if t.edge is Edge.RAISED}
    key = alarms.c.rule, alarms.c.device
    held = load_alarms(tx, (among(alarms.c.id, key, some) for some in chunks(sorted(pairs))))
    old = list(held.values())
    held |= _make_alarms(tx, sorted(raised - held.keys()), now, rulebook)
    under = under_of(tx)
    for (name, subject), alarm in held.items():
        rule = rulebook.rules.get(name)
        if is_group(subject):
            alarm.grid, alarm.called = grid_of(subject), called(tx, subject)
            alarm.kind = kind_of(rule, subject, registry, under) or alarm.kind
        elif (device := registry.get(subject)) is not None:
            alarm.grid, alarm.personal = device.grid, KINDS[device.kind].personal
        if rule is not None:
            alarm.early = isinstance(rule, Rule) and rule.early
    return held, old


def _make_alarms(tx: Connection, pairs: Sequence[Pair], now: int, rulebook: RuleBookLike) -> dict[Pair, HeldAlarm]:
    """Nothing has happened to them yet; everything else is written with their first occurrence."""
    known = definitions((rule for rule, _ in pairs), rulebook)
    rows: list[dict[str, Any]] = [
        {
            "rule": rule, "device": device, "priority": known[rule].priority, "state": AlarmState.NORM,
            "active": False, "raised_count": 0, "changed_at": now, "version": 0,
        }
        for rule, device in pairs
    ]  # fmt: skip
    if not rows:
        return {}
    ids = tx.scalars(insert(alarms).returning(alarms.c.id, sort_by_parameter_order=True), rows).all()
    return {
        (row["rule"], row["device"]): HeldAlarm(
            id_, row["rule"], row["device"], None, row["priority"], AlarmState.NORM, False, 0, 0
        )
        for id_, row in zip(ids, rows, strict=True)
    }


def _children(
    tx: Connection, told: Sequence[Transition], held: Mapping[Pair, HeldAlarm], shades: Sequence[Umbrella]
) -> dict[Pair, HeldAlarm]:
    """What a raise or a clear of a parent may move, beside what is spoken of anyway."""
    spoken = {(t.rule, t.device) for t in told if is_group(t.device)}
    parents = [held[pair].id for pair in spoken if pair in held]
    raised = [shade for shade in shades if (shade.parent.rule, shade.parent.device) in spoken and shade.rules]
    wanted = held_back_by(parents) + ([possible_children(raised)] if raised else [])
    found = load_alarms(tx, wanted)
    return {
        pair: alarm
        for pair, alarm in found.items()
        if pair not in held and (alarm.suppressed_by in parents or any(shade.covers(alarm) for shade in raised))
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
    key = occurrences.c.rule, occurrences.c.device, occurrences.c.raised_at
    for some in chunks(instants):
        _take(tx, by_id, select(occurrences).where(among(occurrences.c.id, key, some)))


def _take(tx: Connection, by_id: Mapping[int, HeldAlarm], query: Any) -> None:
    for row in tx.execute(query):
        alarm = by_id[row.alarm]
        if row.raised_at not in alarm.occurrences:
            alarm.occurrences[row.raised_at] = HeldOccurrence(
                alarm, row.since, row.raised_at, row.cleared_at, row.id, row.metric, row.first_value, row.peak_value,
                row.reason, row.cleared_at, row.retroactive, _graded(row.severity),
            )  # fmt: skip


def _graded(kept: list[dict[str, Any]] | None) -> list[Severity]:
    return [Severity(one["at"], Priority(one["priority"]), one["reason"]) for one in kept or ()]

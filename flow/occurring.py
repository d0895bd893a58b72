"""Transitions applied to alarms held in memory: what is raised, reopened, ended and noted, before any of it is written.

The same transitions told twice change nothing, and how a stream is cut into tellings changes no order. The surprises:
a raise at an instant an alarm already has reopens that occurrence (unless the same telling ends it again where it had
ended: then it is a repetition), and a raise older than the alarm's latest is a piece of the past that was found later:
it is kept, and changes neither the alarm nor its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from alerts.alarms import SUPPRESSED, AlarmState, Happening, settle
from rules.outcome import Edge, Transition
from rules.rule import Priority

Pair = tuple[str, str]  # rule, device


class RuleLike(Protocol):
    """A rule as far as alarms need it: of the book, or one of the service's own."""

    @property
    def id(self) -> str: ...
    @property
    def name_zh(self) -> str: ...
    @property
    def name_en(self) -> str: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def order_category(self) -> str | None: ...
    @property
    def text(self) -> str: ...


@dataclass(slots=True, eq=False)
class HeldOccurrence:
    """`id` None: not yet written. `ended_before`: the cleared_at it came from the database with."""

    alarm: HeldAlarm
    since: int
    raised_at: int
    cleared_at: int | None = None
    id: int | None = None
    metric: str | None = None
    first_value: float | None = None
    peak_value: float | None = None
    reason: Mapping[str, object] = field(default_factory=dict)
    ended_before: int | None = None
    retroactive: bool = False
    changed: bool = False


@dataclass(slots=True, eq=False)
class HeldAlarm:
    """`current` is the latest occurrence; `occurrences` those the transitions may speak of, by raised_at."""

    id: int
    rule: str
    device: str
    grid: str | None
    priority: Priority
    state: AlarmState
    active: bool
    raised_count: int
    version: int
    current: HeldOccurrence | None = None
    occurrences: dict[int, HeldOccurrence] = field(default_factory=dict)
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """One row of an alarm's history."""

    alarm: HeldAlarm
    occurrence: HeldOccurrence
    act: str
    from_state: AlarmState
    to_state: AlarmState
    why: str | None = None


# Acts of history besides the happenings of ISA-18.2.
REOPENED = "reopened"
SUPERSEDED = "superseded"
FOUND_LATER = "found later"


def apply(
    alarms: dict[Pair, HeldAlarm], rules: Mapping[str, RuleLike], transitions: Sequence[Transition]
) -> list[Happened]:
    """Changes the held alarms and returns what happened, in order."""
    heard = _Heard({_key(t, t.at): i for i, t in enumerate(transitions)})
    happened: list[Happened] = []
    for place, transition in enumerate(transitions):
        alarm = alarms[transition.rule, transition.device]
        if transition.edge is Edge.RAISED:
            happened += _raise(alarm, rules[transition.rule].priority, transition, place, heard)
        else:
            happened += _clear(alarm, transition, heard)
    return happened


_Key = tuple[str, str, Edge, int]  # rule, device, edge, at


@dataclass(slots=True)
class _Heard:
    """What tells a repetition from news: the last place of each transition in this telling, and the ends of
    occurrences whose raise was found to be a repetition."""

    last: Mapping[_Key, int]
    repeated_ends: set[_Key] = field(default_factory=set)

    def later(self, key: _Key, place: int) -> bool:
        return self.last.get(key, -1) > place


def _key(transition: Transition, at: int) -> _Key:
    return transition.rule, transition.device, transition.edge, at


def _raise(
    alarm: HeldAlarm, priority: Priority, transition: Transition, place: int, heard: _Heard
) -> Iterable[Happened]:
    known = alarm.occurrences.get(transition.at)
    if known is None:
        occurrence = _new(alarm, transition)
        alarm.raised_count += 1
        if alarm.current is not None and transition.at < alarm.current.raised_at:
            occurrence.retroactive = True
            return [_note(occurrence, Happening.RAISED, FOUND_LATER)]
        superseded = _supersede(alarm, transition.at)
        alarm.current, alarm.priority = occurrence, priority
        return [*superseded, _step(occurrence, Happening.RAISED, Happening.RAISED)]
    if known.cleared_at is None:
        return ()
    if known.ended_before is not None:
        end = (alarm.rule, alarm.device, Edge.CLEARED, known.ended_before)
        if heard.later(end, place):
            heard.repeated_ends.add(end)
            return ()
    if known is not alarm.current:
        return ()
    known.cleared_at, known.changed, alarm.priority = None, True, priority
    return [_step(known, Happening.RAISED, REOPENED)]


def _clear(alarm: HeldAlarm, transition: Transition, heard: _Heard) -> Iterable[Happened]:
    key = _key(transition, transition.at)
    if key in heard.repeated_ends:
        heard.repeated_ends.remove(key)
        return ()
    occurrence = _standing_at(alarm, transition)
    if occurrence is None:
        return ()
    occurrence.cleared_at, occurrence.changed = transition.at, True
    if transition.peak_value is not None:
        occurrence.peak_value = transition.peak_value
    if occurrence is not alarm.current:
        return [_note(occurrence, Happening.CLEARED, FOUND_LATER)]
    return [_step(occurrence, Happening.CLEARED, Happening.CLEARED)]


def _standing_at(alarm: HeldAlarm, transition: Transition) -> HeldOccurrence | None:
    """The occurrence a clear ends: the latest raised before it. The end of a silence may lie before its raise (a late
    reading); it is then known by its start."""
    standing = [o for o in alarm.occurrences.values() if o.cleared_at is None]
    before = [o for o in standing if o.raised_at <= transition.at]
    if before:
        return max(before, key=lambda o: o.raised_at)
    return next((o for o in standing if o.since == transition.since), None)


def _supersede(alarm: HeldAlarm, at: int) -> list[Happened]:
    """Raised anew while standing: its rule was changed and began afresh, so nothing else will end the older one."""
    older = alarm.current
    if older is None or older.cleared_at is not None:
        return []
    older.cleared_at, older.changed = at, True
    return [_note(older, SUPERSEDED, None)]


def _new(alarm: HeldAlarm, transition: Transition) -> HeldOccurrence:
    occurrence = alarm.occurrences[transition.at] = HeldOccurrence(
        alarm,
        transition.since,
        transition.at,
        metric=transition.metric,
        first_value=transition.first_value,
        peak_value=transition.peak_value,
        reason=transition.reason,
    )
    return occurrence


def _step(occurrence: HeldOccurrence, happening: Happening, act: str) -> Happened:
    alarm = occurrence.alarm
    before = alarm.state
    alarm.active = happening is Happening.RAISED
    alarm.state = settle(before, happening, standing=alarm.active, priority=alarm.priority)
    alarm.changed = True
    alarm.version += 1
    return Happened(alarm, occurrence, act, before, alarm.state)


def _note(occurrence: HeldOccurrence, act: str, why: str | None) -> Happened:
    occurrence.alarm.changed = True
    return Happened(occurrence.alarm, occurrence, act, occurrence.alarm.state, occurrence.alarm.state, why)


def is_suppressed(alarm: HeldAlarm) -> bool:
    return alarm.state in SUPPRESSED


def mark_retroactive(alarms: Iterable[HeldAlarm], before: int) -> None:
    """New occurrences that were raised before this instant and are over already notify nobody."""
    for alarm in alarms:
        for occurrence in alarm.occurrences.values():
            if occurrence.id is None and occurrence.cleared_at is not None and occurrence.raised_at < before:
                occurrence.retroactive = True

"""Transitions applied to alarms held in memory: what is raised, reopened, changed, ended and noted, before any of it is
written.

The same transitions told twice change nothing, and how a stream is cut into tellings changes no order. The surprises:
a raise at an instant an alarm already has reopens that occurrence (unless the same telling ends it again where it had
ended: then it is a repetition), and a raise older than the alarm's latest is a piece of the past that was found later:
it is kept, and changes neither the alarm nor its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alerts.alarms import RANK, Happening
from alerts.ends import ended_by
from flow.covering import Shade, come_out, cover, go_under
from flow.held import (
    FOUND_LATER,
    REOPENED,
    SUPERSEDED,
    Happened,
    HeldAlarm,
    HeldOccurrence,
    Pair,
    RuleLike,
    Severity,
    note,
    step,
)
from rules.outcome import Edge, Transition
from rules.rule import Priority

# Changes of severity kept with an occurrence, the first and the latest: one that trembles between two levels for a week
# would else rewrite a row of megabytes. The alarm's history has every one.
MOST_CHANGES = 100


def apply(
    alarms: Mapping[Pair, HeldAlarm],
    rules: Mapping[str, RuleLike],
    transitions: Sequence[Transition],
    shades: Sequence[Shade] = (),
    *,
    past: bool = False,
) -> list[Happened]:
    """Changes the held alarms and returns what happened, in order. `alarms` are those spoken of and every one that a
    parent among them holds back or may have to. `past`: all of it was found later, whatever is the latest."""
    heard = _listen(transitions, shades, past=past)
    happened: list[Happened] = []
    for place, transition in enumerate(transitions):
        alarm = alarms[transition.rule, transition.device]
        stood = alarm.active
        if transition.edge is Edge.RAISED:
            priority = transition.priority or rules[transition.rule].priority
            happened += _raise(alarm, priority, transition, place, heard)
        elif transition.edge is Edge.CHANGED:
            happened += _change(alarm, transition, heard)
        else:
            happened += _clear(alarm, transition, heard)
        if alarm.active and not stood:
            happened += cover(alarm, alarms.values(), transition.at, shades)
        elif stood and not alarm.active:
            happened += come_out(alarm, alarms.values(), transition.at, shades)
    return happened


_Key = tuple[str, str, Edge, int]  # rule, device, edge, at


@dataclass(slots=True)
class _Heard:
    """What tells a repetition from news: the last place of each transition in this telling, the severities that are
    told of one instant, and the ends of occurrences whose raise was found to be a repetition."""

    shades: Sequence[Shade]
    past: bool
    last: dict[_Key, int] = field(default_factory=dict)
    grades: dict[_Key, list[Priority | None]] = field(default_factory=dict)
    repeated_ends: set[_Key] = field(default_factory=set)

    def later(self, key: _Key, place: int) -> bool:
        return self.last.get(key, -1) > place


def _listen(transitions: Sequence[Transition], shades: Sequence[Shade], *, past: bool) -> _Heard:
    heard = _Heard(shades, past)
    for place, transition in enumerate(transitions):
        heard.last[_key(transition)] = place
        if transition.edge is Edge.CHANGED:
            heard.grades.setdefault(_key(transition), []).append(transition.priority)
    return heard


def _key(transition: Transition) -> _Key:
    return transition.rule, transition.device, transition.edge, transition.at


def _raise(
    alarm: HeldAlarm, priority: Priority, transition: Transition, place: int, heard: _Heard
) -> Iterable[Happened]:
    known = alarm.occurrences.get(transition.at)
    if known is None:
        occurrence = _new(alarm, transition)
        alarm.raised_count += 1
        if heard.past or (alarm.current is not None and transition.at < alarm.current.raised_at):
            occurrence.retroactive = True
            return [note(occurrence, Happening.RAISED, transition.at, FOUND_LATER)]
        superseded = _supersede(alarm, transition.at)
        alarm.current, alarm.priority = occurrence, priority
        under = go_under(occurrence, transition.at, heard.shades)
        return [*superseded, *under, step(occurrence, Happening.RAISED, Happening.RAISED, transition.at)]
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
    _grade(known, transition)
    under = go_under(known, transition.at, heard.shades)
    return [*under, step(known, Happening.RAISED, REOPENED, transition.at)]


def _clear(alarm: HeldAlarm, transition: Transition, heard: _Heard) -> Iterable[Happened]:
    key = _key(transition)
    if key in heard.repeated_ends:
        heard.repeated_ends.remove(key)
        return ()
    occurrence = _standing_at(alarm, transition) or _begun_with(alarm, transition)
    if occurrence is None:
        return ()
    occurrence.cleared_at, occurrence.changed = transition.at, True
    if transition.peak_value is not None:
        occurrence.peak_value = transition.peak_value
    if occurrence is not alarm.current:
        return [note(occurrence, Happening.CLEARED, transition.at, FOUND_LATER)]
    ended = ended_by(transition.reason, personal=alarm.personal)
    return [step(occurrence, Happening.CLEARED, Happening.CLEARED, transition.at, ended)]


def _change(alarm: HeldAlarm, transition: Transition, heard: _Heard) -> Iterable[Happened]:
    """The severity of what stands rose or fell. Changes of one occurrence come in order of time, so an older one, or
    one that leads to where it is already, was told before."""
    following = heard.grades[_key(transition)]
    told_now, priority = tuple(following), following.pop(0)
    occurrence = _standing_at(alarm, transition)
    if occurrence is None or priority is None:
        return ()
    if not occurrence.severity:
        occurrence.severity.append(Severity(occurrence.raised_at, alarm.priority, occurrence.reason))
    last = occurrence.severity[-1]
    # Several at one instant, and from an earlier telling the occurrence ends with them already.
    known = tuple(s.priority for s in occurrence.severity[-len(told_now) :] if s.at == transition.at)
    repeated = known == told_now and not occurrence.changed
    if transition.at < last.at or priority is last.priority or repeated:
        return ()
    _grade(occurrence, transition)
    if transition.peak_value is not None:
        occurrence.peak_value = transition.peak_value
    act = Happening.WORSENED if RANK[priority] < RANK[last.priority] else Happening.EASED
    why = f"{last.priority} → {priority}"
    if occurrence is not alarm.current:
        return [note(occurrence, act, transition.at, f"{FOUND_LATER}: {why}")]
    alarm.priority = priority
    return [step(occurrence, act, act, transition.at, why)]


def _grade(occurrence: HeldOccurrence, transition: Transition) -> None:
    """Of a rule that says how severe it is now."""
    known = occurrence.severity
    if transition.priority is None or (known and known[-1].priority is transition.priority):
        return
    known.append(Severity(transition.at, transition.priority, transition.reason))
    if len(known) > MOST_CHANGES:
        del known[1]
    occurrence.changed = True


def _standing_at(alarm: HeldAlarm, transition: Transition) -> HeldOccurrence | None:
    """The occurrence a clear ends and a change is of: the latest that stands and was raised before it."""
    before = [o for o in alarm.occurrences.values() if o.cleared_at is None and o.raised_at <= transition.at]
    return max(before, key=lambda o: o.raised_at, default=None)


def _begun_with(alarm: HeldAlarm, transition: Transition) -> HeldOccurrence | None:
    """The end of a silence may lie before its raise (a late reading); it is then known by its start."""
    standing = (o for o in alarm.occurrences.values() if o.cleared_at is None)
    return next((o for o in standing if o.since == transition.since), None)


def _supersede(alarm: HeldAlarm, at: int) -> list[Happened]:
    """Raised anew while standing: its rule was changed and began afresh, so nothing else will end the older one."""
    older = alarm.current
    if older is None or older.cleared_at is not None:
        return []
    older.cleared_at, older.changed = at, True
    return [note(older, SUPERSEDED, at, None)]


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
    _grade(occurrence, transition)
    return occurrence


def mark_retroactive(alarms: Iterable[HeldAlarm], before: int) -> None:
    """New occurrences that were raised before this instant and are over already notify nobody."""
    for alarm in alarms:
        for occurrence in alarm.occurrences.values():
            if occurrence.id is None and occurrence.cleared_at is not None and occurrence.raised_at < before:
                occurrence.retroactive = True

"""What holds an alarm back while it stands: a child goes under its parent, and comes back when the parent is over.

`Shade` is the parent and whom it covers; who that is, flow.suppressing reads. Nothing here is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from alerts.alarms import SUPPRESSED, AlarmState, Happening
from flow.held import Happened, HeldAlarm, HeldOccurrence, move, note


class Shade(Protocol):
    """An alarm that holds others back while it stands (flow.suppressing)."""

    @property
    def parent(self) -> HeldAlarm: ...
    def covers(self, alarm: HeldAlarm, /) -> bool: ...


def cover(parent: HeldAlarm, alarms: Iterable[HeldAlarm], at: int, shades: Sequence[Shade]) -> list[Happened]:
    """It stands now: what stands of what it covers goes under it."""
    found: list[Happened] = []
    for shade in (shade for shade in shades if shade.parent is parent):
        for alarm in alarms:
            if alarm.active and alarm.current is not None and shade.covers(alarm):
                found += go_under(alarm.current, at, [shade])
    return found


def come_out(parent: HeldAlarm, alarms: Iterable[HeldAlarm], at: int, shades: Sequence[Shade]) -> list[Happened]:
    """It is over: what it held back comes back."""
    return [h for alarm in alarms if alarm.suppressed_by == parent.id for h in _come_back(alarm, at, shades)]


def go_under(occurrence: HeldOccurrence, at: int, shades: Sequence[Shade]) -> list[Happened]:
    """To DSUPR where something that stands covers the alarm. What a person shelved or took out of service stays so
    and only remembers it."""
    alarm = occurrence.alarm
    shade = _over(alarm, shades) if alarm.suppressed_by is None else None
    if shade is None:
        return []
    alarm.suppressed_by, alarm.changed = shade.parent.id, True
    if alarm.state in SUPPRESSED:
        return []
    return [move(occurrence, Happening.SUPPRESSED, Happening.SUPPRESSED, at, _named(shade.parent))]


def _come_back(alarm: HeldAlarm, at: int, shades: Sequence[Shade]) -> list[Happened]:
    """To what it would be without, or under another that covers it too."""
    shade = _over(alarm, shades)
    alarm.suppressed_by, alarm.changed = None if shade is None else shade.parent.id, True
    if alarm.state is not AlarmState.DSUPR or alarm.current is None:
        return []
    if shade is None:
        return [move(alarm.current, Happening.UNSUPPRESSED, Happening.UNSUPPRESSED, at)]
    return [note(alarm.current, Happening.SUPPRESSED, at, _named(shade.parent))]


def _over(alarm: HeldAlarm, shades: Sequence[Shade]) -> Shade | None:
    """The oldest of the alarms that stand over this one."""
    standing = (shade for shade in shades if shade.parent.active and shade.covers(alarm))
    return min(standing, key=lambda shade: shade.parent.id, default=None)


def parent_named(rule: str, subject: str) -> str:
    """How the history names what holds an alarm back."""
    return f"{rule} {subject}"


def _named(parent: HeldAlarm) -> str:
    return parent_named(parent.rule, parent.device)


def review(alarms: Iterable[HeldAlarm], at: int, shades: Sequence[Shade]) -> list[Happened]:
    """What is held back by something that no longer covers it comes back, or goes under another."""
    by_id = {shade.parent.id: shade for shade in shades if shade.parent.active}
    found: list[Happened] = []
    for alarm in alarms:
        shade = by_id.get(alarm.suppressed_by or 0)
        if alarm.suppressed_by is not None and (shade is None or not shade.covers(alarm)):
            found += _come_back(alarm, at, shades)
    return found

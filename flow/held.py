"""Alarms and occurrences held in memory while one transaction decides about them, and the steps they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from alerts.alarms import SUPPRESSED, AlarmState, Happening, settle
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


@dataclass(frozen=True, slots=True)
class Severity:
    """How severe an occurrence is from `at` on, and what was seen then."""

    at: int
    priority: Priority
    reason: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class HeldOccurrence:
    """`id` None: not yet written. `ended_before`: the cleared_at it came from the database with. `severity` is empty
    where the rule has one severity."""

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
    severity: list[Severity] = field(default_factory=list)
    changed: bool = False


@dataclass(slots=True, eq=False)
class HeldAlarm:
    """`current` is the latest occurrence; `occurrences` those the transitions may speak of, by raised_at. Of an alarm
    about several devices, `kind` is that of the members and `called` what they are called in Chinese and in English.
    `suppressed_by` is the alarm that holds this one back; `personal`: it is about a home."""

    id: int
    rule: str
    device: str
    grid: str | None
    priority: Priority
    state: AlarmState
    active: bool
    raised_count: int
    version: int
    kind: str | None = None
    early: bool = False
    suppressed_by: int | None = None
    called: tuple[str, str] | None = None
    personal: bool = False
    current: HeldOccurrence | None = None
    occurrences: dict[int, HeldOccurrence] = field(default_factory=dict)
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """One row of an alarm's history. `at` is when it was measured; `priority` the alarm's own from then on."""

    alarm: HeldAlarm
    occurrence: HeldOccurrence
    act: str
    from_state: AlarmState
    to_state: AlarmState
    at: int
    priority: Priority
    why: str | None = None

    @property
    def is_suppressed(self) -> bool:
        """As it was then, whatever came after it."""
        return self.to_state in SUPPRESSED


# Acts of history besides the happenings of ISA-18.2.
REOPENED = "reopened"
SUPERSEDED = "superseded"
FOUND_LATER = "found later"


def step(occurrence: HeldOccurrence, happening: Happening, act: str, at: int, why: str | None = None) -> Happened:
    """The condition itself turned."""
    occurrence.alarm.active = happening is not Happening.CLEARED
    return move(occurrence, happening, act, at, why)


def move(occurrence: HeldOccurrence, happening: Happening, act: str, at: int, why: str | None = None) -> Happened:
    alarm = occurrence.alarm
    before = alarm.state
    alarm.state = settle(before, happening, standing=alarm.active, priority=alarm.priority)
    alarm.changed = True
    alarm.version += 1
    return Happened(alarm, occurrence, act, before, alarm.state, at, alarm.priority, why)


def note(occurrence: HeldOccurrence, act: str, at: int, why: str | None) -> Happened:
    alarm = occurrence.alarm
    alarm.changed = True
    return Happened(alarm, occurrence, act, alarm.state, alarm.state, at, alarm.priority, why)


def is_suppressed(alarm: HeldAlarm) -> bool:
    return alarm.state in SUPPRESSED

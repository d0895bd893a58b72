"""Who stands under whose umbrella: alarms of several devices, and the alarms of their members that they hold back.

An alarm that is held back says so in its row (`suppressed_by`), so a restart finds it as it was. Only what a parent's
own raise or clear can change is read beside the alarms that were spoken of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from devices.registry import Device, Registry
from devices.subjects import grid_of, is_group, tag_of
from flow.held import HeldAlarm, Pair
from rules.outcome import Edge, Transition
from rules.rule import Rule
from rules.suppression import Under, covers_every_member, kind_of_members, membership, suppressed_rules
from store.records.database import chunks
from store.records.devices import grids_under
from store.records.tables import alarms, grids

# A group rule → the numbers of the devices that meet the condition of its members now.
Counting = Callable[[str], frozenset[int]]


@dataclass(frozen=True, slots=True)
class Umbrella:
    """An alarm of several devices and what it covers while it stands; `counting` None: of every member, else only of
    these."""

    parent: HeldAlarm
    rules: frozenset[str]
    belongs: Callable[[Device], bool]
    registry: Registry
    counting: frozenset[int] | None

    def covers(self, alarm: HeldAlarm) -> bool:
        if alarm.rule not in self.rules:
            return False
        device = self.registry.get(alarm.device)
        if device is None or not self.belongs(device):
            return False
        return self.counting is None or device.number in self.counting


def under_of(tx: Connection) -> Under:
    """Each grid is looked up once."""
    return cache(lambda grid: grids_under(tx, grid))


def group_rules(rules: Mapping[str, object]) -> dict[str, Rule]:
    """The rules about several devices. The service's own are about one."""
    return {name: rule for name, rule in rules.items() if isinstance(rule, Rule) and rule.group is not None}


def umbrellas(
    parents: Iterable[HeldAlarm], rules: Mapping[str, object], registry: Registry, under: Under, *, counting: Counting
) -> list[Umbrella]:
    """Of those whose rule the book still has."""
    found = {name: rule for name, rule in rules.items() if isinstance(rule, Rule)}
    return [
        Umbrella(
            parent,
            suppressed_rules(found, found[parent.rule]),
            membership(found[parent.rule], parent.device, under),
            registry,
            None if covers_every_member(found[parent.rule]) else counting(parent.rule),
        )
        for parent in parents
        if parent.rule in found and is_group(parent.device)
    ]


def standing_parents(groups: Iterable[str]) -> ColumnElement[bool]:
    """The alarms of these group rules that stand."""
    return alarms.c.rule.in_(list(groups)) & alarms.c.active


def possible_children(shades: Sequence[Umbrella]) -> ColumnElement[bool]:
    """What stands and may have to go under one of them; who is a member is asked of each."""
    covered = frozenset().union(*(shade.rules for shade in shades))
    return alarms.c.rule.in_(sorted(covered)) & alarms.c.active & alarms.c.suppressed_by.is_(None)


def held_back_by(parents: Sequence[int]) -> list[ColumnElement[bool]]:
    return [alarms.c.suppressed_by.in_(some) for some in chunks(parents)]


def cause_first(told: Iterable[Transition]) -> list[Transition]:
    """What one element or one tick brings: the alarm of several devices before what follows from it. Its end comes
    last, when those that ended with it have ended by themselves; unless it ends to begin again."""
    found: list[Transition] = []
    for _, run in groupby(told, key=lambda t: t.element):
        together = list(run)
        spoken: dict[Pair, int] = {}
        for t in together:
            spoken[t.rule, t.device] = spoken.get((t.rule, t.device), 0) + 1
        found += sorted(together, key=lambda t: _place(t, alone=spoken[t.rule, t.device] == 1))
    return found


def _place(transition: Transition, *, alone: bool) -> int:
    if not is_group(transition.device):
        return 1
    return 2 if alone and transition.edge is Edge.CLEARED else 0


def kind_of(rule: object, subject: str, registry: Registry, under: Under) -> str | None:
    """Of an alarm about several devices; None of any other."""
    if not isinstance(rule, Rule) or not is_group(subject):
        return None
    return kind_of_members(membership(rule, subject, under), registry)


def called(tx: Connection, subject: str) -> tuple[str, str] | None:
    """What several devices are called in Chinese and in English; None for one device."""
    grid, tag = grid_of(subject), tag_of(subject)
    if grid is not None:
        name: Any = tx.execute(select(grids.c.name).where(grids.c.id == grid)).scalar() or grid
        return f"网格 {name}", f"grid {name}"
    return None if tag is None else (f"设备组 {tag}", f"device group {tag}")

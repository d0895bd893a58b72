"""What is made of several machines, plain: one alarm of the levels of a rule, one alarm of the members of a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from devices.registry import Device
from rules.expression import Group
from rules.rule import Rule
from tests.rules.oracle_machine import Edge, Judging, Machine, Manner, Step, opposite, worst
from tests.rules.oracle_values import compared


@dataclass(frozen=True)
class Told:
    """An edge as the engine tells it; `element` -1 is the clock, `priority` that of a rule with levels."""

    rule: str
    subject: str
    edge: Edge
    at: int
    since: int
    first: float | None
    peak: float | None
    element: int
    priority: str | None = None


class Part(Protocol):
    """One machine: of a level, or of a member."""

    level: int
    machine: Machine
    device: Device


@dataclass
class Alarm:
    """Of a rule with levels on one device: raised with the first that stands, cleared with the last."""

    rule: Rule
    device: Device
    parts: Sequence[Part]
    standing: set[int] = field(default_factory=set)
    worst: int | None = None
    since: int = 0
    first: float | None = None
    peak: float | None = None
    last_at: int | None = None

    def combine(self, steps: Iterable[tuple[Part, Step]], element: int) -> list[Told]:
        """All that happened at one judging: raises before clears, one edge for each of the two at most."""
        told: list[Told] = []
        by_edge = {"raised": list[tuple[Part, Step]](), "cleared": list[tuple[Part, Step]]()}
        for part, step in steps:
            by_edge[step.edge].append((part, step))
        if by_edge["raised"]:
            self.standing |= {part.level for part, _ in by_edge["raised"]}
            told += self._look(by_edge["raised"], element)
        self._worse()
        if by_edge["cleared"]:
            self.standing -= {part.level for part, _ in by_edge["cleared"]}
            told += self._look(by_edge["cleared"], element)
        return told

    def _look(self, turned: list[tuple[Part, Step]], element: int) -> list[Told]:
        now, before = max(self.standing, default=None), self.worst
        self.worst = now
        if now == before:
            return []
        if before is None:
            first = next(step for part, step in turned if part.level == now)
            self.since, self.first, self.peak = first.since, first.first, None
        self._worse()
        _, at = max((part.level, step.at) for part, step in turned)
        self.last_at = at if self.last_at is None else max(self.last_at, at)
        edge: Edge = "raised" if before is None else "cleared" if now is None else "changed"
        priority = self.rule.levels[now if now is not None else before or 0].priority
        return [Told(self.rule.id, self.device.id, edge, self.last_at, self.since, self.first, self.peak, element,
                     str(priority))]  # fmt: skip

    def _worse(self) -> None:
        for part in self.parts:
            if part.level in self.standing:
                self.peak = worst(self.peak, part.machine.peak, maximum=self.rule.peak_is_maximum)


@dataclass
class Crowd:
    """Of a group: how many of its members are true, which is its value. It hears nothing, so it has no gap."""

    rule: Rule
    group: Group
    subject: str
    members: Sequence[Part]
    instant: int | None = None
    machine: Machine = field(init=False)

    def __post_init__(self) -> None:
        rises = self.group.op not in ("<", "<=")
        self.machine = Machine(Manner(self.rule.hold_us, self.rule.keep_us, self.rule.repeat, False, rises))

    def judge(self, at: int, element: int) -> list[Told]:
        """A member has turned, or the clock has come."""
        self.instant = at if self.instant is None else max(self.instant, at)
        count = sum(member.machine.phase == "firing" for member in self.members)
        number = count / len(self.members) if self.group.share else count
        when: bool | None = compared(self.group.op, number, self.group.limit)
        when = self.machine.repeated(when, broken=False, by_clock=element < 0)
        clear = opposite(when)
        if isinstance(self.rule.clear, Group):
            clear = compared(self.rule.clear.op, number, self.rule.clear.limit)
        steps = self.machine.step(Judging(self.instant, when, clear, number, False, element < 0))
        return [
            Told(self.rule.id, self.subject, step.edge, step.at, step.since, step.first, step.peak, element)
            for step in steps
        ]

    def due(self) -> list[int]:
        return self.machine.awaits(self.instant)


def crowds(rule: Rule, members: Sequence[Part], grid_tree: Mapping[str, frozenset[str]]) -> list[Crowd]:
    """One for a tag; else one for each grid named, with everything below it; else for each grid with members."""
    group = rule.group
    assert group is not None
    if group.tag is not None:
        return [Crowd(rule, group, f"group:{group.tag}", members)] if members else []
    named = rule.applies_to.grids
    grids = named if named is not None else {member.device.grid for member in members if member.device.grid}
    found = []
    for grid in sorted(grids):
        inside = grid_tree.get(grid, frozenset()) | {grid} if named is not None else {grid}
        own = [member for member in members if member.device.grid in inside]
        if own:
            found.append(Crowd(rule, group, f"grid:{grid}", own))
    return found

"""The rules engine a second time, plain and slow: one reading, one rule, one device at a time, straight from
docs/rules.md. It shares the parsed rule, what is declared and the calendar's days with the engine and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from devices.kinds import KINDS
from devices.registry import Device, DeviceStatus
from rules.book import RuleBook
from rules.calendar import Calendar
from rules.declared import Declared, Pause
from rules.expression import (
    Absent,
    And,
    Between,
    Count,
    DeviceAbsent,
    Event,
    Expression,
    Holiday,
    Metric,
    Mode,
    Or,
    Since,
    Weekday,
    first_metric,
    leaves,
    rises,
    series_names,
)
from rules.rule import Rule
from tests.rules.oracle_groups import Alarm, Crowd, Told, crowds
from tests.rules.oracle_machine import Judging, Machine, Manner, Step, both, either, opposite
from tests.rules.oracle_time import Times, covers
from tests.rules.oracle_values import Look, Subject, World, due

_CLOCKED = (Absent, DeviceAbsent, Since, Count, Between, Weekday, Holiday, Mode)


@dataclass
class Pair:
    """One condition of a rule on one device: the rule's own, that of a level, or that of a member of a group."""

    rule: Rule
    level: int
    when: Expression
    clear: Expression | None
    device: Device
    machine: Machine
    instant: int | None = None
    heard: int | None = None

    @cached_property
    def trees(self) -> list[Expression]:
        """What is judged; the modes that it is only in are conditions of it."""
        own = [self.when] if self.clear is None else [self.when, self.clear]
        return [*own, *(Mode(name) for name in self.rule.only_in)]

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(name for tree in self.trees for name in series_names(tree))

    @cached_property
    def subject(self) -> Subject:
        return Subject(self.rule, self.device, self.names)

    def reads(self, names: frozenset[str]) -> bool:
        return bool(self.names & names) or any(isinstance(n, DeviceAbsent) for tree in self.trees for n in leaves(tree))

    @cached_property
    def clocked(self) -> bool:
        """Judged by the clock too."""
        if self.machine.manner.repeat is not None:
            return False
        lingers = self.machine.manner.momentary and self.machine.manner.keep_us > 0
        return lingers or any(isinstance(leaf, _CLOCKED) for tree in self.trees for leaf in leaves(tree))


@dataclass
class Family:
    """All machines of one rule, which are judged at one moment and looked at together."""

    rule: Rule
    pairs: list[Pair]
    alarms: list[Alarm]
    crowds: list[Crowd]


@dataclass
class Oracle:
    book: RuleBook
    devices: Sequence[Device]
    zone: str = "Asia/Shanghai"
    calendar: Calendar = field(default_factory=Calendar)
    grid_tree: Mapping[str, frozenset[str]] = field(default_factory=dict)
    families: list[Family] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(Times(self.zone, self.calendar, Declared()))
        for rule in self.book.rules.values():
            pairs = [pair for device in self.devices for pair in pairs_of(rule, device, self.grid_tree)]
            alarms = []
            for device in self.devices if rule.levels else ():
                own = [pair for pair in pairs if pair.device is device]
                if own:
                    alarms.append(Alarm(rule, device, own))
            groups = crowds(rule, pairs, self.grid_tree) if rule.group is not None else []
            self.families.append(Family(rule, pairs, alarms, groups))

    def element(self, number: int, device: str, at: int, values: Mapping[str, float]) -> list[Told]:
        """One element; a value that is not newer than the last of its series is not applied."""
        history = self.world.history
        fresh = {n: v for n, v in values.items() if not (h := history.get((device, n))) or h[-1][0] < at}
        for name, value in fresh.items():
            history.setdefault((device, name), []).append((at, value))
        told: list[Told] = []
        brought = frozenset(fresh)
        for family in self.families:
            steps: list[tuple[Pair, Step]] = []
            for pair in family.pairs:
                if brought and pair.device.id == device and pair.reads(brought):
                    instant = at if pair.instant is None else max(pair.instant, at)
                    steps += self._judge(pair, instant, brought, by_clock=False)
            told += self._combine(family, steps, number)
        return told

    def tick(self, now: int) -> list[Told]:
        """Each rule moment by moment: at every one what pauses end and who is due, then what is made of it all."""
        before, self.world.now = self.world.now, now if self.world.now is None else max(self.world.now, now)
        told: list[Told] = []
        for family in self.families:
            begin = self._beginning(family, before, now)
            while True:
                pauses = [(pair, pause.end, max(pause.start, pair.instant or pause.start)) for pair, pause in begin]
                pairs = [(pair, at) for pair in family.pairs if (at := self._next(pair, now)) is not None]
                groups = [crowd for crowd in family.crowds if any(at <= now for at in crowd.due())]
                moments = [*(at for _, _, at in pauses), *(at for _, at in pairs), *(min(c.due()) for c in groups)]
                if not moments:
                    break
                moment = min(moments)
                begin = [each for each, (_, _, at) in zip(begin, pauses, strict=True) if at > moment]
                ended = [pair for pair, end, at in pauses if at == moment and pair.machine.raised_at < end]
                steps = self._ends(ended, moment)
                for pair, at in pairs:
                    if at == moment:
                        steps += self._judge(pair, moment, frozenset(), by_clock=True)
                told += self._combine(family, steps, -1)
                for crowd in groups:
                    if any(at <= moment for at in crowd.due()):
                        told += crowd.judge(moment, -1)
        return sorted(told, key=lambda t: t.at)

    def link(self, at: int) -> None:
        self.world.resumed_at = at if self.world.resumed_at is None else max(self.world.resumed_at, at)

    def declare(self, declared: Declared, now: int) -> list[Told]:
        """Everything that is declared from now on; what stands of a pair that is paused now ends."""
        self.world.times = replace(self.world.times, declared=declared)
        self.world.now = now if self.world.now is None else max(self.world.now, now)
        told: list[Told] = []
        for family in self.families:
            ended = self._ends([pair for pair in family.pairs if self._paused(pair, now)], now)
            told += self._combine(family, ended, -1)
        return told

    def _beginning(self, family: Family, before: int | None, now: int) -> list[tuple[Pair, Pause]]:
        """The pauses declared ahead that begin now that the clock has gone on."""
        return [
            (pair, pause) for pair in family.pairs for pause in pair.subject.pauses(self.world.times)
            if pause.start <= now and (before is None or pause.start > before)
        ]  # fmt: skip

    def _ends(self, pairs: list[Pair], moment: int) -> list[tuple[Pair, Step]]:
        """What stands of pairs that are paused."""
        steps: list[tuple[Pair, Step]] = []
        for pair in pairs:
            if pair.machine.phase == "firing":
                pair.instant = moment if pair.instant is None else max(moment, pair.instant)
                steps.append((pair, pair.machine.end(pair.instant)))
        return steps

    @property
    def standing(self) -> dict[tuple[str, str], float | None]:
        """The peak so far of every alarm that stands."""
        found: dict[tuple[str, str], float | None] = {}
        for family in self.families:
            rule = family.rule
            if not rule.levels and rule.group is None:
                firing = [pair for pair in family.pairs if pair.machine.phase == "firing"]
                found |= {(rule.id, pair.device.id): pair.machine.peak for pair in firing}
            found |= {(rule.id, a.device.id): a.peak for a in family.alarms if a.worst is not None}
            found |= {(rule.id, c.subject): c.machine.peak for c in family.crowds if c.machine.phase == "firing"}
        return found

    def _next(self, pair: Pair, now: int) -> int | None:
        """The instant at which the clock, showing `now`, has something to do next: never before the pair's own."""
        if not pair.clocked:
            return None
        look = Look(self.world, pair.subject, pair.instant or 0)
        found = [at for tree in pair.trees for ready, at in due(look, tree, pair.instant, now) if ready <= now]
        found += [at for at in pair.machine.awaits(pair.instant) if at <= now]
        return max(min(found), pair.instant or min(found)) if found else None

    def _judge(self, pair: Pair, instant: int, brought: frozenset[str], *, by_clock: bool) -> list[tuple[Pair, Step]]:
        look = Look(self.world, pair.subject, instant, brought)
        silent = not by_clock and pair.heard is not None and instant - pair.heard > pair.subject.max_gap
        broken = silent or self._interrupted(pair, instant)
        pair.instant = instant
        if not by_clock:
            pair.heard = instant
        modes: list[bool | None] = [look.truth(Mode(name)) for name in pair.rule.only_in]
        when = None if self._paused(pair, instant) else both([*modes, look.truth(pair.when)])
        when = pair.machine.repeated(when, broken=broken, by_clock=by_clock)
        clear = opposite(when)
        if pair.clear is not None:
            clear = either([*(opposite(mode) for mode in modes), look.truth(pair.clear)])
        metric = first_metric(pair.when)
        value = look.number(Metric(metric)) if metric is not None else None
        return [(pair, step) for step in pair.machine.step(Judging(instant, when, clear, value, broken, by_clock))]

    def _paused(self, pair: Pair, at: int) -> bool:
        return any(covers(pause, at) for pause in pair.subject.pauses(self.world.times))

    def _interrupted(self, pair: Pair, instant: int) -> bool:
        """A pause lies in (last instant, this one]."""
        last = pair.instant
        pauses = pair.subject.pauses(self.world.times)
        return last is not None and any(pause.start <= instant and pause.end > last for pause in pauses)

    def _combine(self, family: Family, steps: Sequence[tuple[Pair, Step]], element: int) -> list[Told]:
        if not steps:
            for alarm in family.alarms:
                alarm.combine([], element)
            return []
        told: list[Told] = []
        if not family.rule.levels and family.rule.group is None:
            return [
                Told(p.rule.id, p.device.id, s.edge, s.at, s.since, s.first, s.peak, element) for p, s in steps
            ]  # fmt: skip
        for alarm in family.alarms:
            told += alarm.combine([(p, s) for p, s in steps if p.device is alarm.device], element)
        for crowd in family.crowds:
            turned = [s.at for p, s in steps if any(p is member for member in crowd.members)]
            if turned:
                told += crowd.judge(max(turned), element)
        return told


def pairs_of(rule: Rule, device: Device, grid_tree: Mapping[str, frozenset[str]]) -> list[Pair]:
    if not applies(rule, device, grid_tree):
        return []
    if rule.group is not None:
        return [_pair(rule, device, 0, rule.group.condition, None, member=True)]
    if rule.levels:
        return [
            _pair(rule, device, place, level.when, level.clear, hold_us=level.hold_us)
            for place, level in enumerate(rule.levels)
        ]
    return [_pair(rule, device, 0, rule.when, rule.clear, hold_us=rule.hold_us)]


def _pair(
    rule: Rule, device: Device, level: int, when: Expression, clear: Expression | None, *,
    hold_us: int = 0, member: bool = False,
) -> Pair:  # fmt: skip
    metric = first_metric(when)
    manner = Manner(
        hold_us,
        0 if member else rule.keep_us,
        None if member else rule.repeat,
        clear is None and only_with_an_event(when),
        metric is None or rises(when, metric),
    )
    return Pair(rule, level, when, clear, device, Machine(manner))


def only_with_an_event(node: Expression) -> bool:
    """`when` cannot be true without one, so what it raises lives for one element."""
    if isinstance(node, (And, Or)):
        sides = [only_with_an_event(node.left), only_with_an_event(node.right)]
        return any(sides) if isinstance(node, And) else all(sides)
    return isinstance(node, Event)


def applies(rule: Rule, device: Device, grid_tree: Mapping[str, frozenset[str]]) -> bool:
    to, kind = rule.applies_to, KINDS[device.kind]
    tags = (to.tags or frozenset()) | ({rule.group.tag} if rule.group and rule.group.tag else set())
    grids = to.grids and frozenset().union(*(grid_tree.get(grid, frozenset()) | {grid} for grid in to.grids))
    return (
        device.status is DeviceStatus.ACTIVE
        and (to.kind is None or to.kind == device.kind)
        and (to.devices is None or device.id in to.devices)
        and (grids is None or device.grid in grids)
        and tags <= device.tags
        and all(
            n.removeprefix("event:") in (kind.events if n.startswith("event:") else kind.metrics) for n in rule.series
        )
    )

"""What a condition says at one instant, plain: a walk through its tree over everything that was ever applied."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from devices.kinds import KINDS
from devices.registry import Device
from rules.declared import Pause
from rules.expression import (
    Absent,
    And,
    Arithmetic,
    Attribute,
    Between,
    ByResponse,
    Compare,
    Count,
    DeviceAbsent,
    Duration,
    Event,
    Expression,
    Flat,
    Forecast,
    Group,
    Holiday,
    Metric,
    Mode,
    Negate,
    Not,
    Number,
    Or,
    OutOfRange,
    Since,
    Spike,
    Truth,
    Weekday,
    Window,
    leaves,
)
from rules.rule import NO_GAP, Rule
from tests.rules import oracle_windows as windows
from tests.rules.oracle_machine import both, either, opposite
from tests.rules.oracle_time import Times

_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


@dataclass
class World:
    """Everything that was applied: of (device, metric or event) each instant and value, rising in time."""

    times: Times
    history: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=dict)
    now: int | None = None
    resumed_at: int | None = None

    def series(self, device: Device, name: str) -> list[tuple[int, float]]:
        return self.history.get((device.id, name), [])

    def last(self, device: Device, name: str) -> int | None:
        """The newest instant of a series, else the first sight of the device, else None."""
        seen = self.series(device, name)
        return seen[-1][0] if seen else (device.first_seen or None)

    def last_of_device(self, device: Device) -> int | None:
        heard = [series[-1][0] for (owner, _), series in self.history.items() if owner == device.id]
        return max(heard, default=device.first_seen or None)

    def listened(self, at: int | None, span: int) -> bool:
        """Since the link came back one full span has passed."""
        clock = max(t for t in (at, self.now, 0) if t is not None)
        return self.resumed_at is None or clock >= self.resumed_at + span


@dataclass(frozen=True)
class Subject:
    """One condition of one rule on one device: `rule` gives the limits, `names` what its machine reads."""

    rule: Rule
    device: Device
    names: frozenset[str]

    @property
    def max_age(self) -> float:
        return 3 * interval(self.device) if self.rule.max_age_us is None else self.rule.max_age_us

    @property
    def max_gap(self) -> float:
        """Of a rule of events none unless it says so."""
        if self.rule.max_gap_us is None:
            return math.inf if all(n.startswith("event:") for n in self.names) else 3 * interval(self.device)
        return math.inf if self.rule.max_gap_us == NO_GAP else self.rule.max_gap_us

    def pauses(self, times: Times) -> list[Pause]:
        return [
            pause for pause in times.declared.pauses
            if pause.device == self.device.id and (pause.rules is None or self.rule.id in pause.rules)
            and pause.start < pause.end
        ]  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One evaluation: at which instant, and the names that its element brought."""

    world: World
    subject: Subject
    instant: int
    brought: frozenset[str] = frozenset()

    def truth(self, node: Expression) -> bool | None:
        """True, False, or None: unknown."""
        if isinstance(node, Truth):
            return node.value
        if isinstance(node, Metric):
            value = self.number(node)
            return None if value is None else value == 1.0
        if isinstance(node, Not):
            return opposite(self.truth(node.inner))
        if isinstance(node, And):
            return both([self.truth(node.left), self.truth(node.right)])
        if isinstance(node, Or):
            return either([self.truth(node.left), self.truth(node.right)])
        if isinstance(node, Event):
            return f"event:{node.name}" in self.brought
        if isinstance(node, (Between, Weekday, Holiday, Mode)):
            return self.world.times.truth(node, self.instant)
        if isinstance(node, (Absent, DeviceAbsent)):
            return self._absent(node)
        if isinstance(node, (Flat, Spike, OutOfRange)):
            return self._fault(node)
        assert isinstance(node, Compare)
        return self._compare(node)

    def _absent(self, node: Absent | DeviceAbsent) -> bool | None:
        last, span = self.silent_since(node)
        if last is None:
            return None
        if self.instant < last + span:
            return False
        return True if self.world.listened(self.instant, span) else None

    def silent_since(self, node: Absent | DeviceAbsent) -> tuple[int | None, int]:
        """From when the silence counts at this instant, and how long it must last."""
        last, span = silence(self.world, self.subject.device, node)
        return (None if last is None else self.counted_from(last)), span

    def counted_from(self, last: int) -> int:
        """What happened before the end of a pause counts from there."""
        ends = [pause.end for pause in self.subject.pauses(self.world.times) if pause.end <= self.instant]
        return max([last, *ends])

    def _fault(self, node: Flat | Spike | OutOfRange) -> bool | None:
        newest = self.number(Metric(node.metric))
        if newest is None:
            return None
        samples, max_gap = self._samples(node.metric), self.subject.max_gap
        if isinstance(node, OutOfRange):
            low, high = KINDS[self.subject.device.kind].metrics[node.metric].plausible
            return newest < low or newest > high
        if isinstance(node, Spike):
            return windows.spike(samples, node.size, max_gap=max_gap)
        return windows.flat(samples, self.instant, node.us, node.tolerance, max_gap=max_gap)

    def _compare(self, node: Compare) -> bool | None:
        for side, other, op in ((node.left, node.right, node.op), (node.right, node.left, _MIRROR[node.op])):
            if isinstance(side, Since):
                last, span = self.world.last(self.subject.device, f"event:{side.event}"), self.number(other)
                if last is None or span is None:
                    return None
                full = self.instant - self.counted_from(last) >= span
                return full if op in (">", ">=") else not full
        if is_truth(node.left):
            left, right = self.truth(node.left), self.truth(node.right)
            return None if left is None or right is None else (left == right) is (node.op == "==")
        a, b = self.number(node.left), self.number(node.right)
        return None if a is None or b is None else compared(node.op, a, b)

    def number(self, node: Expression) -> float | None:
        """None: unknown. Durations are µs."""
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Duration):
            return node.us
        if isinstance(node, Attribute):
            return self._attribute(node.name)
        if isinstance(node, Metric):
            seen = self.world.series(self.subject.device, node.name)
            if not seen or self.instant - seen[-1][0] > self.subject.max_age:
                return None
            return seen[-1][1]
        if isinstance(node, Count):
            return len(windows.inside(self._samples(f"event:{node.event}"), self.instant, node.us))
        if isinstance(node, (Window, Forecast)):
            return self._window(node)
        if isinstance(node, ByResponse):
            level = self.world.times.response(self.instant)
            return self.number({None: node.normal, 4: node.iv, 3: node.iii, 2: node.ii, 1: node.i}[level])
        if isinstance(node, Negate):
            inner = self.number(node.inner)
            return None if inner is None else -inner
        assert isinstance(node, Arithmetic)
        a, b = self.number(node.left), self.number(node.right)
        if a is None or b is None or (node.op == "/" and b == 0):
            return None
        # 3.8 - 0.2 is 3.6, not what a computer makes of it.
        return {"+": lambda: round(a + b, 9), "-": lambda: round(a - b, 9), "*": lambda: a * b, "/": lambda: a / b}[
            node.op
        ]()

    def _window(self, node: Window | Forecast) -> float | None:
        counting = isinstance(node, Window) and node.function == "count"
        if not counting and self.number(Metric(node.metric)) is None:
            return None
        samples = self._samples(node.metric)
        if isinstance(node, Forecast):
            return windows.forecast(samples, self.instant, node.window_us, node.ahead_us)
        return windows.window(node.function, samples, self.instant, node.us, max_gap=self.subject.max_gap)

    def _samples(self, name: str) -> list[tuple[int, float]]:
        return self.world.series(self.subject.device, name)

    def _attribute(self, name: str) -> float | None:
        """Dated: the newest of those that are valid by now."""
        found = self.subject.device.attributes.get(name)
        if isinstance(found, tuple):
            valid = [each for each in found if each.valid_from <= self.instant]
            return max(valid, key=lambda each: each.valid_from).value if valid else None
        return None if found is None or isinstance(found, str) else float(found)


def compared(op: str, a: float, b: float) -> bool:
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[op]


def is_truth(node: Expression) -> bool:
    if isinstance(node, Metric):
        return any(k.metrics[node.name].boolean for k in KINDS.values() if node.name in k.metrics)
    return isinstance(node, (Truth, Not, And, Or, Compare, Event, Absent, DeviceAbsent, Flat, Spike, OutOfRange,
                             Between, Weekday, Holiday, Mode))  # fmt: skip


def silence(world: World, device: Device, node: Absent | DeviceAbsent) -> tuple[int | None, int]:
    """The last instant of what is missed, and for how long it must be missed."""
    if isinstance(node, Absent):
        return world.last(device, node.metric), node.us
    return world.last_of_device(device), 2 * interval(device)


def interval(device: Device) -> int:
    return round(device.interval_s * windows.SECOND)


def every(node: Expression) -> Iterator[Expression]:
    yield node
    if isinstance(node, (Arithmetic, Compare, And, Or)):
        yield from every(node.left)
        yield from every(node.right)
    elif isinstance(node, (Negate, Not)):
        yield from every(node.inner)
    elif isinstance(node, Group):
        yield from every(node.condition)
    elif isinstance(node, ByResponse):
        yield from leaves(node)


def due(look: Look, tree: Expression, instant: int | None, until: int) -> Iterator[tuple[int, int]]:
    """(ready, instant) up to `until` of everything in the tree whose truth time alone has yet to change.

    `instant` is the last one of the machine, None before its first judging: then it waits for no schedule.
    """
    for node in every(tree):
        if isinstance(node, (Absent, DeviceAbsent)):
            yield from _silent(look, node, instant)
        elif isinstance(node, Count):
            times = [at for at, _ in look.world.series(look.subject.device, f"event:{node.event}")]
            left = [at + node.us for at in times if instant is None or at > instant - node.us]
            if left:
                yield min(left), min(left)
        elif isinstance(node, Compare):
            yield from _turn(look, node, instant)
        elif isinstance(node, (Between, Weekday, Holiday, Mode)) and instant is not None:
            for at in look.world.times.changes(node, instant, until):
                yield at, at


def _silent(look: Look, node: Absent | DeviceAbsent, at: int | None) -> Iterator[tuple[int, int]]:
    last, span = silence(look.world, look.subject.device, node)
    for base, full in _bases(look, last, span):
        now = at is not None and at >= full
        stale = now and replace(look, instant=at if at is not None else 0).silent_since(node)[0] != base
        if not now or not (stale or look.world.listened(at, span)):
            yield max(base, look.world.resumed_at or base) + span, full


def _bases(look: Look, last: int | None, span: int) -> Iterator[tuple[int, int]]:
    """(base, when the span is full): from the last time, and anew from the end of each pause that comes before that."""
    if last is None:
        return
    ends = sorted({pause.end for pause in look.subject.pauses(look.world.times) if pause.end > last})
    for base, following in zip([last, *ends], [*ends, None], strict=True):
        if following is None or base + span < following:
            yield base, base + span


def _turn(look: Look, node: Compare, instant: int | None) -> Iterator[tuple[int, int]]:
    for side, other in ((node.left, node.right), (node.right, node.left)):
        if isinstance(side, Since):
            span = replace(look, instant=instant or 0).number(other)
            last = look.world.last(look.subject.device, f"event:{side.event}")
            if span is not None:
                for _, full in _bases(look, last, math.ceil(span)):
                    if instant is None or instant < full:
                        yield full, full

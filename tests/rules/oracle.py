"""The rules engine a second time, plain and slow: one reading, one rule, one device at a time, straight from
docs/architecture.md §4. It shares the parsed rule with the engine and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from devices.instants import SECOND
from devices.kinds import KINDS
from devices.registry import Device, DeviceStatus
from rules.book import RuleBook
from rules.expression import (
    Absent,
    And,
    Arithmetic,
    Attribute,
    Compare,
    Count,
    Duration,
    Event,
    Expression,
    Metric,
    Negate,
    Not,
    Number,
    Or,
    Since,
    Truth,
    leaves,
)
from rules.rule import NO_GAP, Rule

Value = float | bool | None
# rule, device, edge, at, since, first_value, peak_value, element
Told = tuple[str, str, str, int, int, float | None, float | None, int]


@dataclass
class Pair:
    """What is remembered of one rule on one device."""

    rule: Rule
    device: Device
    phase: str = "normal"
    since: int = 0
    first: float | None = None
    peak: float | None = None
    raised_at: int = 0
    instant: int | None = None
    heard: int | None = None


@dataclass
class Look:
    """One evaluation: the instant, the newest instant the clock has shown, the names this element brought."""

    pair: Pair
    instant: int
    now: int | None
    brought: frozenset[str]


@dataclass
class Oracle:
    book: RuleBook
    devices: Sequence[Device]
    history: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    now: int | None = None
    resumed_at: int | None = None

    def __post_init__(self) -> None:
        for rule in self.book.rules.values():
            for device in self.devices:
                if applies(rule, device):
                    self.pairs.append(Pair(rule, device))

    def element(self, number: int, device: str, at: int, values: Mapping[str, float]) -> list[Told]:
        """One element; a value that is not newer than the last of its series is not applied."""
        fresh = {n: v for n, v in values.items() if not (h := self.history.get((device, n))) or h[-1][0] < at}
        for name, value in fresh.items():
            self.history.setdefault((device, name), []).append((at, value))
        told: list[Told] = []
        for pair in self.pairs:
            if pair.device.id == device and set(pair.rule.series) & set(fresh):
                instant = at if pair.instant is None else max(pair.instant, at)
                told += self._judge(Look(pair, instant, self.now, frozenset(fresh)), number)
        return told

    def tick(self, now: int) -> list[Told]:
        self.now = now if self.now is None else max(self.now, now)
        told: list[Told] = []
        for pair in self.pairs:
            while pair.rule.timed:
                due = [instant for ready, instant in self._waiting(pair) if ready <= now]
                if not due:
                    break
                instant = min(due) if pair.instant is None else max(pair.instant, min(due))
                told += self._judge(Look(pair, instant, self.now, frozenset()), -1)
        return sorted(told, key=lambda t: t[3])

    def link(self, at: int) -> None:
        self.resumed_at = at if self.resumed_at is None else max(self.resumed_at, at)

    def _judge(self, look: Look, element: int) -> list[Told]:
        pair, rule = look.pair, look.pair.rule
        gap = max_gap(rule, pair.device)
        silent = element >= 0 and pair.heard is not None and look.instant - pair.heard > gap
        pair.instant = look.instant
        if element >= 0:
            pair.heard = look.instant
        when = self.truth(rule.when, look)
        clear = self.truth(rule.clear, look) if rule.clear is not None else opposite(when)
        value = self.number(Metric(rule.metric), look) if rule.metric is not None else None
        if pair.phase == "firing":
            if clear is True:
                pair.phase = "normal"
                return [self._tell(pair, "cleared", look.instant, element)]
            self._worse(pair, value)
            return []
        if pair.phase == "pending" and (silent or when is False):
            pair.phase = "normal"
        if pair.phase == "normal" and when is True:
            pair.phase, pair.since, pair.first, pair.peak = "pending", look.instant, value, None
        if pair.phase == "pending":
            self._worse(pair, value)
            if when is True and look.instant >= pair.since + rule.hold_us:
                return self._raise(pair, look.instant, element)
        return []

    def _raise(self, pair: Pair, at: int, element: int) -> list[Told]:
        pair.phase, pair.raised_at = "firing", at
        told = [self._tell(pair, "raised", at, element)]
        if pair.rule.clear is None and any(isinstance(leaf, Event) for leaf in leaves(pair.rule.when)):
            pair.phase = "normal"
            told.append(self._tell(pair, "cleared", at, element))
        return told

    def _tell(self, pair: Pair, edge: str, at: int, element: int) -> Told:
        return (pair.rule.id, pair.device.id, edge, at, pair.since, pair.first, pair.peak, element)

    def _worse(self, pair: Pair, value: float | None) -> None:
        if value is not None:
            known = [v for v in (pair.peak, value) if v is not None]
            pair.peak = max(known) if pair.rule.peak_is_maximum else min(known)

    def _last(self, device: Device, name: str) -> int | None:
        seen = self.history.get((device.id, name))
        return seen[-1][0] if seen else (device.first_seen or None)

    def _waiting(self, pair: Pair) -> Iterator[tuple[int, int]]:
        """(ready, instant) of everything whose truth time alone has yet to change."""
        at, rule = pair.instant, pair.rule
        for tree in (rule.when, rule.clear) if rule.clear is not None else (rule.when,):
            for leaf in leaves(tree):
                if isinstance(leaf, Absent) and (last := self._last(pair.device, leaf.metric)) is not None:
                    listened = self.resumed_at is None or self._clock(at, self.now) >= self.resumed_at + leaf.us
                    if at is None or at < last + leaf.us or not listened:
                        yield max(last, self.resumed_at or last) + leaf.us, last + leaf.us
                if isinstance(leaf, Count):
                    times = [t for t, _ in self.history.get((pair.device.id, f"event:{leaf.event}"), [])]
                    left = [t + leaf.us for t in times if at is None or t > at - leaf.us]
                    if left:
                        yield min(left), min(left)
            for node in every(tree):
                if isinstance(node, Compare):
                    yield from self._turn(node, pair)
        if pair.phase == "pending" and (at is None or at < pair.since + rule.hold_us):
            yield pair.since + rule.hold_us, pair.since + rule.hold_us

    def _turn(self, node: Compare, pair: Pair) -> Iterator[tuple[int, int]]:
        for side, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(side, Since) and (last := self._last(pair.device, f"event:{side.event}")) is not None:
                span = self.number(other, Look(pair, 0, None, frozenset()))
                if span is not None and (pair.instant is None or pair.instant < last + span):
                    yield last + math.ceil(span), last + math.ceil(span)

    @staticmethod
    def _clock(at: int | None, now: int | None) -> int:
        return max(t for t in (at, now, 0) if t is not None)

    def truth(self, node: Expression, look: Look) -> bool | None:
        """True, False, or None: unknown."""
        device = look.pair.device
        if isinstance(node, Truth):
            return node.value
        if isinstance(node, Metric):
            value = self.number(node, look)
            return None if value is None else value == 1.0
        if isinstance(node, Not):
            return opposite(self.truth(node.inner, look))
        if isinstance(node, (And, Or)):
            sides = {self.truth(node.left, look), self.truth(node.right, look)}
            decisive = isinstance(node, Or)
            return decisive if decisive in sides else None if None in sides else not decisive
        if isinstance(node, Event):
            return f"event:{node.name}" in look.brought
        if isinstance(node, Absent):
            last = self._last(device, node.metric)
            if last is None:
                return None
            if look.instant < last + node.us:
                return False
            clock = self._clock(look.instant, look.now)
            return True if self.resumed_at is None or clock >= self.resumed_at + node.us else None
        assert isinstance(node, Compare)
        return self._compare(node, look)

    def _compare(self, node: Compare, look: Look) -> bool | None:
        for side, other, op in ((node.left, node.right, node.op), (node.right, node.left, _MIRROR[node.op])):
            if isinstance(side, Since):
                last, span = self._last(look.pair.device, f"event:{side.event}"), self.number(other, look)
                if last is None or span is None:
                    return None
                full = look.instant - last >= span
                return full if op in (">", ">=") else not full
        if self._is_truth(node.left):
            left, right = self.truth(node.left, look), self.truth(node.right, look)
            return None if left is None or right is None else (left == right) is (node.op == "==")
        a, b = self.number(node.left, look), self.number(node.right, look)
        if a is None or b is None:
            return None
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a == b, "!=": a != b}[node.op]

    @staticmethod
    def _is_truth(node: Expression) -> bool:
        if isinstance(node, Metric):
            return any(k.metrics[node.name].boolean for k in KINDS.values() if node.name in k.metrics)
        return isinstance(node, (Truth, Not, And, Or, Compare, Event, Absent))

    def number(self, node: Expression, look: Look) -> float | None:
        device = look.pair.device
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Duration):
            return node.us
        if isinstance(node, Attribute):
            found = device.attributes.get(node.name)
            return None if found is None or isinstance(found, str) else float(found)
        if isinstance(node, Metric):
            seen = self.history.get((device.id, node.name))
            if not seen or look.instant - seen[-1][0] > max_age(look.pair.rule, device):
                return None
            return seen[-1][1]
        if isinstance(node, Count):
            times = [t for t, _ in self.history.get((device.id, f"event:{node.event}"), [])]
            return len([t for t in times if look.instant - node.us < t <= look.instant])
        if isinstance(node, Negate):
            inner = self.number(node.inner, look)
            return None if inner is None else -inner
        assert isinstance(node, Arithmetic)
        a, b = self.number(node.left, look), self.number(node.right, look)
        if a is None or b is None or (node.op == "/" and b == 0):
            return None
        return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[node.op]()


_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def opposite(value: bool | None) -> bool | None:
    return None if value is None else not value


def every(node: Expression) -> Iterator[Expression]:
    yield node
    if isinstance(node, (Arithmetic, Compare, And, Or)):
        yield from every(node.left)
        yield from every(node.right)
    elif isinstance(node, (Negate, Not)):
        yield from every(node.inner)


def applies(rule: Rule, device: Device) -> bool:
    to, kind = rule.applies_to, KINDS[device.kind]
    return (
        device.status is DeviceStatus.ACTIVE
        and (to.kind is None or to.kind == device.kind)
        and (to.devices is None or device.id in to.devices)
        and (to.grids is None or device.grid in to.grids)
        and (to.tags is None or to.tags <= device.tags)
        and all(
            n.removeprefix("event:") in (kind.events if n.startswith("event:") else kind.metrics) for n in rule.series
        )
    )


def max_age(rule: Rule, device: Device) -> float:
    return 3 * device.interval_s * SECOND if rule.max_age_us is None else rule.max_age_us


def max_gap(rule: Rule, device: Device) -> float:
    if rule.max_gap_us is None:
        return math.inf if all(n.startswith("event:") for n in rule.series) else 3 * device.interval_s * SECOND
    return math.inf if rule.max_gap_us == NO_GAP else rule.max_gap_us

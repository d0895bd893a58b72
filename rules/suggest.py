"""What would quieten a rule that chatters: the smallest `for`, the smallest band, and what each would have cost.

A step is the smallest that helps if the next smaller one does not: longer holds and wider bands are taken to be
quieter, so the steps are halved, not tried one by one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from devices.instants import DAY, HOUR, MINUTE, SECOND, format_duration
from devices.kinds import KINDS
from rules.backtest import Finding
from rules.expression import MIRROR, Compare, Event, Expression, Metric, Number, Order, is_constant, leaves
from rules.language import parse
from rules.outcome import FAR
from rules.review import CHATTER_TIMES, CHATTER_WITHIN, Chattering, by_alarm, chattering
from rules.rewriting import constant_text, number_text, with_key
from rules.rule import Rule

# The history under this form of the rule.
Run = Callable[[Rule], Sequence[Finding]]

HOLDS = (
    0, 30 * SECOND, *(n * MINUTE for n in (1, 2, 3, 5, 10, 15, 20, 30, 45)), *(n * HOUR for n in (1, 2, 3, 6, 12)), DAY,
)  # fmt: skip
# What comes every 15 minutes cannot be raised three times in one: there, three times within ten reports chatter.
REPORTS = 10
# Bands go from this part of the metric's plausible range to half of it.
_FINEST = 10_000
_BACK: dict[Order, Order] = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Against today's rule. `alarms` there would be; `lost` of today's would not be raised at all, the longest of which
    stood `lost_longest` µs (None where it still stands, 0 where none is lost); the others later by so many µs."""

    alarms: int
    lost: int
    lost_longest: int | None
    median_delay: int
    max_delay: int

    def as_json(self) -> dict[str, object]:
        return {
            "alarms": self.alarms,
            "lost": self.lost,
            "lost_longest": None if self.lost_longest is None else format_duration(self.lost_longest),
            "median_delay": format_duration(self.median_delay),
            "max_delay": format_duration(self.max_delay),
        }


@dataclass(frozen=True, slots=True)
class Proposal:
    """`key` (`for` or `clear`) and its `value` as they would be written; `yaml` is the rule with them."""

    key: str
    value: str
    band: float | None
    cost: Cost
    yaml: str

    def as_json(self) -> dict[str, object]:
        return {
            "key": self.key, "value": self.value, "band": self.band, "cost": self.cost.as_json(), "yaml": self.yaml,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Chattering is CHATTER_TIMES within `within` µs; without it there are no proposals. `why_not` says, by key, why
    there is none for it."""

    rule: str
    alarms: int
    within: int
    chattering: tuple[Chattering, ...]
    proposals: tuple[Proposal, ...] = ()
    why_not: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        return {
            "rule": self.rule,
            "alarms": self.alarms,
            "times": CHATTER_TIMES,
            "within": format_duration(self.within),
            "chattering": [{"device": c.device, "activations": c.activations} for c in self.chattering],
            "proposals": [proposal.as_json() for proposal in self.proposals],
            "why_not": dict(self.why_not),
        }


def suggest(rule: Rule, run: Run, interval: int) -> Suggestion:
    """From what `run` finds; `interval` is the usual time between two reports, µs."""
    within = max(CHATTER_WITHIN, REPORTS * interval)
    today = list(run(rule))
    nuisance = tuple(chattering(today, within=within))
    if not nuisance:
        return Suggestion(rule.id, len(today), within, nuisance)
    desk = _Desk(rule, run, within, today)
    found = {"for": desk.hold(interval), "clear": desk.band()}
    return Suggestion(
        rule.id, len(today), within, nuisance,
        tuple(each for each in found.values() if isinstance(each, Proposal)),
        {key: each for key, each in found.items() if isinstance(each, str)},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Desk:
    rule: Rule
    run: Run
    within: int
    today: Sequence[Finding]

    def hold(self, interval: int) -> Proposal | str:
        if self.rule.levels:
            return "带 levels 的规则：请逐级调整 a rule with levels: each level has a hold of its own"
        if any(isinstance(leaf, Event) for leaf in leaves(self.rule.when)):
            return "事件没有持续时间 an event lasts no time, so it cannot hold"
        steps = sorted({*HOLDS, *(n * interval for n in (1, 2, 3, 4, 5, 10))})
        steps = [step for step in steps if self.rule.hold_us < step <= DAY]
        found = self._smallest([replace(self.rule, hold_us=step) for step in steps])
        if found is None:
            return "一天以内的持续时间都不够 no hold of up to a day is enough"
        changed, findings = found
        value = format_duration(changed.hold_us)
        return Proposal("for", value, None, cost(self.today, findings), with_key(self.rule, changed, "for", value))

    def band(self) -> Proposal | str:
        written = _comparison(self.rule)
        if written is None:
            return "when 不是单一指标与常数的比较 `when` is not one metric compared with a constant"
        metric, op, limit = written
        steps = bands(metric, self.rule.applies_to.kind)
        texts = [f"{metric} {_BACK[op]} {_beyond(limit, op, step)}" for step in steps]
        found = self._smallest([replace(self.rule, clear=parse(text), clear_text=text) for text in texts])
        if found is None:
            return "量程一半以内的回差都不够 no band of up to half the metric's range is enough"
        changed, findings = found
        value, step = changed.clear_text, steps[texts.index(changed.clear_text)]
        return Proposal("clear", value, step, cost(self.today, findings), with_key(self.rule, changed, "clear", value))

    def _smallest(self, steps: Sequence[Rule]) -> tuple[Rule, list[Finding]] | None:
        """The first of these, ever quieter, that does not chatter, and what it finds."""
        best: tuple[Rule, list[Finding]] | None = None
        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            findings = list(self.run(steps[middle]))
            if chattering(findings, within=self.within):
                low = middle + 1
            else:
                best, high = (steps[middle], findings), middle
        return best


def bands(metric: str, kind: str | None) -> list[float]:
    """1, 2, 5, 10 … of the metric's unit, from a ten-thousandth to half of what is plausible, rising."""
    kinds = [KINDS[kind]] if kind is not None else list(KINDS.values())
    low, high = next(k.metrics[metric].plausible for k in kinds if metric in k.metrics)
    span = high - low
    steps = [float(f"{digit}e{power}") for power in range(-9, 13) for digit in (1, 2, 5)]
    return [step for step in steps if span / _FINEST <= step <= span / 2]


def cost(today: Sequence[Finding], then: Sequence[Finding]) -> Cost:
    """Each of today's occurrences is raised then by the first occurrence that overlaps it, or lost."""
    after = by_alarm(then)
    delays, lost = list[int](), list[int]()
    for alarm, occurrences in by_alarm(today).items():
        others = after.get(alarm, [])
        starts, ends = [f.raised_at for f in others], [_end(f) for f in others]
        for finding in occurrences:
            place = bisect_left(ends, finding.raised_at)
            if place < bisect_right(starts, _end(finding)):
                delays.append(max(0, starts[place] - finding.raised_at))
            else:
                lost.append(_end(finding) - finding.raised_at)
    longest = max(lost, default=0)
    return Cost(
        alarms=len(then),
        lost=len(lost),
        lost_longest=None if longest > FAR // 2 else longest,
        median_delay=round(median(delays)) if delays else 0,
        max_delay=max(delays, default=0),
    )


def _comparison(rule: Rule) -> tuple[str, Order, Expression] | None:
    """Metric, operator and limit, the metric on the left, where that is all there is to `when`."""
    when = rule.when
    if rule.levels or not isinstance(when, Compare) or when.op not in _BACK:
        return None
    for side, other, op in ((when.left, when.right, when.op), (when.right, when.left, MIRROR[when.op])):
        if isinstance(side, Metric) and is_constant(other):
            return side.name, op, other
    return None


def _beyond(limit: Expression, op: Order, band: float) -> str:
    """The limit moved by the band to where things are well again."""
    sign = -1 if op in (">", ">=") else 1
    if isinstance(limit, Number):
        return number_text(limit.value + sign * band)
    return f"{constant_text(limit)} {'-' if sign < 0 else '+'} {number_text(band)}"


def _end(finding: Finding) -> int:
    return FAR if finding.cleared_at is None else finding.cleared_at

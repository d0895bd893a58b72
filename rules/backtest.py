"""History through the same engine that runs live: every alarm the book would have raised, standing ones included.

Rows come in the order of their file. Where the book asks the clock, the clock is the data's: before a row that is later
than all before it ticks to that instant, so an absence is found where a service running then would have found it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from devices.batch import I64, Bool
from devices.registry import Registry
from rules.book import RuleBook
from rules.calendar import Site
from rules.declared import Declared
from rules.engine import Engine
from rules.outcome import NEVER, Edge, Outcome, Peak, Rows, Transition
from rules.rule import Priority, Rule

# Rows judged at once where the clock has much to do: fewer costs calls, more costs rows looked at twice.
_STRETCH = 64
_SITE, _NOTHING = Site(), Declared()


@dataclass(frozen=True, slots=True)
class Finding:
    """One occurrence; `cleared_at` None while it stands at the end, `peak_value` then so far.

    `device` may be a group of devices, as in Transition. `priority` is how severe it was from which instant on; it has
    more than one entry only where the rule has levels.
    """

    rule: str
    device: str
    metric: str | None
    since: int
    raised_at: int
    cleared_at: int | None
    first_value: float | None
    peak_value: float | None
    priority: tuple[tuple[int, Priority], ...] = ()


def backtest(
    book: RuleBook,
    registry: Registry,
    chunks: Iterable[Rows],
    *,
    grid_tree: Mapping[str, frozenset[str]] | None = None,
    site: Site = _SITE,
    declared: Declared = _NOTHING,
) -> list[Finding]:
    """Findings by raised_at, then rule, then device. Rows that are not newer than the last of their series are
    skipped, as the service skips them; every series of the chunks must be in the registry."""
    history = Backtest(book, registry, grid_tree=grid_tree, site=site, declared=declared)
    for chunk in chunks:
        history.feed(chunk)
    return history.findings()


class Backtest:
    """A book over history that comes a chunk at a time. Each of `declared` is declared when it begins, and not before.

    Rules do not see one another, so those that never ask the clock run apart, whole chunks at a time.
    """

    def __init__(
        self,
        book: RuleBook,
        registry: Registry,
        *,
        grid_tree: Mapping[str, frozenset[str]] | None = None,
        site: Site = _SITE,
        declared: Declared = _NOTHING,
    ) -> None:
        self._timeless, self._timed = (
            Engine(_part(book, timed=wanted), registry, grid_tree=grid_tree, site=site) for wanted in (False, True)
        )
        self._newest, self._findings = Newest(), _Findings(book)
        self._clock = NEVER
        self._declared, self._to_come = declared, _beginnings(declared)

    @property
    def skipped(self) -> int:
        """Rows so far that were not newer than the last of their series."""
        return self._newest.skipped

    def feed(self, rows: Rows) -> list[Transition]:
        """What follows from these rows and from the clock up to the latest of them, in no particular order."""
        rows = self._newest.only(rows)
        found: list[Transition] = []
        while self._to_come and (begun := np.flatnonzero(rows.at >= self._to_come[0])).size:
            found += self._judge(_pick(rows, slice(0, int(begun[0]))))
            found += self._declare(self._to_come.pop(0))
            rows = _pick(rows, slice(int(begun[0]), None))
        return [*found, *self._judge(rows)]

    def clock(self, now: int) -> list[Transition]:
        """What the clock brings up to `now` where no row comes."""
        found: list[Transition] = []
        while self._to_come and self._to_come[0] <= now:
            found += self._declare(self._to_come.pop(0))
        return [*found, *self._tick(now)]

    def engine_of(self, rule: str) -> Engine:
        """The engine that judges this rule, to look at."""
        return self._timed if rule in self._timed.book.rules else self._timeless

    def findings(self) -> list[Finding]:
        """By raised_at, then rule, then device."""
        return sorted(self._findings.found.values(), key=lambda f: (f.raised_at, f.rule, f.device))

    def _declare(self, now: int) -> list[Transition]:
        """Everything that has begun by `now`; until then the clock has gone on."""
        found, known = list(self._tick(now - 1)), _begun(self._declared, now)
        for engine in (self._timeless, self._timed):
            found += self._take(engine, engine.declare(known, now))
        return [*found, *self._tick(now)]

    def _judge(self, rows: Rows) -> list[Transition]:
        return [*self._judge_timeless(rows), *self._judge_timed(rows)]

    def _judge_timeless(self, rows: Rows) -> Iterator[Transition]:
        if self._timeless.book.rules and len(rows):
            yield from self._take(self._timeless, self._timeless.evaluate(rows))

    def _judge_timed(self, rows: Rows) -> Iterator[Transition]:
        """As if the clock ticked before every row that is later than all before; ticks that find nothing are left
        out."""
        if not self._timed.book.rules:
            return
        start, stretch = 0, _STRETCH
        while start < len(rows):
            yield from self._tick(int(rows.at[start]))
            ahead = _element_end(rows, start + stretch)
            count = self._timed.until_due(_pick(rows, slice(start, ahead)))
            yield from self._take(self._timed, self._timed.evaluate(_pick(rows, slice(start, start + count))))
            self._clock = max(self._clock, int(rows.at[start : start + count].max()))
            stretch = 2 * stretch if start + count == ahead else max(_STRETCH, 2 * count)
            start += count

    def _tick(self, now: int) -> Iterator[Transition]:
        if now > self._clock and self._timed.book.rules:
            self._clock = now
            yield from self._take(self._timed, self._timed.tick(now))

    def _take(self, engine: Engine, outcome: Outcome) -> Sequence[Transition]:
        engine.adopt(outcome)
        self._findings.take(outcome)
        return outcome.transitions


def _beginnings(declared: Declared) -> list[int]:
    spans = (declared.responses, declared.drills, declared.pauses)
    return sorted({start for kind in spans for start in (each.start for each in kind)})


def _begun(declared: Declared, now: int) -> Declared:
    return Declared(
        tuple(each for each in declared.responses if each.start <= now),
        tuple(each for each in declared.drills if each.start <= now),
        tuple(each for each in declared.pauses if each.start <= now),
    )


def _part(book: RuleBook, *, timed: bool) -> RuleBook:
    return replace(book, rules={rule.id: rule for rule in book.rules.values() if asks_the_clock(rule) is timed})


def asks_the_clock(rule: Rule) -> bool:
    """A group's members may turn by the clock, and what only holds in a mode changes with it."""
    return rule.timed or rule.group is not None or bool(rule.only_in)


def _element_end(rows: Rows, stop: int) -> int:
    """`stop`, moved on so that no element is cut."""
    while 0 < stop < len(rows) and rows.element[stop] == rows.element[stop - 1]:
        stop += 1
    return min(stop, len(rows))


class Newest:
    """Keeps rows that are newer than the last of their series and drops the others, a chunk at a time."""

    def __init__(self) -> None:
        self.skipped = 0
        self._last = np.empty(0, np.int64)

    def only(self, rows: Rows) -> Rows:
        """Only new rows: within a chunk each is compared with the newest one before it."""
        if not len(rows):
            return rows
        size = int(rows.series.max()) + 1
        if size > len(self._last):
            self._last = np.concatenate([self._last, np.full(size - len(self._last), NEVER, np.int64)])
        order = np.argsort(rows.series, kind="stable")
        keep = np.empty(len(rows), bool)
        keep[order] = _rising(rows.series[order].astype(np.int64), rows.at[order], self._last)
        if keep.all():
            return rows
        self.skipped += len(rows) - int(keep.sum())
        return _pick(rows, keep)


def _rising(series: I64, at: I64, last: I64) -> Bool:
    """Where `at` is above everything before it in its series; `series` sorted, `last` by series, brought up to date."""
    new = np.empty(len(series), bool)
    new[0] = True
    np.not_equal(series[1:], series[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    before = np.empty_like(at)
    before[1:] = at[:-1]
    before[starts] = last[series[starts]]
    keep = at > before
    stops = np.append(starts[1:], len(series))
    for group in np.unique(np.searchsorted(starts, np.flatnonzero(~keep), "right") - 1).tolist():
        part = slice(int(starts[group]), int(stops[group]))
        top = np.maximum.accumulate(np.concatenate([before[part][:1], at[part]]))
        keep[part] = at[part] > top[:-1]
        at[part] = top[1:]
    last[series[starts]] = np.maximum(at[stops - 1], before[starts])
    return keep


def _pick(rows: Rows, keep: Bool | slice) -> Rows:
    return Rows(rows.series[keep], rows.at[keep], rows.value[keep], rows.element[keep], rows.device[keep])


class _Findings:
    """Occurrences made of transitions and peaks, by rule, device and raised_at."""

    def __init__(self, book: RuleBook) -> None:
        self.found: dict[tuple[str, str, int], Finding] = {}
        self._book = book
        self._standing: dict[tuple[str, str], int] = {}

    def take(self, outcome: Outcome) -> None:
        for transition in outcome.transitions:
            if transition.edge is Edge.RAISED:
                self._raise(transition)
            elif transition.edge is Edge.CHANGED:
                self._change(transition)
            else:
                self._clear(transition)
        for peak in outcome.peaks:
            self._get_worse(peak)

    def _raise(self, t: Transition) -> None:
        """A second raise at the same instant reopens that occurrence, as it does live."""
        self._standing[t.rule, t.device] = t.at
        severity = t.priority or self._book.rules[t.rule].priority
        self.found[t.rule, t.device, t.at] = Finding(
            t.rule, t.device, t.metric, t.since, t.at, None, t.first_value, t.peak_value, ((t.at, severity),)
        )

    def _change(self, t: Transition) -> None:
        key = (t.rule, t.device, self._standing[t.rule, t.device])
        old = self.found[key]
        severity = t.priority or self._book.rules[t.rule].priority
        self.found[key] = replace(old, peak_value=t.peak_value, priority=(*old.priority, (t.at, severity)))

    def _clear(self, t: Transition) -> None:
        raised_at = self._standing.pop((t.rule, t.device))
        old = self.found[t.rule, t.device, raised_at]
        self.found[t.rule, t.device, raised_at] = replace(
            old, since=t.since, cleared_at=t.at, first_value=t.first_value, peak_value=t.peak_value
        )

    def _get_worse(self, peak: Peak) -> None:
        key = (peak.rule, peak.device, peak.raised_at)
        self.found[key] = replace(self.found[key], peak_value=peak.peak_value)

"""History through the same engine that runs live: every alarm the book would have raised, standing ones included.

Rows come in the order of their file. Where the book asks the clock, the clock is the data's: before a row that is later
than all before it ticks to that instant, so an absence is found where a service running then would have found it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from devices.batch import I64, Bool
from devices.registry import Registry
from rules.book import RuleBook
from rules.engine import Engine
from rules.outcome import NEVER, Edge, Outcome, Rows

# Rows judged at once where the clock has much to do: fewer costs calls, more costs rows looked at twice.
_STRETCH = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """One occurrence; `cleared_at` None while it stands at the end, `peak_value` then so far."""

    rule: str
    device: str
    metric: str | None
    since: int
    raised_at: int
    cleared_at: int | None
    first_value: float | None
    peak_value: float | None


def backtest(
    book: RuleBook,
    registry: Registry,
    chunks: Iterable[Rows],
    *,
    grid_tree: Mapping[str, frozenset[str]] | None = None,
) -> list[Finding]:
    """Findings by raised_at, then rule, then device. Rows that are not newer than the last of their series are
    skipped, as the service skips them; every series of the chunks must be in the registry.

    Rules do not see one another, so those that never ask the clock run apart, whole chunks at a time.
    """
    timeless, timed = (Engine(_part(book, timed=wanted), registry, grid_tree=grid_tree) for wanted in (False, True))
    newest, ledger = Newest(), _Findings()
    for chunk in chunks:
        rows = newest.only(chunk)
        ledger.take(timeless, timeless.evaluate(rows))
        if book.timed:
            _judge_timed(timed, rows, ledger)
    return sorted(ledger.found.values(), key=lambda f: (f.raised_at, f.rule, f.device))


def _part(book: RuleBook, *, timed: bool) -> RuleBook:
    return replace(book, rules={rule.id: rule for rule in book.rules.values() if rule.timed is timed})


def _judge_timed(engine: Engine, rows: Rows, ledger: _Findings) -> None:
    """As if the clock ticked before every row that is later than all before; ticks that find nothing are left out."""
    start, stretch = 0, _STRETCH
    while start < len(rows):
        now = int(rows.at[start])
        if now > ledger.clock:
            ledger.take(engine, engine.tick(now))
        ahead = _element_end(rows, start + stretch)
        count = engine.until_due(_pick(rows, slice(start, ahead)))
        ledger.take(engine, engine.evaluate(_pick(rows, slice(start, start + count))))
        ledger.clock = max(ledger.clock, int(rows.at[start : start + count].max()))
        stretch = 2 * stretch if start + count == ahead else max(_STRETCH, 2 * count)
        start += count


def _element_end(rows: Rows, stop: int) -> int:
    """`stop`, moved on so that no element is cut."""
    while 0 < stop < len(rows) and rows.element[stop] == rows.element[stop - 1]:
        stop += 1
    return min(stop, len(rows))


class Newest:
    """Keeps rows that are newer than the last of their series and drops the others, a chunk at a time."""

    def __init__(self) -> None:
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
    def __init__(self) -> None:
        self.found: dict[tuple[str, str, int], Finding] = {}
        self._standing: dict[tuple[str, str], int] = {}
        self.clock = NEVER

    def take(self, engine: Engine, outcome: Outcome) -> None:
        """A second raise at the same instant reopens that occurrence, as it does live."""
        engine.adopt(outcome)
        for t in outcome.transitions:
            pair = (t.rule, t.device)
            raised_at = t.at if t.edge is Edge.RAISED else self._standing.pop(pair)
            cleared_at = None if t.edge is Edge.RAISED else t.at
            if t.edge is Edge.RAISED:
                self._standing[pair] = raised_at
            self.found[(*pair, raised_at)] = Finding(
                t.rule, t.device, t.metric, t.since, raised_at, cleared_at, t.first_value, t.peak_value
            )
        for peak in outcome.peaks:
            key = (peak.rule, peak.device, peak.raised_at)
            old = self.found[key]
            self.found[key] = Finding(
                old.rule, old.device, old.metric, old.since, old.raised_at, old.cleared_at, old.first_value,
                peak.peak_value,
            )  # fmt: skip

"""The rules engine: batches and ticks in, transitions out; live, in backtests and in rule tests alike.

Judging is pure. `evaluate`, `tick` and `reload` read the state and return an Outcome; the state changes only when
`adopt` takes it, after the outcome's commit. Adopt one outcome before asking for the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from devices.batch import I64
from devices.registry import Registry
from rules.agenda import agenda
from rules.binding import Binding, bind, gone
from rules.book import RuleBook
from rules.foresight import first_due
from rules.kernel import Block, Groups, Kernel, Verdict, judge
from rules.outcome import NEVER, Edge, Outcome, Peak, Rows, Transition
from rules.reason import known, reason
from rules.seeing import Batch, Clock, Memory, see_batch, see_clock
from rules.snapshot import pack, unpack
from rules.state import FIRING, Change, Times

__all__ = ["Edge", "Engine", "Outcome", "Peak", "Rows", "Transition"]


@dataclass(slots=True)
class _Changes:
    """What `adopt` writes."""

    kernels: list[tuple[Kernel, Change]] = field(default_factory=list)
    rows: Rows | None = None
    now: int = NEVER
    book: RuleBook | None = None
    binding: Binding | None = None


@dataclass(slots=True)
class _Found:
    """Transitions with what orders them: element or instant, rule, device, raised before cleared."""

    transitions: list[tuple[tuple[int, int, int, int], Transition]] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)

    def outcome(self, changes: _Changes) -> Outcome:
        self.transitions.sort(key=lambda entry: entry[0])
        return Outcome(tuple(t for _, t in self.transitions), tuple(self.peaks), changes)


class Engine:
    """One per installation. `grid_tree` gives for each grid itself and everything below it."""

    def __init__(
        self, book: RuleBook, registry: Registry, *, grid_tree: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        self._book = book
        self._registry = registry
        self._grid_tree = grid_tree or {}
        self._now = NEVER
        self._resumed_at = NEVER
        self._memory = Memory(np.array([np.nan]), np.array([NEVER], np.int64))
        self._binding = bind(book, registry, self._grid_tree)
        self._settle()

    @property
    def book(self) -> RuleBook:
        return self._book

    def evaluate(self, rows: Rows) -> Outcome:
        """What follows from the rows. Transitions come in the order of their elements."""
        self._follow_registry()
        changes, found = _Changes(rows=rows), _Found()
        if len(rows):
            batch = Batch(rows.series.astype(np.int64), rows.at, rows.value, rows.element.astype(np.int64))
            pairs, numbers, cuts = self._entries(batch)
            with np.errstate(all="ignore"):
                for k in np.flatnonzero(np.diff(cuts)).tolist():
                    part = slice(cuts[k], cuts[k + 1])
                    entries = (pairs[part] - self._binding.offsets[k], numbers[part])
                    self._judge_batch(self._binding.kernels[k], batch, entries, changes, found)
        return found.outcome(changes)

    def tick(self, now: int) -> Outcome:
        """What the clock brings up to `now`: each pair that is due is judged at its due instants, one by one."""
        self._follow_registry()
        changes, found = _Changes(now=now), _Found()
        clock = Clock(max(now, self._now), self._resumed_at)
        with np.errstate(all="ignore"):
            for kernel in self._binding.kernels:
                due = np.flatnonzero(kernel.state.due <= now) if kernel.shape.timed else np.empty(0, np.int64)
                if len(due):
                    changes.kernels.append((kernel, self._judge_clock(kernel, due, clock, found)))
        return found.outcome(changes)

    def until_due(self, rows: Rows) -> int:
        """How many of these rows can be judged in one batch: at the next one a clock that ticks before every row later
        than all before would find something to do. At least one element; `tick` to its instant first."""
        self._follow_registry()
        if not len(rows):
            return 0
        batch = Batch(rows.series.astype(np.int64), rows.at, rows.value, rows.element.astype(np.int64))
        pairs, numbers, cuts = self._entries(batch)
        at = np.maximum(np.maximum.accumulate(rows.at), self._now)
        clock, offsets = Clock(self._now, self._resumed_at), self._binding.offsets
        first = len(rows)
        with np.errstate(all="ignore"):
            for k, kernel in enumerate(self._binding.kernels):
                if kernel.shape.timed:
                    part = slice(cuts[k], cuts[k + 1])
                    entries = (pairs[part] - offsets[k], numbers[part])
                    view = see_batch(kernel, self._memory, batch, entries, clock) if cuts[k] < cuts[k + 1] else None
                    first = min(first, first_due(kernel, view, at))
        return max(first, int(np.searchsorted(rows.element, rows.element[0], "right")))

    def adopt(self, outcome: Outcome) -> None:
        """Take the state of the outcome: to be called once, after its commit and before anything else."""
        changes = outcome.changes
        assert isinstance(changes, _Changes)
        for kernel, change in changes.kernels:
            change.apply(kernel.state)
        if changes.rows is not None:
            self._remember(changes.rows)
        self._now = max(self._now, changes.now)
        if changes.book is not None and changes.binding is not None:
            self._book, self._binding = changes.book, changes.binding
            self._settle()

    def link(self, resumed_at: int) -> None:
        """The link is back or the service has started: an absence gets one full interval from here."""
        self._resumed_at = max(self._resumed_at, resumed_at)
        self._settle()

    def devices_changed(self) -> tuple[Transition, ...]:
        """Bind anew after the registry changed, keeping what is known of every pair that remains.

        Returns what must be cleared because its device is no longer judged, dated with the last instant of the rule.
        """
        binding = bind(self._book, self._registry, self._grid_tree, self._binding)
        ended = self._ended(binding, NEVER, "device_not_judged")
        self._binding = binding
        self._settle()
        return ended

    def reload(self, book: RuleBook, now: int) -> Outcome:
        """Another book: unchanged rules keep their state, what stands of removed or changed rules is cleared."""
        binding = bind(book, self._registry, self._grid_tree, self._binding)
        ended = self._ended(binding, now, "rule_removed_or_changed")
        return Outcome(ended, (), _Changes(book=book, binding=binding, now=now))

    def snapshot(self) -> bytes:
        """The whole state; `restore` of it, with the same rules and devices, gives an engine that cannot be told
        from this one."""
        return pack(self._binding, self._memory, self._now, self._resumed_at)

    def restore(self, blob: bytes) -> None:
        """Take the state of a snapshot. Rules whose meaning changed since start afresh; ValueError for other bytes."""
        binding = bind(self._book, self._registry, self._grid_tree)
        count = len(self._registry.series_device) + 1
        memory = Memory(np.full(count, np.nan), np.full(count, NEVER, np.int64))
        self._now, self._resumed_at = unpack(blob, binding, memory)
        self._binding, self._memory = binding, memory
        self._settle()

    def _follow_registry(self) -> None:
        """A series or device that came since the last binding is bound before it is judged."""
        bound = self._binding
        if len(self._registry.series_device) != bound.series or len(self._registry.devices) != bound.devices:
            self.devices_changed()

    def _settle(self) -> None:
        """After binding, restoring or a link: room for every series, and the agenda of every pair anew."""
        memory, count = self._memory, len(self._registry.series_device) + 1
        if len(memory.at) < count:
            value, at = np.full(count, np.nan), np.full(count, NEVER, np.int64)
            value[: len(memory.at) - 1], at[: len(memory.at) - 1] = memory.value[:-1], memory.at[:-1]
            memory.value, memory.at = value, at
        clock = Clock(self._now, self._resumed_at)
        for kernel in self._binding.kernels:
            if kernel.shape.timed:
                everyone, tracks = np.arange(len(kernel)), kernel.state.tracks
                sight = see_clock(kernel, memory, everyone, kernel.state.instant, clock)
                kernel.state.due = agenda(kernel, sight, everyone, tracks.phase, tracks.since)[0].min(axis=0)

    def _entries(self, batch: Batch) -> tuple[I64, I64, list[int]]:
        """Every (pair, row) the batch asks to be judged, by pair then row, and where each kernel's begin.

        One sort of one integer each, pair before row: the largest cost of a quiet batch, and it is linear in what
        applies, not in what there is.
        """
        readers, size = self._binding.readers, len(batch.series)
        counts = readers.count[batch.series]
        after = np.cumsum(counts)
        rows = np.repeat(np.arange(size), counts)
        at = np.repeat(readers.begin[batch.series] - (after - counts), counts)
        at += np.arange(len(at))
        bits = int(size).bit_length()
        key = (readers.pair[at] << bits) | rows
        key.sort()
        pairs = key >> bits
        cuts: list[int] = np.searchsorted(pairs, self._binding.offsets).tolist()
        return pairs, key & ((1 << bits) - 1), cuts

    def _judge_batch(
        self, kernel: Kernel, batch: Batch, entries: tuple[I64, I64], changes: _Changes, found: _Found
    ) -> None:
        view = see_batch(kernel, self._memory, batch, entries, Clock(self._now, self._resumed_at))
        sight, groups = view.sight, view.groups
        verdict = judge(kernel, sight, groups, kernel.state, by_clock=False)
        if kernel.shape.timed:
            phase, since = kernel.state.tracks.phase[groups.pairs], kernel.state.tracks.since[groups.pairs]
            if verdict.change.tracks is not None:
                where = np.searchsorted(groups.pairs, verdict.change.loud)
                phase[where], since[where] = verdict.change.tracks.phase, verdict.change.tracks.since
            verdict.change.due = agenda(kernel, sight, groups.ends(), phase, since)[0].min(axis=0)
        changes.kernels.append((kernel, verdict.change))
        self._report(kernel, verdict, view.element, found)

    def _judge_clock(self, kernel: Kernel, pairs: I64, clock: Clock, found: _Found) -> Change:
        """Works on a copy of the due pairs; every round judges each at its earliest due instant and asks again."""
        pocket = kernel.state.take(pairs)
        active = np.arange(len(pairs))
        while len(active):
            tracks = pocket.tracks
            sight = see_clock(kernel, self._memory, pairs[active], pocket.instant[active], clock)
            ready, instants = agenda(kernel, sight, np.arange(len(active)), tracks.phase[active], tracks.since[active])
            pocket.due[active] = ready.min(axis=0)
            late = pocket.due[active] <= clock.now
            at = np.where(ready <= clock.now, instants, np.iinfo(np.int64).max).min(axis=0)[late]
            active = active[late]
            if not len(active):
                break
            sight = see_clock(kernel, self._memory, pairs[active], np.maximum(pocket.instant[active], at), clock)
            groups = Groups(np.arange(len(active)), pairs[active], active, len(active))
            verdict = judge(kernel, sight, groups, pocket, by_clock=True)
            verdict.change.apply(pocket)
            self._report(kernel, verdict, None, found)
        none = np.empty(0, np.int64)
        return Change(pairs, pocket.instant, True, pairs, pocket.tracks, none, np.empty(0), pocket.due)

    def _report(self, kernel: Kernel, verdict: Verdict, element: I64 | None, found: _Found) -> None:
        places = {rule: place for place, rule in enumerate(self._book.rules)} if verdict.steps else {}
        for step in verdict.steps:
            rule = kernel.block_of(step.pair).rule
            device = self._registry.devices[int(kernel.device[step.pair])]
            brought_by = -1 if element is None else int(element[verdict.evaluations[step.at]])
            transition = Transition(
                rule=rule.id,
                device=device.id,
                metric=rule.metric,
                edge=step.edge,
                at=step.instant,
                since=step.since,
                first_value=known(step.first),
                peak_value=known(step.peak),
                reason=reason(rule, device, step.edge, verdict.sight, step.at),
                element=brought_by,
            )
            first = step.instant if element is None else brought_by
            order = (first, places[rule.id], device.number, len(found.transitions))
            found.transitions.append((order, transition))
        for pair, raised_at, peak in verdict.peaks:
            device = self._registry.devices[int(kernel.device[pair])]
            found.peaks.append(Peak(kernel.block_of(pair).rule.id, device.id, raised_at, peak))

    def _remember(self, rows: Rows) -> None:
        """Rows of a series rise in time, so of several the last written is the newest."""
        memory, series = self._memory, rows.series.astype(np.int64)
        memory.value[series], memory.at[series] = rows.value, rows.at
        windows = self._binding.windows[series]
        for row in np.flatnonzero(windows).tolist():
            at = rows.at[row : row + 1]
            times = memory.times.setdefault(int(series[row]), Times(np.empty(0, np.int64)))
            times.append(at, int(at[0] - windows[row]))

    def _ended(self, binding: Binding, now: int, why: str) -> tuple[Transition, ...]:
        found = []
        for kernel, block, rows in gone(self._binding, binding):
            tracks = kernel.state.tracks
            for row in rows[tracks.phase[rows] == FIRING].tolist():
                found.append(self._end(kernel, block, row, now, why))
        return tuple(found)

    def _end(self, kernel: Kernel, block: Block, row: int, now: int, why: str) -> Transition:
        tracks, rule = kernel.state.tracks, block.rule
        return Transition(
            rule=rule.id,
            device=self._registry.devices[int(kernel.device[row])].id,
            metric=rule.metric,
            edge=Edge.CLEARED,
            at=max(now, int(kernel.state.instant[row]), int(tracks.raised[row])),
            since=int(tracks.since[row]),
            first_value=known(float(tracks.first[row])),
            peak_value=known(float(tracks.peak[row])),
            reason={"when": rule.when_text, "cleared_by": why},
            element=-1,
        )

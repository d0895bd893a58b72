"""The rules engine: batches and ticks in, transitions out; live, in backtests and in rule tests alike.

Judging is pure. `evaluate`, `tick` and `reload` read the state and return an Outcome; the state changes only when
`adopt` takes it, after the outcome's commit. Adopt one outcome before asking for the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from devices.batch import I32, I64
from devices.ordering import order_of
from devices.registry import Registry
from rules.agenda import agenda
from rules.binding import Binding, bind, gone, pause
from rules.book import RuleBook
from rules.calendar import Site
from rules.combining import Combiner, Saved
from rules.declared import Declared, Pause
from rules.foresight import first_due
from rules.grouping import Groups
from rules.groups import Tally, members_of
from rules.history import stretches
from rules.kernel import Block, Kernel, Verdict, judge
from rules.logic import Clock
from rules.looking import Look, look
from rules.outcome import FAR, NEVER, Edge, Outcome, Peak, Rows, Transition
from rules.parts import Part, parts_of
from rules.reason import known, reason
from rules.seeing import Batch, Memory, Read, see_batch, see_clock
from rules.snapshot import pack, read, unpack
from rules.state import FIRING, Change, idle, unstirred
from rules.stirring import stirred
from rules.turning import State as Turned

__all__ = ["Edge", "Engine", "Outcome", "Peak", "Rows", "Transition"]

_NOTHING_DECLARED = Declared()
_SITE = Site()


@dataclass(slots=True)
class _Changes:
    """What `adopt` writes."""

    kernels: list[tuple[Kernel, Change]] = field(default_factory=list)
    turned: Turned | None = None
    rows: Rows | None = None
    now: int = NEVER
    book: RuleBook | None = None
    bound: _Bound | None = None
    declared: Declared | None = None
    site: Site | None = None


@dataclass(frozen=True, slots=True)
class _Bound:
    """The parts of a book, bound to devices, and what makes the rules' own alarms of theirs."""

    parts: Mapping[str, Part]
    binding: Binding
    combiner: Combiner
    places: Mapping[str, int]


@dataclass(slots=True)
class _Found:
    """Transitions of parts with what orders them: element or instant, part, device, raised before cleared."""

    transitions: list[tuple[tuple[int, int, int, int], Transition]] = field(default_factory=list)
    paused: set[tuple[str, str]] = field(default_factory=set)
    peaks: list[Peak] = field(default_factory=list)

    def outcome(self, changes: _Changes, combiner: Combiner) -> Outcome:
        self.transitions.sort(key=lambda entry: entry[0])
        # A declaration is no tick: what else is due is the clock's.
        now = None if changes.rows is not None or changes.declared is not None else changes.now
        combined = combiner.judge([t for _, t in self.transitions], self.peaks, now, changes.rows)
        changes.turned = combined.changes
        return Outcome(combined.transitions, combined.peaks, changes)


class Engine:
    """One per installation. `grid_tree` gives for each grid itself and everything below it."""

    def __init__(
        self,
        book: RuleBook,
        registry: Registry,
        *,
        grid_tree: Mapping[str, frozenset[str]] | None = None,
        site: Site = _SITE,
        declared: Declared = _NOTHING_DECLARED,
    ) -> None:
        self._book = book
        self._registry = registry
        self._grid_tree = grid_tree or {}
        self._clock = Clock(NEVER, NEVER, NEVER, site, declared)
        self._memory = _no_memory()
        self._bound = self._bind(book, declared, None)
        self._settle()

    @property
    def book(self) -> RuleBook:
        return self._book

    @property
    def registry(self) -> Registry:
        return self._registry

    @property
    def site(self) -> Site:
        return self._clock.site

    def look(self, rule_id: str, device_id: str, at: int) -> list[Look]:
        """What would be judged of the rule on the device, a look for each of its parts, mildest first; empty where
        nothing is. KeyError for a rule that the book does not have."""
        rule, device, bound = self._book.rules[rule_id], self._registry.get(device_id), self._bound
        if device is None:
            return []
        with np.errstate(all="ignore"):
            return look(bound.binding, self._memory, self._clock, bound.parts, device=device, rule=rule, at=at)

    def look_at_group(self, rule_id: str, subject: str) -> tuple[Tally, list[str], int]:
        """The occurrence of a group as it stands, the ids of the members that count, and how many members there are."""
        tally, numbers, of = self._bound.combiner.look(rule_id, subject)
        return tally, [self._registry.devices[n].id for n in numbers], of

    def counting(self, rule_id: str, outcome: Outcome | None = None) -> frozenset[int]:
        """The numbers of the devices that meet the condition of a group rule, once the outcome is adopted."""
        changes = outcome.changes if outcome is not None else _Changes()
        assert isinstance(changes, _Changes)
        return (changes.bound or self._bound).combiner.counting(rule_id, changes.turned)

    def loses_members(self, outcome: Outcome) -> bool:
        """Somewhere a device counted as a member of a group and, once the outcome is adopted, does not."""
        changes = outcome.changes
        assert isinstance(changes, _Changes)
        return changes.turned is not None and self._bound.combiner.loses_members(changes.turned)

    @property
    def declared(self) -> Declared:
        return self._clock.declared

    def _bind(self, book: RuleBook, declared: Declared, previous: _Bound | None) -> _Bound:
        parts = parts_of(book.rules)
        before = previous.binding if previous is not None else None
        binding = bind(parts.values(), self._registry, self._grid_tree, before, declared=declared)
        members = {
            owner.id: members_of(owner, block.devices.tolist(), self._registry, self._grid_tree)
            for _, block in binding.blocks()
            if (owner := parts[block.rule.id].owner).group is not None
        }
        combiner = Combiner(parts, self._registry, members)
        return _Bound(parts, binding, combiner, {part: place for place, part in enumerate(parts)})

    def evaluate(self, rows: Rows) -> Outcome:
        """What follows from the rows. Transitions come in the order of their elements."""
        self._follow_registry()
        if rows.by_series is None:
            rows = replace(rows, by_series=order_of(rows.series))
        changes, found = _Changes(rows=rows), _Found()
        if len(rows):
            batch = self._batch(rows)
            with np.errstate(all="ignore"):
                for k, read in self._reads(batch):
                    self._judge_batch(self._bound.binding.kernels[k], batch, read, changes, found)
        return found.outcome(changes, self._bound.combiner)

    def tick(self, now: int) -> Outcome:
        """What the clock brings up to `now`: each pair that is due is judged at its due instants, one by one."""
        self._follow_registry()
        changes, found = _Changes(now=now), _Found()
        self._begin_pauses(now, changes, found)
        clock = replace(self._clock, now=max(now, self._clock.now))
        with np.errstate(all="ignore"):
            for kernel in self._bound.binding.kernels:
                due = np.flatnonzero(kernel.state.due <= now) if kernel.shape.timed else np.empty(0, np.int64)
                if len(due):
                    changes.kernels.append((kernel, self._judge_clock(kernel, due, clock, found)))
        return found.outcome(changes, self._bound.combiner)

    def until_due(self, rows: Rows) -> int:
        """How many of these rows can be judged in one batch: at the next one a clock that ticks before every row later
        than all before would find something to do. At least one element; `tick` to its instant first."""
        self._follow_registry()
        if not len(rows):
            return 0
        batch = self._batch(rows)
        reads = dict(self._reads(batch))
        at = np.maximum(np.maximum.accumulate(rows.at), self._clock.now)
        clock = self._clock
        first = int(np.searchsorted(at, max(self._bound.combiner.due(), clock.now + 1)))
        first = min(first, int(np.searchsorted(at, min(FAR, int(rows.at.min()) + self._bound.combiner.soonest()))))
        with np.errstate(all="ignore"):
            for k, kernel in enumerate(self._bound.binding.kernels):
                if kernel.shape.timed:
                    view = see_batch(kernel, self._memory, batch, reads[k], clock) if k in reads else None
                    first = min(first, first_due(kernel, view, at, clock.now))
        return max(first, int(np.searchsorted(rows.element, rows.element[0], "right")))

    def adopt(self, outcome: Outcome) -> None:
        """Take the state of the outcome: to be called once, after its commit and before anything else."""
        changes = outcome.changes
        assert isinstance(changes, _Changes)
        for kernel, change in changes.kernels:
            change.apply(kernel.state)
        if changes.turned is not None:
            self._bound.combiner.adopt(changes.turned)
        if changes.rows is not None:
            self._remember(changes.rows)
        now = max(self._clock.now, changes.now)
        self._clock = replace(self._clock, now=now, ticked=now)
        if changes.declared is not None:
            self._clock = replace(self._clock, declared=changes.declared)
            pause(self._bound.binding.kernels, self._registry, changes.declared)
        if changes.site is not None:
            self._clock = replace(self._clock, site=changes.site)
        if changes.book is not None and changes.bound is not None:
            self._book, self._bound = changes.book, changes.bound
        if changes.declared is not None or changes.bound is not None:
            self._settle()

    def link(self, resumed_at: int) -> None:
        """The link is back or the service has started: an absence gets one full interval from here."""
        self._clock = replace(self._clock, resumed_at=max(self._clock.resumed_at, resumed_at))
        self._settle()

    def devices_changed(self, grid_tree: Mapping[str, frozenset[str]] | None = None) -> tuple[Transition, ...]:
        """Bind anew after the registry (or the grid tree, where it is given) changed, keeping what is known of every
        pair that remains.

        Returns what must be cleared because its device is no longer judged, dated with the last instant of the rule.
        """
        if grid_tree is not None:
            self._grid_tree = grid_tree
        bound, ended = self._replace(self._book, NEVER, "device_not_judged")
        self._bound = bound
        self._settle()
        return ended

    def reload(self, book: RuleBook, now: int, site: Site | None = None) -> Outcome:
        """Another book: unchanged rules keep their state, what stands of removed or changed rules is cleared. `site`
        another calendar (None: the same), by which is judged what comes from here on."""
        bound, ended = self._replace(book, now, "rule_removed_or_changed")
        return Outcome(ended, (), _Changes(book=book, bound=bound, now=now, site=site))

    def declare(self, declared: Declared, now: int) -> Outcome:
        """What people have declared from now on, all of it: what stands of pairs that are paused now is cleared."""
        changes, found = _Changes(declared=declared, now=now), _Found()
        self._end_paused([p for p in declared.pauses if p.start <= now < p.end], now, changes, found)
        return found.outcome(changes, self._bound.combiner)

    def _begin_pauses(self, now: int, changes: _Changes, found: _Found) -> None:
        """What stands where a pause begins ends there; pairs that the clock judges anyway it finds by itself."""
        to_come = [p for p in self._clock.declared.pauses if self._clock.now < p.start <= now and p.start < p.end]
        for start in sorted({p.start for p in to_come}):
            self._end_paused([p for p in to_come if p.start == start], start, changes, found, timed=False)

    def _end_paused(
        self, pauses: Sequence[Pause], now: int, changes: _Changes, found: _Found, *, timed: bool = True
    ) -> None:
        paused = [d.number for p in pauses if (d := self._registry.get(p.device)) is not None]
        for kernel in self._bound.binding.kernels if paused else ():
            if kernel.shape.timed and not timed:
                continue
            standing = (kernel.state.tracks.phase == FIRING) & np.isin(kernel.device, paused)
            ended = []
            for row in np.flatnonzero(standing).tolist():
                block, device = kernel.block_of(row), self._device_id(kernel, row)
                owner = self._bound.parts[block.rule.id].owner.id
                raised = int(kernel.state.tracks.raised[row])
                mine = [p for p in pauses if p.device == device and (p.rules is None or owner in p.rules)]
                why = [p.why for p in mine if raised < p.end]
                if why and (block.rule.id, device) not in found.paused:
                    found.paused.add((block.rule.id, device))
                    ended.append((row, max(now, int(kernel.state.instant[row]), raised)))
                    end = self._end(kernel, block, row, now, "paused", {"why": why[0]})
                    found.transitions.append(((end.at, self._bound.places[block.rule.id], row, 0), end))
            if ended:
                changes.kernels.append((kernel, _cleared(*np.array(ended, np.int64).T)))

    def snapshot(self) -> bytes:
        """The whole state; `restore` of it, with the same rules and devices, gives an engine that cannot be told
        from this one."""
        bound = self._bound
        combined = msgspec.msgpack.encode(bound.combiner.snapshot(), order="deterministic")
        return pack(bound.binding, self._memory, self._clock, combined)

    def restore(self, blob: bytes) -> None:
        """Take the state of a snapshot. Rules whose meaning changed since start afresh; ValueError for other bytes."""
        shot = read(blob)
        self._clock = replace(
            self._clock, now=shot.now, ticked=shot.now, resumed_at=shot.resumed_at, declared=shot.declared
        )
        self._bound, self._memory = self._bind(self._book, shot.declared, None), _no_memory()
        self._make_room()
        unpack(shot, self._bound.binding, self._memory)
        firing = {
            block.rule.id: frozenset(
                block.devices[kernel.state.tracks.phase[block.start : block.stop] == FIRING].tolist()
            )
            for kernel, block in self._bound.binding.blocks()
        }
        self._bound.combiner.restore(msgspec.msgpack.decode(shot.combined, type=Saved), firing)
        self._settle()

    def _replace(self, book: RuleBook, now: int, why: str) -> tuple[_Bound, tuple[Transition, ...]]:
        """Bound anew, with what is unchanged; and what ends because its part is not judged any more."""
        bound = self._bind(book, self._clock.declared, self._bound)
        ended = self._ended(bound.binding, now, why)
        combined = bound.combiner.take_over(self._bound.combiner, ended, now, why)
        bound.combiner.adopt(combined.changes)
        return bound, combined.transitions

    def _follow_registry(self) -> None:
        """A series or device that came since the last binding is bound before it is judged."""
        bound = self._bound.binding
        if len(self._registry.series_device) != bound.series or len(self._registry.devices) != bound.devices:
            self.devices_changed()

    def _make_room(self) -> None:
        """Room for every series and device there is, and the last place for one never seen."""
        memory, count = self._memory, len(self._registry.series_device) + 1
        if len(memory.at) < count:
            value, at = np.full(count, np.nan), np.full(count, NEVER, np.int64)
            value[: len(memory.at) - 1], at[: len(memory.at) - 1] = memory.value[:-1], memory.at[:-1]
            memory.value, memory.at = value, at
        memory.history.keep(self._bound.binding.spans)

    def _settle(self) -> None:
        """After binding, restoring, a link or a declaration: room for all, and the agenda of every pair anew."""
        self._make_room()
        memory = self._memory
        if self._bound.binding.whole_devices:
            # Series first, and no more than there is room for: the decoder may number others meanwhile.
            owner = self._registry.series_devices()[: len(memory.at) - 1]
            memory.heard = np.full(len(self._registry.devices), NEVER, np.int64)
            np.maximum.at(memory.heard, owner, memory.at[: len(owner)])
        for kernel in self._bound.binding.kernels:
            if kernel.shape.timed:
                everyone = np.arange(len(kernel))
                sight = see_clock(kernel, memory, everyone, kernel.state.instant, self._clock)
                kernel.state.due = agenda(kernel, sight, everyone, kernel.state.tracks)[0].min(axis=0)

    def _batch(self, rows: Rows) -> Batch:
        order = rows.by_series if rows.by_series is not None else order_of(rows.series)
        series = rows.series.astype(np.int64)
        places = self._memory.history.stage(series, rows.at, rows.value)
        return Batch(series, rows.at, rows.value, rows.element, places, order)

    def _reads(self, batch: Batch) -> Iterator[tuple[int, Read]]:
        """The kernels that read something of the batch, and what. One sort of one integer for each pair and series,
        pair before series: it is linear in what applies, not in what there is."""
        readers, owners = self._bound.binding.readers, batch.order.owners
        begin, counts = readers.begin[owners], readers.count[owners]
        bits = len(owners).bit_length()
        key = readers.pair[stretches(begin, begin + counts)] << bits
        key |= np.repeat(np.arange(len(owners)), counts)
        key.sort()
        pairs = key >> bits
        key &= (1 << bits) - 1
        offsets = self._bound.binding.offsets
        cuts: list[int] = np.searchsorted(pairs, offsets).tolist()
        for k in np.flatnonzero(np.diff(cuts)).tolist():
            part = slice(cuts[k], cuts[k + 1])
            yield k, Read(pairs[part] - offsets[k], key[part])

    def _judge_batch(self, kernel: Kernel, batch: Batch, read: Read, changes: _Changes, found: _Found) -> None:
        bounds = batch.bounds
        some = stirred(kernel, bounds, read)
        if some is not None:
            instant = np.maximum(bounds.last[read.owner], kernel.state.instant[read.pairs])
            changes.kernels.append((kernel, unstirred(read.pairs, instant)))
            read = Read(read.pairs[some], read.owner[some])
            if not len(read.pairs):
                return
        view = see_batch(kernel, self._memory, batch, read, self._clock)
        sight, groups = view.sight, view.groups
        verdict = judge(kernel, sight, groups, kernel.state, by_clock=False)
        if kernel.shape.timed:
            tracks = kernel.state.tracks.take(groups.pairs)
            if verdict.change.tracks is not None:
                tracks.put(np.searchsorted(groups.pairs, verdict.change.loud), verdict.change.tracks)
            verdict.change.due = agenda(kernel, sight, groups.ends(), tracks)[0].min(axis=0)
        changes.kernels.append((kernel, verdict.change))
        self._report(kernel, verdict, (batch.element, view.rows), found)

    def _judge_clock(self, kernel: Kernel, pairs: I64, clock: Clock, found: _Found) -> Change:
        """Works on a copy of the due pairs; every round judges each at its earliest due instant and asks again. A pair
        that a round neither moved nor took further in time is done: no mistake may keep the clock for ever."""
        pocket = kernel.state.take(pairs)
        active, looked, moved = np.arange(len(pairs)), False, np.ones(len(pairs), bool)
        while len(active):
            sight = see_clock(kernel, self._memory, pairs[active], pocket.instant[active], clock)
            ready, instants = agenda(kernel, sight, np.arange(len(active)), pocket.tracks.take(active), looked=looked)
            pocket.due[active] = ready.min(axis=0)
            at = np.where(ready <= clock.now, instants, np.iinfo(np.int64).max).min(axis=0)
            late = (pocket.due[active] <= clock.now) & (moved | (at > pocket.instant[active]))
            active, at = active[late], at[late]
            if not len(active):
                break
            sight = see_clock(kernel, self._memory, pairs[active], np.maximum(pocket.instant[active], at), clock)
            groups = Groups(np.arange(len(active)), pairs[active], active, len(active))
            phase = pocket.tracks.phase[active]
            verdict = judge(kernel, sight, groups, pocket, by_clock=True)
            verdict.change.apply(pocket)
            looked, moved = True, pocket.tracks.phase[active] != phase
            self._report(kernel, verdict, None, found)
        none = np.empty(0, np.int64)
        return Change(pairs, pocket.instant, True, pairs, pocket.tracks, none, np.empty(0), pocket.due)

    def _report(self, kernel: Kernel, verdict: Verdict, source: tuple[I32, I64] | None, found: _Found) -> None:
        places = self._bound.places
        for step in verdict.steps:
            rule = kernel.block_of(step.pair).rule
            device = self._registry.devices[int(kernel.device[step.pair])]
            brought_by = -1
            if source is not None:
                element, rows = source
                brought_by = int(element[rows[verdict.evaluations[step.at]]])
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
            first = step.instant if source is None else brought_by
            order = (first, places[rule.id], device.number, len(found.transitions))
            found.transitions.append((order, transition))
        for pair, raised_at, peak in verdict.peaks:
            device = self._registry.devices[int(kernel.device[pair])]
            found.peaks.append(Peak(kernel.block_of(pair).rule.id, device.id, raised_at, peak))

    def _remember(self, rows: Rows) -> None:
        """Rows of a series rise in time, so of several the last written is the newest."""
        memory = self._memory
        order = rows.by_series if rows.by_series is not None else order_of(rows.series)
        series, last = order.owners, order.row[order.last()]
        memory.value[series], memory.at[series] = rows.value[last], rows.at[last]
        memory.history.adopt(series, np.diff(order.start, append=len(order.row)))
        if self._bound.binding.whole_devices:
            np.maximum.at(memory.heard, rows.device, rows.at)

    def _ended(self, binding: Binding, now: int, why: str) -> tuple[Transition, ...]:
        found = []
        for kernel, block, rows in gone(self._bound.binding, binding):
            tracks = kernel.state.tracks
            for row in rows[tracks.phase[rows] == FIRING].tolist():
                found.append(self._end(kernel, block, row, now, why))
        return tuple(found)

    def _device_id(self, kernel: Kernel, row: int) -> str:
        return self._registry.devices[int(kernel.device[row])].id

    def _end(  # noqa: PLR0917 - what ends, when and why
        self, kernel: Kernel, block: Block, row: int, now: int, why: str, more: Mapping[str, object] | None = None
    ) -> Transition:
        tracks, rule = kernel.state.tracks, block.rule
        return Transition(
            rule=rule.id,
            device=self._device_id(kernel, row),
            metric=rule.metric,
            edge=Edge.CLEARED,
            at=max(now, int(kernel.state.instant[row]), int(tracks.raised[row])),
            since=int(tracks.since[row]),
            first_value=known(float(tracks.first[row])),
            peak_value=known(float(tracks.peak[row])),
            reason={"when": rule.when_text, "cleared_by": why, **(more or {})},
            element=-1,
        )


def _no_memory() -> Memory:
    return Memory(np.array([np.nan]), np.array([NEVER], np.int64), np.empty(0, np.int64))


def _cleared(rows: I64, instant: I64) -> Change:
    """These pairs without their occurrences, judged by the clock at these instants."""
    none = np.empty(0, np.int64)
    return Change(rows, instant, True, rows, idle(len(rows)), none, np.empty(0))

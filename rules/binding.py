"""Parts of rules bound to the devices they apply to: kernels of equal shape, and for every series who reads it.

Binding is done in columns, rule by rule, so that a hundred thousand devices bind in seconds. It never numbers a
series: a metric the device has not sent yet is -1 and is bound when the registry grows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from operator import is_

import numpy as np

from devices.batch import F64, I64, Bool
from devices.kinds import KINDS
from devices.registry import Device, Registry
from rules.checking import has_series
from rules.datum import can_mix_datums, has_own_datum, mixes_datums
from rules.declared import Declared
from rules.kernel import Block, Kernel
from rules.outcome import NEVER
from rules.params import Filling, Steps, fill
from rules.parts import Part
from rules.pausing import Pauses
from rules.rule import AppliesTo, Rule, attribute_number
from rules.shape import HIGHEST, INTERVAL, LOWEST, Plan, Shape, plan
from rules.state import fresh

_SECOND = 1_000_000
# Without a word from the rule: three missed reports are a silence (docs/architecture.md §4).
_INTERVALS = 3
_NO_DEVICES = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Readers:
    """For series s the pairs `pair[begin[s] : begin[s] + count[s]]`, numbered through all kernels."""

    begin: I64
    count: I64
    pair: I64


@dataclass(frozen=True, slots=True)
class Binding:
    """`offsets` are where the pairs of each kernel begin in the numbering of `readers`, and the end of the last;
    `spans` how long the samples of each series are looked back on, 0 for not at all. `whole_devices`: some part asks
    when a device was last heard of. `series` is how many are bound."""

    table: Columns
    kernels: list[Kernel]
    offsets: I64
    readers: Readers
    spans: I64
    whole_devices: bool
    series: int

    @property
    def devices(self) -> int:
        return len(self.table.devices)

    def blocks(self) -> list[tuple[Kernel, Block]]:
        return [(kernel, block) for kernel in self.kernels for block in kernel.blocks]


@dataclass
class Columns:
    """The devices as columns over their numbers; attributes are made when first asked for."""

    registry: Registry
    devices: Sequence[Device]
    interval: I64
    first_seen: I64
    by_kind: dict[str, I64]
    by_tag: dict[str, I64]
    by_grid: dict[str, I64]
    _attributes: dict[str, F64] = field(default_factory=dict)

    def attribute(self, name: str) -> F64:
        """Over device numbers; NaN where the device has none that always holds."""
        if name not in self._attributes:
            self._attributes[name] = self._column(name)
        return self._attributes[name]

    def _column(self, name: str) -> F64:
        if name == INTERVAL:
            return self.interval.astype(np.float64)
        for end, prefix in enumerate((LOWEST, HIGHEST)):
            if name.startswith(prefix):
                metric = name.removeprefix(prefix)
                ranges = {k.name: k.metrics[metric].plausible[end] for k in KINDS.values() if metric in k.metrics}
                return np.array([ranges.get(device.kind, np.nan) for device in self.devices], np.float64)
        return np.array([attribute_number(device.attributes, name) for device in self.devices], np.float64)

    @cached_property
    def own_datum(self) -> list[int]:
        """Devices with a level above a datum of its own."""
        return [device.number for device in self.devices if has_own_datum(device.attributes)]

    @cached_property
    def dated(self) -> dict[str, dict[int, Steps]]:
        """Attributes that hold from an instant on, by name and device number."""
        found: dict[str, dict[int, Steps]] = defaultdict(dict)
        for device in self.devices:
            for name, value in device.attributes.items():
                if isinstance(value, tuple):
                    found[name][device.number] = tuple(sorted((step.valid_from, step.value) for step in value))
        return found


def columns(registry: Registry, known: Columns | None = None) -> Columns:
    """`known` is taken again where no device came or changed since."""
    devices = tuple(registry.devices)
    if known is not None and len(known.devices) == len(devices) and all(map(is_, known.devices, devices)):
        return known
    judged = [d for d in devices if d.judged]
    return Columns(
        registry,
        devices,
        np.array([round(d.interval_s * _SECOND) for d in devices], np.int64),
        np.array([d.first_seen or NEVER for d in devices], np.int64),
        _index((d.kind, d.number) for d in judged),
        _index((tag, d.number) for d in judged for tag in d.tags),
        _index((d.grid, d.number) for d in judged if d.grid is not None),
    )


def _by_metric(metrics: Iterable[str], owner: I64, devices: int) -> dict[str, I64]:
    """For each metric the series of every device, -1 where it has none; `owner` has the device of each series."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, metric in enumerate(metrics):
        found[metric].append(number)
    series = {metric: np.full(devices, -1, np.int64) for metric in found}
    for metric, numbers in found.items():
        series[metric][owner[numbers]] = numbers
    return series


def _index(pairs: Iterable[tuple[str, int]]) -> dict[str, I64]:
    found: dict[str, list[int]] = defaultdict(list)
    for key, number in pairs:
        found[key].append(number)
    return {key: np.array(numbers, np.int64) for key, numbers in found.items()}


def has_all_series(rule: Rule, kind: str) -> bool:
    return all(has_series(kind, name) for name in rule.series)


def matching(rule: Rule, table: Columns, grid_tree: Mapping[str, frozenset[str]]) -> I64:
    """Numbers of the judged devices the rule applies to, rising: all that is given matches, the kind has every metric
    and event that the rule reads, and it does not set levels of two datums against each other."""
    to: AppliesTo = rule.applies_to
    size = len(table.devices)
    kinds = [to.kind] if to.kind is not None else list(KINDS)
    found = _union(table.by_kind, [kind for kind in kinds if has_all_series(rule, kind)], size)
    if to.devices is not None:
        known = (table.registry.get(name) for name in to.devices)
        found = _both(np.array([d.number for d in known if d is not None and d.number < size], np.int64), found, size)
    if to.grids is not None:
        wanted = frozenset().union(*(grid_tree.get(grid, frozenset({grid})) | {grid} for grid in to.grids))
        found = _both(_union(table.by_grid, wanted, size), found, size)
    for tag in to.tags or ():
        found = _both(table.by_tag.get(tag, _NO_DEVICES), found, size)
    if table.own_datum and can_mix_datums(rule):
        mixed = [n for n in table.own_datum if mixes_datums(rule, table.devices[n].attributes)]
        found = np.setdiff1d(found, mixed) if mixed else found
    return found


def _union(index: Mapping[str, I64], keys: Iterable[str], size: int) -> I64:
    """Rising. A mask, here and below, because numpy's own sets cost a hundred times as much."""
    parts = [index[key] for key in keys if key in index]
    if len(parts) == 1:
        return parts[0]
    mask = np.zeros(size, np.bool_)
    for part in parts:
        mask[part] = True
    return np.flatnonzero(mask)


def _both(some: I64, found: I64, size: int) -> I64:
    """Those of `found` that are among `some`, in the order of `found`."""
    mask = np.zeros(size, np.bool_)
    mask[some] = True
    both: I64 = found[mask[found]]
    return both


def bind(
    parts: Iterable[Part],
    registry: Registry,
    grid_tree: Mapping[str, frozenset[str]],
    previous: Binding | None = None,
    *,
    declared: Declared,
) -> Binding:
    """Kernels for the parts, with the state of every pair that `previous` had under the same meaning."""
    # Copied first, series before devices: the decoder numbers both in a thread of its own, and what comes meanwhile
    # must not be taken for bound.
    owner = registry.series_devices().astype(np.int64)
    table = columns(registry, previous.table if previous is not None else None)
    series = _by_metric(islice(registry.series_metric, len(owner)), owner, len(table.devices))
    shapes: dict[Shape, list[tuple[Part, Plan, I64]]] = {}
    for part in parts:
        numbers = matching(part.rule, table, grid_tree)
        if len(numbers):
            filled = plan(part.rule)
            shapes.setdefault(filled.shape, []).append((part, filled, numbers))
    kernels = [_kernel(shape, members, table, series) for shape, members in shapes.items()]
    if previous is not None:
        _carry(previous, kernels)
    pause(kernels, registry, declared)
    offsets = np.cumsum([0, *map(len, kernels)], dtype=np.int64)
    return Binding(
        table, kernels, offsets, _readers(kernels, offsets, owner), _spans(kernels, len(owner)),
        any(kernel.shape.any_slot >= 0 for kernel in kernels), len(owner),
    )  # fmt: skip


def _kernel(
    shape: Shape, members: list[tuple[Part, Plan, I64]], table: Columns, by_metric: Mapping[str, I64]
) -> Kernel:
    rules = [part.rule for part, _, _ in members]
    sizes = [len(numbers) for _, _, numbers in members]
    starts = np.cumsum([0, *sizes], dtype=np.int64)
    begins = starts.tolist()
    device = np.concatenate([numbers for _, _, numbers in members])
    missing = np.full(len(table.interval), -1, np.int64)
    series = np.stack([
        np.concatenate([by_metric.get(plan.slots[slot], missing)[numbers] for _, plan, numbers in members])
        for slot in range(shape.slots)
    ])  # fmt: skip
    fillings = [
        Filling(start, numbers, plan.params) for (_, plan, numbers), start in zip(members, begins, strict=False)
    ]
    hold = np.repeat(np.array([rule.hold_us for rule in rules], np.int64), sizes)
    keep = np.repeat(np.array([rule.keep_us for rule in rules], np.int64), sizes)
    default = _INTERVALS * table.interval[device]
    return Kernel(
        shape=shape,
        blocks=[
            Block(part.rule, part.meaning, start, start + size, numbers)
            for (part, _, numbers), start, size in zip(members, begins, sizes, strict=False)
        ],
        series=series,
        params=fill(len(device), fillings, table.attribute, table.dated),
        device=device,
        first_seen=table.first_seen[device],
        hold=hold,
        keep=keep,
        max_gap=_limit([rule.gap_us for rule in rules], sizes, default),
        max_age=_limit([rule.max_age_us for rule in rules], sizes, default),
        state=fresh(len(device), timed=shape.timed, repeats=shape.repeat is not None),
        holds=bool(hold.any()),
        keeps=bool(keep.any()),
        block_starts=starts[:-1],
    )


def pause(kernels: Iterable[Kernel], registry: Registry, declared: Declared) -> None:
    """Tell the kernels which of their pairs people have paused."""
    devices = {d.number: d.id for p in declared.pauses if (d := registry.get(p.device)) is not None}
    for kernel in kernels:
        found: dict[int, tuple[tuple[int, int], ...]] = {}
        for block in kernel.blocks if devices else ():
            owner = block.rule.id.partition("#")[0]
            rows = np.flatnonzero(np.isin(block.devices, list(devices))).tolist()
            for row in rows:
                pauses = declared.paused(devices[int(block.devices[row])])
                spans = tuple((p.start, p.end) for p in pauses if p.rules is None or owner in p.rules)
                if spans:
                    found[block.start + row] = spans
        kernel.pauses = Pauses(found)


def _limit(limits: list[int | None], sizes: list[int], default: I64) -> I64:
    given = np.repeat(np.array([-1 if limit is None else limit for limit in limits], np.int64), sizes)
    return np.where(given < 0, default, given)


def _readers(kernels: list[Kernel], offsets: I64, owner: I64) -> Readers:
    """Sorted once here, so that a batch costs only what its own series are read by."""
    series, pairs = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for kernel, offset in zip(kernels, offsets.tolist(), strict=False):
        series.append(kernel.series.ravel())
        pairs.append(np.tile(np.arange(len(kernel)) + offset, kernel.shape.slots))
        if kernel.shape.any_slot >= 0:
            for block in kernel.blocks:
                place = np.minimum(np.searchsorted(block.devices, owner), len(block.devices) - 1)
                mine = np.flatnonzero(block.devices[place] == owner)
                series.append(mine)
                pairs.append(place[mine] + block.start + offset)
    all_series, all_pairs = np.concatenate(series), np.concatenate(pairs)
    bound = all_series >= 0
    # A series read in two slots, or as itself and as its device's, asks for the pair once.
    key = np.sort((all_series[bound] << 32) | all_pairs[bound])
    key = key[np.diff(key, prepend=-1) != 0]
    counts = np.bincount(key >> 32, minlength=len(owner)).astype(np.int64)
    return Readers(np.cumsum(counts) - counts, counts, key & 0xFFFFFFFF)


def _spans(kernels: list[Kernel], count: int) -> I64:
    """How far back each series is looked, by series; the last place stands for a series never seen."""
    found = np.zeros(count + 1, np.int64)
    for kernel in kernels:
        for slot in kernel.shape.looks:
            bound = kernel.series[slot] >= 0
            # A microsecond: the newest two samples, which are kept in any case.
            np.maximum.at(found, kernel.series[slot][bound], 1)
        for slot, k in kernel.shape.windows:
            bound = kernel.series[slot] >= 0
            span = kernel.params.plain[k][bound].astype(np.int64)
            np.maximum.at(found, kernel.series[slot][bound], span)
    return found


def _carry(previous: Binding, kernels: list[Kernel]) -> None:
    """The state of pairs of an unchanged rule (id and meaning) and a device that still has it."""
    old = {(block.rule.id, block.meaning): (kernel, block) for kernel, block in previous.blocks()}
    for kernel in kernels:
        for block in kernel.blocks:
            found = old.get((block.rule.id, block.meaning))
            if found is not None:
                source, old_block = found
                here, there = _same(block.devices, old_block.devices)
                rows = old_block.start + there
                kernel.state.put(block.start + here, source.state.take(rows))


def _same(new: I64, old: I64) -> tuple[I64, I64]:
    """Positions in both, of what both have; both rise."""
    if np.array_equal(new, old):
        everywhere = np.arange(len(new))
        return everywhere, everywhere
    _, here, there = np.intersect1d(new, old, assume_unique=True, return_indices=True)
    return here, there


def gone(previous: Binding, now: Binding) -> list[tuple[Kernel, Block, I64]]:
    """Pairs of `previous` that `now` has not, as rows of their kernel."""
    kept = {(b.rule.id, b.meaning): b.devices for _, b in now.blocks()}
    found = []
    for kernel, block in previous.blocks():
        left = kept.get((block.rule.id, block.meaning), _NO_DEVICES)
        if np.array_equal(block.devices, left):
            continue
        lost: Bool = ~np.isin(block.devices, left)
        if lost.any():
            found.append((kernel, block, block.start + np.flatnonzero(lost)))
    return found

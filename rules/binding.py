"""Rules bound to the devices they apply to: kernels of equal shape, and for every series the pairs that read it.

Binding is done in columns, rule by rule, so that a hundred thousand devices bind in seconds. It never numbers a
series: a metric the device has not sent yet is -1 and is bound when the registry grows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from devices.batch import F64, I64, Bool
from devices.kinds import KINDS
from devices.registry import DeviceStatus, Registry
from rules.book import RuleBook
from rules.checking import has_series
from rules.kernel import Block, Kernel
from rules.outcome import NEVER
from rules.rule import AppliesTo, Rule, attribute_number, constant_value
from rules.shape import Plan, Shape, plan
from rules.state import fresh

_SECOND = 1_000_000
# Without a word from the rule: three missed reports are a silence (docs/architecture.md §4).
_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class Readers:
    """For series s the pairs `pair[begin[s] : begin[s] + count[s]]`, numbered through all kernels."""

    begin: I64
    count: I64
    pair: I64


@dataclass(frozen=True, slots=True)
class Binding:
    """`offsets` are where the pairs of each kernel begin in the numbering of `readers`, and the end of the last;
    `windows` how long the events of each series are kept."""

    kernels: list[Kernel]
    offsets: I64
    readers: Readers
    windows: I64
    devices: int
    series: int

    def blocks(self) -> list[tuple[Kernel, Block]]:
        return [(kernel, block) for kernel in self.kernels for block in kernel.blocks]


@dataclass(slots=True)
class Columns:
    """The registry as columns over device numbers; attributes and series are made when first asked for."""

    registry: Registry
    interval: I64
    first_seen: I64
    by_kind: dict[str, I64]
    by_tag: dict[str, I64]
    by_grid: dict[str, I64]
    by_metric: dict[str, I64]
    _attributes: dict[str, F64] = field(default_factory=dict)

    def attribute(self, name: str) -> F64:
        if name not in self._attributes:
            self._attributes[name] = np.array(
                [attribute_number(device.attributes, name) for device in self.registry.devices], np.float64
            )
        return self._attributes[name]

    def reader(self, numbers: I64) -> Callable[[str], F64]:
        """Reads an attribute of these devices."""
        return lambda name: self.attribute(name)[numbers]


def columns(registry: Registry) -> Columns:
    devices = registry.devices
    active = [d for d in devices if d.status is DeviceStatus.ACTIVE]
    series: dict[str, I64] = {}
    for number, (device, metric) in enumerate(zip(registry.series_device, registry.series_metric, strict=True)):
        if metric not in series:
            series[metric] = np.full(len(devices), -1, np.int64)
        series[metric][device] = number
    return Columns(
        registry,
        np.array([round(d.interval_s * _SECOND) for d in devices], np.int64),
        np.array([d.first_seen or NEVER for d in devices], np.int64),
        _index((d.kind, d.number) for d in active),
        _index((tag, d.number) for d in active for tag in d.tags),
        _index((d.grid, d.number) for d in active if d.grid is not None),
        series,
    )


def _index(pairs: Iterable[tuple[str, int]]) -> dict[str, I64]:
    found: dict[str, list[int]] = defaultdict(list)
    for key, number in pairs:
        found[key].append(number)
    return {key: np.array(numbers, np.int64) for key, numbers in found.items()}


def matching(rule: Rule, table: Columns, grid_tree: Mapping[str, frozenset[str]]) -> I64:
    """Numbers of the active devices the rule applies to, rising: all that is given matches, and the kind has every
    metric and event that the rule reads."""
    to: AppliesTo = rule.applies_to
    kinds = [to.kind] if to.kind is not None else list(KINDS)
    able = [kind for kind in kinds if all(has_series(kind, name) for name in rule.series)]
    found = _union(table.by_kind, able)
    if to.devices is not None:
        known = (table.registry.get(name) for name in to.devices)
        found = np.intersect1d(found, np.array([d.number for d in known if d is not None], np.int64))
    if to.grids is not None:
        wanted = frozenset().union(*(grid_tree.get(grid, frozenset({grid})) | {grid} for grid in to.grids))
        found = np.intersect1d(found, _union(table.by_grid, wanted))
    if to.tags is not None:
        for tag in to.tags:
            found = np.intersect1d(found, table.by_tag.get(tag, np.empty(0, np.int64)))
    return found


def _union(index: Mapping[str, I64], keys: Iterable[str]) -> I64:
    parts = [index[key] for key in keys if key in index]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)


def bind(
    book: RuleBook, registry: Registry, grid_tree: Mapping[str, frozenset[str]], previous: Binding | None = None
) -> Binding:
    """Kernels for the book, with the state of every pair that `previous` had under the same meaning."""
    table = columns(registry)
    shapes: dict[Shape, list[tuple[Rule, Plan, I64]]] = {}
    for rule in book.rules.values():
        numbers = matching(rule, table, grid_tree)
        if len(numbers):
            shapes.setdefault(plan(rule).shape, []).append((rule, plan(rule), numbers))
    kernels = [_kernel(shape, members, table) for shape, members in shapes.items()]
    if previous is not None:
        _carry(previous, kernels)
    offsets = np.cumsum([0, *map(len, kernels)], dtype=np.int64)
    count = len(registry.series_device)
    readers = _readers(kernels, offsets, count)
    return Binding(kernels, offsets, readers, _windows(kernels, count), len(registry.devices), count)


def _kernel(shape: Shape, members: list[tuple[Rule, Plan, I64]], table: Columns) -> Kernel:
    sizes = [len(numbers) for _, _, numbers in members]
    starts = np.cumsum([0, *sizes], dtype=np.int64)
    device = np.concatenate([numbers for _, _, numbers in members])
    missing = np.full(len(table.interval), -1, np.int64)
    series = np.stack([
        np.concatenate([table.by_metric.get(plan.slots[slot], missing)[numbers] for _, plan, numbers in members])
        for slot in range(shape.slots)
    ])  # fmt: skip
    width = len(members[0][1].params)
    params = np.empty((width, len(device)))
    for (_, filling, numbers), start in zip(members, starts.tolist(), strict=False):
        for k, node in enumerate(filling.params):
            params[k, start : start + len(numbers)] = constant_value(node, table.reader(numbers))
    hold = np.repeat(np.array([rule.hold_us for rule, _, _ in members], np.int64), sizes)
    default = _INTERVALS * table.interval[device]
    return Kernel(
        shape=shape,
        blocks=[
            Block(rule, start, start + size, numbers)
            for (rule, _, numbers), start, size in zip(members, starts.tolist(), sizes, strict=False)
        ],
        series=series,
        params=params,
        device=device,
        first_seen=table.first_seen[device],
        hold=hold,
        max_gap=_limit([rule.gap_us for rule, _, _ in members], sizes, default),
        max_age=_limit([rule.max_age_us for rule, _, _ in members], sizes, default),
        state=fresh(len(device), timed=shape.timed),
        holds=bool(hold.any()),
        block_starts=starts[:-1],
    )


def _limit(limits: list[int | None], sizes: list[int], default: I64) -> I64:
    given = np.repeat(np.array([-1 if limit is None else limit for limit in limits], np.int64), sizes)
    return np.where(given < 0, default, given)


def _readers(kernels: list[Kernel], offsets: I64, count: int) -> Readers:
    """Sorted once here, so that a batch costs only what its own series are read by."""
    series = [k.series.ravel() for k in kernels]
    pairs = [np.tile(np.arange(len(k)) + offset, k.shape.slots) for k, offset in zip(kernels, offsets, strict=False)]
    all_series = np.concatenate([np.empty(0, np.int64), *series])
    all_pairs = np.concatenate([np.empty(0, np.int64), *pairs])
    bound = all_series >= 0
    key = np.sort((all_series[bound] << 32) | all_pairs[bound])
    counts = np.bincount(key >> 32, minlength=count).astype(np.int64)
    return Readers(np.cumsum(counts) - counts, counts, key & 0xFFFFFFFF)


def _windows(kernels: list[Kernel], count: int) -> I64:
    """How long the events of each series must be remembered, by series; 0 where no rule counts them."""
    found = np.zeros(count, np.int64)
    for kernel in kernels:
        for slot, k in kernel.shape.windows:
            bound = kernel.series[slot] >= 0
            np.maximum.at(found, kernel.series[slot][bound], kernel.params[k][bound].astype(np.int64))
    return found


def _carry(previous: Binding, kernels: list[Kernel]) -> None:
    """The state of pairs of an unchanged rule (id and meaning) and a device that still has it."""
    old = {(block.rule.id, block.rule.fingerprint): (kernel, block) for kernel, block in previous.blocks()}
    for kernel in kernels:
        for block in kernel.blocks:
            found = old.get((block.rule.id, block.rule.fingerprint))
            if found is not None:
                source, old_block = found
                here, there = _same(block.devices, old_block.devices)
                rows = old_block.start + there
                kernel.state.put(block.start + here, source.state.take(rows))


def _same(new: I64, old: I64) -> tuple[I64, I64]:
    """Positions in both, of what both have; both rise."""
    _, here, there = np.intersect1d(new, old, assume_unique=True, return_indices=True)
    return here, there


def gone(previous: Binding, now: Binding) -> list[tuple[Kernel, Block, I64]]:
    """Pairs of `previous` that `now` has not, as rows of their kernel."""
    kept = {(b.rule.id, b.rule.fingerprint): b.devices for _, b in now.blocks()}
    found = []
    for kernel, block in previous.blocks():
        left = kept.get((block.rule.id, block.rule.fingerprint), np.empty(0, np.int64))
        lost: Bool = ~np.isin(block.devices, left)
        if lost.any():
            found.append((kernel, block, block.start + np.flatnonzero(lost)))
    return found

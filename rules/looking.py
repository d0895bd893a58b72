"""What the engine would judge of one rule and one device at an instant: a look that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from devices.registry import Device, DeviceStatus
from rules.binding import Binding, has_all_series
from rules.datum import datum_slips
from rules.declared import Pause
from rules.kernel import Block, Kernel
from rules.logic import Clock, Sight
from rules.parts import Part
from rules.reason import attribute_at
from rules.rule import NO_GAP, Rule
from rules.seeing import Memory, see_clock
from rules.shape import plan


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest value of a metric or event, `at` NEVER where there is none; `max_age` None: never too old."""

    name: str
    at: int
    value: float
    max_age: int | None


@dataclass(frozen=True, slots=True)
class Look:
    """One part of a rule on one device at `instant`. `silence` is how long nothing was heard of the rule's series;
    `opinions` of a rule that repeats (true, all); `listening_since` when the link last came back."""

    part: Part
    device: Device
    sight: Sight
    instant: int
    phase: int
    since: int
    raised_at: int
    readings: tuple[Reading, ...]
    silence: int | None
    max_gap: int
    opinions: tuple[int, int]
    paused: Pause | None
    listening_since: int

    def attribute(self, name: str) -> object:
        """The value valid at the instant, None for none."""
        return attribute_at(self.device, name, self.instant)


def look(
    binding: Binding, memory: Memory, clock: Clock, parts: Mapping[str, Part], *, device: Device, rule: Rule, at: int
) -> list[Look]:
    """A look for each part that is judged on the device; none where none is. Of a part judged later than `at` already
    it is the look of then."""
    found = []
    for kernel, block in binding.blocks():
        part = parts[block.rule.id]
        row = int(np.searchsorted(block.devices, device.number))
        if part.owner.id == rule.id and row < len(block.devices) and block.devices[row] == device.number:
            found.append(
                _look(kernel, block, block.start + row, part, memory=memory, clock=clock, device=device, at=at)
            )
    return sorted(found, key=lambda one: one.part.level)


def _look(
    kernel: Kernel, block: Block, pair: int, part: Part, *, memory: Memory, clock: Clock, device: Device, at: int
) -> Look:
    state = kernel.state
    instant = max(at, int(state.instant[pair]))
    sight = see_clock(
        kernel, memory, np.array([pair]), np.array([instant], np.int64), replace(clock, now=max(clock.now, at))
    )
    for slot in kernel.shape.events:
        sight.here[slot] = memory.at[kernel.series[slot, [pair]]] == instant
    heard = int(state.heard[pair])
    bits = int(state.bits[pair]) if kernel.shape.repeat is not None else 0
    count = max(bits.bit_length() - 1, 0)
    pauses = clock.declared.paused(device.id)
    holding = (p for p in pauses if p.start <= instant < p.end and (p.rules is None or part.owner.id in p.rules))
    return Look(
        part=part,
        device=device,
        sight=sight,
        instant=instant,
        phase=int(state.tracks.phase[pair]),
        since=int(state.tracks.since[pair]),
        raised_at=int(state.tracks.raised[pair]),
        readings=tuple(_readings(kernel, block, pair, memory)),
        silence=instant - heard if 0 <= heard <= instant else None,
        max_gap=int(kernel.max_gap[pair]),
        opinions=((bits ^ (1 << count)).bit_count() if bits else 0, count),
        paused=next(holding, None),
        listening_since=clock.resumed_at,
    )


def _readings(kernel: Kernel, block: Block, pair: int, memory: Memory) -> Iterator[Reading]:
    for slot, name in enumerate(plan(block.rule).slots):
        if slot == kernel.shape.any_slot:
            yield Reading(name, int(memory.heard[kernel.device[pair]]), np.nan, None)
            continue
        series = int(kernel.series[slot, pair])
        age = int(kernel.max_age[pair]) if not name.startswith("event:") else NO_GAP
        yield Reading(name, int(memory.at[series]), float(memory.value[series]), None if age >= NO_GAP else age)


def why_not_judged(rule: Rule, device: Device | None) -> list[tuple[str, str, str]]:
    """Why a rule is not judged on a device at all: (code, Chinese, English)."""
    if device is None:
        return [("no_such_device", "没有这台设备", "there is no such device")]
    if device.status is not DeviceStatus.ACTIVE:
        return [
            (
                "not_active",
                f"设备状态为 {device.status.value}，不参与判断",
                f"the device is {device.status.value} and not judged",
            )
        ]
    if device.second_of is not None:
        zh = f"它是 {device.second_of} 的第二来源：入库、比对，不参与判断"
        en = f"it is the second source of {device.second_of}: stored and compared, never judged"
        return [("second_source", zh, en)]
    to, found = rule.applies_to, []
    if to.kind is not None and to.kind != device.kind:
        found.append(
            (
                "other_kind",
                f"规则只用于 {to.kind}，设备是 {device.kind}",
                f"the rule is for {to.kind}, the device is a {device.kind}",
            )
        )
    elif not has_all_series(rule, device.kind):
        found.append(
            ("no_such_metric", "该类设备没有规则所用的读数或事件", "its kind lacks a metric or event of the rule")
        )
    if to.devices is not None and device.id not in to.devices:
        found.append(("not_named", "规则没有列出这台设备", "the rule does not name the device"))
    if to.tags is not None and not to.tags <= device.tags:
        missing = ", ".join(sorted(to.tags - device.tags))
        found.append(("no_tag", f"设备没有标签 {missing}", f"the device lacks the tag {missing}"))
    found += [
        ("mixed_datums", f"高程基准不同：{slip}", f"two datums: {slip}")
        for slip in datum_slips(rule, device.attributes)
    ]
    if not found:
        found.append(("other_grid", "设备不在规则所限的网格内", "the device is in none of the grids of the rule"))
    return found

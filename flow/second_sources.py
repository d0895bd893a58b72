"""Who measures the same station as whom, and what the silence of one says of the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from devices.batch import Quality
from devices.instants import to_iso
from devices.kinds import KINDS
from devices.presence import silent_after
from devices.registry import Device, Registry
from flow.memory import Memory
from rules.outcome import Edge, Transition


def sources_of(registry: Registry, device: Device) -> tuple[Device, tuple[Device, ...]]:
    """The primary of the device's station and its second sources, by id. A primary that nobody knows any more leaves
    the device alone with itself."""
    primary = device if device.second_of is None else registry.get(device.second_of) or device
    return primary, tuple(sorted((d for d in registry.devices if d.second_of == primary.id), key=lambda d: d.id))


def told_beside(memory: Memory, silences: Iterable[Transition], now: int) -> Iterator[Transition]:
    """Silences (gw-silence); in the reason of one that is raised `second_sources`, those of the station that still
    report: device, last_seen and values, of a home no values; in that of a second source `second_of`."""
    for told in silences:
        device = memory.registry.get(told.device)
        if told.edge is not Edge.RAISED or device is None:
            yield told
            continue
        if device.second_of is not None:
            yield replace(told, reason={**told.reason, "second_of": device.second_of})
            continue
        _, seconds = sources_of(memory.registry, device)
        alive = [_told(memory, s) for s in seconds if now - memory.presence.last_seen[s.number] < silent_after(s)]
        yield replace(told, reason={**told.reason, "second_sources": alive}) if alive else told


def _told(memory: Memory, second: Device) -> dict[str, object]:
    newest, values = memory.newest, dict[str, float]()
    for metric in () if KINDS[second.kind].personal else KINDS[second.kind].metrics:
        series = memory.registry.find_series(second.number, metric)
        if series is None or series >= len(newest.value):  # the decoder numbers newcomers meanwhile
            continue
        if newest.measured_at[series] and newest.quality[series] != Quality.BAD:
            values[metric] = float(newest.value[series])
    last_seen = to_iso(int(memory.presence.last_seen[second.number]))
    return {"device": second.id, "last_seen": last_seen, "values": values}

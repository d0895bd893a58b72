"""Many packets read together: those of one form in one call, the rest singly, all of them in order of arrival."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from devices.batch import I32, I64, Bool
from ingest.columns import Builder, Part, in_order, joined
from ingest.formats.shapes import Read, Shape
from ingest.topics import Topics

# Reads the packet of a place into the builder's lists, as arriving at that instant; how many instants it took.
Single = Callable[[int, int], int]
_SKIPPED = -1


@dataclass(slots=True)
class _Found:
    """What packets of one form held; `place` is that of each element's packet."""

    shape: Shape
    place: I64
    position: I64 | None  # of an element in its packet; None: all first
    read: Read


def read_together(
    topics: Topics,
    numbers: I64,
    payloads: list[bytes],
    builder: Builder,
    *,
    stamp: int,
    skip: Bool | None,
    single: Single,
    usual: Callable[[I64, Part, I64], None],
) -> int:
    """The packets of these topics, of which the first arrives at `stamp`, into the builder, whose lists are empty. Each
    element takes an instant of arrival; returns how many were taken. `skip` is not read at all; `usual` is told what
    was read by its form: the place of each element's packet, the elements, and when the packet of each place came."""
    wanted: I32 = topics.shape[numbers]
    used = np.ones(len(payloads), np.int64)
    if skip is not None:
        wanted[skip], used[skip] = _SKIPPED, 0
    found = []
    for number in np.flatnonzero(np.bincount(wanted + 1)).tolist():
        shape = topics.shapes.known[number - 1] if number else None
        if shape is not None:
            found.append(_decode(shape, wanted, payloads, used))
    alone, alone_at = _read_alone(wanted, used, builder, stamp, single)
    received_at = stamp + np.cumsum(used) - used
    parts = []
    for each in found:
        parts.append(_part(each, topics, numbers, received_at))
        usual(each.place, parts[-1], received_at)
    _put(builder, [each.place for each in found], parts, alone_at, alone)
    return int(used.sum())


def _decode(shape: Shape, wanted: I32, payloads: list[bytes], used: I64) -> _Found:
    """Packets that turn out to have another form are marked as wanting none."""
    places = np.flatnonzero(wanted == shape.number)
    read = shape.read(payloads if len(places) == len(payloads) else [payloads[place] for place in places.tolist()])
    if read.failed:
        wanted[places[read.failed]] = 0
        places = np.delete(places, read.failed)
    if read.counts is None:
        return _Found(shape, places, None, read)
    counts = np.asarray(read.counts, np.int64)
    used[places] = counts
    position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return _Found(shape, np.repeat(places, counts), position, read)


def _read_alone(wanted: I32, used: I64, builder: Builder, stamp: int, single: Single) -> tuple[Part, I64]:
    """What has no form, read one by one; the elements, and the places of their packets. Events know their elements by
    number: here by the number among these alone."""
    places = np.flatnonzero(wanted == 0)
    used[places] = 0
    before = np.cumsum(used) - used
    taken, counts = 0, []
    for place, ahead in zip(places.tolist(), before[places].tolist(), strict=True):
        elements = builder.elements
        used[place] = single(place, stamp + ahead + taken)
        taken += int(used[place])
        counts.append(builder.elements - elements)
    return builder.cut(), np.repeat(places, np.asarray(counts, np.int64))


def _part(found: _Found, topics: Topics, numbers: I64, received_at: I64) -> Part:
    number, read = numbers[found.place], found.read
    metrics = len(found.shape.metrics)
    series = topics.series[topics.series_at[number][:, np.newaxis] + np.arange(metrics)]
    arrived = received_at[found.place]
    return Part(
        series.reshape(-1), read.values.reshape(-1), np.full(len(number), metrics, np.int64), topics.device[number],
        read.measured_at, arrived if found.position is None else arrived + found.position, read.seq,
    )  # fmt: skip


def _put(builder: Builder, places: list[I64], parts: list[Part], alone_at: I64, alone: Part) -> None:
    """All parts into the builder, in order of their packets' places; the events of those read alone follow them."""
    if len(alone_at):
        parts, places = [*parts, alone], [*places, alone_at]
    if len(parts) == 1:
        builder.add(parts[0])
    elif parts:
        order = np.argsort(np.concatenate(places), kind="stable")
        if builder.events:
            _renumber(builder, order, len(order) - len(alone_at))
        builder.add(in_order(joined(parts), order))


def _renumber(builder: Builder, order: I64, alone_from: int) -> None:
    """Events were numbered while those read alone stood first after what the builder had."""
    base = builder.elements
    moved = np.empty(len(order), np.int64)
    moved[order] = np.arange(len(order))
    for place in range(len(builder.events) - 1, -1, -1):
        event = builder.events[place]
        if event.element < base:
            return
        builder.events[place] = replace(event, element=base + int(moved[alone_from + event.element - base]))

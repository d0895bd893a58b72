"""Many packets read together: those of one form in one call, the rest singly, all of them in order of arrival."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from devices.batch import I32, I64, Bool
from ingest.columns import Builder, Part, in_order, joined
from ingest.formats.shapes import Failure, Read, Shape
from ingest.topics import Topics

# Reads the packet of a place into the builder's lists, as arriving at that instant; how many instants it took. It may
# have failed to have the form that it was taken to have.
Single = Callable[[int, int, Failure | None], int]
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
    failed: dict[int, Failure] = {}
    found = []
    for number in np.flatnonzero(np.bincount(wanted + 1)).tolist():
        shape = topics.shapes.known[number - 1] if number else None
        if shape is not None:
            found.append(_decode(shape, wanted, payloads, used, failed))
    alone, alone_at = _read_alone(wanted, used, builder, stamp, failed, single)
    received_at = stamp + np.cumsum(used) - used
    parts = []
    for each in found:
        parts.append(_part(each, topics, numbers, received_at))
        usual(each.place, parts[-1], received_at)
    places = [each.place for each in found]
    if alone is not None:
        parts.append(alone)
        places.append(alone_at)
    _put(builder, places, parts, alone_from=sum(len(each.place) for each in found))
    return int(used.sum())


def _decode(shape: Shape, wanted: I32, payloads: list[bytes], used: I64, failed: dict[int, Failure]) -> _Found:
    """Packets that turn out to have another form are marked as wanting none."""
    places = np.flatnonzero(wanted == shape.number)
    read = shape.read(payloads if len(places) == len(payloads) else [payloads[place] for place in places.tolist()])
    if read.failed:
        gone = np.fromiter(read.failed, np.int64, len(read.failed))
        failed.update(zip(places[gone].tolist(), read.failed.values(), strict=True))
        wanted[places[gone]] = 0
        places = np.delete(places, gone)
    if read.counts is None:
        return _Found(shape, places, None, read)
    counts = np.asarray(read.counts, np.int64)
    used[places] = counts
    position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return _Found(shape, np.repeat(places, counts), position, read)


def _read_alone(  # noqa: PLR0917 - a step of the above
    wanted: I32, used: I64, builder: Builder, stamp: int, failed: dict[int, Failure], single: Single
) -> tuple[Part | None, I64]:
    """What has no form, read one by one; the elements, None without any, and the places of their packets."""
    places = np.flatnonzero(wanted == 0)
    if not len(places):
        return None, places
    used[places] = 0
    before = np.cumsum(used) - used
    taken, counts = 0, []
    for place, ahead in zip(places.tolist(), before[places].tolist(), strict=True):
        elements = builder.elements
        used[place] = single(place, stamp + ahead + taken, failed.get(place))
        taken += int(used[place])
        counts.append(builder.elements - elements)
    if not builder.rows:
        return None, places
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


def _put(builder: Builder, places: list[I64], parts: list[Part], *, alone_from: int) -> None:
    """All parts into the builder, in order of their packets' places; the events of those read alone follow them."""
    if len(parts) == 1:
        builder.add(parts[0])
    elif parts:
        order = np.argsort(np.concatenate(places), kind="stable")
        if builder.events:
            _renumber(builder, order, alone_from)
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

"""All messages of the township in the order they go out: every device's reports and events, woven with the data clock.

The data clock for an instant follows everything sent up to it, so it never runs ahead of readings it covers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

import msgspec
import numpy as np

from devices.instants import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from devices.kinds import KINDS
from devices.town import TownDevice
from simulator.instruments import MAKERS, Place
from simulator.physics.homes import day_of_openings, heartbeat_gap
from simulator.world import Sample, Span, Value, World, interval_of

# Each clock makes the service judge what time alone can tell: at 3,600 times real time, every 20 seconds was more than
# it could follow. Beyond five minutes readings would run so far ahead that their own clocks seemed wrong.
CLOCK_STEP = MINUTE
_DIGITS = {
    "level": 3, "level_inside": 3, "level_outside": 3, "flow": 2, "gate_height": 2, "total_phosphorus": 3,
    "ammonia_nitrogen": 2, "dissolved_oxygen": 2, "ph": 2, "cod_mn": 2, "total_nitrogen": 2, "vibration": 2,
    "pumps_running": 0, "pumps_available": 0, "co": 0, "algal_density": 0, "conductivity": 0, "wind_direction": 0,
    "battery": 0, "signal": 0,
}  # fmt: skip
_encode = msgspec.json.Encoder().encode


def messages(world: World, *, clock_step: int = CLOCK_STEP) -> Iterator[Sample | int]:
    """Samples in the order they go out, and the data clock (an int) at every step; without end."""
    yield world.start
    clock = world.start + clock_step
    for sample in heapq.merge(*_streams(world), key=lambda sample: sample.sent_at):
        while sample.sent_at > clock:
            yield clock
            clock += clock_step
        yield sample


def payload(sample: Sample) -> bytes:
    """What goes over the wire."""
    if sample.garbled is not None:
        return sample.garbled
    return _encode({"at": sample.at // MILLISECOND, **sample.body})


def ledger_count(sample: Sample) -> int:
    """Values and events; a packet that cannot be read counts one."""
    return 1 if sample.garbled is not None or sample.channel == "events" else len(sample.body)


def _streams(world: World) -> list[Iterator[Sample]]:
    """One stream a device, in the order of the town's file: the merge is stable, so ties keep that order."""
    found = []
    for kind in KINDS:
        devices = world.of_kind(kind)
        for order, device in enumerate(devices):
            if kind in MAKERS:
                place = Place(device, world, order, len(devices), world.rng(f"measure:{device.id}"))
                found.append((device.id, _disturbed(_stream(place), world, device)))
    position = {device: i for i, device in enumerate(world.town.devices)}
    return [stream for _, stream in sorted(found, key=lambda entry: position[entry[0]])]


def _stream(place: Place) -> Iterator[Sample]:
    device, world = place.device, place.world
    rng = world.rng(f"reports:{device.id}")
    times = _heartbeats(world, rng) if device.kind == "door_sensor" else _regular(world, device, rng)
    reports = _reports(place, times)
    if device.kind == "door_sensor":
        return _lossy(_merged(reports, _openings(device, world)), world, device)
    if device.kind == "camera":
        return _merged(reports, _detections(device, world), _scripted_persons(device, world))
    return reports


def _merged(*streams: Iterator[Sample]) -> Iterator[Sample]:
    return heapq.merge(*streams, key=lambda sample: sample.sent_at)


def _disturbed(stream: Iterator[Sample], world: World, device: TownDevice) -> Iterator[Sample]:
    for fault in world.script.faults.get(device.id, []):
        stream = fault(stream)
    return stream


def _regular(world: World, device: TownDevice, rng: np.random.Generator) -> Iterator[int]:
    """The first report within the first minute, so that a page fills soon."""
    interval = round(interval_of(device) * SECOND)
    first = world.start + int(rng.integers(0, max(min(interval, MINUTE) // SECOND, 1))) * SECOND
    return (first + k * interval for k in count())


def _heartbeats(world: World, rng: np.random.Generator) -> Iterator[int]:
    at = world.start + int(rng.integers(MINUTE // SECOND, 55 * MINUTE // SECOND)) * SECOND
    while True:
        yield at
        at += heartbeat_gap(rng)


def _reports(place: Place, times: Iterator[int]) -> Iterator[Sample]:
    device = place.device
    measure = MAKERS[device.kind](place)
    excursions = place.world.script.excursions.get(device.id, [])
    rng = place.world.rng(f"excursions:{device.id}")
    for at in times:
        body: dict[str, Value] = {}
        for metric, value in measure(at).items():
            if isinstance(value, bool):
                body[metric] = value
                continue
            for excursion in excursions:
                if excursion.metric == metric and (weight := excursion.weight(at)) > 0:
                    value += (excursion.value * (1 + 0.01 * float(rng.uniform(-1, 1))) - value) * weight  # noqa: PLW2901
            digits = _DIGITS.get(metric, 1)
            body[metric] = round(value, digits) if digits else int(round(value))  # noqa: RUF046 - an int on the wire
        yield Sample(at, at, device.id, "readings", body)


def _event(device: TownDevice, at: int, name: str, **more: Value) -> Sample:
    return Sample(at, at, device.id, "events", {"id": f"{device.id}-{at // MILLISECOND}", "event": name, **more})


def _openings(device: TownDevice, world: World) -> Iterator[Sample]:
    script, rng = world.script, world.rng(f"homes:{device.id}")
    quiet = script.quiet_days.get(device.id, frozenset())
    still = script.still.get(device.id, Span(0, 0))
    visits = sorted(script.visits.get(device.id, []))
    for day in count():
        midnight = world.midnight + day * DAY
        openings = [(midnight + o.at, o.open_us) for o in day_of_openings(rng)]
        if day in quiet:
            openings = []
        openings = [(at, open_us) for at, open_us in openings if at not in still]
        openings += [(at, 20 * SECOND) for at in visits if midnight <= at < midnight + DAY]
        for at, open_us in sorted(openings):
            if at >= world.start:
                yield _event(device, at, "door_opened")
                yield _event(device, at + open_us, "door_closed")


def _lossy(stream: Iterator[Sample], world: World, device: TownDevice) -> Iterator[Sample]:
    rng = world.rng(f"radio:{device.id}")
    return (sample for sample in stream if rng.random() >= world.script.door_loss)


def _detections(device: TownDevice, world: World) -> Iterator[Sample]:
    """Where everybody may walk: about six things seen an hour by day, one by night. Nothing at no-go zones."""
    if "public" not in device.tags:
        return
    rng = world.rng(f"seen:{device.id}")
    names = ("boat_detected", "person_detected") if "harbour" in device.id else ("person_detected", "vehicle_detected")
    at = world.start
    while True:
        by_day = 6 <= world.hour_of_day(at) < 22
        at += max(1, round(float(rng.exponential(HOUR / SECOND / (6 if by_day else 1))))) * SECOND
        yield _event(device, at, names[int(rng.random() < 0.4)], confidence=round(float(rng.uniform(0.6, 0.99)), 2))


def _scripted_persons(device: TownDevice, world: World) -> Iterator[Sample]:
    for at in sorted(world.script.persons.get(device.id, [])):
        if at >= world.start:
            yield _event(device, at, "person_detected", confidence=0.9)

"""Ground truth: which alarms the published, noisy values must raise, by plain scalar logic of the simulator's own.

Fed message by message and clock by clock in the order they went out. Times judged by the clock alone are `required`
only if no message within a step of the clock could have got in first.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from devices.attributes import number_at
from devices.instants import DAY, MINUTE, SECOND, to_iso
from devices.kinds import KINDS
from devices.town import Town, TownDevice
from simulator.reports import CLOCK_STEP
from simulator.watches import (
    COUNT_WATCHES,
    EVENT_WATCHES,
    SINCE_WATCHES,
    WATCHES,
    CountWatch,
    SinceWatch,
    Watch,
)
from simulator.world import Sample, interval_of

SILENCE, CLOCK, RANGE = "gw-silence", "gw-clock", "gw-range"
MISSED_REPORTS = 3
MAX_AHEAD, MAX_BEHIND = 5 * MINUTE, 7 * DAY
# How far apart the clock's finding and a message may lie for either to come first.
GRACE = CLOCK_STEP
NEVER = 2**62
EXACT = MINUTE  # tolerance of what is timed by an event or the clock, not by reports


@dataclass(slots=True)
class Expectation:
    """One alarm that must be raised, or may be where `required` is False; `tolerance` of `raised_at` in µs."""

    rule: str
    device: str
    raised_at: int
    tolerance: int
    cleared_at: int | None = None
    required: bool = True


@dataclass(slots=True)
class _Judged:
    """One watch of one device."""

    instant: int = 0
    since: int | None = None
    standing: Expectation | None = None


@dataclass(slots=True)
class _Device:
    town: TownDevice
    interval: int
    silent_after: int
    attributes: dict[str, float]
    dated: bool
    watches: tuple[Watch, ...]
    judged: dict[str, _Judged]
    latest: dict[str, tuple[int, float]] = field(default_factory=dict)
    first_heard: int | None = None
    last_heard: int = 0
    silence: Expectation | None = None
    clock_fault: Expectation | None = None
    range_fault: Expectation | None = None
    out_of_range: set[str] = field(default_factory=set)
    events: dict[str, deque[int]] = field(default_factory=dict)

    def attributes_at(self, at: int) -> dict[str, float]:
        return _numbers(self.town, at) if self.dated else self.attributes


class Recorder:
    """`expected` is everything found so far in order of finding; it grows as messages and clocks are fed in."""

    def __init__(self, town: Town) -> None:
        self.expected: list[Expectation] = []
        self.now = 0
        self._devices = {device.id: _device(device) for device in town.devices.values()}
        self._doors = [d for d in self._devices.values() for w in SINCE_WATCHES if _watched(d.town, w.kind)]
        self._counted = [d for d in self._devices.values() for w in COUNT_WATCHES if _counts(d.town, w)]

    def clock(self, at: int) -> None:
        """The data clock was published."""
        self.now = at
        for device in self._devices.values():
            if (
                device.first_heard is not None
                and device.silence is None
                and at >= device.last_heard + device.silent_after
            ):
                due = device.last_heard + device.silent_after
                device.silence = self._expect(SILENCE, device, due, min(device.interval, 15 * MINUTE))
        for device in self._doors:
            for watch in SINCE_WATCHES:
                self._judge_since(device, watch, at)
        for device in self._counted:
            for count in COUNT_WATCHES:
                self._leave_window(device, count, at)

    def message(self, sample: Sample) -> None:
        """A message was published."""
        device = self._devices.get(sample.device)
        if device is None or sample.garbled is not None:
            return
        at = self._honest_instant(device, sample.at)
        self._hear(device, at)
        if sample.channel == "events":
            self._event(device, str(sample.body["event"]), at)
        else:
            self._readings(device, sample, at)

    def finished(self, until: int) -> list[Expectation]:
        """What must or may have been raised up to this instant; what the clock found in its last step may."""
        for e in self.expected:
            if e.rule in _TIMED and until - e.raised_at < GRACE:
                e.required = False
        return [e for e in self.expected if e.raised_at <= until]

    def _expect(self, rule: str, device: _Device, at: int, tolerance: int) -> Expectation:
        found = Expectation(rule, device.town.id, at, tolerance)
        self.expected.append(found)
        return found

    def _honest_instant(self, device: _Device, claimed: int) -> int:
        """The time of arrival instead of a clock that cannot be right."""
        if -MAX_BEHIND <= claimed - self.now <= MAX_AHEAD:
            if device.clock_fault is not None:
                device.clock_fault.cleared_at, device.clock_fault = claimed, None
            return claimed
        if device.clock_fault is None:
            device.clock_fault = self._expect(CLOCK, device, self.now, device.interval)
        return self.now

    def _hear(self, device: _Device, at: int) -> None:
        if device.first_heard is None:
            device.first_heard = at
        if at <= device.last_heard:
            return
        if device.silence is not None:
            if self.now - device.silence.raised_at <= GRACE:
                device.silence.required = False
            device.silence.cleared_at, device.silence = at, None
        device.last_heard = at

    def _readings(self, device: _Device, sample: Sample, at: int) -> None:
        fresh = set[str]()
        for metric, said in sample.body.items():
            value = float(said)
            if not self._in_range(device, metric, value, at):
                continue
            if metric not in device.latest or at > device.latest[metric][0]:
                device.latest[metric] = (at, value)
                fresh.add(metric)
        for watch in device.watches:
            if watch.reads & fresh:
                self._judge(device, watch, at)

    def _in_range(self, device: _Device, metric: str, value: float, at: int) -> bool:
        low, high = KINDS[device.town.kind].metrics[metric].physical
        if not low <= value <= high:
            device.out_of_range.add(metric)
            if device.range_fault is None:
                device.range_fault = self._expect(RANGE, device, at, device.interval)
            return False
        device.out_of_range.discard(metric)
        if device.range_fault is not None and not device.out_of_range:
            device.range_fault.cleared_at, device.range_fault = at, None
        return True

    def _judge(self, device: _Device, watch: Watch, at: int) -> None:
        state = device.judged[watch.rule]
        patience = MISSED_REPORTS * device.interval
        if state.since is not None and state.standing is None and at - state.instant > patience:
            state.since = None
        state.instant = max(state.instant, at)
        values = {
            metric: device.latest[metric][1]
            for metric in watch.reads
            if metric in device.latest and state.instant - device.latest[metric][0] <= patience
        }
        attributes = device.attributes_at(state.instant)
        try:
            if state.standing is not None:
                if watch.clear(values, attributes):
                    state.standing.cleared_at, state.standing, state.since = state.instant, None, None
            elif not watch.when(values, attributes):
                state.since = None
            else:
                state.since = state.instant if state.since is None else state.since
                if state.instant >= state.since + watch.hold:
                    state.standing = self._expect(watch.rule, device, state.instant, device.interval)
        except KeyError:  # a value or an attribute nobody knows: neither true nor false
            return

    def _event(self, device: _Device, event: str, at: int) -> None:
        times = device.events.setdefault(event, deque(maxlen=1000))
        if times and at <= times[-1]:
            return
        for single in EVENT_WATCHES:
            if (single.kind, single.event) == (device.town.kind, event):
                self._expect(single.rule, device, at, EXACT).cleared_at = at
        for since in SINCE_WATCHES:
            if (since.kind, since.event) == (device.town.kind, event):
                self._moved(device, since, at)
        times.append(at)
        for count in COUNT_WATCHES:
            if count.event == event and _counts(device.town, count):
                self._leave_window(device, count, at)
                state = device.judged[count.rule]
                if state.standing is None and sum(t > at - count.window for t in times) >= count.least:
                    state.standing = self._expect(count.rule, device, at, EXACT)

    def _judge_since(self, device: _Device, watch: SinceWatch, now: int) -> None:
        times = device.events.get(watch.event)
        last = times[-1] if times else device.first_heard
        state = device.judged[watch.rule]
        if last is not None and state.standing is None and now >= last + watch.limit:
            state.standing = self._expect(watch.rule, device, last + watch.limit, EXACT)

    def _moved(self, device: _Device, watch: SinceWatch, at: int) -> None:
        state = device.judged[watch.rule]
        if state.standing is not None:
            if self.now - state.standing.raised_at <= GRACE:
                state.standing.required = False
            state.standing.cleared_at, state.standing = at, None

    def _leave_window(self, device: _Device, watch: CountWatch, now: int) -> None:
        state, times = device.judged[watch.rule], device.events.get(watch.event, deque())
        if state.standing is None or sum(t > now - watch.window for t in times) >= watch.least:
            return
        state.standing.cleared_at = times[-watch.least] + watch.window
        state.standing = None


_TIMED = frozenset({SILENCE, *(w.rule for w in SINCE_WATCHES)})


def _device(town: TownDevice) -> _Device:
    interval = round(interval_of(town) * SECOND)
    silent_after = MISSED_REPORTS * interval if town.silent_after is None else round(town.silent_after * SECOND)
    if not KINDS[town.kind].always_on:
        silent_after = NEVER
    rules = [w.rule for w in WATCHES] + [w.rule for w in SINCE_WATCHES] + [w.rule for w in COUNT_WATCHES]
    return _Device(
        town,
        interval,
        silent_after,
        _numbers(town, 0),
        any(isinstance(value, tuple) for value in town.attributes.values()),
        tuple(w for w in WATCHES if _watched(town, w.kind, w.tag)),
        {rule: _Judged() for rule in rules},
    )


def _numbers(town: TownDevice, at: int) -> dict[str, float]:
    known = ((name, number_at(town.attributes, name, at)) for name in town.attributes)
    return {name: value for name, value in known if value is not None}


def _counts(device: TownDevice, watch: CountWatch) -> bool:
    return _watched(device, watch.kind, watch.tag)


def _watched(device: TownDevice, kind: str, tag: str | None = None) -> bool:
    """A second source is never judged."""
    return device.second_of is None and device.kind == kind and (tag is None or tag in device.tags)


def compare(
    expected: Iterable[Expectation], raised: Iterable[tuple[str, str, int]], *, until: int
) -> dict[str, object]:
    """`{"expected", "matched", "missed", "false"}` of alarms raised as (rule, device, raised_at) up to `until`.

    Each pair matches once, within the tolerance of the expectation. What only may be raised counts in neither number.
    """
    open_: dict[tuple[str, str], list[Expectation]] = {}
    due = sorted((e for e in expected if e.raised_at <= until), key=lambda e: e.raised_at)
    for e in due:
        open_.setdefault((e.rule, e.device), []).append(e)
    false: list[dict[str, str]] = []
    for rule, device, at in sorted(raised, key=lambda r: r[2]):
        waiting = open_.get((rule, device), [])
        near = [e for e in waiting if abs(e.raised_at - at) <= e.tolerance]
        if near:
            waiting.remove(min(near, key=lambda e: abs(e.raised_at - at)))
        else:
            false.append({"rule": rule, "device": device, "raised_at": to_iso(at)})
    missed = sorted((e for left in open_.values() for e in left if e.required), key=lambda e: e.raised_at)
    required = sum(e.required for e in due)
    return {
        "expected": required,
        "matched": required - len(missed),
        "missed": [{"rule": e.rule, "device": e.device, "raised_at": to_iso(e.raised_at)} for e in missed],
        "false": false,
    }


def to_json(expected: Sequence[Expectation], about: Mapping[str, object]) -> str:
    """The truth as a file: what the run was, then one line for each alarm."""
    rows = [
        {
            "rule": e.rule,
            "device": e.device,
            "raised_at": to_iso(e.raised_at),
            "cleared_at": None if e.cleared_at is None else to_iso(e.cleared_at),
            "required": e.required,
        }
        for e in sorted(expected, key=lambda e: (e.raised_at, e.rule, e.device))
    ]
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    return json.dumps(dict(about))[:-1] + ', "expected": [\n' + lines + "\n]}\n"

"""A small town for rule tests: devices first seen at START, readings written the way a duty officer says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from devices.instants import MINUTE, parse_duration
from devices.registry import EVENT, Device, DeviceStatus, Registry
from rules.book import RuleBook, load
from rules.engine import Edge, Engine, Outcome, Rows, Transition

# 2026-07-01T00:00:00Z: every test begins here.
START = 1_782_864_000_000_000

Element = tuple[str, str, Mapping[str, float]]  # device, how long after START, metrics (or "event:x": 1)


def at(after: str) -> int:
    return START + parse_duration(after)


def rule(text: str, **more: str) -> RuleBook:
    """A book of one rule `r`; `text` is its `when`, for ps-1 unless told."""
    fields = {"applies_to": "{kind: pump_station, devices: [ps-1]}", **more}
    lines = "".join(f"    {key.rstrip('_')}: {value}\n" for key, value in fields.items())
    return load({"test.yaml": f"rules:\n  - id: r\n    when: '{text}'\n{lines}"})


def town(**attributes: float) -> Registry:
    registry = Registry()
    for name, kind in (("ps-1", "pump_station"), ("ps-2", "pump_station"), ("door", "door_sensor"), ("cam", "camera")):
        registry.put(
            Device(len(registry.devices), name, "qidu", kind, attributes=attributes, first_seen=START, grid="west")
        )
    return registry


def put(registry: Registry, name: str, **fields: object) -> None:
    """Replace fields of a device."""
    device = registry.get(name)
    assert device is not None
    kept = {slot: getattr(device, slot) for slot in Device.__slots__}
    registry.put(Device(**{**kept, **fields}))


def rows(registry: Registry, elements: Sequence[Element]) -> Rows:
    series, instants, values, numbers, devices = [], [], [], [], []
    for number, (name, after, metrics) in enumerate(elements):
        device = registry.get(name)
        assert device is not None
        for metric, value in metrics.items():
            series.append(registry.series(device.number, metric))
            instants.append(at(after))
            values.append(value)
            numbers.append(number)
            devices.append(device.number)
    return Rows(
        np.array(series, np.int32),
        np.array(instants, np.int64),
        np.array(values, np.float64),
        np.array(numbers, np.int32),
        np.array(devices, np.int32),
    )


class Desk:
    """An engine and what it has said: `said` is every transition as "raised 2m30s" or "cleared …"."""

    def __init__(self, book: RuleBook, registry: Registry | None = None) -> None:
        self.registry = registry if registry is not None else town(inside_limit_level=3.5)
        self.engine = Engine(book, self.registry)
        self.transitions: list[Transition] = []
        self.peaks: dict[int, float] = {}

    def take(self, outcome: Outcome) -> list[Transition]:
        self.engine.adopt(outcome)
        self.transitions += outcome.transitions
        self.peaks.update({peak.raised_at: peak.peak_value for peak in outcome.peaks})
        return list(outcome.transitions)

    def reads(self, *elements: Element) -> list[Transition]:
        return self.take(self.engine.evaluate(rows(self.registry, elements)))

    def level(self, *readings: tuple[str, float]) -> list[Transition]:
        """Inside levels of ps-1."""
        return self.reads(*[("ps-1", after, {"level_inside": value}) for after, value in readings])

    def event(self, name: str, after: str, device: str = "door") -> list[Transition]:
        return self.reads((device, after, {EVENT + name: 1.0}))

    def ticks(self, after: str) -> list[Transition]:
        return self.take(self.engine.tick(at(after)))

    @property
    def said(self) -> list[str]:
        return [f"{t.edge} {(t.at - START) / MINUTE:g}" for t in self.transitions]


def raised(transitions: Sequence[Transition]) -> list[Transition]:
    return [t for t in transitions if t.edge is Edge.RAISED]


__all__ = ["START", "Desk", "DeviceStatus", "at", "put", "raised", "rows", "rule", "town"]

"""Load: any number of synthetic devices that report in turn, evenly spaced, with values that raise nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np

from devices.town import Town, TownDevice
from simulator.reports import CLOCK_STEP
from simulator.world import Sample

KIND = "equipment"
_TABLE = 997  # values are drawn once and gone round: a Generator call a value would be the bottleneck


def load_town(town: Town, devices: int) -> Town:
    """The same site with `load-00001` … instead of its devices."""
    made = [TownDevice(id=f"load-{i:05}", kind=KIND, name=f"Load {i}") for i in range(1, devices + 1)]
    return replace(town, devices={device.id: device for device in made})


def load_messages(town: Town, *, seed: int, start: int, every_us: int) -> Iterator[Sample | int]:
    """Messages of the devices in turn, `every_us` apart, with the data clock; without end."""
    rng = np.random.default_rng(seed)
    warmth = np.round(rng.uniform(40, 60, _TABLE), 1).tolist()
    shake = np.round(rng.uniform(1, 3, _TABLE), 2).tolist()
    amperes = np.round(rng.uniform(30, 50, _TABLE), 1).tolist()
    names = list(town.devices)
    yield start
    clock = start + CLOCK_STEP
    for k in count():
        at, i = start + k * every_us, k % _TABLE
        while at > clock:
            yield clock
            clock += CLOCK_STEP
        body: dict[str, float | bool | str] = {
            "temperature": warmth[i], "vibration": shake[i], "current": amperes[i], "running": True
        }  # fmt: skip
        yield Sample(at, at, names[k % len(names)], "readings", body)

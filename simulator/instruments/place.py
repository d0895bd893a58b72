"""Where a device stands in the pretend township, and the shape of what measures there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from devices.instants import MINUTE
from devices.town import TownDevice
from simulator.physics.noise import Drift
from simulator.world import World

Reading = dict[str, float | bool]
# Called once a report, in order of time, with the instant; what it returns is not rounded yet.
Measure = Callable[[int], Reading]
Instrument = Callable[["Place"], Measure]

RAIN_CROSSES_IN = 20 * MINUTE


@dataclass(frozen=True, slots=True)
class Place:
    """`order` counts the devices of its kind in the order of the town's file."""

    device: TownDevice
    world: World
    order: int
    of: int
    rng: np.random.Generator

    def drift(self, spread: float, memory: float = 12.0) -> Drift:
        return Drift(self.rng, spread, memory)

    def rain_lag_hours(self) -> float:
        """The rain comes over the first device and reaches the last twenty minutes later; none but the first two
        waits less than ten."""
        if self.order < 2:
            return 0.0
        part = (self.order - 2) / max(self.of - 3, 1)
        return (0.5 + 0.5 * part) * RAIN_CROSSES_IN / (60 * MINUTE)

"""Chance with bounds: a reading never strays further than its instrument would, so calm days stay calm."""

from __future__ import annotations

import math

import numpy as np

BOUND = 3.0  # standard deviations


class Drift:
    """A value that wanders about 0 with standard deviation `spread`, forgetting over `memory` steps; within ±3."""

    def __init__(self, rng: np.random.Generator, spread: float, memory: float) -> None:
        self._rng = rng
        self._spread = spread
        self._keep = math.exp(-1 / memory)
        self._kick = math.sqrt(1 - self._keep**2)
        self._x = float(rng.standard_normal())

    def next(self) -> float:
        self._x = self._keep * self._x + self._kick * float(self._rng.standard_normal())
        self._x = min(max(self._x, -BOUND), BOUND)
        return self._x * self._spread


def jitter(rng: np.random.Generator, spread: float) -> float:
    """Instrument noise, within ±`spread`."""
    return float(rng.uniform(-spread, spread))

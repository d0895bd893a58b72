"""The day of an elder who lives alone, as the door sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.instants import HOUR, MINUTE, SECOND

MORNING = 6 * HOUR
EVENING = 21 * HOUR


@dataclass(frozen=True, slots=True)
class Opening:
    """Microseconds after midnight, and how long the door stood open."""

    at: int
    open_us: int


def day_of_openings(rng: np.random.Generator) -> list[Opening]:
    """4 to 10 openings between 06 and 21 h: out, and back after 20 to 120 minutes.

    The trips share the day evenly, so that no two openings, over the night too, are a whole day apart.
    """
    trips = int(rng.integers(2, 6))
    slot = (EVENING - MORNING) // trips
    found: list[Opening] = []
    for i in range(trips):
        away = _between(rng, 20 * MINUTE, 120 * MINUTE)
        leave = MORNING + i * slot + _between(rng, 0, slot - away - 2 * MINUTE)
        found += [Opening(at, _between(rng, 5 * SECOND, 60 * SECOND)) for at in (leave, leave + away)]
    return found


def heartbeat_gap(rng: np.random.Generator) -> int:
    """4 to 12 hours, in microseconds."""
    return _between(rng, 4 * HOUR, 12 * HOUR)


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    """Whole seconds."""
    return int(rng.integers(low // SECOND, high // SECOND + 1)) * SECOND

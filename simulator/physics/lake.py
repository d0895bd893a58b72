"""Algae and oxygen: how a bloom grows in warm still water, and the day's breath of buoys and ponds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simulator.physics.sky import daily


@dataclass(frozen=True, slots=True)
class Bloom:
    """Chlorophyll grows from `low` to `high` µg/L in two days from hour `begins` and stays there until the wind, above
    6 m/s from hour `mixed`, brings it down to `low` within half a day."""

    low: float = 20.0
    high: float = 150.0
    days: float = 2.0
    begins: float = 0.0
    mixed: float = math.inf

    def chlorophyll(self, hour: float) -> float:
        grown = min(max((hour - self.begins) / (24 * self.days), 0.0), 1.0)
        left = 1 - min(max((hour - self.mixed) / 12.0, 0.0), 1.0)
        return float(self.low * (self.high / self.low) ** (grown * left))

    def strength(self, hour: float) -> float:
        """0 before it, 1 in full bloom."""
        return (self.chlorophyll(hour) - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Breath:
    """What algae do to the water around them."""

    oxygen: float
    ph: float


def bay(hour_of_day: float, strength: float) -> Breath:
    """Oxygen (mg/L) and pH: lowest at 05:30, highest at 15:30; in full bloom 3.5 to 15.5 and 8.0 to 9.3."""
    wave = (1 + daily(hour_of_day, lowest=5.5, highest=15.5)) / 2
    low, high = 6.8 - 3.3 * strength, 8.6 + 6.9 * strength
    return Breath(low + (high - low) * wave, 8.0 + (0.3 + 1.0 * strength) * wave)


def pond_oxygen(hour_of_day: float) -> float:
    """A healthy crab pond: 5.2 mg/L at five in the morning, 11.8 in the afternoon."""
    return 8.5 + 3.3 * daily(hour_of_day, lowest=5.0, highest=16.0)

"""The weather over the township: rain as a bell over the hours, wind, warmth of the day."""

from __future__ import annotations

import math
from dataclasses import dataclass

DRY = 0.0


@dataclass(frozen=True, slots=True)
class Rainstorm:
    """base + peak·exp(−(t − peak_hour)² / 2) mm/h for `hours` hours: 150 mm as it stands."""

    base: float = 2.2
    peak: float = 38.8
    peak_hour: float = 9.0
    hours: float = 24.0

    def rate(self, hour: float) -> float:
        """mm/h at this hour since the storm began."""
        if not 0 <= hour < self.hours:
            return DRY
        return self.base + self.peak * math.exp(-((hour - self.peak_hour) ** 2) / 2)


@dataclass(frozen=True, slots=True)
class Wind:
    """Mean speed in m/s: `before` until `turn_hour`, then over three hours to `after`."""

    before: float = 2.5
    after: float = 2.5
    turn_hour: float = math.inf

    def speed(self, hour: float) -> float:
        turned = min(max((hour - self.turn_hour) / 3.0, 0.0), 1.0)
        return self.before + (self.after - self.before) * turned


@dataclass(frozen=True, slots=True)
class Sky:
    """`rain` None is a dry spell. Hours count from the scenario's hour 0, except `hour_of_day`."""

    rain: Rainstorm | None = None
    wind: Wind = Wind()
    warmth: float = 27.0
    swing: float = 4.0

    def rain_rate(self, hour: float) -> float:
        return DRY if self.rain is None else self.rain.rate(hour)

    def air_temperature(self, hour: float, hour_of_day: float) -> float:
        """Coldest about 05, warmest about 15; a storm takes most of the day's swing away."""
        wet = min(self.rain_rate(hour) / 10.0, 1.0)
        return self.warmth - 2.0 * wet + self.swing * (1 - 0.7 * wet) * daily(hour_of_day, lowest=5.0, highest=15.0)


def daily(hour_of_day: float, *, lowest: float, highest: float) -> float:
    """A day's wave: −1 at the hour `lowest`, +1 at the hour `highest`, as steep as the two hours are near."""
    rising = (highest - lowest) % 24
    passed = (hour_of_day - lowest) % 24
    if passed <= rising:
        return -math.cos(math.pi * passed / rising)
    return math.cos(math.pi * (passed - rising) / (24 - rising))

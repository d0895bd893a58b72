"""The river outside the dykes, shared by all stations: slow rise, wind set-up, and the wakes of boats."""

from __future__ import annotations

import math
from dataclasses import dataclass

WAKE_S = 60
_WAKE_EVERY_S = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class River:
    """`rise` m over six hours from hour 3; `set_up` m of wind, greatest at hour 10."""

    normal: float = 3.30
    rise: float = 0.0
    set_up: float = 0.0

    def level(self, hour: float) -> float:
        risen = self.rise * min(max((hour - 3.0) / 6.0, 0.0), 1.0)
        pushed = self.set_up * math.exp(-((hour - 10.0) ** 2) / 18.0)
        return self.normal + risen + pushed + 0.02 * math.sin(2 * math.pi * hour / 12.4)


def wake(second: int, station: int) -> float:
    """±4 cm for a minute about every two hours, at other times at every station."""
    within = (second + station * 977) % round(_WAKE_EVERY_S)
    return 0.04 * math.sin(2 * math.pi * within / WAKE_S) if within < WAKE_S else 0.0

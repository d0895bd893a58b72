"""The water balance of a polder: rain in, pumps out, in fixed steps so that asking more often changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

STEP_S = 30
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class PolderShape:
    """Areas in km², levels in m (吴淞), pump capacity in m³/s; `gap_s` between two starts."""

    area: float = 4.0
    water: float = 0.4
    runoff: float = 0.6
    reservoir_s: float = 2 * _HOUR_S
    normal: float = 3.00
    start: float = 3.20
    stop: float = 2.95
    pumps: int = 4
    capacity: float = 1.2
    stagger: float = 0.05
    gap_s: float = 600.0


@dataclass(frozen=True, slots=True)
class PolderState:
    """`level` in m, `running` pumps."""

    level: float
    running: int


class Polder:
    """Rain on water counts at once, on land `runoff` of it through a linear reservoir of two hours.

    Pumps start 5 cm apart, 10 minutes between starts, and all stop together. `rain(hour)` in mm/h and `mains(hour)`
    are of hours since the storm began.
    """

    def __init__(
        self, shape: PolderShape, rain: Callable[[float], float], mains: Callable[[float], bool] = lambda _hour: True
    ) -> None:
        self.shape = shape
        self._rain = rain
        self._mains = mains
        self._stored = 0.0  # m³ on its way from the land
        self._level = shape.normal
        self._running = 0
        self._started_s = -shape.gap_s
        self._steps = 0
        self._before = PolderState(shape.normal, 0)

    def at(self, hour: float) -> PolderState:
        """The state at this hour; hours may only rise."""
        seconds = max(hour * _HOUR_S, 0.0)
        while self._steps * STEP_S < seconds:
            self._before = PolderState(self._level, self._running)
            self._step()
        part = 1 - (self._steps * STEP_S - seconds) / STEP_S if self._steps else 1.0
        level = self._before.level + (self._level - self._before.level) * part
        return PolderState(level, self._running)

    def _step(self) -> None:
        shape, now_s = self.shape, self._steps * STEP_S
        hour = now_s / _HOUR_S
        metres_per_s = self._rain(hour) / 1000 / _HOUR_S
        arriving = self._stored / shape.reservoir_s
        land = (shape.area - shape.water) * 1e6
        self._stored += (shape.runoff * metres_per_s * land - arriving) * STEP_S
        self._switch_pumps(now_s, powered=self._mains(hour))
        inflow = metres_per_s * shape.water * 1e6 + arriving
        self._level += (inflow - shape.capacity * self._running) / (shape.water * 1e6) * STEP_S
        self._steps += 1

    def _switch_pumps(self, now_s: float, *, powered: bool) -> None:
        shape = self.shape
        if not powered or self._level <= shape.stop:
            self._running = 0
        elif (
            self._running < shape.pumps
            and self._level >= shape.start + shape.stagger * self._running
            and now_s - self._started_s >= shape.gap_s
        ):
            self._running += 1
            self._started_s = now_s

"""The limit of messages a device may send: a token bucket each, kept as the instant at which it will be full again.

A message moves that instant on by 1/rate; a device whose instant lies further ahead than the burst is too fast. What is
refused does not move it, so that a flooding device still gets its rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from devices.batch import I32, Bool


class Flood:
    """`most_per_s` messages a second, and as many at once as that makes in `burst_s`. `elapsed` counts seconds evenly,
    whatever the clocks are set to."""

    def __init__(self, most_per_s: float, burst_s: float, *, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._step = 1 / most_per_s
        # Half a message more: the steps of a full burst do not add up to it exactly.
        self._ahead = burst_s + self._step / 2
        self._elapsed = elapsed
        self._full_at: NDArray[np.float64] = np.zeros(1024)

    def refuses(self, device: int) -> bool:
        """Count one message of the device, unless it is too fast."""
        now, full_at = self._elapsed(), self._of(device)
        at = max(full_at.item(device), now) + self._step
        if at > now + self._ahead:
            return True
        full_at[device] = at
        return False

    def refused(self, devices: I32) -> Bool | None:
        """Of messages in order of arrival, given by their devices: which are too fast; None if none is."""
        if not len(devices):
            return None
        now, full_at = self._elapsed(), self._of(int(devices.max()))
        before = np.maximum(full_at[devices], now)
        full_at[devices] = before
        np.add.at(full_at, devices, self._step)
        over = full_at[devices] > now + self._ahead
        if not over.any():
            return None
        full_at[devices[over]] = before[over]
        found = np.zeros(len(devices), np.bool_)
        for place in np.flatnonzero(over).tolist():
            found[place] = self.refuses(int(devices[place]))
        return found

    def _of(self, device: int) -> NDArray[np.float64]:
        if device >= len(self._full_at):
            self._full_at = np.concatenate([self._full_at, np.zeros(max(device + 1, len(self._full_at)))])
        return self._full_at

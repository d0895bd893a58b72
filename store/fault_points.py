"""Places where the crash tests end the process or make it fail: nothing happens there unless a test asks for it.

`GRIDWHISTLE_FAULT_POINT=name:nth` in the environment ends the process (SIGKILL) the nth time that place is reached.
"""

from __future__ import annotations

import os
import signal
from itertools import count

POINTS = ("before_commit", "after_commit", "before_append", "after_append", "before_snapshot", "after_snapshot")


def _asked() -> tuple[str, int]:
    """Raises ValueError for a place that there is not."""
    name, _, nth = os.environ.get("GRIDWHISTLE_FAULT_POINT", "").partition(":")
    if name and name not in POINTS:
        raise ValueError(f"GRIDWHISTLE_FAULT_POINT: {name!r}; one of {', '.join(POINTS)}")
    return name, int(nth or 1)


_name, _nth = _asked()
_passed = count(1)


def reach(point: str) -> None:
    """Once a batch, not once a reading."""
    if point == _name and next(_passed) == _nth:
        os.kill(os.getpid(), signal.SIGKILL)

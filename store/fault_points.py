"""Places where the crash tests end the process or make it fail: nothing happens there unless a test asks for it.

`GRIDWHISTLE_FAULT_POINT=name:nth` in the environment ends the process (SIGKILL) the nth time that place is reached.
`GRIDWHISTLE_FAULT_FILE=path` makes the readings store fail for as long as that file says how: one of `STATES`.
"""

from __future__ import annotations

import os
import signal
import time
from itertools import count
from pathlib import Path

POINTS = ("before_commit", "after_commit", "before_append", "after_append", "before_snapshot", "after_snapshot")
# Reached when an hour or a day is over, not under load.
UPKEEP_POINTS = (
    "before_fold", "before_carry", "before_compacted", "after_compacted", "before_mend", "before_delete",
    "after_delete", "after_count",
)  # fmt: skip
STATES = ("store_refuses", "store_hangs")


def _asked() -> tuple[str, int]:
    """Raises ValueError for a place that there is not."""
    name, _, nth = os.environ.get("GRIDWHISTLE_FAULT_POINT", "").partition(":")
    if name and name not in POINTS + UPKEEP_POINTS:
        raise ValueError(f"GRIDWHISTLE_FAULT_POINT: {name!r}; one of {', '.join(POINTS + UPKEEP_POINTS)}")
    return name, int(nth or 1)


_name, _nth = _asked()
_passed = count(1)
_file = Path(os.environ["GRIDWHISTLE_FAULT_FILE"]) if "GRIDWHISTLE_FAULT_FILE" in os.environ else None


def reach(point: str) -> None:
    """Once a batch, not once a reading."""
    if point == _name and next(_passed) == _nth:
        os.kill(os.getpid(), signal.SIGKILL)


def store_refuses() -> bool:
    """Asked before anything is asked of the readings store; does not return while that shall hang."""
    while _file is not None and _file.exists():
        state = _file.read_text()
        if state != "store_hangs":
            return state == "store_refuses"
        time.sleep(0.05)
    return False

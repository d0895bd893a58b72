"""What an alarm is about: a device by its id, or several at once, written `grid:<id>` or `group:<tag>`.

No device's id has a colon, so the two never meet.
"""

from __future__ import annotations

GRID, GROUP = "grid:", "group:"


def is_group(subject: str) -> bool:
    """Several devices at once."""
    return subject.startswith((GRID, GROUP))


def grid_of(subject: str) -> str | None:
    """The grid that `grid:<id>` names; None for anything else."""
    return subject.removeprefix(GRID) if subject.startswith(GRID) else None


def tag_of(subject: str) -> str | None:
    """The tag that `group:<tag>` names; None for anything else."""
    return subject.removeprefix(GROUP) if subject.startswith(GROUP) else None

"""What Python and the C library do with memory, as a process needs it that runs for years."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def give_back() -> None:
    """What was freed goes back to the system: glibc keeps it, and later it fits nothing that is asked for (measured
    with 100,000 series: 15 MB after the start, 50 MB once every series has been met). Takes some milliseconds, without
    the interpreter's lock; does nothing where the C library is another."""
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def leave_to_live() -> None:
    """What start-up made, some hundred thousand objects, lives for ever: the collector need not walk it again. Python
    looks for cycles at every 700 new objects and walks all that waits to be settled at every few ten thousand; a packet
    of brackets alone makes a thousand."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)

"""Memory that was freed, given back to the system: glibc keeps it, and later it fits nothing that is asked for.

Measured with 100,000 series: 15 MB after the start, 50 MB once every series has been met.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Takes some milliseconds, without the interpreter's lock; does nothing where the C library is another."""
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

"""Pairs that a batch cannot stir: nothing of them stands, and no value of the batch can make their condition true.

Most pairs of most batches. Where a condition compares one metric with constants, the smallest and the greatest value of
the series say so, and the pair is not judged row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from devices.batch import F64, Bool
from rules.kernel import Kernel
from rules.seeing import Bounds, Read
from rules.shape import Part, Shape
from rules.state import NORMAL

# Whether a condition may be true somewhere, from the smallest and the greatest value and a parameter by its number.
_Possible = Callable[[tuple[F64, F64], Callable[[int], F64]], Bool]
# Which of the two decides, and how it compares.
_DECIDES = {">": (1, np.greater), ">=": (1, np.greater_equal), "<": (0, np.less), "<=": (0, np.less_equal)}


def stirred(kernel: Kernel, bounds: Bounds, read: Read) -> Bool | None:
    """Which of the pairs must be judged row by row; None where bounds cannot tell."""
    possible, params = _of_shape(kernel.shape), kernel.params
    if possible is None or params.leveled or params.dated:
        return None
    found = possible((bounds.low[read.owner], bounds.high[read.owner]), lambda k: params.plain[k][read.pairs])
    found |= kernel.state.tracks.phase[read.pairs] != NORMAL
    return found


@cache
def _of_shape(shape: Shape) -> _Possible | None:
    """None for a shape that reads more than one value, or whose state moves with every element."""
    if shape.aged or shape.repeat is not None or shape.values != {0} or shape.events or shape.looks:
        return None
    return _possible(shape.when)


def _possible(part: Part) -> _Possible | None:
    if part[0] in ("and", "or"):
        left, right = _possible(part[1]), _possible(part[2])
        if left is None or right is None:
            return None
        if part[0] == "and":
            return lambda ends, param: left(ends, param) & right(ends, param)
        return lambda ends, param: left(ends, param) | right(ends, param)
    if part[0] == "compare" and part[1] in _DECIDES and part[2] == ("value", 0) and part[3][0] == "param":
        end, order = _DECIDES[part[1]]
        return lambda ends, param: order(ends[end], param(part[3][1]))
    return None

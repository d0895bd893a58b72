"""The rows of a batch by what they belong to: one sort of one integer a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from devices.batch import I32, I64


@dataclass(frozen=True, slots=True)
class Order:
    """`row` are places in the batch, those of one owner (a series, a device) together in order of arrival; `owner` is
    of each; `start` where in this order each owner begins."""

    row: I64
    owner: I64
    start: I64

    @property
    def owners(self) -> I64:
        return self.owner[self.start]

    def last(self) -> I64:
        """Where in this order the last row of each owner stands."""
        return np.append(self.start[1:], len(self.row)) - 1 if len(self.row) else self.start


def order_of(owner: I32 | I64, rows: I64 | None = None) -> Order:
    """`owner` by row of the batch; `rows` None for all of them. A stable argsort takes ten times as long where owners
    come in no order."""
    bits = len(owner).bit_length()
    if rows is None:
        key = owner.astype(np.int64)
        key <<= bits
        key |= np.arange(len(owner))
    else:
        key = (owner[rows].astype(np.int64) << bits) | rows
    key.sort()
    number = key >> bits
    first = np.ones(len(key), np.bool_)
    np.not_equal(number[1:], number[:-1], out=first[1:])
    key &= (1 << bits) - 1
    return Order(key, number, np.flatnonzero(first))

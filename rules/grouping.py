"""Evaluations of one kernel, those of one pair standing together in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from devices.batch import I64, Bool

N = TypeVar("N", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Groups:
    """The evaluations of each pair stand together: `starts` where they begin, `pairs` whose they are.

    `places` are the rows of the state the pairs have: the pairs themselves, or positions in a copy of some.
    """

    starts: I64
    pairs: I64
    places: I64
    count: int

    def spread(self, per_group: NDArray[N]) -> NDArray[N]:
        """One value a group to one an evaluation."""
        if len(self.starts) == self.count:
            return per_group
        return np.repeat(per_group, np.diff(self.starts, append=self.count))

    def ends(self) -> I64:
        """The last evaluation of each group."""
        return np.append(self.starts[1:], self.count) - 1

    def of(self, evaluations: I64) -> I64:
        """The group of each evaluation."""
        if len(self.starts) == self.count:
            return evaluations
        return np.searchsorted(self.starts, evaluations, "right") - 1

    def only(self, chosen: Bool) -> tuple[Groups, I64]:
        """The chosen groups alone, and which evaluations those are."""
        evaluations = np.flatnonzero(self.spread(chosen))
        sizes = np.diff(self.starts, append=self.count)[chosen]
        starts = np.cumsum(sizes) - sizes
        return Groups(starts, self.pairs[chosen], self.places[chosen], len(evaluations)), evaluations

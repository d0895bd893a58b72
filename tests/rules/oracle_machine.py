"""The machine of one occurrence, plain: normal, pending, firing. One judging goes in, edges come out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Truth = bool | None
Edge = Literal["raised", "changed", "cleared"]


@dataclass(frozen=True)
class Step:
    """What an occurrence looked like when it was raised or cleared."""

    edge: Edge
    at: int
    since: int
    first: float | None
    peak: float | None


@dataclass(frozen=True)
class Manner:
    """How a rule holds: durations in µs. `momentary`: nothing says what ends it, it lives for one element."""

    hold_us: int
    keep_us: int
    repeat: tuple[int, int] | None
    momentary: bool
    peak_is_maximum: bool


@dataclass(frozen=True)
class Judging:
    """What one judging found. `broken`: a silence or a pause lies before it, so that no hold reaches it."""

    instant: int
    when: Truth
    clear: Truth
    value: float | None
    broken: bool
    by_clock: bool


@dataclass
class Machine:
    manner: Manner
    phase: str = "normal"
    since: int = 0
    first: float | None = None
    peak: float | None = None
    raised_at: int = 0
    recent: deque[bool] = field(default_factory=deque)

    def repeated(self, when: Truth, *, broken: bool, by_clock: bool) -> Truth:
        """`when` as `repeat` makes it: true once k of the last n known ones were, false once k of n cannot be any more;
        unknown in between, where it is itself, and by the clock."""
        if self.manner.repeat is None:
            return when
        k, n = self.manner.repeat
        if broken:
            self.recent.clear()
        if by_clock or when is None:
            return None
        self.recent.append(when)
        if len(self.recent) > n:
            self.recent.popleft()
        return True if self.recent.count(True) >= k else False if self.recent.count(False) > n - k else None

    def step(self, judging: Judging) -> list[Step]:
        """At one judging it clears or is raised, not both; only what lives for one element is raised and cleared."""
        if self.phase == "firing":
            if self._may_clear(judging):
                return [self.end(judging.instant)]
            self.worse(judging.value)
            return []
        if self.phase == "pending" and (judging.broken or judging.when is False):
            self.phase = "normal"
        if self.phase == "normal" and judging.when is True:
            self.phase, self.since, self.first, self.peak = "pending", judging.instant, judging.value, None
        if self.phase == "pending":
            self.worse(judging.value)
            if judging.when is True and judging.instant >= self.since + self.manner.hold_us:
                return self._raise(judging.instant)
        return []

    def _may_clear(self, judging: Judging) -> bool:
        kept = judging.instant >= self.raised_at + self.manner.keep_us
        return kept and (judging.by_clock if self.manner.momentary else judging.clear is True)

    def _raise(self, at: int) -> list[Step]:
        self.phase, self.raised_at = "firing", at
        told = [self._tell("raised", at)]
        if self.manner.momentary and not self.manner.keep_us:
            told.append(self.end(at))
        return told

    def end(self, at: int) -> Step:
        self.phase = "normal"
        return self._tell("cleared", at)

    def _tell(self, edge: Edge, at: int) -> Step:
        return Step(edge, at, self.since, self.first, self.peak)

    def worse(self, value: float | None) -> None:
        self.peak = worst(self.peak, value, maximum=self.manner.peak_is_maximum)

    def awaits(self, instant: int | None) -> list[int]:
        """What a clock that judges it has to come back for: the end of the hold, the end of what it is kept for."""
        found = []
        if self.phase == "pending":
            found.append(self.since + self.manner.hold_us)
        if self.phase == "firing" and self.manner.keep_us:
            found.append(self.raised_at + self.manner.keep_us)
        lingers = self.phase == "firing" and self.manner.momentary
        return [at for at in found if instant is None or at > instant or lingers]


def worst(one: float | None, other: float | None, *, maximum: bool) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return None if not known else max(known) if maximum else min(known)


def opposite(value: Truth) -> Truth:
    return None if value is None else not value


def both(values: list[Truth]) -> Truth:
    """`and` of them all."""
    return False if False in values else None if None in values else True


def either(values: list[Truth]) -> Truth:
    """`or` of them all."""
    return True if True in values else None if None in values else False

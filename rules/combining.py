"""What the parts of rules come to: the one alarm of a rule with levels, the alarm of a group of devices.

The engine judges parts (rules.parts) and hands their transitions here, in order; those of a rule that is its own only
part pass through. Judging is pure, as in the engine: the state changes when `adopt` takes it.

The parts of a rule whose meaning changed must start afresh with it: carry the state of a part only where the
fingerprint of its owner is the same too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from devices.registry import Registry
from rules import groups, levels
from rules.groups import Tally, members_of
from rules.levels import Standing
from rules.outcome import FAR, Peak, Rows, Transition
from rules.parts import Part
from rules.state import FIRING
from rules.turning import Cast, Judging, Members, State

__all__ = ["Combined", "Combiner", "Saved", "members_of"]


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """The state of one rule: its standing levels by device, its groups by subject."""

    fingerprint: str
    standings: dict[str, Standing]
    tallies: dict[str, Tally]


class Saved(msgspec.Struct, frozen=True):
    """The state by rule, a piece of the engine's snapshot."""

    rules: dict[str, Kept]


@dataclass(frozen=True, slots=True)
class Combined:
    """What the rules of the book say, in the order of what brought it about."""

    transitions: tuple[Transition, ...]
    peaks: tuple[Peak, ...]
    changes: State


class Combiner:
    """`parts` by their own id; `members` for each group rule's id the device numbers of each subject (members_of)."""

    def __init__(self, parts: Mapping[str, Part], registry: Registry, members: Members) -> None:
        self._cast = Cast(parts, registry, members)
        self._state = State()

    def judge(
        self, told: Sequence[Transition], peaks: Sequence[Peak], now: int | None, rows: Rows | None = None
    ) -> Combined:
        """`told` and `peaks` are those of parts: of one batch of `rows` (`now` None) or of one tick up to `now`.

        All transitions of an element must come in one call.
        """
        if not self._cast.owners:
            return Combined(tuple(told), tuple(peaks), State())
        work = Judging(self._cast, self._state, rows)
        for _, cause in groupby(told, _cause):
            turns = list(cause)
            if now is not None:
                work.ripen(turns[0].at)
            work.take(turns)
        if now is not None:
            work.ripen(now + 1)
        return _combined(work, peaks)

    def adopt(self, changes: State) -> None:
        self._state.write(changes)

    def due(self) -> int:
        """The next instant at which a tick has a group to judge; FAR where there is none."""
        return min(self._state.pending.values(), default=FAR)

    def soonest(self) -> int:
        """How long after a turn, in microseconds, the clock may have to judge a group at the earliest; FAR: never."""
        owners = [self._cast.owners[rule] for rule in self._cast.members]
        spans = [span for owner in owners for span in (owner.hold_us, owner.keep_us)]
        return min((span for span in spans if span), default=FAR)

    def take_over(self, previous: Combiner, told: Sequence[Transition], now: int, why: str) -> Combined:
        """What this one, still without state, has from the previous one: all of the rules whose meaning is the same.

        `told` are the clears of the parts that are no longer judged. What stands of rules and groups that are gone
        ends, at `now` or their last instant, whichever is later; a group that lost or won a member that counts is
        judged.
        """
        cast, was = previous._cast, previous._state
        old, heir = Judging(cast, was), Judging(self._cast, State())
        old.take(told, judging=False)
        heir.said = old.said
        for (rule, device), standing in {**was.standings, **old.standings}.items():
            owner = cast.owners[rule]
            if self._cast.same(owner):
                heir.standings[rule, device] = standing
            elif standing.levels:
                heir.said.append(levels.end(owner, device, standing, now, why))
        dated: dict[str, int] = defaultdict(lambda: now)
        for turn in told:
            dated[turn.rule] = max(dated[turn.rule], turn.at)
        for (rule, subject), tally in was.tallies.items():
            owner = cast.owners[rule]
            if self._cast.same(owner) and subject in self._cast.members.get(rule, {}):
                heir.tallies[rule, subject] = tally
            elif tally.phase == FIRING:
                heir.said.append(groups.end(owner, subject, tally, dated[f"{rule}#member"], why))
        for rule, subjects in cast.members.items():
            if self._cast.same(cast.owners[rule]):
                counted = was.counting.get(rule, frozenset())
                before = {subject: counted.intersection(numbers) for subject, numbers in subjects.items()}
                heir.count_anew(rule, old.members_counting(rule), before, dated[f"{rule}#member"])
        return _combined(heir, ())

    def look(self, rule: str, subject: str) -> tuple[Tally, list[int], int]:
        """The group's occurrence, its members that count, and of how many; none of none for a group there is not."""
        numbers = self._cast.members.get(rule, {}).get(subject, ())
        counting = self._state.counting.get(rule, frozenset())
        return self._state.tallies.get((rule, subject), Tally()), [n for n in numbers if n in counting], len(numbers)

    def counting(self, rule: str, changes: State | None) -> frozenset[int]:
        """The devices that meet the condition of the group rule's members, once the changes are adopted."""
        now = changes.counting.get(rule) if changes is not None else None
        return self._state.counting.get(rule, frozenset()) if now is None else now

    def loses_members(self, changes: State) -> bool:
        return any(self._state.counting.get(rule, frozenset()) - now for rule, now in changes.counting.items())

    def snapshot(self) -> Saved:
        found = {rule: Kept(owner.fingerprint, {}, {}) for rule, owner in self._cast.owners.items()}
        for (rule, device), standing in self._state.standings.items():
            found[rule].standings[device] = standing
        for (rule, subject), tally in self._state.tallies.items():
            found[rule].tallies[subject] = tally
        return Saved(found)

    def restore(self, saved: Saved, firing: Mapping[str, frozenset[int]]) -> None:
        """Take the state of a snapshot, for rules whose meaning is the same. `firing` are the numbers of the devices on
        which each part, by its id, stands in the restored engine: those count as members, and no other level stands."""
        state, members = State(), self._cast.members
        for rule, kept in saved.rules.items():
            owner = self._cast.owners.get(rule)
            if owner is None or owner.fingerprint != kept.fingerprint:
                continue
            for device, standing in kept.standings.items():
                known = self._cast.registry.get(device)
                if known is not None:
                    left = [k for k in standing.levels if known.number in firing.get(f"{rule}#{k}", frozenset())]
                    state.standings[rule, device] = standing.only(frozenset(left))
            tallies = {(rule, subject): tally for subject, tally in kept.tallies.items()}
            state.tallies |= {key: tally for key, tally in tallies.items() if key[1] in members.get(rule, {})}
        state.counting = {rule: firing.get(f"{rule}#member", frozenset()) for rule in members}
        work = Judging(self._cast, state)
        for key, tally in state.tallies.items():
            work.plan(key, tally)
        state.pending = work.pending
        self._state = state


def _combined(work: Judging, peaks: Sequence[Peak]) -> Combined:
    found, changes = work.finish(peaks)
    return Combined(tuple(work.said), tuple(found), changes)


def _cause(turn: Transition) -> tuple[int, int]:
    """The element, or the instant of the clock."""
    return (turn.element, 0) if turn.element >= 0 else (-1, turn.at)

"""One judging of levels and groups: the state of a combiner, and over it what the transitions of parts change.

Nothing here writes the state: what changed is handed back, to be adopted after the commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import msgspec

from devices.registry import Registry
from rules import groups, levels
from rules.groups import UNJUDGED, Roll, Tally
from rules.levels import NOTHING_STANDS, Standing, Turn
from rules.outcome import FAR, NEVER, Edge, Peak, Rows, Transition
from rules.parts import Part
from rules.rule import Rule

# (rule of the book, device or group subject)
Key = tuple[str, str]
Members = Mapping[str, Mapping[str, tuple[int, ...]]]


class Cast:
    """Who there is: parts by their own id, the rules they belong to, the device numbers of each group by rule and
    subject, and the groups of each device."""

    def __init__(self, parts: Mapping[str, Part], registry: Registry, members: Members) -> None:
        self.parts = parts
        self.registry = registry
        self.owners: dict[str, Rule] = {part.owner.id: part.owner for part in parts.values() if not part.whole}
        self.members = {rule: subjects for rule, subjects in members.items() if rule in self.owners}
        self.groups: dict[tuple[str, int], list[Key]] = defaultdict(list)
        for rule, subjects in self.members.items():
            for subject, numbers in subjects.items():
                for number in numbers:
                    self.groups[rule, number].append((rule, subject))

    def same(self, owner: Rule) -> bool:
        """The rule is here too and means the same."""
        mine = self.owners.get(owner.id)
        return mine is not None and mine.fingerprint == owner.fingerprint


@dataclass(slots=True)
class State:
    """Alarms of rules with levels, groups, the members that count by rule; `pending` are the groups that the clock must
    judge, and when."""

    standings: dict[Key, Standing] = field(default_factory=dict)
    tallies: dict[Key, Tally] = field(default_factory=dict)
    counting: dict[str, frozenset[int]] = field(default_factory=dict)
    pending: dict[Key, int] = field(default_factory=dict)

    def write(self, changes: State) -> None:
        """New values for some; `pending` is always all of them."""
        self.standings.update(changes.standings)
        self.tallies.update(changes.tallies)
        self.counting.update(changes.counting)
        self.pending = changes.pending


class Judging:
    """`said` is what has been found so far, `standings`, `tallies` and `pending` what has changed."""

    def __init__(self, cast: Cast, state: State, rows: Rows | None = None) -> None:
        self._cast, self._state, self._rows = cast, state, rows
        self.said: list[Transition] = []
        self.standings: dict[Key, Standing] = {}
        self.tallies: dict[Key, Tally] = {}
        self.pending: dict[Key, int] = dict(state.pending)
        self._counting: dict[str, set[int]] = {}
        self._counts: dict[Key, int] = {}
        self._seen: dict[Key, int] = {}

    def take(self, turns: Sequence[Transition], *, judging: bool = True) -> None:
        """The transitions of one element, or of one instant of the clock. The clock may turn many members at once, so
        their groups are judged after all of them; an element turns one, which may count for that element alone."""
        climbs: dict[Key, list[Turn]] = defaultdict(list)
        for turn in turns:
            part = self._cast.parts.get(turn.rule)
            if part is not None and part.owner.levels:
                climbs[part.owner.id, turn.device].append((part, turn))
        touched: dict[Key, int] = {}
        for turn in turns:
            part = self._cast.parts.get(turn.rule)
            if part is None or part.whole:
                self.said.append(turn)
            elif part.owner.levels:
                key = (part.owner.id, turn.device)
                self._climb(key, climbs.pop(key, []))
            else:
                turned = self._turn(part.owner.id, turn)
                if turn.element < 0:
                    touched |= dict.fromkeys(turned, turn.at)
                elif judging:
                    for key in turned:
                        self.judge(key, turn.at, turn.element)
        for key, at in touched.items() if judging else ():
            self.judge(key, at, -1)

    def _climb(self, key: Key, turns: Sequence[Turn]) -> None:
        if turns:
            self.standings[key], said = levels.climb(self._caught_up(key, turns), turns)
            self.said += said

    def _caught_up(self, key: Key, turns: Sequence[Turn]) -> Standing:
        """The alarm with what the levels that stand have seen of its metric in this batch, up to these turns: their
        peaks are told at the end of it, and what is said in between must not depend on where it ends."""
        standing, element = self._standing(key), turns[0][1].element
        device = self._cast.registry.get(key[1])
        past, self._seen[key] = self._seen.get(key, -1), element
        if self._rows is None or element < 0 or device is None or standing.metric is None:
            return standing
        fallen = {part.level for part, turn in turns if turn.edge is Edge.CLEARED}
        stays = self._sees(key[0], standing, standing.levels - fallen)
        series = self._cast.registry.find_series(device.number, standing.metric)
        if series is not None and self._sees(key[0], standing, standing.levels):
            rows = self._rows
            seen = (rows.series == series) & (rows.element > past) & (rows.element < element + stays)
            for value in rows.value[seen].tolist():
                standing = standing.hears(standing.metric, value)
        return standing

    def _sees(self, rule: str, standing: Standing, chosen: Set[int]) -> bool:
        """One of these levels looks at the metric of the alarm first."""
        return any(self._cast.parts[f"{rule}#{level}"].rule.metric == standing.metric for level in chosen)

    def _standing(self, key: Key) -> Standing:
        return self.standings.get(key) or self._state.standings.get(key, NOTHING_STANDS)

    def _turn(self, rule: str, turn: Transition) -> list[Key]:
        """Counts a member or counts it no more; the groups it belongs to."""
        device = self._cast.registry.get(turn.device)
        if device is None:
            return []
        keys = self._cast.groups.get((rule, device.number), [])
        counting, step = self.members_counting(rule), 1 if turn.edge is Edge.RAISED else -1
        if (device.number in counting) is not (step == 1):
            for key in keys:
                self._counts[key] = self._count(key) + step
            (counting.add if step == 1 else counting.discard)(device.number)
        return keys

    def members_counting(self, rule: str) -> set[int]:
        found = self._counting.get(rule)
        if found is None:
            found = self._counting[rule] = set(self._state.counting.get(rule, ()))
        return found

    def _count(self, key: Key) -> int:
        found = self._counts.get(key)
        if found is None:
            found = self._counts[key] = len(self._members(key))
        return found

    def _members(self, key: Key) -> list[int]:
        """Those that count."""
        changed = self._counting.get(key[0])
        counting: Set[int] = self._state.counting.get(key[0], frozenset()) if changed is None else changed
        return [number for number in self._cast.members[key[0]][key[1]] if number in counting]

    def count_anew(self, rule: str, counting: set[int], before: Mapping[str, Set[int]], at: int) -> None:
        """For a rule taken over: who counts. A group of which others counted `before` is judged at this instant, where
        there is one to date it with."""
        self._counting[rule] = counting
        for subject, numbers in self._cast.members.get(rule, {}).items():
            key = (rule, subject)
            tally = self.tallies.get(key, UNJUDGED)
            if before.get(subject, set()) != counting.intersection(numbers) and max(at, tally.instant) > NEVER:
                self.judge(key, at, -1)
            elif key in self.tallies:
                self.plan(key, tally)

    def judge(self, key: Key, at: int, element: int) -> None:
        owner, before = self._cast.owners[key[0]], self.tallies.get(key) or self._state.tallies.get(key, UNJUDGED)
        tally, edge = groups.judge(owner, before, self._roll(key), at)
        self.tallies[key] = tally
        self.plan(key, tally)
        if edge is not None:
            counting = [self._cast.registry.devices[number].id for number in self._members(key)]
            of = len(self._cast.members[key[0]][key[1]])
            self.said.append(groups.say(owner, key[1], edge, tally, counting=counting, of=of, element=element))

    def _roll(self, key: Key) -> Roll:
        return Roll(self._count(key), len(self._cast.members[key[0]][key[1]]))

    def plan(self, key: Key, tally: Tally) -> None:
        due = groups.due(self._cast.owners[key[0]], tally)
        if due < FAR:
            self.pending[key] = due
        else:
            self.pending.pop(key, None)

    def ripen(self, before: int) -> None:
        """Judge the groups that the clock must judge at an instant before this one, at theirs."""
        while self.pending:
            at, key = min((at, key) for key, at in self.pending.items())
            if at >= before:
                return
            self.judge(key, at, -1)

    def finish(self, peaks: Sequence[Peak]) -> tuple[list[Peak], State]:
        """What got worse, and all that changed; `peaks` are those of parts after it."""
        found: list[Peak] = []
        for peak in peaks:
            part = self._cast.parts.get(peak.rule)
            if part is None or part.whole:
                found.append(peak)
            elif part.owner.levels:
                key = (part.owner.id, peak.device)
                self.standings[key] = self._standing(key).hears(part.rule.metric, peak.peak_value)
        found += self._news()
        counting = {rule: frozenset(numbers) for rule, numbers in self._counting.items()}
        return found, State(self.standings, self.tallies, counting, self.pending)

    def _news(self) -> Iterator[Peak]:
        for key, standing in self.standings.items():
            if standing.is_news and standing.peak is not None:
                self.standings[key] = msgspec.structs.replace(standing, told=standing.peak)
                yield Peak(*key, standing.raised_at, standing.peak)
        for key, tally in self.tallies.items():
            if tally.is_news:
                self.tallies[key] = msgspec.structs.replace(tally, told=tally.peak)
                yield Peak(*key, tally.raised_at, tally.peak)

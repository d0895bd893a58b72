"""Looks once more at stretches in which nothing was judged, when late readings have filled them.

The device's rules go over the stored readings around the hole, with the engine that runs; what was raised and over
inside it becomes a retroactive occurrence: no message, no order, no change of anything that is there. A rule is asked
only where none of what it reads was judged in the meantime. Its own thread: nobody who settles waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, or_, select, update

from devices.instants import DAY, MINUTE, SECOND
from devices.registry import EVENT, Device, Registry
from flow.alarms import record_found
from flow.history import Sources, choose, expected_readings
from flow.holes import MISSED, Hole
from flow.reach import reach
from flow.regularly import Regularly
from rules.backtest import Backtest
from rules.book import RuleBook
from rules.calendar import Site
from rules.outcome import Edge, Transition
from rules.rule import Rule
from rules.suppression import asks_absence
from store.readings import ReadingStore
from store.records.database import write
from store.records.declarations import read_declared
from store.records.devices import grids_under
from store.records.tables import holes, occurrences

log = logging.getLogger("gridwhistle.filling")

# A device that sends what it kept pauses between pieces; sooner, half of it would be taken for the whole.
QUIET = 5 * MINUTE
# Readings before the hole that fill windows and holds; a rule that looks back farther finds its windows short.
LONGEST_LEAD = 7 * DAY
# What one look may read: some seconds of a core.
MOST_READINGS = 2_000_000
LOOK_EVERY_S = 10.0
# How long a look waits for the readings to reach the store; it comes again.
DRAIN_S = 5.0

Stretch = tuple[int, int]


@dataclass(frozen=True)
class Filler:
    """`book` is the one that runs. `drained` waits so many seconds until what is committed is in the store."""

    records: Engine
    readings: ReadingStore
    registry: Registry
    book: Callable[[], RuleBook]
    site: Callable[[], Site]
    drained: Callable[[float], bool]

    def look(self, now: int) -> int:
        """Every hole that has been quiet for QUIET; how many occurrences were found. Raises StoreUnavailable."""
        due = select(holes.c.device).where(holes.c.filled_at <= now - QUIET).distinct()
        with self.records.connect() as tx:
            devices = tx.execute(due).scalars().all()
        if not devices or not self.drained(DRAIN_S):
            return 0
        return sum(self._fill(self.registry.devices[number], now) for number in devices)

    def _fill(self, device: Device, now: int) -> int:
        """One commit: what was found, and the holes are looked at."""
        with self.records.connect() as tx:
            rows = tx.execute(select(holes).where(holes.c.device == device.number)).all()
        every = [Hole(row.series, row.device, row.from_at, row.to_at) for row in rows]
        ripe = [row for row in rows if row.filled_at is not None and row.filled_at <= now - QUIET]
        found: list[list[Transition]] = []
        if device.judged:
            filled = {(row.series, row.from_at) for row in ripe}
            asked = self._asked(device, every, [h for h in every if (h.series, h.start) in filled])
            for stretch, rules in asked.items():
                found += self._over(device, stretch, rules)
        with write(self.records) as tx:
            for row in ripe:
                # A reading that came meanwhile has marked it anew and is looked at in its turn.
                mine = (holes.c.series == row.series, holes.c.from_at == row.from_at)
                tx.execute(update(holes).where(*mine, holes.c.filled_at == row.filled_at).values(filled_at=None))
            fresh = [each for each in found if not _overlaps(tx, each)]
            told = [transition for each in fresh for transition in each]
            record_found(tx, told, now=now, registry=self.registry, rulebook=self.book())
        if fresh:
            log.info("%s: late readings tell of %d alarms that nobody saw", device.id, len(fresh))
        return len(fresh)

    def _asked(self, device: Device, every: Sequence[Hole], filled: Sequence[Hole]) -> dict[Stretch, list[Rule]]:
        """The stretches to go over, each with the rules for which nothing was judged in it."""
        numbers = dict(self.registry.series_of(device.number))
        heard: dict[tuple[int, Stretch], bool] = {}

        def spoke(series: int, stretch: Stretch) -> bool:
            key = (series, stretch)
            if key not in heard:
                heard[key] = len(self.readings.range(series, stretch[0] + 1, stretch[1], 1).value) > 0
            return heard[key]

        found: dict[Stretch, list[Rule]] = {}
        for rule in self.book().rules.values():
            read = [numbers[name] for name in rule.series if name in numbers]
            for hole in (hole for hole in filled if hole.series in read and _may_ask(rule)):
                stretch = _common(hole, read, every, spoke)
                if stretch is not None and stretch[1] - stretch[0] > _gap(rule, device):
                    rules = found.setdefault(stretch, [])
                    rules += [] if rule in rules else [rule]
        return found

    def _over(self, device: Device, stretch: Stretch, rules: Sequence[Rule]) -> list[list[Transition]]:
        """Each raise with all that followed up to its clear, of those that lie wholly inside."""
        start, end = stretch
        lead = max(0, start - min(max(reach(rule, device.interval_s) for rule in rules), LONGEST_LEAD))
        history = choose(self.registry, [device], {name for rule in rules for name in rule.series}, lead)
        if expected_readings(history, lead, end) > MOST_READINGS:
            log.warning("%s: %s of late readings are too much to go over", device.id, f"{(end - start) / DAY:.1f} days")
            return []
        with self.records.connect() as tx:
            declared = read_declared(tx, self.registry, lead)
            named = {grid for rule in rules for grid in rule.applies_to.grids or ()}
            tree = {grid: grids_under(tx, grid) for grid in named}
        book = replace(self.book(), rules={rule.id: rule for rule in rules})
        run = Backtest(book, history.registry, grid_tree=tree, site=self.site(), declared=declared)
        told: list[Transition] = []
        for part in Sources(self.records, self.readings).rows(history, lead, end + 1):
            told += run.feed(part)
        return [each for each in _occurrences(told) if each[0].since >= start and each[-1].at <= end]


def filling_thread(filler: Filler, *, now: Callable[[], int], found: Callable[[], None]) -> Regularly:
    """`now` is the rule clock, `found` is called after a commit that added something. What a look could not see for
    an error is still marked."""

    def look() -> float:
        if filler.look(now()):
            found()
        return LOOK_EVERY_S

    return Regularly("filling", look, LOOK_EVERY_S)


def _may_ask(rule: Rule) -> bool:
    """Not several devices, of which others were judged; no forecast of what is past; no absence, for what is missing
    may still come; no events, which leave no hole."""
    events = any(name.startswith(EVENT) for name in rule.series)
    return rule.group is None and not rule.early and not asks_absence(rule) and not events


def _gap(rule: Rule, device: Device) -> int:
    return round(MISSED * device.interval_s * SECOND) if rule.gap_us is None else rule.gap_us


def _common(
    hole: Hole, read: Iterable[int], every: Sequence[Hole], spoke: Callable[[int, Stretch], bool]
) -> Stretch | None:
    """The part of the hole in which nothing of the other series was judged either; None where something was."""
    start, end = hole.start, hole.end
    for series in read:
        beside = [h for h in every if h.series == series and h.start < end and h.end > start]
        if beside:
            most = max(beside, key=lambda h: min(h.end, end) - max(h.start, start))
            start, end = max(most.start, start), min(most.end, end)
        elif spoke(series, (start, end)):
            return None
    return start, end


def _occurrences(told: Iterable[Transition]) -> list[list[Transition]]:
    """Of each rule, from a raise to its clear; what still stands at the end is none."""
    open_: dict[str, list[Transition]] = {}
    found: list[list[Transition]] = []
    for transition in told:
        if transition.edge is Edge.RAISED:
            open_[transition.rule] = [transition]
        elif transition.rule in open_:
            open_[transition.rule].append(transition)
            if transition.edge is Edge.CLEARED:
                found.append(open_.pop(transition.rule))
    return found


def _overlaps(tx: Connection, told: Sequence[Transition]) -> bool:
    """Something of this alarm is known of the time already."""
    raised, cleared = told[0], told[-1]
    c = occurrences.c
    known = select(c.id).where(
        c.rule == raised.rule, c.device == raised.device, c.raised_at <= cleared.at,
        or_(c.cleared_at.is_(None), c.cleared_at >= raised.at),
    )  # fmt: skip
    return tx.execute(known.limit(1)).first() is not None

"""How many alarms stand and how many of them nobody has acknowledged: the counts in the bar of every page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alerts.alarms import AlarmState
from console.visits import Visit
from rules.rule import Priority
from store.records.alarms import AlarmRow, counts_standing, standing
from store.records.declarations import Declaring, lasting_declarations

# These sound until somebody acknowledges them; a lower one is seen at the next glance.
LOUD = frozenset({Priority.CRITICAL, Priority.HIGH})
UNACKNOWLEDGED = frozenset({AlarmState.UNACK, AlarmState.RTNUN})


@dataclass(frozen=True, slots=True)
class Counts:
    """`by_priority`: (priority, standing, of them unacknowledged), worst first. `loud`: one key for each occurrence
    that should be heard; `total` and `unacknowledged` leave notices out, which wait for nobody. `ill`: what of this
    installation does not work; `response` the level declared, `drill` whether there is one."""

    total: int
    unacknowledged: int
    by_priority: Sequence[tuple[Priority, int, int]]
    loud: Sequence[str]
    ill: Sequence[str] = ()
    response: int | None = None
    drill: bool = False


def standing_of(visit: Visit) -> Counts:
    now = visit.now
    with visit.installation.records.connect() as tx:
        counts = count(counts_standing(tx), standing(tx, notices=False))
        responses = lasting_declarations(tx, Declaring.RESPONSE, now)
        drills = lasting_declarations(tx, Declaring.DRILL, now)
    levels = [row.level for row in responses if row.level is not None and row.start <= now]
    drill = any(row.start <= now for row in drills)
    return replace(counts, ill=ill_parts(visit), response=min(levels, default=None), drill=drill)


def ill_parts(visit: Visit) -> list[str]:
    return [part for part, state in visit.installation.health().items() if not state.get("ok")]


def count(standing_now: dict[Priority, int], rows: Sequence[AlarmRow]) -> Counts:
    """`rows` are the worst of those standing; unacknowledged ones come before the others of their priority. What is
    only forecast is not counted and not heard."""
    waiting = [row for row in rows if row.state in UNACKNOWLEDGED and not row.early]
    by_priority = [(p, standing_now[p], sum(row.priority is p for row in waiting)) for p in Priority]
    loud = [
        f"{row.id}-{row.occurrence.id if row.occurrence else 0}"
        for row in waiting
        if row.priority in LOUD and row.state is AlarmState.UNACK
    ]
    total = sum(n for p, n in standing_now.items() if p is not Priority.NOTICE)
    return Counts(total, len(waiting), by_priority, loud)

"""What a batch or a tick asks of the database costs the same whatever has been stored before: by an index, never by a
walk over a table that grows with the years."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from devices.instants import HOUR, MINUTE, SECOND
from store.records.commands import lapsed_commands, pending_commands
from tests.flow.centre import HIGH, TOWN, SmallCentre

GROWING = (
    "events", "alarms", "occurrences", "alarm_history", "orders", "order_occurrences", "order_history", "outbox",
    "stream", "journal", "ledger", "ledger_reasons", "commands", "audit",
)  # fmt: skip
# Indexes of the few rows of such a table that are still open.
FEW = ("ix_alarms_suppressed_by", "ix_commands_open", "ix_occurrences_standing")
RULES = (
    HIGH
    + """
  - {id: person, name: {zh: 有人}, applies_to: {kind: camera}, when: 'count(event("person_detected"), 10m) > 0',
     priority: high, order: {category: other}}
  - {id: gone, name: {zh: 无数据}, applies_to: {kind: pump_station}, when: "absent(level_inside, 30m)", priority: low}
  - {id: several, name: {zh: 多站}, applies_to: {kind: pump_station, tags: [line]}, priority: high,
     when: 'of_group("line", level_inside > 3.5) > 0.9'}
"""
)


@contextmanager
def walks(centre: SmallCentre) -> Iterator[set[str]]:
    """The plan of every walk over a growing table, with its statement, while this is open."""
    found: set[str] = set()

    def look(tx: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool) -> None:
        if statement.split(maxsplit=1)[0].upper() not in ("SELECT", "WITH", "UPDATE", "DELETE"):
            return
        raw = tx.connection.dbapi_connection
        assert raw is not None
        given = parameters[0] if executemany else parameters
        cursor = raw.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given)
        for *_, step in cursor.fetchall():
            words = step.split()
            # SQLAlchemy numbers its aliases: occurrences_1.
            if words[0] == "SCAN" and re.sub(r"_\d+$", "", words[1]) in GROWING and words[-1] not in FEW:
                found.add(f"{step}: {statement}")

    event.listen(centre.records, "after_cursor_execute", look)
    try:
        yield found
    finally:
        event.remove(centre.records, "after_cursor_execute", look)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[SmallCentre]:
    town = {**TOWN, "devices.yaml": TOWN["devices.yaml"].replace("interval: 60}", "interval: 60, tags: [line]}")}
    made = SmallCentre(tmp_path / "data", rules=RULES, town=town).start()
    yield made
    made.stop()


def a_day_at(centre: SmallCentre) -> None:
    """Levels that raise and clear, events and their repeats, refusals, holes, silence, and what the clock tells."""
    for n in range(6):
        for device in ("ps-1", "ps-2"):
            centre.send(device, {"at": centre.now // 1000, "level_inside": 3.9 if n % 2 else 3.0})
        seen = {"at": centre.now // 1000, "event": "person_detected", "id": f"p-{n // 2}"}
        centre.send("cam-1", seen, channel="events", kind="camera")
        centre.send("ps-1", b"rubbish")
        centre.settle()
        centre.now += MINUTE
        centre.settler.tick(centre.now)
    centre.now += 2 * HOUR
    centre.settler.tick(centre.now)
    centre.level(centre.now + SECOND, 3.9)
    centre.level(centre.now - HOUR, 3.9)  # late, into the hole
    assert centre.settler.appender.drain(10)
    with centre.records.connect() as tx:
        assert pending_commands(tx, centre.now, 100) == []
        assert lapsed_commands(tx, centre.now, ["pending", "sent"], 100) == []


def test_settling_walks_over_nothing_that_grows(centre: SmallCentre) -> None:
    with walks(centre) as found:
        a_day_at(centre)
    assert {rule for rule, *_ in centre.occurrences()} >= {"high", "person", "gone", "several"}
    assert not found, "\n\n".join(sorted(found))

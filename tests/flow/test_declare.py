"""What people declare, and what follows: levels of response, drills, pauses of devices and of persons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select, update

from alerts.refusals import Conflict, Invalid, NotAllowed, NotFound, Refusal
from alerts.roles import Actor, Role
from devices.instants import DAY, HOUR, MINUTE
from flow import declare
from flow.memory import _Saved
from flow.readings import SNAPSHOT
from rules.book import load
from rules.declared import Pause, Response, Span
from store.records.database import write
from store.records.declarations import Declaring, lasting_declarations, list_pauses
from store.records.journal import load_snapshot
from store.records.tables import (
    alarm_history,
    alarms,
    audit,
    declarations,
    devices,
    occurrences,
    order_history,
    pauses,
    snapshots,
)
from tests.flow.centre import HIGH, START, TOWN, SmallCentre

OFFICER, HANDLER = Actor("wang", Role.DUTY_OFFICER), Actor("li", Role.HANDLER)
RULES = (
    HIGH
    + """
  - id: by-level
    applies_to: {devices: [ps-2]}
    when: level_inside > by_response(3.5, 3.4, 3.3, 3.2, 3.1)
    clear: level_inside <= by_response(3.5, 3.4, 3.3, 3.2, 3.1)
  - id: drilling
    applies_to: {devices: [ps-2]}
    when: mode("drill") and level_inside > 0
  - id: no-opening
    applies_to: {kind: door_sensor}
    when: since(event("door_opened")) > 24h
"""
)
# Three doors of two people with one name.
DEVICES = """
devices:
  - {id: ps-1, kind: pump_station, interval: 60}
  - {id: ps-2, kind: pump_station, interval: 60}
  - {id: door-1, kind: door_sensor, person: 陆阿婆, person_address: 隆兴路七号}
  - {id: door-2, kind: door_sensor, person: 陆阿婆, person_address: 隆兴路七号}
  - {id: door-3, kind: door_sensor, person: 陆阿婆, person_address: 震泽弄三号}
  - {id: door-4, kind: door_sensor}
"""


@dataclass
class Town(SmallCentre):
    """Declarations are made at its now."""

    rules: str = RULES

    def declare(self, act: Callable[[Connection, int], Any]) -> Any:
        return self.settler.declare(act, self.now)

    def respond(self, level: int, actor: Actor = OFFICER, **given: Any) -> int:
        said: dict[str, Any] = {"why": "台风", "ordered_by": "王镇长"} | given
        number = self.declare(lambda tx, now: declare.declare_response(tx, now, actor, level=level, **said))
        assert isinstance(number, int)
        return number

    def pause(self, device: str, actor: Actor = OFFICER, **given: Any) -> int:
        said: dict[str, Any] = {"why": "限排", "end": self.now + DAY, "known_rules": self.settler.book.rules} | given
        registry = self.settler.memory.registry
        number = self.declare(lambda tx, now: declare.pause(tx, now, actor, registry, device=device, **said))
        assert isinstance(number, int)
        return number

    def unpause(self, number: int) -> None:
        self.declare(lambda tx, now: declare.unpause(tx, now, OFFICER, number=number))

    def tick(self, later: int = 0) -> None:
        self.now += later
        self.settler.tick(self.now)

    def said(self, rule: str, device: str = "ps-1") -> list[tuple[int, int | None]]:
        return [(raised, cleared) for r, d, raised, cleared in self.occurrences() if (r, d) == (rule, device)]

    def ends(self, rule: str, device: str = "ps-1") -> list[str | None]:
        query = select(alarm_history.c.why).join(alarms, alarms.c.id == alarm_history.c.alarm)
        query = query.where(alarms.c.rule == rule, alarms.c.device == device, alarm_history.c.act == "cleared")
        with self.records.connect() as tx:
            return list(tx.scalars(query.order_by(alarm_history.c.id)))


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setitem(TOWN, "devices.yaml", DEVICES)
    town = Town(tmp_path / "data")
    town.start()
    yield town
    town.stop()


def test_a_paused_pump_raises_nothing_and_what_stood_is_cleared_when_it_is_paused(town: Town) -> None:
    town.level(START, 3.8)
    town.now = START + MINUTE
    number = town.pause("ps-1")
    assert town.said("high") == [(START, START + MINUTE)]
    town.level(START + HOUR, 3.9)
    assert len(town.said("high")) == 1
    town.unpause(number)
    town.level(START + HOUR + MINUTE, 3.9)
    assert town.said("high")[1:] == [(START + HOUR + MINUTE, None)]


def test_the_history_says_what_cleared_an_alarm_where_no_reading_did(town: Town) -> None:
    town.level(START, 3.8)
    town.now = START + MINUTE
    number = town.pause("ps-1", why="检修：换泵")
    assert town.ends("high") == ["paused: 检修：换泵"]
    town.unpause(number)
    town.level(START + HOUR, 3.9)
    town.settler.reload(load({"rules.yaml": RULES.replace("> 3.5", "> 3.4")}), START + HOUR)
    assert town.ends("high") == ["paused: 检修：换泵", "rule_removed_or_changed"]
    town.level(START + 2 * HOUR, 3.9)
    town.level(START + 2 * HOUR + MINUTE, 3.0)
    assert town.ends("high")[2:] == [None]
    with town.records.connect() as tx:
        acts = tx.execute(select(order_history).order_by(order_history.c.id)).all()
    assert [a.why for a in acts if a.act in {"cleared", "self_clear"}] == town.ends("high")


def test_why_a_home_is_paused_is_not_in_the_history_of_its_alarms(town: Town) -> None:
    town.send("door-1", {"at": START // 1000, "event": "door_opened"}, channel="events", kind="door_sensor")
    town.settle()
    town.settler.link(START)
    town.tick(25 * HOUR)
    town.pause("door-1", why="住院")
    assert town.said("no-opening", "door-1") == [(START + DAY, START + 25 * HOUR)]
    assert town.ends("no-opening", "door-1") == ["paused"]


def test_nobody_misses_a_paused_device_and_its_silence_counts_from_the_end_of_the_pause(town: Town) -> None:
    town.settler.link(START)
    town.level(START, 3.0)
    town.tick(5 * MINUTE)
    assert town.said("gw-silence") == [(START + 3 * MINUTE, None)]
    town.pause("ps-1", end=START + HOUR)
    town.tick(MINUTE)
    assert town.said("gw-silence") == [(START + 3 * MINUTE, START + 5 * MINUTE)]
    town.tick(20 * MINUTE)
    assert len(town.said("gw-silence")) == 1
    town.now = START + HOUR
    town.tick(2 * MINUTE)
    assert len(town.said("gw-silence")) == 1
    town.tick(MINUTE)
    assert town.said("gw-silence")[1:] == [(START + HOUR + 3 * MINUTE, None)]


def test_a_pause_of_some_rules_leaves_the_others_and_silence(town: Town) -> None:
    town.settler.link(START)
    town.pause("ps-1", rules=["by-level"])
    town.level(START + MINUTE, 3.8)
    assert town.said("high") == [(START + MINUTE, None)]
    town.tick(10 * MINUTE)
    assert town.said("gw-silence") == [(START + 4 * MINUTE, None)]
    town.now += MINUTE
    town.pause("ps-1", rules=["gw-silence"])
    town.tick(MINUTE)
    assert town.said("gw-silence")[0][1] is not None
    assert town.said("high") == [(START + MINUTE, None)]


def test_a_pause_of_a_person_is_of_every_device_in_that_home_and_of_no_namesake(town: Town) -> None:
    town.pause("door-1", of_person=True)
    assert {p.device for p in town.settler.memory.engine.declared.pauses} == {"door-1", "door-2"}
    town.settler.link(START)
    town.tick(23 * HOUR)
    town.tick(2 * HOUR)
    silent = {device for rule, device, _, _ in town.occurrences() if rule == "no-opening"}
    assert silent & {"door-1", "door-2", "door-3"} == {"door-3"}


def test_who_has_no_person_cannot_be_paused_as_one(town: Town) -> None:
    for device in ("ps-1", "door-4"):
        with pytest.raises(NotFound, match="no_person"):
            town.pause(device, of_person=True)
    assert town.settler.memory.engine.declared.pauses == ()


def test_a_level_of_response_moves_the_thresholds_from_its_start_on(town: Town) -> None:
    town.level(START, 3.25, "ps-2")
    town.now = START + MINUTE
    town.respond(2)
    town.level(START + 2 * MINUTE, 3.25, "ps-2")
    assert town.said("by-level", "ps-2") == [(START + 2 * MINUTE, None)]


def test_another_level_takes_the_place_of_the_one_that_holds(town: Town) -> None:
    first = town.respond(3)
    town.now += HOUR
    second = town.respond(4, Actor("zhou", Role.ADMIN))
    with town.records.connect() as tx:
        rows = {r.id: r for r in tx.execute(select(declarations))}
        lasting = [row.id for row in lasting_declarations(tx, Declaring.RESPONSE, town.now)]
    assert (rows[first].end, rows[first].ended_by, rows[second].end) == (START + HOUR, "zhou", None)
    assert lasting == [second]
    assert town.settler.memory.engine.declared.responses == (
        Response(3, START, START + HOUR), Response(4, START + HOUR, None),
    )  # fmt: skip


def test_a_drill_is_judged_by_the_clock_and_ends(town: Town) -> None:
    town.settler.link(START)
    town.level(START, 3.0, "ps-2")
    town.now += MINUTE
    end = START + HOUR
    town.declare(lambda tx, now: declare.declare_drill(tx, now, OFFICER, why="防汛演练", end=end))
    town.tick(MINUTE)
    assert town.said("drilling", "ps-2") == [(START + MINUTE, None)]
    town.now = end
    town.tick(MINUTE)
    assert town.said("drilling", "ps-2")[0][1] == end
    assert town.settler.memory.engine.declared.drills == (Span(START + MINUTE, end),)


def test_ending_what_has_not_begun_means_that_it_never_was(town: Town) -> None:
    number = town.pause("ps-1", start=START + HOUR, end=START + 2 * HOUR)
    town.unpause(number)
    assert town.settler.memory.engine.declared.pauses == ()
    with pytest.raises(Conflict, match="over_already"):
        town.unpause(number)


def test_what_should_have_begun_earlier_begins_now(town: Town) -> None:
    town.pause("ps-1", start=START - DAY)
    assert town.settler.memory.engine.declared.pauses[0].start == START


def test_every_act_is_an_audit_row_and_the_reason_of_a_pause_stands_with_the_pause_alone(town: Town) -> None:
    number = town.pause("door-1", of_person=True, why="住院")
    town.now += MINUTE
    town.unpause(number)
    town.respond(1)
    with town.records.connect() as tx:
        rows = [(r.at, r.by, r.act, r.subject, r.why) for r in tx.execute(select(audit))]
        (kept,) = list_pauses(tx, limit=10).items
    assert rows == [
        (START, "wang", "person_paused", "door-1", f"#{number}"),
        (START + MINUTE, "wang", "unpaused", "door-1", f"#{number}"),
        (START + MINUTE, "wang", "response_declared", "response_1", "#1 台风"),
    ]
    assert (kept.why, kept.ended_by, kept.end) == ("住院", "wang", START + MINUTE)


BAD: list[tuple[str, Callable[[Town], Any], type[Refusal]]] = [
    ("not_allowed", lambda town: town.respond(3, HANDLER), NotAllowed),
    ("not_allowed", lambda town: town.pause("ps-1", HANDLER), NotAllowed),
    ("no_such_level", lambda town: town.respond(5), Invalid),
    ("who_ordered", lambda town: town.respond(3, ordered_by=" "), Invalid),
    ("reason_required", lambda town: town.respond(3, why=" "), Invalid),
    ("reason_required", lambda town: town.pause("ps-1", why=""), Invalid),
    ("ends_before", lambda town: town.pause("ps-1", end=START), Invalid),
    ("ends_before", lambda town: town.respond(3, start=START + DAY, end=START + HOUR), Invalid),
    ("pause_too_long", lambda town: town.pause("ps-1", end=START + 367 * DAY), Invalid),
    ("no_such_rule", lambda town: town.pause("ps-1", rules=["hihg"]), Invalid),
    ("no_such_rule", lambda town: town.pause("ps-1", rules=[]), Invalid),
    ("no_such_device", lambda town: town.pause("ps-9"), NotFound),
    ("no_such_pause", lambda town: town.unpause(7), NotFound),
]


@pytest.mark.parametrize(("code", "act", "kind"), BAD, ids=[f"{n}-{code}" for n, (code, _, _) in enumerate(BAD)])
def test_what_is_refused_leaves_nothing(town: Town, code: str, act: Callable[[Town], Any], kind: type[Refusal]) -> None:
    with pytest.raises(kind, match=code):
        act(town)
    with town.records.connect() as tx:
        assert [tx.execute(select(table)).all() for table in (declarations, pauses, audit)] == [[], [], []]


def test_a_drill_lasts_a_week_at_most(town: Town) -> None:
    with pytest.raises(Invalid, match="drill_too_long"):
        town.declare(
            lambda tx, now: declare.declare_drill(tx, now, OFFICER, why="x", start=now + DAY, end=now + 9 * DAY)
        )


def test_what_was_declared_holds_after_a_crash(town: Town) -> None:
    town.settler.link(START)
    town.level(START, 3.8)
    town.level(START, 3.0, "ps-2")
    town.pause("ps-1", end=START + HOUR)
    town.respond(3)
    town.tick(10 * MINUTE)  # ps-2 is silent: an entry of the journal, after the snapshot of the declarations
    memory = town.settler.memory
    before = (memory.engine.declared, memory.presence.silent_since.tolist())
    town.stop(crash=True)
    town.start()
    memory = town.settler.memory
    assert (memory.engine.declared, memory.presence.silent_since.tolist()) == before
    town.level(START + 11 * MINUTE, 3.9)
    town.tick(20 * MINUTE)
    assert town.said("high") == [(START, START)]
    assert town.said("gw-silence") == []
    assert len(town.said("gw-silence", "ps-2")) == 1


def test_a_crash_between_the_commit_and_the_snapshot_loses_no_declaration(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.level(START, 3.8)
    town.settler.snapshot()
    town.now = START + MINUTE
    with monkeypatch.context() as patch:
        patch.setattr(town.settler, "snapshot", lambda: None)
        town.pause("ps-1")
    town.stop(crash=True)
    town.now += MINUTE
    town.start()
    assert town.said("high") == [(START, START + MINUTE)]
    assert town.settler.memory.engine.declared.pauses == (
        Pause("ps-1", START + MINUTE, START + MINUTE + DAY, "限排"),
    )  # fmt: skip


def test_state_of_another_version_lets_rules_start_afresh_and_no_alarm_is_left_behind(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    town.settler.link(START)
    town.level(START, 3.8)
    town.stop()
    _make_older(town)
    town.now += MINUTE
    town.start()
    assert "start afresh" in caplog.text
    assert town.said("high") == [(START, START + MINUTE)]
    town.level(START + 2 * MINUTE, 3.8)
    assert town.said("high")[1:] == [(START + 2 * MINUTE, None)]


def _make_older(town: Town) -> None:
    """The snapshot as a version before this one would have left it, as far as the rules go."""
    from store.records.database import open_records

    records = open_records(town.folder / "records.sqlite")
    with write(records) as tx:
        found = load_snapshot(tx, SNAPSHOT)
        assert found is not None
        saved = msgspec.structs.replace(
            msgspec.msgpack.decode(found[1], type=_Saved), engine=msgspec.msgpack.encode({"version": 1})
        )
        tx.execute(update(snapshots).where(snapshots.c.name == SNAPSHOT).values(body=msgspec.msgpack.encode(saved)))
    records.dispose()


def test_reading_the_rules_anew_says_what_changed_and_which_start_afresh(town: Town) -> None:
    town.level(START, 3.8)
    text = RULES.replace("{zh: 高, en: high}", "{zh: 水位高, en: high}").replace("> 24h", "> 48h")
    text = text.replace("id: drilling", "id: in-a-drill")
    changed = town.settler.reload(load({"rules.yaml": text}), START + MINUTE, "admin")
    assert changed.unchanged == ("by-level",)
    assert (changed.changed, changed.afresh) == (("high", "no-opening"), ("no-opening",))
    assert (changed.removed, changed.added) == (("drilling",), ("in-a-drill",))
    assert town.said("high") == [(START, None)]
    with town.records.connect() as tx:
        assert [(r.by, r.act) for r in tx.execute(select(audit))] == [("admin", "rules_reloaded")]
        assert tx.execute(select(occurrences)).all()
        assert tx.execute(select(devices)).all()

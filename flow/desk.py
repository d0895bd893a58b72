"""What people do about alarms: acknowledge, shelve, unshelve, comment. One act, one transaction, one history row.

Coming back from the shelf while the condition stands is a raise: it is announced again and gets its order then, not
while it was shelved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from alerts.alarms import RETURNS, AlarmState, Happening, check_shelving, settle
from alerts.refusals import Conflict, Invalid, NotFound, Refusal
from alerts.roles import SERVICE, Actor
from devices.registry import Device
from flow.covering import parent_named
from flow.filing import file_standing
from flow.held import Happened, HeldAlarm, HeldOccurrence
from flow.messages import alarm_event, alarm_raised, post, tell
from flow.suppressing import called
from rules.rule import Priority
from store.records.alarms import AlarmRow, get_alarm
from store.records.database import write
from store.records.devices import get_device
from store.records.tables import alarm_history, alarms, occurrences, rules

# What fits on a card; longer texts belong into a document.
MAX_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one alarm of many: `refusal` None where it was acknowledged, `state` then the new one."""

    alarm: int
    state: AlarmState | None = None
    refusal: Refusal | None = None


def acknowledge(
    records: Engine, now: int, actor: Actor, *, alarm: int, comment: str | None = None, version: int | None = None
) -> AlarmRow:
    """Raises NotAllowed, NotFound, or Conflict where there is nothing to acknowledge, or `version` is not the latest.

    `version` None acknowledges whatever stands now.
    """
    actor.require("alarm.acknowledge")
    with write(records) as tx:
        _acknowledge(tx, now, actor, alarm, comment=comment, version=version)
        return _shown(tx, alarm)


def acknowledge_many(
    records: Engine, now: int, actor: Actor, *, alarms: Sequence[int], comment: str | None = None
) -> list[Outcome]:
    """Each by itself: one that cannot be acknowledged refuses none of the others. Raises NotAllowed."""
    actor.require("alarm.acknowledge")
    outcomes: list[Outcome] = []
    with write(records) as tx:
        for alarm in dict.fromkeys(alarms):
            try:
                outcomes.append(Outcome(alarm, _acknowledge(tx, now, actor, alarm, comment=comment, version=None)))
            except (Conflict, NotFound) as refusal:
                outcomes.append(Outcome(alarm, refusal=refusal))
    return outcomes


def shelve(records: Engine, now: int, actor: Actor, *, alarm: int, until: int, reason: str) -> AlarmRow:
    """Silent until then; again on a shelved one changes the time. Raises NotAllowed, Invalid, NotFound, Conflict."""
    actor.require("alarm.shelve")
    check_shelving(now, until, reason)
    with write(records) as tx:
        held = _hold(tx, alarm)
        changes = {"shelved_by": actor.name, "shelved_until": until, "shelve_reason": _text(reason)}
        _move(tx, now, held, Happening.SHELVED, by=actor.name, why=_text(reason), changes=changes)
        return _shown(tx, alarm)


def unshelve(records: Engine, now: int, actor: Actor, *, alarm: int, reason: str | None = None) -> AlarmRow:
    """Raises NotAllowed, NotFound, or Conflict where it is not shelved."""
    actor.require("alarm.unshelve")
    with write(records) as tx:
        bring_back(tx, now, alarm, Happening.UNSHELVED, by=actor.name, why=_text(reason))
        return _shown(tx, alarm)


def comment(records: Engine, now: int, actor: Actor, *, alarm: int, text: str) -> AlarmRow:
    """Raises NotAllowed, Invalid for an empty text, NotFound."""
    actor.require("alarm.comment")
    if not text.strip():
        raise Invalid("empty_comment", "备注不能为空", "a comment says something")
    with write(records) as tx:
        held = _hold(tx, alarm)
        _move(tx, now, held, Happening.COMMENTED, by=actor.name, why=_text(text), changes={})
        return _shown(tx, alarm)


def bring_back(tx: Connection, now: int, alarm: int, happening: Happening, *, by: str, why: str | None = None) -> None:
    """End a suppression by a person; what still stands is announced again and gets its order, unless an alarm of
    several devices holds it back."""
    assert happening in RETURNS
    held = _hold(tx, alarm)
    before = held.state
    changes = dict.fromkeys(("shelved_by", "shelved_until", "shelve_reason"))
    if held.active:
        changes |= dict.fromkeys(("acknowledged_by", "acknowledged_at"))
    _move(tx, now, held, happening, by=by, why=why, changes=changes)
    if held.suppressed_by is not None:
        _move(tx, now, held, Happening.SUPPRESSED, by=SERVICE, why=_parent(tx, held.suppressed_by), changes={})
        return
    if not held.active or held.current is None or held.priority is Priority.NOTICE:
        return
    rule, places = _rule(tx, held.rule), _Places(tx)
    assert held.current.id is not None
    again = alarm_raised(
        held, held.current.id, rule, device=places.get(held.device), again=f"{happening}:v{held.version}"
    )
    raised = Happened(held, held.current, happening, before, held.state, now, held.priority)
    post(tx, now, [again, *file_standing(tx, raised, rule, now=now, registry=places)])


def _acknowledge(
    tx: Connection, now: int, actor: Actor, alarm: int, *, comment: str | None, version: int | None
) -> AlarmState:
    held = _hold(tx, alarm)
    if version is not None and version != held.version:
        raise Conflict(
            "version_changed", "告警已有新变化，请刷新后再确认", "the alarm has changed meanwhile: look again"
        )
    changes = {"acknowledged_by": actor.name, "acknowledged_at": now}
    _move(tx, now, held, Happening.ACKNOWLEDGED, by=actor.name, why=_text(comment), changes=changes)
    return held.state


def _move(
    tx: Connection,
    now: int,
    held: HeldAlarm,
    happening: Happening,
    *,
    by: str,
    why: str | None,
    changes: dict[str, Any],
) -> None:
    """Compare-and-set on the version, the history row, the stream row. Raises Conflict for a move not in the table."""
    before, version = held.state, held.version
    held.state = settle(before, happening, standing=held.active, priority=held.priority)
    held.version += 1
    done = tx.execute(
        update(alarms)
        .where(alarms.c.id == held.id, alarms.c.version == version)
        .values(state=held.state, version=held.version, changed_at=now, **changes)
    )
    if done.rowcount != 1:
        raise Conflict(
            "version_changed", "告警已有新变化，请刷新后再操作", "the alarm has changed meanwhile: look again"
        )
    tx.execute(
        insert(alarm_history).values(
            alarm=held.id,
            occurrence=held.current.id if held.current else None,
            at=now,
            by=by,
            act=happening,
            from_state=before,
            to_state=held.state,
            why=why,
        )
    )
    tell(tx, now, [alarm_event(held)])


def _hold(tx: Connection, alarm: int) -> HeldAlarm:
    query = select(alarms, occurrences.c.since, occurrences.c.raised_at, occurrences.c.cleared_at).outerjoin(
        occurrences, occurrences.c.id == alarms.c.occurrence
    )
    row = tx.execute(query.where(alarms.c.id == alarm)).one_or_none()
    if row is None:
        raise NotFound("no_such_alarm", f"没有编号为 {alarm} 的告警", f"there is no alarm {alarm}")
    held = HeldAlarm(
        row.id, row.rule, row.device, row.grid, Priority(row.priority), AlarmState(row.state), row.active,
        row.raised_count, row.version, row.kind, row.early, row.suppressed_by, called(tx, row.device),
    )  # fmt: skip
    if row.occurrence is not None:
        held.current = HeldOccurrence(held, row.since, row.raised_at, row.cleared_at, row.occurrence)
    return held


def _parent(tx: Connection, alarm: int) -> str:
    row = tx.execute(select(alarms.c.rule, alarms.c.device).where(alarms.c.id == alarm)).one()
    return parent_named(row.rule, row.device)


def _shown(tx: Connection, alarm: int) -> AlarmRow:
    found = get_alarm(tx, alarm)
    assert found is not None
    return found


def _text(text: str | None) -> str | None:
    """Raises Invalid for a text nobody would read."""
    if text is not None and len(text) > MAX_TEXT:
        raise Invalid("text_too_long", f"文字不能超过 {MAX_TEXT} 字", f"at most {MAX_TEXT} characters")
    return text.strip() or None if text is not None else None


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule as it stood when it last raised something."""

    id: str
    name_zh: str
    name_en: str
    priority: Priority
    order_category: str | None
    text: str


def _rule(tx: Connection, rule: str) -> _Rule:
    row = tx.execute(select(rules).where(rules.c.id == rule)).one()
    return _Rule(row.id, row.name_zh, row.name_en, Priority(row.priority), row.order_category, row.text)


@dataclass(frozen=True, slots=True)
class _Places:
    tx: Connection

    def get(self, device_id: str, /) -> Device | None:
        row = get_device(self.tx, device_id)
        return None if row is None else row.device


def expire_shelves(tx: Connection, now: int, limit: int) -> int:
    """Bring back what was shelved until now or earlier; how many."""
    due = select(alarms.c.id).where(alarms.c.state == AlarmState.SHLVD, alarms.c.shelved_until <= now)
    found = tx.scalars(due.order_by(alarms.c.shelved_until).limit(limit)).all()
    for alarm in found:
        bring_back(tx, now, alarm, Happening.EXPIRED, by=SERVICE)
    return len(found)

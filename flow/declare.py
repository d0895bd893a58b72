"""What people declare of the whole town or of one device: response levels, drills, pauses.

Every function is the act inside a transaction of the settling thread (`flow.readings.Settler.declare`): the row, its
audit and what follows for standing alarms are one commit. `now` is the rule clock; what is to begin earlier begins now,
for what has been judged stays judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from alerts.refusals import Conflict, Invalid, NotFound
from alerts.roles import Actor
from alerts.service_rules import SERVICE_RULES
from devices.instants import DAY
from devices.kinds import KINDS
from devices.registry import Device, Registry
from rules.declared import MILDEST
from store.records.access import write_audit
from store.records.declarations import (
    DeclarationRow,
    Declaring,
    PauseRow,
    add_declaration,
    add_pause,
    end_declarations,
    end_pause,
    get_declaration,
    get_pause,
    lasting_declarations,
)

# A drill that nobody ends would hide what is real; a pause is of a season at most.
LONGEST_DRILL = 7 * DAY
LONGEST_PAUSE = 366 * DAY
MOST_RULES = 100


def declare_response(
    tx: Connection,
    now: int,
    actor: Actor,
    *,
    level: int,
    why: str,
    ordered_by: str,
    start: int | None = None,
    end: int | None = None,
) -> int:
    """The level from `start` (now) on, in place of the one that holds there; its number. `end` None: until it is
    ended. Raises NotAllowed, Invalid."""
    actor.require("response.declare")
    if not 1 <= level <= MILDEST:
        raise Invalid("no_such_level", "响应等级为 1（Ⅰ级）到 4（Ⅳ级）", "a response level is 1 (most severe) to 4")
    start = _begin(now, start, end)
    _require(why, ordered_by)
    held = [row.id for row in lasting_declarations(tx, Declaring.RESPONSE, start) if row.start <= start]
    end_declarations(tx, held, end=start, by=actor.name, at=now)
    number = add_declaration(
        tx, kind=Declaring.RESPONSE, level=level, start=start, end=end, why=why.strip(),
        ordered_by=ordered_by.strip(), by=actor.name, declared_at=now,
    )  # fmt: skip
    write_audit(tx, now, actor.name, "response_declared", subject=f"response_{level}", why=f"#{number} {why}")
    return number


def declare_drill(tx: Connection, now: int, actor: Actor, *, why: str, end: int, start: int | None = None) -> int:
    """A drill from `start` (now) up to `end`, at most a week; its number. Raises NotAllowed, Invalid."""
    actor.require("drill.declare")
    start = _begin(now, start, end)
    _require(why)
    if end - start > LONGEST_DRILL:
        raise Invalid("drill_too_long", "演练最长 7 天", "a drill lasts seven days at most")
    number = add_declaration(
        tx, kind=Declaring.DRILL, start=start, end=end, why=why.strip(), by=actor.name, declared_at=now
    )
    write_audit(tx, now, actor.name, "drill_declared", subject="drill", why=f"#{number} {why}")
    return number


def end_declaration(tx: Connection, now: int, actor: Actor, *, kind: Declaring, number: int) -> DeclarationRow:
    """Over from now on; one that has not begun never will. Raises NotAllowed, NotFound, Conflict."""
    actor.require(f"{kind}.declare")
    row = get_declaration(tx, kind, number)
    if row is None:
        raise NotFound("no_such_declaration", f"没有这条记录 {number}", f"there is no {kind} {number}")
    _refuse_over(now, row.start, row.end)
    end_declarations(tx, [number], end=now, by=actor.name, at=now)
    write_audit(tx, now, actor.name, f"{kind}_ended", subject=kind, why=f"#{number}")
    return row


def pause(  # noqa: PLR0913 - one row
    tx: Connection,
    now: int,
    actor: Actor,
    registry: Registry,
    *,
    device: str,
    why: str,
    end: int,
    start: int | None = None,
    of_person: bool = False,
    rules: Sequence[str] | None = None,
    known_rules: Mapping[str, object],
) -> int:
    """Nothing is judged of the device in [start, end), or of all devices of the person behind it; its number.

    `rules` None: every rule, and silence too. Raises NotAllowed, NotFound, Invalid.
    """
    actor.require("pause.set")
    found = registry.get(device)
    if found is None:
        raise NotFound("no_such_device", f"没有设备 {device}", f"there is no device {device}")
    if of_person:
        _require_person(actor, found)
    start = _begin(now, start, end)
    _require(why)
    if end - start > LONGEST_PAUSE:
        raise Invalid("pause_too_long", "停用最长 366 天", "a pause lasts 366 days at most")
    number = add_pause(
        tx, device=found.number, of_person=of_person, rules=_known(rules, known_rules), start=start, end=end,
        why=why.strip(), by=actor.name, declared_at=now,
    )  # fmt: skip
    # The reason may be an illness: it stands with the pause, which says who may see it, and nowhere else.
    write_audit(tx, now, actor.name, "person_paused" if of_person else "paused", subject=device, why=f"#{number}")
    return number


def unpause(tx: Connection, now: int, actor: Actor, *, number: int) -> PauseRow:
    """Over from now on. Raises NotAllowed, NotFound, Conflict."""
    actor.require("pause.set")
    row = get_pause(tx, number)
    if row is None:
        raise NotFound("no_such_pause", f"没有这条停用记录 {number}", f"there is no pause {number}")
    _refuse_over(now, row.start, row.end)
    end_pause(tx, number, end=now, by=actor.name, at=now)
    write_audit(tx, now, actor.name, "unpaused", subject=row.device, why=f"#{number}")
    return row


def _begin(now: int, start: int | None, end: int | None) -> int:
    begin = now if start is None else max(start, now)
    if end is not None and end <= begin:
        raise Invalid("ends_before", "结束时间须晚于开始时间和现在", "it must end after it begins, and after now")
    return begin


def _require(why: str, ordered_by: str = "-") -> None:
    if not why.strip():
        raise Invalid("reason_required", "请填写原因", "a reason is required")
    if not ordered_by.strip():
        raise Invalid("who_ordered", "请填写由哪位领导决定", "say which leader decided it")


def _require_person(actor: Actor, device: Device) -> None:
    actor.require("person.see")
    if not KINDS[device.kind].personal or not device.person:
        raise NotFound("no_person", "这个设备不涉及个人", "there is no person behind this device")


def _known(rules: Sequence[str] | None, known: Mapping[str, object]) -> list[str] | None:
    if rules is None:
        return None
    wanted = list(dict.fromkeys(rules))
    unknown = [rule for rule in wanted if rule not in known and rule not in SERVICE_RULES]
    if unknown or not wanted or len(wanted) > MOST_RULES:
        names = ", ".join(unknown[:5]) or "—"
        raise Invalid("no_such_rule", f"没有这些规则：{names}", f"there are no such rules: {names}")
    return wanted


def _refuse_over(now: int, start: int, end: int | None) -> None:
    if end is not None and (end <= now or end <= start):
        raise Conflict("over_already", "已经结束", "it is over already")

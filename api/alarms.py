"""Alarms and what people do about them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field, computed_field

from alerts.alarms import AlarmState
from alerts.refusals import NotFound
from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.occurrences import Severity
from api.privacy import hidden_kinds, hides_kind, is_private_notice, kind_is_personal, refuse_hidden
from api.problems import describe
from api.shapes import (
    MAX_ID,
    ClearedBy,
    Cursor,
    In,
    Instant,
    InstantGiven,
    Limit,
    Listed,
    Note,
    Out,
    cleared_by,
    listed,
)
from devices.subjects import is_group
from flow import desk
from flow.installation import Installation
from rules.rule import Priority
from store.records.alarms import AlarmRow, alarm_history, get_alarm, list_alarms
from store.records.devices import grids_under

router = APIRouter(tags=["alarms"], responses=describe(401, 403, 422))

AlarmId = Annotated[int, Path(ge=1, le=MAX_ID)]


class Raised(Out):
    """The latest occurrence of the alarm; `reason` is the condition and the values it saw."""

    id: int
    metric: str | None
    since: Instant
    raised_at: Instant
    cleared_at: Instant | None
    first_value: float | None
    peak_value: float | None
    reason: dict[str, Any]
    retroactive: bool
    severities: list[Severity]


class Suppressor(Out):
    """The alarm of several devices that holds this one back."""

    alarm: int
    rule: str
    rule_zh: str
    rule_en: str
    device: str | None
    device_name: str


class Alarm(Out):
    """Of a personal device everyone below handler sees no device and no occurrence, and no notice at all; so too of
    several devices where one of them is personal. `device` is `grid:<id>` or `group:<tag>` where the alarm is about
    several: `occurrence.reason` has their `members`."""

    id: int
    rule: str
    rule_zh: str
    rule_en: str
    rule_text: str
    device: str | None
    device_name: str
    kind: str
    grid: str | None
    grid_name: str
    keeper: str
    keeper_phone: str
    priority: Priority
    state: AlarmState = Field(description="ISA-18.2 mnemonic")
    active: bool = Field(description="The condition itself, whatever the state says")
    version: int
    raised_count: int
    changed_at: Instant
    acknowledged_by: str | None
    acknowledged_at: Instant | None
    shelved_by: str | None
    shelved_until: Instant | None
    shelve_reason: str | None
    order: int | None
    early: bool = Field(description="A forecast: what may come, not the alarm itself")
    suppressed_by: Suppressor | None = Field(description="It is held back while that one stands")
    suppresses: int = Field(description="Standing alarms that this one holds back")
    occurrence: Raised | None


class AlarmAct(Out):
    at: Instant
    by: str
    act: str
    from_state: str | None
    to_state: str
    why: str | None
    occurrence: int | None

    @computed_field(description="What cleared it where no reading did; null: a reading, or it was not cleared")  # type: ignore[prop-decorator]
    @property
    def cleared_by(self) -> ClearedBy | None:
        return cleared_by(self.by, self.why)


class AlarmView(Alarm):
    history: list[AlarmAct] = Field(description="Oldest first")


class Acknowledged(In):
    comment: Note | None = None
    version: int | None = Field(default=None, ge=1, description="Only if this is what stands; null: whatever stands")


class AcknowledgedMany(In):
    ids: Annotated[list[Annotated[int, Field(ge=1, le=MAX_ID)]], Field(min_length=1, max_length=500)]
    comment: Note | None = None


class Outcome(Out):
    """`state` is the new one where it was done; else `code` says why not."""

    id: int
    state: AlarmState | None
    code: str | None
    zh: str
    en: str


class Shelved(In):
    until: InstantGiven
    reason: Note


class Unshelved(In):
    reason: Note | None = None


class Commented(In):
    comment: Note


@router.get("/alarms", summary="Alarms / 告警")
def see_alarms(
    here: Here,
    caller: Caller,
    *,
    state: AlarmState | None = None,
    priority: Priority | None = None,
    device: Annotated[str | None, Query(max_length=80, description="Or `grid:<id>`, `group:<tag>`")] = None,
    grid: Annotated[str | None, Query(max_length=64, description="This grid and all below it")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listed[Alarm]:
    """Last changed first."""
    if device is not None:
        refuse_hidden(caller, here.registry.get(device))
    with here.records.connect() as tx:
        within = None if grid is None else grids_under(tx, grid)
        found = list_alarms(
            tx,
            state=state,
            priority=priority,
            device=device,
            grid=within,
            hide_notices_of=hidden_kinds(caller),
            limit=limit,
            cursor=cursor,
        )
    return listed(found, lambda row: Alarm(**_shown(caller, row)))


@router.get("/alarms/{alarm_id}", summary="One alarm with its history / 告警详情", responses=describe(404))
def see_alarm(here: Here, caller: Caller, alarm_id: AlarmId) -> AlarmView:
    return _view(here, caller, alarm_id)


@router.post("/alarms/{alarm_id}/acknowledge", summary="Acknowledge / 确认", responses=describe(404, 409))
def acknowledge(
    here: Here,
    caller: Annotated[Actor, Depends(may("alarm.acknowledge"))],
    alarm_id: AlarmId,
    given: Acknowledged | None = None,
) -> AlarmView:
    said = given or Acknowledged()
    desk.acknowledge(here.records, here.now(), caller, alarm=alarm_id, comment=said.comment, version=said.version)
    return _after(here, caller, alarm_id)


@router.post("/alarms/acknowledge", summary="Acknowledge many / 批量确认")
def acknowledge_many(
    here: Here, caller: Annotated[Actor, Depends(may("alarm.acknowledge"))], given: AcknowledgedMany
) -> Listed[Outcome]:
    """Each on its own: one that cannot be acknowledged does not stop the others."""
    outcomes = desk.acknowledge_many(here.records, here.now(), caller, alarms=given.ids, comment=given.comment)
    here.hub.poke()
    return Listed(items=[_outcome(outcome) for outcome in outcomes])


@router.post("/alarms/{alarm_id}/shelve", summary="Shelve / 搁置", responses=describe(404, 409))
def shelve(
    here: Here, caller: Annotated[Actor, Depends(may("alarm.shelve"))], alarm_id: AlarmId, given: Shelved
) -> AlarmView:
    """Until an instant within seven days, with a reason."""
    desk.shelve(here.records, here.now(), caller, alarm=alarm_id, until=given.until, reason=given.reason)
    return _after(here, caller, alarm_id)


@router.post("/alarms/{alarm_id}/unshelve", summary="Unshelve / 取消搁置", responses=describe(404, 409))
def unshelve(
    here: Here,
    caller: Annotated[Actor, Depends(may("alarm.unshelve"))],
    alarm_id: AlarmId,
    given: Unshelved | None = None,
) -> AlarmView:
    reason = None if given is None else given.reason
    desk.unshelve(here.records, here.now(), caller, alarm=alarm_id, reason=reason)
    return _after(here, caller, alarm_id)


@router.post("/alarms/{alarm_id}/comment", summary="Comment / 备注", responses=describe(404))
def comment(
    here: Here, caller: Annotated[Actor, Depends(may("alarm.comment"))], alarm_id: AlarmId, given: Commented
) -> AlarmView:
    desk.comment(here.records, here.now(), caller, alarm=alarm_id, text=given.comment)
    return _after(here, caller, alarm_id)


def _after(here: Installation, actor: Actor, alarm: int) -> AlarmView:
    here.hub.poke()
    return _view(here, actor, alarm)


def _view(here: Installation, actor: Actor, alarm: int) -> AlarmView:
    with here.records.connect() as tx:
        row = get_alarm(tx, alarm)
        history = alarm_history(tx, alarm) if row is not None else []
    if row is None or is_private_notice(actor, row.kind, row.priority):
        raise NotFound("no_such_alarm", f"没有告警 {alarm}", f"there is no alarm {alarm}")
    if hides_kind(actor, row.kind):
        history = []
    return AlarmView(**_shown(actor, row), history=[AlarmAct.model_validate(act) for act in history])


def _shown(actor: Actor, row: AlarmRow) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in Alarm.model_fields}
    shown["occurrence"] = None if row.occurrence is None else Raised.model_validate(row.occurrence)
    # A rule about no device, such as gw-link, names none.
    shown["device"] = row.device or None
    if (parent := row.suppressed_by) is not None:
        shown["suppressed_by"] = Suppressor.model_validate(parent)
        if hides_kind(actor, parent.kind):
            shown["suppressed_by"].device, shown["suppressed_by"].device_name = None, ""
    if kind_is_personal(row.kind) and not is_group(row.device):
        shown["device_name"] = ""
    if hides_kind(actor, row.kind):
        shown |= {"device": None, "device_name": "", "keeper": "", "keeper_phone": "", "occurrence": None,
                  "suppressed_by": None}  # fmt: skip
    return shown


def _outcome(outcome: desk.Outcome) -> Outcome:
    refusal = outcome.refusal
    return Outcome(
        id=outcome.alarm,
        state=outcome.state,
        code=None if refusal is None else refusal.code,
        zh="已确认" if refusal is None else refusal.zh,
        en="acknowledged" if refusal is None else refusal.en,
    )

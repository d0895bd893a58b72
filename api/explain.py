"""Why a rule fired or stayed silent, for an alarm, or for any device at any instant."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from alerts.refusals import NotFound
from alerts.roles import Actor
from api.alarms import AlarmId
from api.caller import Caller, Here
from api.privacy import hides, is_private_notice, refuse_hidden
from api.problems import describe
from api.shapes import InstantGiven, Out
from devices.registry import Device
from flow.applying import subject_of
from flow.explaining import explain_alarm, explain_rule
from flow.installation import Installation
from store.records.alarms import get_alarm

router = APIRouter(tags=["rules"], responses=describe(401, 403, 404, 409, 422))


class Reading(Out):
    """The newest value of one metric or event at that instant; `known` false: it did not count."""

    metric: str
    value: float | bool | None
    measured_at: str | None
    age: str | None
    max_age: str | None = Field(description="null: never too old")
    known: bool
    quality: str | None = Field(description="good or suspect; null where it is not known")


class Part(Out):
    text: str
    value: bool | float | str | None = Field(description="null: unknown")
    depth: int


class LeftOut(Out):
    metric: str
    value: float
    measured_at: str
    quality: str


class Recorded(Out):
    """Of the alarm at that instant: its state, the last thing done to it, its latest occurrence."""

    alarm: int
    state: str | None
    act: str | None
    by: str | None
    at: str | None
    why: str | None
    since: str | None
    raised_at: str | None
    cleared_at: str | None


class Reason(Out):
    code: str
    zh: str
    en: str


class Explained(Out):
    """Instants are ISO 8601 in UTC, spans as in a rule; in the words of `why` times are the site's. `source`: `live`,
    the engine that runs; `history`, stored readings judged again by the rule as it is now; `none`: it does not run."""

    rule: str
    device: str
    at: str
    source: str
    state: str | None = Field(description="normal, pending, firing or not_judged")
    when: bool | None = Field(description="The condition; null: unknown")
    clear: bool | None
    since: str | None
    raised_at: str | None
    hold: str | None = Field(validation_alias="for", serialization_alias="for", description="How long it must hold")
    held: str | None
    parts: list[Part] = Field(description="The condition and what is in it, by depth")
    readings: list[Reading]
    levels: list[dict[str, Any]] = Field(description="Of a rule with levels, the same of each")
    left_out: list[LeftOut] = Field(description="Values near that instant that were not judged")
    recorded: Recorded | None
    why: list[Reason] = Field(description="The answer in words, most decisive first")


class AlarmExplained(Out):
    alarm: int
    raised: Explained | None = Field(description="At the instant it was last raised; null: never")
    now: Explained


@router.get("/alarms/{alarm_id}/explain", summary="Why was it raised / 为何告警")
def explain_one_alarm(here: Here, caller: Caller, alarm_id: AlarmId) -> AlarmExplained:
    """Then, judged again from the stored readings, and now, as the engine sees it."""
    _refuse(here, caller, alarm_id)
    found = explain_alarm(here, alarm_id)
    return AlarmExplained(
        alarm=found.alarm,
        raised=None if found.raised is None else Explained.model_validate(found.raised.as_json()),
        now=Explained.model_validate(found.now.as_json()),
    )


@router.get("/rules/{rule_id}/explain", summary="Why did a rule fire or not / 规则为何触发或未触发")
def explain_one_rule(
    here: Here,
    caller: Caller,
    rule_id: Annotated[str, Path(max_length=64)],
    *,
    device: Annotated[str, Query(max_length=80, description="A device, or a group such as grid:east")],
    at: Annotated[InstantGiven | None, Query(description="Default: now")] = None,
) -> Explained:
    _refuse_hidden(here, caller, rule_id, device)

    def knowing(found: Device) -> bool:
        return not hides(caller, here.registry, found.id)

    return Explained.model_validate(explain_rule(here, rule_id, device, at, knowing=knowing).as_json())


def _refuse_hidden(here: Installation, actor: Actor, rule_id: str, name: str) -> None:
    """Also where it is about a group with a device that must be hidden: its members would be named."""
    refuse_hidden(actor, here.registry.get(name))
    rule = here.rulebook().rules.get(rule_id)
    subject = None if rule is None else subject_of(here, rule, name)
    for member in () if subject is None else subject[1]:
        refuse_hidden(actor, member)


def _refuse(here: Installation, actor: Actor, alarm_id: int) -> None:
    with here.records.connect() as tx:
        row = get_alarm(tx, alarm_id)
    if row is None or is_private_notice(actor, row.kind, row.priority):
        raise NotFound("no_such_alarm", f"没有告警 {alarm_id}", f"there is no alarm {alarm_id}")
    _refuse_hidden(here, actor, row.rule, row.device)

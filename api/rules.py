"""The rules that run, as written, and reading them anew from their files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from alerts.roles import Actor
from api.caller import Caller, Here, may
from api.problems import DocumentMistake, describe
from api.shapes import Cursor, Limit, Listed, Out, listed
from devices.instants import format_duration
from rules.rule import NO_GAP, Priority, Rule
from store.records.pages import decode_cursor, page_of

router = APIRouter(tags=["rules"], responses=describe(401, 403))


class AppliesTo(Out):
    """All given must match; null is not given."""

    kind: str | None
    devices: list[str] | None
    grids: list[str] | None
    tags: list[str] | None


class Level(Out):
    priority: Priority
    zh: str
    en: str
    when: str
    hold: str = Field(serialization_alias="for")
    clear: str


class RuleView(Out):
    """`max_age` and `max_gap` null: three times the device's interval; `none`: never."""

    id: str
    zh: str
    en: str
    priority: Priority
    applies_to: AppliesTo
    when: str
    hold: str = Field(serialization_alias="for", description="How long `when` must hold")
    clear: str = Field(description="Empty: not `when`")
    repeat: str | None = Field(description="3 of 5")
    keep_for: str
    only_in: list[str]
    max_age: str | None
    max_gap: str | None
    levels: list[Level] = Field(description="From the mildest to the worst")
    suppresses: list[str] | None
    order_category: str | None
    early: bool = Field(description="A forecast: an early notice")
    text: str = Field(description="As it stands in its file")


class Reloaded(Out):
    """Ids of rules."""

    unchanged: list[str]
    changed: list[str]
    removed: list[str]
    added: list[str]
    afresh: list[str] = Field(
        description="Those of `changed` that mean something else now: holds and windows are empty"
    )
    warnings: list[DocumentMistake] = Field(
        description="What is wrong between the rules and the town, as `gridwhistle check` tells it; the rules run"
    )


@router.get("/rules", summary="The rules that run / 规则", responses=describe(422))
def see_rules(here: Here, _caller: Caller, limit: Limit = 100, cursor: Cursor = None) -> Listed[RuleView]:
    """By id."""
    after = "" if cursor is None else str(decode_cursor(cursor, str)[0])
    found = sorted((rule for rule in here.rulebook().rules.values() if rule.id > after), key=lambda rule: rule.id)
    return listed(page_of(found, limit, lambda rule: [rule.id]), _shown)


@router.post("/rules/reload", summary="Read the rule files anew / 重新加载规则", responses=describe(409, 422))
async def reload(here: Here, caller: Annotated[Actor, Depends(may("rules.reload"))]) -> Reloaded:
    """All or none: with a mistake in any of them the rules that run stay, and `mistakes` says where."""
    changed = await here.reload(caller)
    here.hub.poke()
    return Reloaded.model_validate(changed)


def _shown(rule: Rule) -> RuleView:
    to = rule.applies_to
    return RuleView(
        id=rule.id,
        zh=rule.name_zh,
        en=rule.name_en,
        priority=rule.priority,
        applies_to=AppliesTo(kind=to.kind, devices=_names(to.devices), grids=_names(to.grids), tags=_names(to.tags)),
        when=rule.when_text,
        hold=format_duration(rule.hold_us),
        clear=rule.clear_text,
        repeat=None if rule.repeat is None else f"{rule.repeat[0]} of {rule.repeat[1]}",
        keep_for=format_duration(rule.keep_us),
        only_in=list(rule.only_in),
        max_age=_limit(rule.max_age_us),
        max_gap=_limit(rule.max_gap_us),
        levels=[
            Level(
                priority=level.priority, zh=level.name_zh, en=level.name_en, when=level.when_text,
                hold=format_duration(level.hold_us), clear=level.clear_text,
            )
            for level in rule.levels
        ],
        suppresses=_names(rule.suppresses),
        order_category=rule.order_category,
        early=rule.early,
        text=rule.text,
    )  # fmt: skip


def _names(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _limit(span: int | None) -> str | None:
    return None if span is None else "none" if span >= NO_GAP else format_duration(span)

"""Rules: every rule that runs with what stands of it, in words and as written; the way to ask it why, and to try it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select

from alerts.alarms import AlarmState
from alerts.service_rules import SERVICE_RULES
from console.pages import done, page_or_part, part
from console.places import Places, device_name, is_personal, read_places
from console.reasons import Reader
from console.texts import Language, say
from console.visits import Posted, Signed, SignedVisit, is_fragment
from console.why import name_of
from console.words import kind_name, length
from devices.kinds import KINDS
from devices.registry import DeviceStatus
from flow.applying import applied
from rules.rule import Priority, Rule
from store.records.tables import alarms, devices

router = APIRouter()

_STATES = (AlarmState.UNACK, AlarmState.ACKED, AlarmState.RTNUN, AlarmState.SHLVD, AlarmState.DSUPR, AlarmState.OOSRV)
# Of more devices a list to choose from would be the largest part of the page: their ids are typed.
_MOST_CHOICES = 2_000
Counts = Mapping[str, Sequence[tuple[AlarmState, int]]]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """`lines` are the condition in words, of a rule with levels one line each; `counts` its alarms by state; `own`: the
    service's."""

    id: str
    name: str
    priority: Priority
    lines: Sequence[str]
    applies: str
    devices: int
    counts: Sequence[tuple[AlarmState, int]]
    text: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class RulesPage:
    """`choices` are devices to ask about, (id, name)."""

    path: str
    wanted: str
    rows: Sequence[RuleRow]
    own: Sequence[RuleRow]
    total: int
    choices: Sequence[tuple[str, str]]


def rules_page(visit: SignedVisit, wanted: str = "") -> RulesPage:
    here = visit.installation
    rules = here.rulebook().rules
    counts, numbers = _counts(visit), applied(here, rules.values())
    with here.records.connect() as tx:
        places = read_places(tx)
    rows = [
        RuleRow(rule.id, name_of(visit, rule), rule.priority, _lines(visit, rule), _applies(visit, rule, places),
                numbers.get(rule.id, 0), counts.get(rule.id, ()), rule.text)
        for rule in rules.values()
    ]  # fmt: skip
    zh = visit.language is Language.ZH
    own = [
        RuleRow(rule.id, rule.name_zh if zh else rule.name_en, rule.priority, (), "", 0, counts.get(rule.id, ()),
                rule.text, own=True)
        for rule in SERVICE_RULES.values()
    ]  # fmt: skip
    needle = wanted.strip().casefold()
    seen = [row for row in rows if needle in f"{row.id} {row.name} {row.text}".casefold()]
    return RulesPage("/rules", wanted, seen, own, len(rows), choices(visit))


def _lines(visit: SignedVisit, rule: Rule) -> list[str]:
    """The condition in words, with what it must hold for."""
    reader = Reader(rule.applies_to.kind or "", {}, visit.language)
    if not rule.levels:
        return [_held(visit, reader.read(rule.when_text), rule.hold_us)]
    lines = [_held(visit, reader.read(level.when_text), level.hold_us) for level in rule.levels]
    names = [say(visit.language, f"priority.{level.priority}") for level in rule.levels]
    return [f"{name}: {line}" for name, line in zip(names, lines, strict=True)]


def _held(visit: SignedVisit, words: str, hold: int) -> str:
    return words if not hold else say(visit.language, "reason.held", what=words, span=length(hold, visit.language))


def _applies(visit: SignedVisit, rule: Rule, places: Places) -> str:
    to, language = rule.applies_to, visit.language
    parts = [kind_name(to.kind, language)] if to.kind is not None else []
    parts += sorted(to.devices or ())
    parts += sorted(places.name(grid, language) for grid in to.grids or ())
    parts += [f"#{tag}" for tag in sorted(to.tags or ())]
    return " · ".join(parts) or say(language, "rules.everywhere")


def _counts(visit: SignedVisit) -> dict[str, list[tuple[AlarmState, int]]]:
    """Without what a viewer may not see of personal devices: a number would tell that a door opened."""
    hidden = () if visit.allows("person.see") else [name for name, kind in KINDS.items() if kind.personal]
    query = select(alarms.c.rule, alarms.c.state, func.count()).where(alarms.c.state.in_(_STATES))
    if hidden:
        query = query.where(alarms.c.device.not_in(select(devices.c.id).where(devices.c.kind.in_(hidden))))
        query = query.where(alarms.c.kind.is_(None) | alarms.c.kind.not_in(hidden))
    found: dict[tuple[str, str], int] = {}
    with visit.installation.records.connect() as tx:
        for rule, state, count in tx.execute(query.group_by(alarms.c.rule, alarms.c.state)):
            found[rule, state] = count
    counts: dict[str, list[tuple[AlarmState, int]]] = {}
    for (rule, _), _count in found.items():
        counts[rule] = [(state, found[rule, state]) for state in _STATES if (rule, state) in found]
    return counts


def choices(visit: SignedVisit) -> list[tuple[str, str]]:
    sees = visit.allows("person.see")
    found = [
        (d.id, device_name(visit, d.id, d.name, d.kind))
        for d in visit.installation.registry.devices
        if d.status is DeviceStatus.ACTIVE and (sees or not is_personal(d.kind))
    ]
    return sorted(found) if len(found) <= _MOST_CHOICES else []


@router.get("/rules")
def see_rules(
    request: Request, visit: Signed, q: Annotated[str, Query(max_length=100)] = ""
) -> Response:  # fmt: skip
    view = rules_page(visit, q)
    return page_or_part(request, visit, "rules.html", "parts/rules.html", here="rules", view=view, done="")


@router.post("/rules/reload")
async def reload_rules(request: Request, visit: Posted) -> Response:
    """Read the rule files anew: all of them, or none where one has a mistake."""
    changed = await visit.installation.reload(visit.actor)
    if not is_fragment(request.headers):
        return RedirectResponse("/rules", 303)
    counted = {"added": len(changed.added), "changed": len(changed.changed), "removed": len(changed.removed)}
    message = done(request, visit, "rules.reloaded", **counted)
    return part(request, visit, "parts/reloaded.html", changed=changed, done=message)

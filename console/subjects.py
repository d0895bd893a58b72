"""What an alarm about several devices is called, who of them it is about, and what it holds back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from console.places import device_name, is_personal, shown_name
from console.texts import Language, say
from console.visits import SignedVisit
from devices.subjects import is_group
from rules.rule import Priority
from store.records.alarms import AlarmRow, Parent

# Members named on a row of the Board; the alarm's own page names all of them.
FEW = 4
MANY = 200


@dataclass(frozen=True, slots=True)
class Child:
    """One alarm that is held back."""

    alarm: int
    rule_name: str
    device_name: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class Member:
    device: str
    name: str


def members_of(visit: SignedVisit, alarm: AlarmRow) -> list[Member]:
    """Of several devices those for which it was true when it was raised."""
    reason: Mapping[str, object] = alarm.occurrence.reason if alarm.occurrence is not None else {}
    named = reason.get("members")
    if not is_group(alarm.device) or not isinstance(named, list):
        return []
    found: list[Member] = []
    for name in map(str, named[:MANY]):
        device = visit.installation.registry.get(name)
        found.append(Member(name, name if device is None else shown_name(visit, device)))
    return found


def members_note(visit: SignedVisit, alarm: AlarmRow) -> str:
    """3/5 台：一号泵站、二号泵站、…"""
    found = members_of(visit, alarm)
    if alarm.occurrence is None or not found:
        return ""
    named, of = alarm.occurrence.reason.get("members"), alarm.occurrence.reason.get("of")
    comma = "、" if visit.language is Language.ZH else ", "
    more = comma + "…" if len(found) > FEW else ""
    names = comma.join(member.name for member in found[:FEW]) + more
    return say(visit.language, "board.members", n=len(named) if isinstance(named, list) else 0, of=of, names=names)


def suppressed_note(visit: SignedVisit, parent: Parent) -> str:
    """由 网关离线（设备组 gw-7）抑制"""
    rule = parent.rule_zh if visit.language is Language.ZH else parent.rule_en
    subject = device_name(visit, parent.device, parent.device_name, parent.kind)
    if is_personal(parent.kind) and not visit.allows("person.see"):
        return say(visit.language, "board.suppressed_by_rule", rule=rule)
    return say(visit.language, "board.suppressed_by", rule=rule, subject=subject)


def children_of(visit: SignedVisit, alarms: Sequence[AlarmRow]) -> dict[int, list[Child]]:
    """By the alarm that holds them back; of personal devices only for who may see them."""
    found: dict[int, list[Child]] = {}
    for alarm in alarms:
        parent = alarm.suppressed_by
        if parent is not None and (not is_personal(alarm.kind) or visit.allows("person.see")):
            name = alarm.rule_zh if visit.language is Language.ZH else alarm.rule_en
            subject = device_name(visit, alarm.device, alarm.device_name, alarm.kind)
            found.setdefault(parent.alarm, []).append(Child(alarm.id, name, subject, alarm.priority))
    return found

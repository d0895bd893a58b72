"""Why: an explanation as a person reads it, sentences first, then what was read and what each part came to.

Opened from every row of the board and from the page of an alarm, or asked for any rule, device and instant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from alerts.refusals import NotAllowed, NotFound
from console.board import rule_name, sees
from console.pages import page_or_part
from console.periods import instant_of
from console.places import device_name, is_personal
from console.reasons import Reader
from console.texts import Language, say, say_or
from console.visits import Signed, SignedVisit
from console.words import length, metric_name, metric_of, moment, quantity, span
from devices.registry import EVENT
from flow.applying import subject_of
from flow.explained import Explanation, LeftOut, Part, Reading
from flow.explaining import explain_alarm, explain_rule
from rules.rule import Rule
from store.records.alarms import get_alarm

router = APIRouter()

# What the sentences of this page say in their own words, or the parts show.
_SAID = frozenset({"firing", "pending", "false", "false_part", "unknown", "next_reading", "not_judged"})
_MARKS = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True, slots=True)
class PartRow:
    """`mark` yes, no or unknown of a condition; empty for a number, which is in `shown`."""

    depth: int
    words: str
    text: str
    mark: str
    shown: str


@dataclass(frozen=True, slots=True)
class ReadingRow:
    name: str
    value: str
    at: int | None
    age: str
    limit: str
    quality: str
    counts: bool


@dataclass(frozen=True, slots=True)
class LevelRow:
    """One level of a rule that has several."""

    priority: str
    state: str
    mark: str
    words: str


@dataclass(frozen=True, slots=True)
class Told:
    """One instant explained. `levels` from the mildest to the worst, empty where the rule has none."""

    title: str
    at: int
    state: str
    source: str
    sentences: Sequence[str]
    levels: Sequence[LevelRow]
    parts: Sequence[PartRow]
    readings: Sequence[ReadingRow]
    left_out: Sequence[ReadingRow]


@dataclass(frozen=True, slots=True)
class WhyPage:
    """`rule` None: it does not run. `again` is the address to ask for another instant, empty where there is none."""

    path: str
    title: str
    device: str
    device_name: str
    told: Sequence[Told]
    rule: str
    rule_text: str
    alarm: int | None
    again: str


def why_alarm(visit: SignedVisit, number: int) -> WhyPage:
    """Raises NotFound, also for the alarm of a personal device where the person may not see it."""
    here = visit.installation
    with here.records.connect() as tx:
        alarm = get_alarm(tx, number) if 0 < number < 2**53 else None
    if alarm is None or not sees(visit, alarm):
        raise NotFound("no_such_alarm", f"没有编号为 {number} 的告警", f"there is no alarm {number}")
    _refuse_members(visit, here.rulebook().rules.get(alarm.rule), alarm.device)
    found = explain_alarm(here, number)
    told = [_told(visit, alarm.kind, found.now, say(visit.language, "why.now"))]
    if found.raised is not None:
        told.insert(0, _told(visit, alarm.kind, found.raised, say(visit.language, "why.then")))
    name = device_name(visit, alarm.device, alarm.device_name, alarm.kind) if alarm.kind else ""
    again = _again(visit, alarm.rule, alarm.device)
    path, title = f"/alarms/{number}/why", rule_name(visit, alarm)
    return WhyPage(path, title, alarm.device, name, told, alarm.rule, alarm.rule_text, number, again)


def why_rule(visit: SignedVisit, rule_id: str, device_id: str, at: int | None) -> WhyPage:
    """Raises NotFound, NotAllowed for a personal device."""
    here = visit.installation
    rule, device = here.rulebook().rules.get(rule_id), here.registry.get(device_id)
    if device is not None and is_personal(device.kind) and not visit.allows("person.see"):
        raise NotAllowed("personal_device", "涉及个人的设备，您无权查看", "a personal device: you may not see it")
    _refuse_members(visit, rule, device_id)
    sees_homes = visit.allows("person.see")
    found = explain_rule(here, rule_id, device_id, at, knowing=lambda d: sees_homes or not is_personal(d.kind))
    assert rule is not None, "it was explained"
    kind = device.kind if device is not None else rule.applies_to.kind or ""
    name = device_name(visit, device.id, device.name, device.kind) if device is not None else device_id
    told = [_told(visit, kind, found, say(visit.language, "why.now" if found.source == "live" else "why.at"))]
    path = f"/rules/{rule_id}/why?" + urlencode({"device": device_id})
    again = _again(visit, rule_id, device_id)
    return WhyPage(path, name_of(visit, rule), device_id, name, told, rule_id, rule.text, None, again)


def name_of(visit: SignedVisit, rule: Rule) -> str:
    return rule.name_zh if visit.language is Language.ZH else rule.name_en


def _again(visit: SignedVisit, rule: str, device: str) -> str:
    return f"/rules/{rule}/why" if device and rule in visit.installation.rulebook().rules else ""


def _refuse_members(visit: SignedVisit, rule: Rule | None, device: str) -> None:
    """A group with a device that must be hidden would name it."""
    if rule is None or rule.group is None or visit.allows("person.see"):
        return
    subject = subject_of(visit.installation, rule, device)
    if subject is not None and any(is_personal(member.kind) for member in subject[1]):
        raise NotAllowed("personal_device", "涉及个人的设备，您无权查看", "personal devices: you may not see them")


def _told(visit: SignedVisit, kind: str, found: Explanation, title: str) -> Told:
    words = _Words(visit, kind, found)
    return Told(
        title=title,
        at=found.at,
        state=found.state or "none",
        source=found.source,
        sentences=list(words.sentences()),
        levels=[words.level(level) for level in found.levels],
        parts=[words.part(part) for part in found.parts],
        readings=[words.reading(reading) for reading in found.readings],
        left_out=[words.left_out(one) for one in found.left_out],
    )


class _Words:
    """One explanation in the language of whoever looks."""

    def __init__(self, visit: SignedVisit, kind: str, found: Explanation) -> None:
        self.visit, self.kind, self.found = visit, kind, found
        self.language = visit.language
        self.reader = Reader(kind, _values(found), visit.language)

    def sentences(self) -> Iterator[str]:
        found = self.found
        if found.state is not None:
            yield self._state()
        if found.parts:
            verdict = say(self.language, f"why.condition.{_MARKS[found.when]}")
            yield say(self.language, "why.condition", what=self.reader.read(found.parts[0].text), verdict=verdict)
        for why in found.why:
            if why.code not in _SAID:
                yield self._named(why.zh if self.language is Language.ZH else why.en)

    def _state(self) -> str:
        found = self.found
        hold = "" if not found.hold else length(found.hold, self.language)
        match found.state:
            case "firing":
                key = "why.raised" if found.raised_at == found.at else "why.firing"
                key += "_held" if hold else ""
                return say(self.language, key, since=self._at(found.since), raised=self._at(found.raised_at), hold=hold)
            case "pending":
                held = span(found.held or 0, self.language)
                return say(self.language, "why.pending", since=self._at(found.since), held=held, hold=hold)
            case "not_judged":
                return say(self.language, "why.not_judged")
        return say(self.language, f"why.normal.{_MARKS[found.when]}")

    def level(self, level: Mapping[str, Any]) -> LevelRow:
        words = self.reader.read(str(level["parts"][0]["text"])) if level["parts"] else ""
        return LevelRow(level["priority"], level["state"], _MARKS[level["when"]], words)

    def part(self, part: Part) -> PartRow:
        words = self.reader.read(part.text)
        if part.value is None or isinstance(part.value, bool):
            return PartRow(part.depth, words, part.text, _MARKS[part.value], "")
        return PartRow(part.depth, words, part.text, "", self._number(part))

    def reading(self, reading: Reading) -> ReadingRow:
        known = metric_of(self.kind, reading.metric)
        number = None if reading.value is None else float(reading.value)
        value = quantity(number, known.unit if known else "", self.language)
        event = reading.metric.startswith(EVENT)
        return ReadingRow(
            name=self._name(reading.metric),
            value="" if event else value,
            at=reading.measured_at,
            age="" if reading.age is None else span(reading.age, self.language),
            limit="" if reading.max_age is None else span(reading.max_age, self.language),
            quality=reading.quality or "",
            counts=reading.known,
        )

    def left_out(self, one: LeftOut) -> ReadingRow:
        known = metric_of(self.kind, one.metric)
        value = quantity(one.value, known.unit if known else "", self.language)
        return ReadingRow(self._name(one.metric), value, one.measured_at, "", "", one.quality, counts=False)

    def _number(self, part: Part) -> str:
        """What the words of the part do not say themselves: most of them carry their value."""
        if isinstance(part.value, str):
            return part.value
        return "" if re.search(r"[a-z]", part.text) else f"{part.value:g}"

    def _name(self, metric: str) -> str:
        if metric.startswith(EVENT):
            name = metric.removeprefix(EVENT)
            return say(self.language, "reason.event", what=say_or(self.language, f"event.{name}", name))
        return metric_name(self.kind, metric, self.language)

    def _named(self, text: str) -> str:
        """The engine's words with the names of metrics as people know them."""
        return re.sub(
            r"\b[a-z][a-z0-9_]*\b", lambda word: self._name(word[0]) if metric_of(self.kind, word[0]) else word[0], text
        )

    def _at(self, instant: int | None) -> str:
        return moment(instant, self.visit.installation.zone, self.visit.now)


def _values(found: Explanation) -> Mapping[str, object]:
    """What the words of a condition may show: readings by metric, and numbers by the text they stand in."""
    values: dict[str, object] = {r.metric: r.value for r in found.readings if r.value is not None}
    return values | {part.text: part.value for part in found.parts if not isinstance(part.value, bool | None)}


@router.get("/alarms/{alarm}/why")
def see_why_alarm(request: Request, visit: Signed, alarm: int) -> Response:
    return page_or_part(request, visit, "why.html", "parts/why.html", here="board", view=why_alarm(visit, alarm))


@router.get("/rules/{rule}/why")
def see_why_rule(
    request: Request,
    visit: Signed,
    rule: str,
    device: Annotated[str, Query(max_length=80)],
    at: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """`at` local time as a form gives it, or ISO 8601 with an offset; empty is now."""
    view = why_rule(visit, rule, device, instant_of(at, visit.installation.zone))
    return page_or_part(request, visit, "why.html", "parts/why.html", here="rules", view=view)

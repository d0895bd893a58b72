"""Why a rule fired or stayed silent: what it saw, what each part of its condition was worth, and what it waits for.

It asks the engine what it would judge at an instant, with the code that judges, and says it in words. Nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from devices.instants import format_duration, to_iso
from rules.engine import Engine
from rules.expression import (
    SCHEDULED,
    Absent,
    And,
    Arithmetic,
    Attribute,
    Compare,
    Duration,
    Expression,
    Mode,
    Negate,
    Not,
    Number,
    Or,
    Truth,
    is_constant,
    leaves,
)
from rules.groups import Roll, meets
from rules.logic import quantity
from rules.looking import Look, why_not_judged
from rules.outcome import NEVER
from rules.reason import known, truth
from rules.rule import Rule
from rules.shape import BOOLEAN, Part, plan
from rules.state import FIRING, NORMAL, PENDING
from rules.text import text_of

_STATES = {NORMAL: "normal", PENDING: "pending", FIRING: "firing"}
Json = dict[str, object]


def examine(engine: Engine, rule_id: str, device_id: str, at: int) -> Json:
    """As JSON: {rule, device, at, state, when, clear, since, raised_at, for, held, parts, readings, why}.

    Instants are ISO 8601, durations as in a rule. `when` and `clear` are null where unknown; `parts` are the conditions
    and numbers inside one another by `depth`; `why` is the answer in words, most decisive first. A rule with levels has
    the answer of each under `levels`. KeyError for a rule that the book does not have.
    """
    rule = engine.book.rules[rule_id]
    head: Json = {"rule": rule_id, "device": device_id, "at": to_iso(at)}
    if rule.group is not None and ":" in device_id:
        return head | _group(engine, rule, device_id)
    looks = engine.look(rule_id, device_id, at)
    if not looks:
        return head | _nothing(engine, rule, device_id)
    told = [_told(look) for look in looks]
    if len(told) == 1:
        return head | told[0]
    worst = max(range(len(looks)), key=lambda k: (int(looks[k].phase), k))
    levels = [{"priority": level.priority.value, **one} for level, one in zip(rule.levels, told, strict=True)]
    return head | told[worst] | {"levels": levels}


def _nothing(engine: Engine, rule: Rule, device_id: str) -> Json:
    """The rule is not judged on the device at all."""
    why = [_say(*reason) for reason in why_not_judged(rule, engine.registry.get(device_id))]
    return {"state": "not_judged", "when": None, "clear": None, "since": None, "raised_at": None, "for": None,
            "held": None, "parts": [], "readings": [], "why": why}  # fmt: skip


def _group(engine: Engine, rule: Rule, subject: str) -> Json:
    """Of a group as it stands now: its history is that of its members."""
    tally, members, of = engine.look_at_group(rule.id, subject)
    assert rule.group is not None
    roll, standing = Roll(len(members), of), tally.phase != NORMAL
    names = "、".join(members) or "无 none"
    some = len(members)
    why = [_say("members", f"{of} 个成员中 {some} 个符合：{names}", f"{some} of {of} members meet it: {names}")]
    return {
        "state": _STATES[tally.phase],
        "when": meets(rule.group, roll) if of else None,
        "clear": None,
        "since": to_iso(tally.since) if standing else None,
        "raised_at": to_iso(tally.raised_at) if tally.phase == FIRING else None,
        "for": format_duration(rule.hold_us),
        "held": None,
        "parts": [{"text": text_of(rule.when), "value": roll.value(rule.group) if of else None, "depth": 0}],
        "readings": [],
        "why": why,
    }


def _told(look: Look) -> Json:
    rule, filled = look.part.rule, plan(look.part.rule)
    when = truth(filled.shape.when, look.sight)
    clear = (
        truth(filled.shape.clear, look.sight) if filled.shape.clear is not None else None if when is None else not when
    )
    at, standing = look.instant, look.phase != NORMAL
    return {
        "state": _STATES[look.phase],
        "when": when,
        "clear": clear,
        "since": to_iso(look.since) if standing else None,
        "raised_at": to_iso(look.raised_at) if look.phase == FIRING else None,
        "for": format_duration(rule.hold_us),
        "held": format_duration(max(at - look.since, 0)) if standing else None,
        "parts": list(_parts(look, rule.when, filled.shape.when, 0)),
        "readings": _readings(look),
        "why": [_say(*reason) for reason in _why(look, when, clear)],
    }


def _parts(look: Look, node: Expression, part: Part, depth: int) -> Iterator[Json]:
    """The expression and what is in it, each with its value."""
    yield {"text": text_of(node), "value": _value(look, node, part), "depth": depth}
    if part[0] == "since":
        yield {"text": "since", "value": _since(look, part[2]), "depth": depth + 1}
    elif isinstance(node, Not):
        yield from _parts(look, node.inner, part[1], depth + 1)
    elif isinstance(node, (And, Or)):
        yield from _parts(look, node.left, part[1], depth + 1)
        yield from _parts(look, node.right, part[2], depth + 1)
    elif isinstance(node, Compare):
        for side, inner in ((node.left, part[2]), (node.right, part[3])):
            if not isinstance(side, (Number, Duration, Truth)):
                yield from _parts(look, side, inner, depth + 1)
    elif isinstance(node, Negate) and part[0] == "negate":
        yield from _parts(look, node.inner, part[1], depth + 1)
    elif isinstance(node, Arithmetic) and part[0] == "calculate":
        for side, inner in ((node.left, part[2]), (node.right, part[3])):
            if not isinstance(side, Number):
                yield from _parts(look, side, inner, depth + 1)


_NUMBERS = ("param", "value", "count", "window", "forecast", "step", "negate", "calculate")


def _value(look: Look, node: Expression, part: Part) -> object:
    if part[0] not in _NUMBERS:
        return truth(part, look.sight)
    value = known(float(quantity(part)(look.sight)[0]))
    if value is None:
        return None
    timed = is_constant(node) and any(isinstance(leaf, Duration) for leaf in leaves(node))
    return format_duration(round(value)) if timed else value


def _since(look: Look, slot: int) -> str | None:
    measured = int(look.sight.measured[slot][0])
    return None if measured == NEVER else format_duration(look.instant - measured)


def _readings(look: Look) -> list[Json]:
    """The newest value of each metric and event that the rule reads."""
    found: list[Json] = []
    for reading in look.readings:
        age = None if reading.at == NEVER else look.instant - reading.at
        value: object = None if reading.at == NEVER else known(reading.value)
        if isinstance(value, float) and reading.name in BOOLEAN:
            value = value >= 0.5
        found.append({
            "metric": reading.name,
            "value": value,
            "measured_at": None if age is None else to_iso(reading.at),
            "age": None if age is None else format_duration(age),
            "max_age": None if reading.max_age is None else format_duration(reading.max_age),
            "known": age is not None and (reading.max_age is None or age <= reading.max_age),
        })  # fmt: skip
    return found


Reason = tuple[str, str, str]


def _say(code: str, zh: str, en: str) -> Json:
    return {"code": code, "zh": zh, "en": en}


def _why(look: Look, when: bool | None, clear: bool | None) -> Iterator[Reason]:
    rule = look.part.rule
    if look.paused is not None:
        until = to_iso(look.paused.end)
        yield "paused", f"已停用至 {until}：{look.paused.why}", f"paused until {until}: {look.paused.why}"
    if look.phase == FIRING:
        yield from _standing(look, clear)
    elif when is True and look.paused is None:
        yield from _held_back(look)
    elif when is None:
        yield "unknown", "条件未知，既不触发也不解除", "the condition is unknown: it neither raises nor clears"
    else:
        yield "false", "条件不成立", "the condition is false"
        for text in _failing(look, rule.when, plan(rule).shape.when):
            yield "false_part", f"不成立：{text}", f"false: {text}"
    yield from _unknowns(look)
    if look.silence is not None and look.silence > look.max_gap and rule.hold_us:
        gap = format_duration(look.silence)
        yield ("gap_reset", f"已 {gap} 没有读数，持续时间重新计算",
               f"nothing was heard for {gap}: the hold starts anew with the next reading")  # fmt: skip


def _standing(look: Look, clear: bool | None) -> Iterator[Reason]:
    raised, since = to_iso(look.raised_at), to_iso(look.since)
    yield (
        "firing",
        f"自 {since} 起成立，{raised} 触发，尚未解除",
        f"true since {since}, raised at {raised}, not cleared yet",
    )
    kept = look.raised_at + look.part.rule.keep_us
    if clear is True and look.instant < kept:
        yield "kept", f"至少保持到 {to_iso(kept)}", f"kept at least until {to_iso(kept)}"
    elif clear is None:
        yield "clear_unknown", "解除条件未知，未知不解除", "whether it may clear is unknown, and unknown clears nothing"


def _held_back(look: Look) -> Iterator[Reason]:
    """`when` is true and yet nothing was raised."""
    rule = look.part.rule
    if rule.repeat is not None:
        (k, n), (true, all_) = rule.repeat, look.opinions
        yield (
            "repeat",
            f"最近 {all_} 次判断中 {true} 次成立，需要 {n} 次中 {k} 次",
            f"{true} of the last {all_} judgements were true, {k} of {n} are needed",
        )
    if look.phase == PENDING:
        since, hold, ripe = to_iso(look.since), format_duration(rule.hold_us), to_iso(look.since + rule.hold_us)
        yield (
            "pending",
            f"自 {since} 起成立，须持续 {hold}，到 {ripe} 及其后第一次读数才触发",
            f"true since {since}; it must hold for {hold}: raised at the first reading from {ripe} on",
        )
    elif rule.repeat is None:
        yield "next_reading", "条件成立，等待下一次读数判断", "true now; judged with the next reading"


def _failing(look: Look, node: Expression, part: Part) -> Iterator[str]:
    """The smallest conditions that make this one false."""
    if isinstance(node, (And, Or)):
        for side, inner in ((node.left, part[1]), (node.right, part[2])):
            if truth(inner, look.sight) is False:
                yield from _failing(look, side, inner)
        return
    code = " [schedule]" if isinstance(node, SCHEDULED) and not isinstance(node, Mode) else ""
    code = " [mode]" if isinstance(node, Mode) else code
    values = ", ".join(
        f"{one['text']} = {_plain(one['value'])}" for one in _parts(look, node, part, 0) if one["depth"] == 1
    )
    yield f"{text_of(node)}{code}" + (f" ({values})" if values else "")


def _plain(value: object) -> str:
    return "?" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _unknowns(look: Look) -> Iterator[Reason]:
    """What the rule could not know, and why."""
    for reading in look.readings:
        name = reading.name
        if name.startswith("event:"):
            continue
        if reading.at == NEVER:
            yield "never_seen", f"{name} 从未上报", f"{name} was never reported"
        elif reading.max_age is not None and look.instant - reading.at > reading.max_age:
            age, limit = format_duration(look.instant - reading.at), format_duration(reading.max_age)
            yield (
                "too_old",
                f"{name} 的最新值已 {age}，超过 {limit}",
                f"the newest {name} is {age} old, more than {limit}",
            )
    for leaf in dict.fromkeys(leaf for tree in look.part.rule.trees for leaf in leaves(tree)):
        if isinstance(leaf, Attribute) and look.attribute(leaf.name) is None:
            yield (
                "no_attribute",
                f"设备没有属性 {leaf.name}（或尚未生效）",
                f"the device has no attribute {leaf.name} valid then",
            )
        elif isinstance(leaf, Absent) and look.listening_since > look.instant - leaf.us:
            since = to_iso(look.listening_since)
            yield (
                "not_listening",
                f"{since} 才恢复接收，未满一个完整周期",
                f"the link came back at {since}: not yet one full interval",
            )
    for node, part in plan(look.part.rule).told:
        if part[0] in _NUMBERS and known(float(quantity(part)(look.sight)[0])) is None:
            yield "unknown_window", f"{text_of(node)} 未知：数据不足", f"{text_of(node)} is unknown: too few values"

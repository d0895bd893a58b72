"""What leaves a transaction: rows of the outbox for people, rows of the stream for screens.

A message says what and where in both languages and never who lives there: a personal device goes by its id. Its key is
made of what happened, so the same happening never makes a second message. `due_at` is 0, at once: the outbox runs on
wall time, and `now` here may be the time of a replayed day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection, insert
from sqlalchemy.dialects.sqlite import insert as upsert

from alerts.alarms import Happening
from alerts.orders import STEPS, OrderState
from devices.kinds import KINDS
from devices.registry import Device
from flow.held import HeldAlarm, RuleLike
from rules.rule import Priority
from store.records.tables import outbox, stream

DUTY = "duty"
PRIORITY_NAMES: Mapping[Priority, tuple[str, str]] = MappingProxyType({
    Priority.CRITICAL: ("紧急", "critical"),
    Priority.HIGH: ("重要", "high"),
    Priority.MEDIUM: ("一般", "medium"),
    Priority.LOW: ("次要", "low"),
    Priority.NOTICE: ("提示", "notice"),
})  # fmt: skip
Event = tuple[str, dict[str, object]]


@dataclass(frozen=True, slots=True)
class Message:
    key: str
    body: Mapping[str, object]
    channel: str = DUTY


def post(tx: Connection, now: int, messages: Iterable[Message]) -> None:
    rows = [
        {"key": m.key, "channel": m.channel, "body": dict(m.body), "created_at": now, "due_at": 0, "attempts": 0}
        for m in messages
    ]
    if rows:
        tx.execute(upsert(outbox).on_conflict_do_nothing(index_elements=["key"]), rows)


def tell(tx: Connection, now: int, events: Iterable[Event]) -> None:
    """Many stream rows in one statement; `flow.stream.emit` writes one."""
    rows = [{"at": now, "kind": kind, "body": body} for kind, body in events]
    if rows:
        tx.execute(insert(stream), rows)


def alarm_event(alarm: HeldAlarm) -> Event:
    return "alarm", _members(alarm.kind) | {
        "id": alarm.id,
        "rule": alarm.rule,
        "device": alarm.device,
        "grid": alarm.grid,
        "priority": alarm.priority,
        "state": alarm.state,
        "active": alarm.active,
        "version": alarm.version,
    }


def order_event(  # noqa: PLR0913 - the keys of one body
    order: int, act: str, state: OrderState, *, version: int, category: str, priority: str, device: str | None,
    grid: str | None, alarm: int | None, kind: str | None = None,
) -> Event:  # fmt: skip
    """`kind` only of an order about several devices: the stream finds that of one device itself."""
    return "order", _members(kind) | {
        "id": order,
        "act": act,
        "state": state,
        "step": STEPS[state],
        "version": version,
        "category": category,
        "priority": priority,
        "device": device,
        "grid": grid,
        "alarm": alarm,
    }


def _members(kind: str | None) -> dict[str, object]:
    """Whether several devices are personal is for the stream to know: no device of that name says so."""
    return {"kind": kind} if kind else {}


def place_names(alarm: HeldAlarm, device: Device | None) -> tuple[str, str]:
    """Where or what it is about, in Chinese and in English."""
    if alarm.called is not None:
        return alarm.called
    if device is None or not device.name or KINDS[device.kind].personal:
        return alarm.device, alarm.device
    return device.name, device.name


_AGAIN_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "": ("", ""),
    Happening.UNSHELVED: ("（搁置结束，仍未恢复）", " (shelving ended, still standing)"),
    Happening.EXPIRED: ("（搁置结束，仍未恢复）", " (shelving ended, still standing)"),
    Happening.UNSUPPRESSED: ("（抑制解除，仍未恢复）", " (no longer suppressed, still standing)"),
    Happening.RESTORED: ("（恢复使用，仍未恢复正常）", " (back in service, still standing)"),
    Happening.WORSENED: ("（级别上升）", " (more severe)"),
})  # fmt: skip


def alarm_raised(
    alarm: HeldAlarm, occurrence: int, rule: RuleLike, *, device: Device | None, priority: Priority | None = None,
    again: str = "",
) -> Message:  # fmt: skip
    """`again`, `<happening>:<what tells it apart>`, is another message of the same occurrence. `priority` None: the
    alarm's own."""
    severity = priority or alarm.priority
    zh, en = PRIORITY_NAMES[severity]
    if alarm.early:
        zh, en = f"预见·{zh}", f"early, {en}"
    more_zh, more_en = _AGAIN_WORDS[again.partition(":")[0]]
    place_zh, place_en = place_names(alarm, device)
    return Message(
        f"alarm:{alarm.id}:occ:{occurrence}:{again or 'raised'}",
        {
            "zh": f"【{zh}】{rule.name_zh}：{place_zh}{more_zh}",
            "en": f"[{en}] {rule.name_en}: {place_en}{more_en}",
            "kind": "alarm",
            "ids": {"alarm": alarm.id, "occurrence": occurrence},
            "priority": severity,
        },
    )


_ORDER_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "filed": ("新工单", "New order"),
    "dispatched": ("派单", "Dispatched"),
    "reopened": ("返工", "Reopened"),
    "overdue": ("工单超时", "Order overdue"),
})  # fmt: skip


def order_message(
    order: int, happening: str, title: str, *, priority: str, once: str = "", alarm: int | None = None,
    assignee: str | None = None, limit: str | None = None,
) -> Message:  # fmt: skip
    """`happening`: filed, dispatched, reopened or overdue; `once` tells its repetitions apart (version, limit)."""
    zh, en = _ORDER_WORDS[happening]
    body: dict[str, object] = {
        "zh": f"{zh} #{order}：{title}",
        "en": f"{en} #{order}: {title}",
        "kind": f"order.{happening}",
        "ids": {"order": order, "alarm": alarm},
        "priority": priority,
    }
    if assignee is not None:
        body["assignee"] = assignee
    if limit is not None:
        body["limit"] = limit
    return Message(f"order:{order}:{happening}" + (f":{once}" if once else ""), body)

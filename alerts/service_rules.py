"""The service's own alarms, `gw-…`: about the devices and itself, not about the town. They file no order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rules.rule import Priority

PREFIX = "gw-"


@dataclass(frozen=True, slots=True)
class ServiceRule:
    """The shape of a rule of the book, as far as alarms need it."""

    id: str
    name_zh: str
    name_en: str
    priority: Priority
    text: str
    order_category: str | None = None


SERVICE_RULES: Mapping[str, ServiceRule] = MappingProxyType({
    rule.id: rule
    for rule in (
        ServiceRule("gw-silence", "设备失联", "Device silent", Priority.MEDIUM,
                    "no reading for longer than the device's silent_after"),
        ServiceRule("gw-clock", "设备时钟错误", "Device clock wrong", Priority.LOW,
                    "measured_at beyond clock.max_ahead or clock.max_behind"),
        ServiceRule("gw-range", "传感器超量程", "Sensor out of its range", Priority.MEDIUM,
                    "a value beyond the physical range of the sensor"),
        ServiceRule("gw-link", "与消息服务器断开", "Link to the broker lost", Priority.HIGH,
                    "no connection to the broker"),
        ServiceRule("gw-backlog", "处理积压", "Intake behind", Priority.MEDIUM,
                    "readings wait longer than the backlog limit before they are judged"),
        ServiceRule("gw-storage", "存储故障", "Storage fails", Priority.HIGH,
                    "what arrives cannot be saved: the database or the readings store refuses, hangs or is full"),
    )
})  # fmt: skip

"""Why an alarm was cleared where no reading cleared it: a reload, a pause, a device that is not judged any more.

In the history it stands as its code, for a pause with the reason that was given: `paused: 检修`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PAUSED = "paused"
# Code → Chinese, English.
ENDS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "rule_removed_or_changed": (
        "规则已修改或删除，从头判断", "the rule was changed or removed and starts afresh",
    ),
    "device_not_judged": ("设备不再参与判断", "the device is not judged any more"),
    PAUSED: ("已停用", "paused"),
})  # fmt: skip


def ended_by(reason: Mapping[str, object], *, personal: bool) -> str | None:
    """As the history has it, from the reason of what cleared the alarm; None where a reading did. Why a home is paused
    (`personal`) stands with the pause alone."""
    code, why = reason.get("cleared_by"), reason.get("why")
    if not isinstance(code, str):
        return None
    return f"{code}: {why}" if code == PAUSED and why and not personal else code


def say_end(why: str | None) -> tuple[str, str] | None:
    """What `ended_by` gave, in Chinese and in English; None for other words."""
    code, _, given = (why or "").partition(": ")
    words = ENDS.get(code)
    if words is None or (given and code != PAUSED):
        return None
    return (f"{words[0]}：{given}", f"{words[1]}: {given}") if given else words

"""The life of a command to a device as a table: what was asked waits for the link, then for the answer, until it ends.

The surprise: an answer may come before the command counts as sent (the service died in between), and after it has
expired: that is kept and said, and the command stays expired, for whoever waited has gone on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from alerts.refusals import Conflict


class CommandState(StrEnum):
    PENDING = "pending"  # not handed to the broker yet
    SENT = "sent"  # the broker has it
    REPLIED = "replied"  # the device did it
    FAILED = "failed"  # the device could not or would not
    EXPIRED = "expired"  # nobody answered in time


class CommandStep(StrEnum):
    SENT = "sent"
    CONFIRMED = "confirmed"  # answered with ok
    DECLINED = "declined"  # answered without
    LAPSED = "lapsed"  # its time is over


C, T = CommandState, CommandStep

OPEN = frozenset({C.PENDING, C.SENT})

MOVES: Mapping[tuple[CommandState, CommandStep], CommandState] = MappingProxyType({
    (C.PENDING, T.SENT): C.SENT,
    (C.PENDING, T.CONFIRMED): C.REPLIED,
    (C.PENDING, T.DECLINED): C.FAILED,
    (C.PENDING, T.LAPSED): C.EXPIRED,
    (C.SENT, T.CONFIRMED): C.REPLIED,
    (C.SENT, T.DECLINED): C.FAILED,
    (C.SENT, T.LAPSED): C.EXPIRED,
    (C.EXPIRED, T.CONFIRMED): C.EXPIRED,
    (C.EXPIRED, T.DECLINED): C.EXPIRED,
})  # fmt: skip


def read_argument(text: str) -> tuple[str, object]:
    """An argument as people write it: `pump=2` is a number, `mode=auto` a text. Raises ValueError where it has no
    name."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise ValueError(f"expected name=value: {text!r}")
    try:
        read = json.loads(value)
        json.dumps(read, allow_nan=False)
    except (ValueError, RecursionError):
        return name.strip(), value.strip()
    return name.strip(), read


def step(state: CommandState, happened: CommandStep) -> CommandState:
    """The state after it. Raises Conflict where the table has no such move."""
    to = MOVES.get((state, happened))
    if to is None:
        zh, en = f"指令处于 {state} 状态（{happened}）", f"a command that is {state} cannot be {happened}"
        raise Conflict("not_in_this_state", zh, en)
    return to

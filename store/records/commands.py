"""Commands to devices as rows: what was asked by whom, and what became of it. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from alerts.commands import CommandState
from store.records.pages import Page, decode_id, page_of
from store.records.tables import commands, devices


@dataclass(frozen=True, slots=True)
class CommandRow:
    """`id` is the one on the wire; `device` an id, `topic` where its commands go. All instants are of the wall. `reply`
    is the device's whole answer, also one that came too late."""

    number: int
    id: str
    device_number: int
    device: str
    kind: str
    topic: str
    command: str
    arguments: Mapping[str, Any]
    state: str
    by: str
    why: str
    at: int
    expires_at: int
    sent_at: int | None
    ended_at: int | None
    reply: Mapping[str, Any] | None

    @property
    def late(self) -> bool:
        """It was answered after it had expired."""
        return self.state == CommandState.EXPIRED and self.reply is not None


_TOPIC = "gw/v1/" + devices.c.site + "/" + devices.c.kind + "/" + devices.c.id + "/commands"
_OF_DEVICE: Mapping[str, ColumnElement[Any]] = {
    "device_number": commands.c.device.label("device_number"),
    "device": devices.c.id.label("device"),
    "kind": devices.c.kind,
    "topic": _TOPIC.label("topic"),
}
_COLUMNS = [_OF_DEVICE[f.name] if f.name in _OF_DEVICE else commands.c[f.name] for f in fields(CommandRow)]
_QUERY = select(*_COLUMNS).join(devices, devices.c.number == commands.c.device)


def add_command(tx: Connection, **values: Any) -> int:
    """Columns of the table, without its number, which is returned; `device` a number."""
    return int(tx.execute(insert(commands).values(**values).returning(commands.c.number)).scalar_one())


def get_command(tx: Connection, id_: str) -> CommandRow | None:
    row = tx.execute(_QUERY.where(commands.c.id == id_)).one_or_none()
    return None if row is None else _row(row)


def list_commands(tx: Connection, device: int, *, limit: int, cursor: str | None = None) -> Page[CommandRow]:
    """Of one device, newest first."""
    query = _QUERY.where(commands.c.device == device).order_by(commands.c.number.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(commands.c.number < decode_id(cursor))
    return page_of([_row(row) for row in tx.execute(query)], limit, lambda row: [row.number])


def pending_commands(tx: Connection, now: int, limit: int) -> list[CommandRow]:
    """Those to be sent, the first that was asked first; what has expired by now is not."""
    c = commands.c
    wanted = _QUERY.where(c.ended_at.is_(None), c.expires_at > now, c.state == CommandState.PENDING)
    # Not by the bare number: SQLite would walk over every command there ever was, in that order.
    return [_row(row) for row in tx.execute(wanted.order_by(c.number + 0).limit(limit))]


def lapsed_commands(tx: Connection, now: int, states: Collection[str], limit: int) -> list[CommandRow]:
    """Those in these states whose time is over and that have not ended."""
    c = commands.c
    over = _QUERY.where(c.ended_at.is_(None), c.expires_at <= now, c.state.in_(list(states)))
    return [_row(row) for row in tx.execute(over.order_by(commands.c.expires_at).limit(limit))]


def count_open(tx: Connection) -> int:
    return tx.execute(select(func.count()).select_from(commands).where(commands.c.ended_at.is_(None))).scalar_one()


def change_command(tx: Connection, number: int, states: Collection[str], **values: Any) -> bool:
    """Whether it was in one of these states until now."""
    c = commands.c
    changed = update(commands).where(c.number == number, c.state.in_(list(states))).values(**values)
    return tx.execute(changed).rowcount == 1


def topic_of(tx: Connection, device: int) -> str:
    """Where the commands of the device of this number go."""
    return str(tx.execute(select(_TOPIC).where(devices.c.number == device)).scalar() or "")


def _row(row: Row[Any]) -> CommandRow:
    return CommandRow(**dict(row._mapping))

"""What people declared, as rows: response levels and drills of the whole town, pauses of devices.

Nothing is deleted: ending one before its time moves its end and says who did it. A pause of a person is kept as that of
one of the person's devices, so that no name stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, or_, select, update

from devices.registry import Device, Registry
from rules.declared import Declared, Pause, Response, Span
from store.records.pages import Page, decode_id, page_of
from store.records.tables import declarations, devices, pauses


class Declaring(StrEnum):
    RESPONSE = "response"
    DRILL = "drill"


@dataclass(frozen=True, slots=True)
class DeclarationRow:
    """[start, end); `end` None: until somebody ends it. `level` of a response: 1, the most severe, to 4."""

    id: int
    kind: Declaring
    level: int | None
    start: int
    end: int | None
    why: str
    ordered_by: str
    by: str
    declared_at: int
    ended_by: str | None
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class PauseRow:
    """`device` is an id; `of_person`: every device of the person behind it. `rules` None: every rule."""

    id: int
    device: str
    kind: str
    of_person: bool
    rules: tuple[str, ...] | None
    start: int
    end: int
    why: str
    by: str
    declared_at: int
    ended_by: str | None
    ended_at: int | None


_DECLARATION = [declarations.c[f.name] for f in fields(DeclarationRow)]
_PAUSE = [
    devices.c.id.label("device") if f.name == "device" else devices.c.kind if f.name == "kind" else pauses.c[f.name]
    for f in fields(PauseRow)
]


def add_declaration(tx: Connection, **values: Any) -> int:
    """Columns of the table, without its id, which is returned."""
    return int(tx.execute(insert(declarations).values(**values).returning(declarations.c.id)).scalar_one())


def get_declaration(tx: Connection, kind: Declaring, number: int) -> DeclarationRow | None:
    query = select(*_DECLARATION).where(declarations.c.id == number, declarations.c.kind == kind)
    row = tx.execute(query).one_or_none()
    return None if row is None else _declaration(row)


def list_declarations(
    tx: Connection, kind: Declaring, *, limit: int, cursor: str | None = None, after: int | None = None
) -> Page[DeclarationRow]:
    """Newest first; `after`: only those that end later than this instant."""
    query = select(*_DECLARATION).where(declarations.c.kind == kind).order_by(declarations.c.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(_lasts(declarations, after))
    if cursor is not None:
        query = query.where(declarations.c.id < decode_id(cursor))
    return page_of([_declaration(row) for row in tx.execute(query)], limit, lambda row: [row.id])


def lasting_declarations(tx: Connection, kind: Declaring, after: int) -> list[DeclarationRow]:
    """Those that end later than this instant, by their start."""
    query = select(*_DECLARATION).where(declarations.c.kind == kind, _lasts(declarations, after))
    return [_declaration(row) for row in tx.execute(query.order_by(declarations.c.start, declarations.c.id))]


def end_declarations(tx: Connection, numbers: Iterable[int], *, end: int, by: str, at: int) -> None:
    """One that had not begun by then never was."""
    c = declarations.c
    changed = update(declarations).where(c.id.in_(list(numbers)))
    tx.execute(changed.values(end=func.max(c.start, end), ended_by=by, ended_at=at))


def add_pause(tx: Connection, **values: Any) -> int:
    return int(tx.execute(insert(pauses).values(**values).returning(pauses.c.id)).scalar_one())


def get_pause(tx: Connection, number: int) -> PauseRow | None:
    row = tx.execute(_pauses().where(pauses.c.id == number)).one_or_none()
    return None if row is None else _pause(row)


def list_pauses(
    tx: Connection,
    *,
    device: Device | None = None,
    after: int | None = None,
    hide_kinds: Set[str] = frozenset(),
    limit: int,
    cursor: str | None = None,
) -> Page[PauseRow]:
    """Newest first. `after`: only those that end later than this instant; `device`: only those that are of it, by
    itself or as one of a person's."""
    query = _pauses().where(devices.c.kind.not_in(hide_kinds)).order_by(pauses.c.id.desc()).limit(limit + 1)
    if device is not None:
        of_person = pauses.c.of_person & (devices.c.person == device.person)
        of_person &= (devices.c.person_address == device.person_address) & (devices.c.person != "")
        query = query.where((devices.c.id == device.id) | of_person)
    if after is not None:
        query = query.where(_lasts(pauses, after))
    if cursor is not None:
        query = query.where(pauses.c.id < decode_id(cursor))
    return page_of([_pause(row) for row in tx.execute(query)], limit, lambda row: [row.id])


def lasting_pauses(tx: Connection, after: int) -> list[PauseRow]:
    """Every pause that ends later than this instant, by its start."""
    return [_pause(row) for row in tx.execute(_pauses().where(_lasts(pauses, after)).order_by(pauses.c.start))]


def end_pause(tx: Connection, number: int, *, end: int, by: str, at: int) -> None:
    changed = update(pauses).where(pauses.c.id == number)
    tx.execute(changed.values(end=func.max(pauses.c.start, end), ended_by=by, ended_at=at))


def read_declared(tx: Connection, registry: Registry, after: int) -> Declared:
    """What the rules go by: all that ended later than this instant, pauses of persons spread over their devices."""
    responses = lasting_declarations(tx, Declaring.RESPONSE, after)
    drills = lasting_declarations(tx, Declaring.DRILL, after)
    return Declared(
        tuple(Response(row.level, row.start, row.end) for row in responses if row.level and _is_some(row)),
        tuple(Span(row.start, row.end) for row in drills if _is_some(row)),
        tuple(pause for row in lasting_pauses(tx, after) for pause in _spread(row, registry)),
    )


def paused_devices(row: PauseRow, registry: Registry) -> Sequence[Device]:
    """Whom a pause is of: the device, or every device of the person (by name and address) behind it."""
    device = registry.get(row.device)
    if device is None:
        return ()
    if not row.of_person or not device.person:
        return (device,)
    who = (device.person, device.person_address)
    return [each for each in registry.devices if (each.person, each.person_address) == who]


def _spread(row: PauseRow, registry: Registry) -> Iterable[Pause]:
    rules = None if row.rules is None else frozenset(row.rules)
    if row.start < row.end:
        for device in paused_devices(row, registry):
            yield Pause(device.id, row.start, row.end, row.why, rules)


def _is_some(row: DeclarationRow) -> bool:
    return row.end is None or row.start < row.end


def _lasts(table: Any, after: int) -> Any:
    return or_(table.c.end.is_(None), table.c.end > after)


def _pauses() -> Select[Any]:
    return select(*_PAUSE).join(devices, devices.c.number == pauses.c.device)


def _declaration(row: Row[Any]) -> DeclarationRow:
    return DeclarationRow(**{**row._mapping, "kind": Declaring(row.kind)})


def _pause(row: Row[Any]) -> PauseRow:
    rules = None if row.rules is None else tuple(row.rules)
    return PauseRow(**{**row._mapping, "rules": rules})

"""The SQL database: opening it, the one way to write to it, and bringing it to the current schema.

The surprise: a connection that was not opened by `write` cannot write. SQLite would let a reader turn into a writer
half way and fail with "database is locked" where another writer came between; here every writer asks for the lock
first (BEGIN IMMEDIATE) and waits for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    and_,
    column,
    create_engine,
    event,
    inspect,
    select,
    text,
    values,
)  # fmt: skip
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

MIGRATIONS = Path(__file__).parent / "migrations"

# How long a writer waits for another. Below a second a busy disk shows as errors; above the broker's keepalive (60 s)
# a stuck writer would look like a lost link.
BUSY_TIMEOUT_MS = 15_000
# Pages and API answer from a thread pool of 40; more connections than threads are never used.
POOL_SIZE, POOL_OVERFLOW = 8, 40

_WRITES = "gridwhistle_writes"
# Keys of one IN (…): three parameters each stay far below SQLite's 32,766.
_CHUNK = 500
T = TypeVar("T")


class UnusableRecords(Exception):
    """The file is no database, is damaged, or was written by a newer version. Chinese first."""


def open_records(path: Path | str) -> Engine:
    """The database file, made where it is absent; it has no tables before `migrate`."""
    records = create_engine(
        URL.create("sqlite", database=str(path)),
        json_serializer=_to_json,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
    )
    event.listen(records, "connect", _connected)
    event.listen(records, "begin", _begun)
    return records


@contextmanager
def write(records: Engine) -> Iterator[Connection]:
    """One write transaction: committed at the end of the block, rolled back by any exception."""
    with records.connect().execution_options(**{_WRITES: True}) as tx, tx.begin():
        yield tx


def chunks(keys: Sequence[T]) -> Iterable[Sequence[T]]:
    """Few enough keys at a time for one statement."""
    return (keys[i : i + _CHUNK] for i in range(0, len(keys), _CHUNK))


def among(number: Column[int], columns: Sequence[Column[Any]], keys: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
    """That a row of the table with this primary key has one of the keys in these columns, found by their index: for a
    list of tuples SQLite walks over the whole table."""
    wanted = values(*(column(c.name, c.type) for c in columns), name="wanted").data(keys).cte("wanted")
    rows = number.table.alias()
    same = and_(*(rows.c[c.name] == wanted.c[c.name] for c in columns))
    return number.in_(select(rows.c[number.name]).select_from(wanted.join(rows, same)))


def migrate(path: Path | str) -> None:
    """Bring the database file to the current schema, after copying it to `<name>.before-<revision>`.

    One transaction: a migration that fails leaves the file as it was. Two processes at once: the second waits and finds
    nothing to do. Raises UnusableRecords.
    """
    path = Path(path)
    records = open_records(path)
    try:
        try:
            current = _revision(records)
        except DatabaseError as error:
            raise UnusableRecords(f"{path}: 无法打开 cannot be opened: {error.orig}") from error
        if current == head():
            return
        if current is not None and current > head():
            newer = f"由更新的版本写成 written by a newer version: {current}, this one knows {head()}"
            raise UnusableRecords(f"{path}: {newer}")
        if current is not None:
            copy_database(path, path.with_name(f"{path.name}.before-{head()}"))
        with write(records) as tx:
            _upgrade(tx)
    finally:
        records.dispose()


def copy_database(source: Path, target: Path) -> None:
    """The file as of one instant into a new one, by SQLite's own backup: a plain file copy would miss what is still in
    the write-ahead log. In one step, so that who writes meanwhile neither waits nor makes it begin again."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def head() -> str:
    """The revision of the newest migration, by its file's name."""
    return max(file.stem[1:5] for file in (MIGRATIONS / "versions").glob("m[0-9]*.py"))


def _upgrade(tx: Connection) -> None:
    # Alembic costs every start a third of a second; only the first one after an upgrade needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = tx
    command.upgrade(config, "head")


def _revision(records: Engine) -> str | None:
    with records.connect() as tx:
        if not inspect(tx).has_table("alembic_version"):
            return None
        return tx.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _connected(connection: sqlite3.Connection, _record: object) -> None:
    # Transactions are begun by _begun alone; the driver's own implicit BEGIN would be a deferred one.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # an acknowledged packet must survive a power cut
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

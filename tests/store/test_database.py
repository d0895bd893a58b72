"""The records database: one writer at a time, readers that cannot write, and a schema that migrations make."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, delete, insert, select, text, update
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from store.records.database import MIGRATIONS, head, migrate, open_records, write
from store.records.tables import alarm_history, alarms, metadata, settings


@pytest.fixture
def records(tmp_path: Path) -> Engine:
    migrate(tmp_path / "records.sqlite")
    return open_records(tmp_path / "records.sqlite")


def put_setting(records: Engine, name: str, value: object) -> None:
    with write(records) as tx:
        tx.execute(insert(settings).values(name=name, value=value))


def test_migrations_make_exactly_the_tables_of_tables_py(records: Engine) -> None:
    with records.connect() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_file_is_the_head_of_the_migrations() -> None:
    assert head() == ScriptDirectory(str(MIGRATIONS)).get_current_head()


def test_autogenerate_sees_a_missing_column(records: Engine) -> None:
    """The comparison above can fail."""
    with write(records) as tx:
        tx.execute(text("ALTER TABLE rules DROP COLUMN text"))
    with records.connect() as tx:
        assert compare_metadata(MigrationContext.configure(tx), metadata) != []


def test_every_connection_is_durable_and_checks_references(records: Engine) -> None:
    with records.connect() as tx:
        pragmas = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 15_000}


def test_a_reader_cannot_write(records: Engine) -> None:
    with records.connect() as tx, pytest.raises(OperationalError, match="readonly"):
        tx.execute(insert(settings).values(name="x", value=1))
    put_setting(records, "x", 1)
    with records.connect() as tx, pytest.raises(OperationalError, match="readonly"):
        tx.execute(delete(settings))


def test_a_block_that_fails_leaves_nothing(records: Engine) -> None:
    with pytest.raises(IntegrityError), write(records) as tx:
        tx.execute(insert(settings), [{"name": "x", "value": 1}, {"name": "x", "value": 2}])
    with records.connect() as tx:
        assert tx.execute(select(settings)).all() == []


def test_writers_wait_for_each_other_and_lose_no_count(records: Engine) -> None:
    put_setting(records, "count", 0)

    def add() -> None:
        for _ in range(25):
            with write(records) as tx:
                count = tx.execute(select(settings.c.value).where(settings.c.name == "count")).scalar_one()
                tx.execute(update(settings).where(settings.c.name == "count").values(value=count + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with records.connect() as tx:
        assert tx.execute(select(settings.c.value)).scalar_one() == 100


def test_a_reader_sees_one_instant_while_a_writer_commits(records: Engine) -> None:
    put_setting(records, "x", 1)
    with records.connect() as tx:
        before = tx.execute(select(settings.c.value)).scalar_one()
        with write(records) as other:
            other.execute(update(settings).values(value=2))
        assert (before, tx.execute(select(settings.c.value)).scalar_one()) == (1, 1)


def test_json_is_kept_as_written(records: Engine) -> None:
    put_setting(records, "吹哨", {"级别": [1, 2.5, None]})
    with records.connect() as tx:
        assert tx.execute(text("SELECT value FROM settings")).scalar_one() == '{"级别":[1,2.5,null]}'


@pytest.mark.parametrize("change", [update(alarm_history).values(why="nothing happened"), delete(alarm_history)])
def test_history_is_never_changed_nor_deleted(records: Engine, change: object) -> None:
    with write(records) as tx:
        tx.execute(
            insert(alarms).values(rule="r", device="d", priority="high", state="UNACK", active=True, changed_at=1)
        )
        tx.execute(insert(alarm_history).values(alarm=1, at=1, by="service", act="raised", to_state="UNACK"))
    with pytest.raises(DatabaseError, match="alarm_history is immutable"), write(records) as tx:
        tx.execute(change)  # type: ignore[call-overload]


def test_a_second_start_changes_nothing_and_copies_nothing(records: Engine, tmp_path: Path) -> None:
    put_setting(records, "x", 1)
    migrate(tmp_path / "records.sqlite")
    assert not list(tmp_path.glob("*.before-*"))
    with records.connect() as tx:
        assert tx.execute(select(settings.c.value)).scalar_one() == 1


def test_the_database_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    """A file of an older version: what is in its write-ahead log is in the copy."""
    path = tmp_path / "records.sqlite"
    old = open_records(path)
    with write(old) as tx:
        tx.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        tx.execute(text("INSERT INTO alembic_version VALUES ('0000')"))
        tx.execute(text("CREATE TABLE notes (line TEXT)"))
        tx.execute(text("INSERT INTO notes VALUES ('kept')"))
    with pytest.raises(Exception, match="0000"):  # Alembic knows no such revision
        migrate(path)
    old.dispose()
    (copy,) = tmp_path.glob("records.sqlite.before-*")
    assert sqlite3.connect(copy).execute("SELECT line FROM notes").fetchall() == [("kept",)]
    assert sqlite3.connect(path).execute("SELECT line FROM notes").fetchall() == [("kept",)]

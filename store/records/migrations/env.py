"""Run by Alembic for every command; the connection and its transaction belong to the caller, `database.migrate`."""

from __future__ import annotations

from alembic import context

from store.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    compare_type=True,
)
context.run_migrations()

"""How severe an occurrence was; alarms of several devices and what they suppress; holes that late readings fill."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("alarms", sa.Column("kind", sa.String(), nullable=True))
    op.add_column("alarms", sa.Column("early", sa.Boolean(), server_default=sa.text("0"), nullable=False))
    op.add_column("alarms", sa.Column("suppressed_by", sa.Integer(), nullable=True))
    op.create_index(
        "ix_alarms_suppressed_by", "alarms", ["suppressed_by"], unique=False,
        sqlite_where=sa.text("suppressed_by IS NOT NULL"),
    )  # fmt: skip
    op.add_column("occurrences", sa.Column("severity", sa.JSON(), nullable=True))
    op.create_table(
        "holes",
        sa.Column("series", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("from_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("filled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("series", "from_at", name=op.f("pk_holes")),
    )
    op.create_index(
        "ix_holes_filled_at", "holes", ["filled_at"], unique=False, sqlite_where=sa.text("filled_at IS NOT NULL")
    )

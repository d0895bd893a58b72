"""The ledger by reason, what a kept packet was counted as, second sources, and commands to devices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("evaluated", "gaps", "gaps_filled"):
        op.add_column("ledger", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "ledger_reasons",
        sa.Column("device", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device", "hour", "outcome", "reason", name=op.f("pk_ledger_reasons")),
    )
    op.create_index("ix_ledger_hour_device", "ledger", ["hour", "device"], unique=False)
    op.create_index("ix_ledger_reasons_hour_device", "ledger_reasons", ["hour", "device"], unique=False)
    with op.batch_alter_table("refused", recreate="always", table_kwargs={"sqlite_autoincrement": True}) as refused:
        refused.add_column(sa.Column("count", sa.Integer(), server_default=sa.text("1"), nullable=False))
        refused.add_column(sa.Column("whole", sa.Boolean(), server_default=sa.text("1"), nullable=False))
        refused.add_column(sa.Column("arrived_at", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE refused SET arrived_at = at")
    op.drop_index("ix_refused_at", "refused")
    op.create_index("ix_refused_arrived_at", "refused", ["arrived_at"], unique=False)
    op.add_column("devices", sa.Column("second_of", sa.String(), nullable=True))
    op.create_table(
        "commands",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("command", sa.String(), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("reply", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_commands")),
        sa.UniqueConstraint("id", name=op.f("uq_commands_id")),
    )
    op.create_index("ix_commands_device_number", "commands", ["device", "number"], unique=False)
    op.create_index(
        "ix_commands_open", "commands", ["expires_at"], unique=False, sqlite_where=sa.text("ended_at IS NULL")
    )
    # What happens to a command is on the event stream too. Its ids go on.
    with op.batch_alter_table("stream", table_kwargs={"sqlite_autoincrement": True}) as stream:
        stream.drop_constraint(op.f("ck_stream_kind"), type_="check")
        stream.create_check_constraint(op.f("ck_stream_kind"), "kind in ('alarm', 'order', 'presence', 'command')")

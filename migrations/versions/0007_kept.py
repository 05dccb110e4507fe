"""Points of files that are gone, set aside while their job is read again.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def _to(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], ondelete="CASCADE", name=f"fk_{table}_{column}_{other}")


def upgrade() -> None:
    """Create the tables, empty but while a job is read again."""
    op.create_table(
        "kept_segments",
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("shard_id", sa.Integer(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "ordinal", name="pk_kept_segments"),
        _to("kept_segments", "tag_id", "tags"),
        _to("kept_segments", "shard_id", "shards"),
    )
    op.create_index("ix_kept_segments_shard_id", "kept_segments", ["shard_id"])
    op.create_table(
        "kept_starts",
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("shard_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "seq", name="pk_kept_starts"),
        _to("kept_starts", "tag_id", "tags"),
        _to("kept_starts", "shard_id", "shards"),
    )
    op.create_index("ix_kept_starts_shard_id", "kept_starts", ["shard_id"])


def downgrade() -> None:
    """Drop them; what is aside just then is lost from the tables, as its file is from the disk."""
    op.drop_table("kept_starts")
    op.drop_table("kept_segments")

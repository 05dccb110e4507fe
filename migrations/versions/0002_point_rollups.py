"""Rollups: min, max, first, last and count of runs of current points, so that a chart of any length costs the same.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table, and remember per tag how far its rollups reach (0 for all: built when a tag is long)."""
    op.create_table(
        "point_rollups",
        sa.Column("tag_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        *(
            sa.Column(f"{which}_{what}", kind, nullable=nullable)
            for which in ("first", "last", "min", "max")
            for what, kind, nullable in (
                ("step", sa.BigInteger(), which in {"min", "max"}),
                ("seq", sa.Integer(), which in {"min", "max"}),
                ("wall_time", sa.Double(), True),
                ("value", sa.Double(), True),
            )
        ),
        sa.PrimaryKeyConstraint("tag_id", "level", "ordinal", name="pk_point_rollups"),
        sqlite_with_rowid=False,
    )
    op.add_column("tags", sa.Column("rolled_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("tags", sa.Column("rolled_step", sa.BigInteger()))


def downgrade() -> None:
    """Drop them; they can be built again from the points."""
    op.execute("ALTER TABLE tags DROP COLUMN rolled_step")  # batch mode would copy the table, and views refer to it
    op.execute("ALTER TABLE tags DROP COLUMN rolled_count")
    op.drop_table("point_rollups")

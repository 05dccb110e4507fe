"""What MindInsight lists of a job, and what people said of it.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

COLUMNS: dict[str, Any] = {
    "listed_create_time": sa.Double,
    "listed_update_time": sa.Double,
    "explain_create_time": sa.Double,
    "explain_update_time": sa.Double,
    "profiler_dir": sa.Text,
    "profiler_type": sa.Text,
    "graph_mode": sa.Text,
    "dump_dir": sa.Text,
}


def upgrade() -> None:
    """Add columns and a table. The next scan fills in creation times, and then takes the other times anew."""
    for name, kind in COLUMNS.items():
        op.add_column("jobs", sa.Column(name, kind()))
    for column, kinds in (
        ("listed_update_time", "'summary', 'lineage', 'graph'"),
        ("explain_update_time", "'explain'"),
    ):
        op.execute(
            f"UPDATE jobs SET {column} = update_time WHERE EXISTS"
            f" (SELECT 1 FROM shards s WHERE s.job_id = jobs.id AND s.kind IN ({kinds}) AND s.state <> 'replaced')"
        )
    op.create_table(
        "annotations",
        sa.Column("job_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.Integer()),
        sa.Column("remark", sa.Text()),
        sa.Column("alias", sa.Text()),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_annotations"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name="fk_annotations_job_id_jobs"),
    )


def downgrade() -> None:
    """Drop them, with what people said."""
    op.drop_table("annotations")
    for name in COLUMNS:
        op.execute(f"ALTER TABLE jobs DROP COLUMN {name}")  # batch mode would copy the table, and views refer to it

"""What leaves the database and comes back: pruned and evicted jobs, jobs read again, points that wait to be deleted.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create the tables; nothing is pruned, evicted or waiting."""
    op.create_table(
        "loose_tags",
        sa.Column("tag_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("sweep_after", sa.Double(), nullable=False),
        sa.Column("reindex_id", sa.Integer()),
        sa.PrimaryKeyConstraint("tag_id", name="pk_loose_tags"),
    )
    op.create_table(
        "pruned_jobs",
        sa.Column("root_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("train_key", sa.LargeBinary(), nullable=False),
        sa.Column("train_id", sa.Text(), nullable=False),
        sa.Column("pruned_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("root_id", "train_key", name="pk_pruned_jobs"),
        sa.ForeignKeyConstraint(["root_id"], ["roots.id"], ondelete="CASCADE", name="fk_pruned_jobs_root_id_roots"),
    )
    op.create_table(
        "reindexes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("file", sa.Text()),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_reindexes"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name="fk_reindexes_job_id_jobs"),
    )
    op.create_index("ix_reindexes_job_id", "reindexes", ["job_id"])
    op.create_index("ix_restarts_shard_id", "restarts", ["shard_id"])  # a file that goes looks for its own
    op.add_column("jobs", sa.Column("evicted_at", sa.Double()))
    op.add_column(
        "index_state", sa.Column("outside_writes", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )


def downgrade() -> None:
    """Drop them: pruned and evicted jobs whose files are there are loaded again."""
    op.execute("ALTER TABLE index_state DROP COLUMN outside_writes")  # batch mode would copy the table
    op.execute("ALTER TABLE jobs DROP COLUMN evicted_at")
    op.drop_index("ix_restarts_shard_id", "restarts")
    for table in ("reindexes", "pruned_jobs", "loose_tags"):
        op.drop_table(table)

"""Graphs: counts of what is in them, and chunks of nodes by which they are shown scope by scope.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

CURRENT = """NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = b.tag_id AND r.seq > b.seq AND r.step <= b.step
    AND r.cause IN ('new_file', 'session_start'))"""


def _key(*more: str) -> list[sa.Column[object] | sa.PrimaryKeyConstraint]:
    kinds = {"step": sa.BigInteger()}
    names = ("tag_id", "step", "seq", *more)
    return [sa.Column(name, kinds.get(name, sa.Integer()), autoincrement=False, nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables and the view. Graphs that are loaded already get neither before they are read again."""
    counts = ("nodes", "edges", "parameters", "constants", "outputs", "functions", "scopes")
    op.create_table(
        "graph_stats",
        *_key(),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in counts),
        sa.PrimaryKeyConstraint("tag_id", "step", "seq", name="pk_graph_stats"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "graph_chunks",
        *_key("start"),
        sa.Column("first", sa.LargeBinary(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "step", "seq", "start", name="pk_graph_chunks"),
    )
    op.create_index("ix_graph_chunks_tag_id_step_seq_first", "graph_chunks", ["tag_id", "step", "seq", "first"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE graph_chunks ALTER COLUMN data SET STORAGE EXTERNAL")  # it is compressed already
    columns = ", ".join(f"b.{name}" for name in counts)
    op.execute(f"""CREATE VIEW v_graphs AS
        SELECT j.train_id AS job, t.name AS tag, t.plugin, b.step, p.wall_time, {columns}, t.job_id, b.tag_id, b.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN graph_stats b ON b.tag_id = t.id
        JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq WHERE {CURRENT}""")


def downgrade() -> None:
    """Drop them; the graphs stay."""
    op.execute("DROP VIEW v_graphs")
    op.drop_table("graph_chunks")
    op.drop_table("graph_stats")

"""What MindSpore's explain files say: samples, inferences, saliency maps, hierarchical occlusion, benchmarks.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

TABLES = ("records", "labels", "methods", "samples", "inferences", "saliency", "hoc", "benchmarks")


def _column(name: str, kind: Any, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, kind(), nullable=null)


def _table(name: str, key: tuple[sa.Column[object], ...], *more: sa.Column[object] | sa.Constraint) -> None:
    """Create a table of rows of an explain file."""
    op.create_table(
        f"explain_{name}",
        sa.Column("shard_id", sa.Integer(), nullable=False),
        *key,
        *more,
        sa.PrimaryKeyConstraint("shard_id", *(column.name for column in key), name=f"pk_explain_{name}"),
        sa.ForeignKeyConstraint(
            ["shard_id"],
            ["explain_files.shard_id"],
            ondelete="CASCADE",
            name=f"fk_explain_{name}_shard_id_explain_files",
        ),
    )


def _number(name: str, kind: Any = sa.Integer) -> sa.Column[object]:
    return sa.Column(name, kind(), autoincrement=False, nullable=False)


def upgrade() -> None:
    """Create the tables. Explain files that are loaded already give no rows before they are read again."""
    op.create_table(
        "explain_files",
        _number("shard_id"),
        _column("job_id", sa.Integer),
        _column("latest", sa.Boolean),
        _column("status", sa.Text, null=True),
        _column("label_count", sa.Integer),
        _column("sample_count", sa.BigInteger),
        _column("record_count", sa.BigInteger),
        _column("error_count", sa.BigInteger),
        _column("uncertainty", sa.Boolean),
        _column("wall_time", sa.Double, null=True),
        _column("manifest", sa.Text, null=True),
        sa.PrimaryKeyConstraint("shard_id", name="pk_explain_files"),
        sa.ForeignKeyConstraint(
            ["shard_id"], ["shards.id"], ondelete="CASCADE", name="fk_explain_files_shard_id_shards"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name="fk_explain_files_job_id_jobs"),
    )
    op.create_index("ix_explain_files_job_id", "explain_files", ["job_id"])
    _table(
        "records",
        (_number("offset", sa.BigInteger),),
        _column("length", sa.BigInteger),
        _column("wall_time", sa.Double, null=True),
        _column("step", sa.BigInteger),
        _column("sample_id", sa.Integer, null=True),
        _column("error", sa.Text, null=True),
        _column("data", sa.LargeBinary, null=True),
    )
    _table("labels", (_number("label"),), _column("name", sa.Text))
    _table(
        "methods",
        (_column("kind", sa.Text), _number("ordinal")),
        _column("name", sa.Text),
        sa.CheckConstraint("kind IN ('explainer', 'metric')", name=op.f("ck_explain_methods_kind")),
    )
    _table(
        "samples",
        (_number("sample_id"),),
        _column("image_path", sa.Text, null=True),
        _column("step", sa.BigInteger),
        _column("wall_time", sa.Double, null=True),
        _column("has_truth", sa.Boolean),
        _column("has_inference", sa.Boolean),
    )
    _table(
        "inferences",
        (_number("sample_id"), _column("role", sa.Text), _number("ordinal")),
        _column("label", sa.Integer, null=True),
        *(_column(name, sa.Double, null=True) for name in ("probability", "sd", "low", "high")),
        sa.CheckConstraint("role IN ('ground_truth', 'predicted')", name=op.f("ck_explain_inferences_role")),
    )
    columns = ["shard_id", "label", "sample_id"]
    op.create_index("ix_explain_inferences_shard_id_label_sample_id", "explain_inferences", columns)
    _table(
        "saliency",
        (_number("sample_id"), _number("label"), _column("explainer_key", sa.LargeBinary)),
        _column("explainer", sa.Text),
        _column("path", sa.Text),
        _column("record_offset", sa.BigInteger),
        _column("position", sa.Integer),
    )
    _table(
        "hoc",
        (_number("sample_id"), _number("label"), _number("layer")),
        _column("mask", sa.Text),
        _column("probability", sa.Double, null=True),
        _column("boxes", sa.Text),
    )
    _table(
        "benchmarks",
        (_column("explainer_key", sa.LargeBinary), _column("metric_key", sa.LargeBinary), _number("label")),
        _column("explainer", sa.Text),
        _column("metric", sa.Text),
        _column("score", sa.Double, null=True),
        _column("record_offset", sa.BigInteger),
        _column("position", sa.Integer),
    )
    op.execute("""CREATE VIEW v_explain_inferences AS
        SELECT j.train_id AS job, s.name AS file, i.sample_id, p.image_path, i.role, i.label, l.name AS label_name,
               i.probability, i.sd, i.low, i.high, f.job_id, f.shard_id
        FROM explain_files f JOIN jobs j ON j.id = f.job_id JOIN shards s ON s.id = f.shard_id
        JOIN explain_inferences i ON i.shard_id = f.shard_id
        JOIN explain_samples p ON p.shard_id = i.shard_id AND p.sample_id = i.sample_id
        LEFT JOIN explain_labels l ON l.shard_id = i.shard_id AND l.label = i.label
        WHERE f.latest AND i.label IS NOT NULL""")
    op.execute("""CREATE VIEW v_explain_scores AS
        SELECT j.train_id AS job, s.name AS file, b.explainer, b.metric, b.label, l.name AS label_name, b.score,
               f.job_id, f.shard_id
        FROM explain_files f JOIN jobs j ON j.id = f.job_id JOIN shards s ON s.id = f.shard_id
        JOIN explain_benchmarks b ON b.shard_id = f.shard_id
        LEFT JOIN explain_labels l ON l.shard_id = b.shard_id AND l.label = b.label
        WHERE f.latest""")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP VIEW v_explain_scores")
    op.execute("DROP VIEW v_explain_inferences")
    for table in reversed(TABLES):
        op.drop_table(f"explain_{table}")
    op.drop_table("explain_files")

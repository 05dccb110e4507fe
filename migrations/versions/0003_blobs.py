"""Payloads of points that are no numbers: blobs, counts of them per tag, statistics of histograms and tensors.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Text of a payload; what no database text can hold (NUL, bytes that are no UTF-8) is NULL there.
TEXT = {
    "sqlite": "CAST(b.data AS TEXT)",
    "postgresql": r"CASE WHEN position('\x00'::bytea IN b.data) = 0 THEN convert_from(b.data, 'UTF8') END",
}
CURRENT = """NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = b.tag_id AND r.seq > b.seq AND r.step <= b.step
    AND r.cause IN ('new_file', 'session_start'))"""


def _key(*more: str) -> list[sa.Column[object] | sa.PrimaryKeyConstraint]:
    kinds = {"step": sa.BigInteger()}
    names = ("tag_id", "step", "seq", *more)
    return [sa.Column(name, kinds.get(name, sa.Integer()), autoincrement=False, nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables and the views. Points that are loaded already get no payloads before they are read again."""
    op.create_table(
        "blobs",
        *_key("ordinal"),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer()),
        sa.Column("height", sa.Integer()),
        sa.Column("colorspace", sa.Integer()),
        sa.Column("dtype", sa.Text()),
        sa.Column("shape", sa.Text()),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("facts", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("shard_id", sa.Integer()),
        sa.Column("offset", sa.BigInteger()),
        sa.Column("data", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("tag_id", "step", "seq", "ordinal", name="pk_blobs"),
        sa.CheckConstraint("encoding IN ('raw', 'zlib', 'zstd', 'ref')", name=op.f("ck_blobs_encoding")),
    )
    op.create_table(
        "blob_counts",
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "kind", name="pk_blob_counts"),
        sa.ForeignKeyConstraint(["tag_id"], ["tags.id"], ondelete="CASCADE", name="fk_blob_counts_tag_id_tags"),
    )
    counts = ("nan_count", "pos_inf_count", "neg_inf_count")
    op.create_table(
        "histogram_stats",
        *_key(),
        sa.Column("buckets", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double()) for name in ("count", "min", "max", "sum", "sum_squares", "mean", "stddev")),
        *(sa.Column(name, sa.BigInteger()) for name in counts),
        sa.PrimaryKeyConstraint("tag_id", "step", "seq", name="pk_histogram_stats"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tensor_stats",
        *_key(),
        sa.Column("count", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Double()) for name in ("min", "max", "mean", "stddev")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        sa.PrimaryKeyConstraint("tag_id", "step", "seq", name="pk_tensor_stats"),
        sqlite_with_rowid=False,
    )
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute("ALTER TABLE blobs ALTER COLUMN data SET STORAGE EXTERNAL")  # what is worth it is compressed already
    op.execute(f"""CREATE VIEW v_histograms AS
        SELECT j.train_id AS job, t.name AS tag, b.step, p.wall_time, b.count, b.min, b.max, b.mean, b.stddev, b.sum,
               b.nan_count, b.pos_inf_count, b.neg_inf_count, b.buckets, t.job_id, b.tag_id, b.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN histogram_stats b ON b.tag_id = t.id
        JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq WHERE {CURRENT}""")
    op.execute(f"""CREATE VIEW v_texts AS
        SELECT j.train_id AS job, t.name AS tag, b.step, b.ordinal, p.wall_time, {TEXT[dialect]} AS text,
               t.job_id, b.tag_id, b.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN blobs b ON b.tag_id = t.id
        JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq
        WHERE b.kind = 'text' AND b.encoding = 'raw' AND b.error IS NULL AND {CURRENT}""")


def downgrade() -> None:
    """Drop them, payloads too; the points stay."""
    op.execute("DROP VIEW v_texts")
    op.execute("DROP VIEW v_histograms")
    for table in ("tensor_stats", "histogram_stats", "blob_counts", "blobs"):
        op.drop_table(table)

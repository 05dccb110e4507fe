"""Roots, jobs, shards, tags, points, restarts, segments, state, and the views over them.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# A timestamp where the number is one: both databases count seconds from 1970, years 1 to 9999.
TIME = {
    "sqlite": "CASE WHEN {0} BETWEEN -62135596800.0 AND 253402300799.0"
    " THEN strftime('%Y-%m-%d %H:%M:%f', {0}, 'unixepoch') END",
    "postgresql": "CASE WHEN {0} BETWEEN -62135596800.0 AND 253402300799.0 THEN to_timestamp({0}) END",
}
CURRENT = """NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = {0}.tag_id AND r.seq > {0}.seq AND r.step <= {0}.step
    AND r.cause IN ('new_file', 'session_start'))"""


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "roots",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("named", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_roots"),
        sa.UniqueConstraint("name", name="uq_roots_name"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("root_id", sa.Integer(), nullable=False),
        sa.Column("train_id", sa.Text(), nullable=False),
        sa.Column("train_key", sa.LargeBinary(), nullable=False),
        sa.Column("cache_status", sa.Text(), server_default="NOT_IN_CACHE", nullable=False),
        sa.Column("create_time", sa.Double()),
        sa.Column("update_time", sa.Double()),
        sa.Column("start_time", sa.Double()),
        sa.Column("bytes_on_disk", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bytes_indexed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("point_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("missing_since", sa.Double()),
        sa.Column("last_error", sa.Text()),
        sa.Column("access_time", sa.Double()),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_owner", sa.Integer()),
        sa.Column("lease_generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_expires", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["root_id"], ["roots.id"], name="fk_jobs_root_id_roots", ondelete="CASCADE"),
        sa.UniqueConstraint("root_id", "train_key", name="uq_jobs_root_id_train_key"),
        sa.CheckConstraint("cache_status IN ('NOT_IN_CACHE', 'CACHING', 'CACHED')", name=op.f("ck_jobs_cache_status")),
    )
    op.create_index("ix_jobs_update_time", "jobs", ["update_time"])
    op.create_index("ix_jobs_revision", "jobs", ["revision"])
    op.create_table(
        "shards",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("size", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("file_id", sa.Text()),
        sa.Column("fingerprint", sa.LargeBinary()),
        sa.Column("tail", sa.LargeBinary()),
        sa.Column("state", sa.Text(), server_default="growing", nullable=False),
        sa.Column("record_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bad_records", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bad_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lost_since", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_shards"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_shards_job_id_jobs", ondelete="CASCADE"),
        sa.UniqueConstraint("job_id", "name", "generation", name="uq_shards_job_id_name_generation"),
        sa.CheckConstraint("kind IN ('summary', 'lineage', 'explain', 'graph')", name=op.f("ck_shards_kind")),
        sa.CheckConstraint("format IN ('mindspore', 'tensorboard')", name=op.f("ck_shards_format")),
        sa.CheckConstraint(
            "state IN ('growing', 'torn', 'done', 'dead', 'replaced', 'missing')", name=op.f("ck_shards_state")
        ),
    )
    op.create_table(
        "shard_errors",
        sa.Column("shard_id", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("shard_id", "offset", name="pk_shard_errors"),
        sa.ForeignKeyConstraint(
            ["shard_id"], ["shards.id"], name="fk_shard_errors_shard_id_shards", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "tags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("series_key", sa.LargeBinary(), nullable=False),
        sa.Column("name_key", sa.BigInteger(), nullable=False),
        sa.Column("data_class", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("metadata", sa.LargeBinary()),
        sa.Column("content", sa.LargeBinary()),
        sa.Column("display_name", sa.Text()),
        sa.Column("description", sa.Text()),
        sa.Column("point_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_step", sa.BigInteger()),
        sa.Column("last_step", sa.BigInteger()),
        sa.Column("min_step", sa.BigInteger()),
        sa.Column("max_step", sa.BigInteger()),
        sa.Column("first_wall_time", sa.Double()),
        sa.Column("last_wall_time", sa.Double()),
        sa.Column("max_wall_time", sa.Double()),
        sa.Column("last_value", sa.Double()),
        sa.Column("min_value", sa.Double()),
        sa.Column("max_value", sa.Double()),
        sa.Column("nan_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("pos_inf_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("neg_inf_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_length", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("segments", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tags"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_tags_job_id_jobs", ondelete="CASCADE"),
        sa.UniqueConstraint("job_id", "series_key", name="uq_tags_job_id_series_key"),
        sa.CheckConstraint(
            "data_class IN ('unknown', 'scalar', 'tensor', 'blob_sequence')", name=op.f("ck_tags_data_class")
        ),
    )
    op.create_index("ix_tags_name_key", "tags", ["name_key"])
    op.create_table(
        "tensor_points",
        sa.Column("tag_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("wall_time", sa.Double()),
        sa.Column("value", sa.Double()),
        sa.PrimaryKeyConstraint("tag_id", "step", "seq", name="pk_tensor_points"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "restarts",
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("shard_id", sa.Integer(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "seq", name="pk_restarts"),
        sa.ForeignKeyConstraint(["tag_id"], ["tags.id"], name="fk_restarts_tag_id_tags", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["shard_id"], ["shards.id"], name="fk_restarts_shard_id_shards", ondelete="CASCADE"),
        sa.CheckConstraint("cause IN ('session_start', 'new_file', 'same_file')", name=op.f("ck_restarts_cause")),
    )
    op.create_table(
        "tag_segments",
        sa.Column("tag_id", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("shard_id", sa.Integer(), nullable=False),
        sa.Column("first_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tag_id", "ordinal", name="pk_tag_segments"),
        sa.ForeignKeyConstraint(["tag_id"], ["tags.id"], name="fk_tag_segments_tag_id_tags", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["shard_id"], ["shards.id"], name="fk_tag_segments_shard_id_shards", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_tag_segments_shard_id", "tag_segments", ["shard_id"])
    op.create_table(
        "indexers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("message", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_indexers"),
    )
    state = op.create_table(
        "index_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("database_id", sa.Text(), nullable=False),
        sa.Column("change_counter", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("scanned_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_index_state"),
        sa.CheckConstraint("id = 1", name=op.f("ck_index_state_one_row")),
    )
    op.bulk_insert(state, [{"id": 1, "database_id": uuid.uuid4().hex, "change_counter": 0}])
    create_views(op.get_bind().dialect.name)


def create_views(dialect: str) -> None:
    """Create the views people query by hand. The first columns are contract; ids follow them."""
    time = TIME[dialect].format
    op.execute(f"""CREATE VIEW v_jobs AS
        SELECT j.train_id AS job, r.name AS root, j.cache_status, j.point_count, j.bytes_on_disk, j.bytes_indexed,
               j.create_time, {time("j.create_time")} AS created, j.update_time, {time("j.update_time")} AS updated,
               j.start_time, {time("j.start_time")} AS started, j.missing_since, j.last_error,
               (SELECT count(*) FROM tags t WHERE t.job_id = j.id) AS tag_count,
               (SELECT coalesce(sum(s.bad_records), 0) FROM shards s WHERE s.job_id = j.id) AS bad_records,
               j.id AS job_id, j.root_id
        FROM jobs j JOIN roots r ON r.id = j.root_id""")
    op.execute(f"""CREATE VIEW v_tags AS
        SELECT j.train_id AS job, t.name AS tag, t.plugin, t.data_class, t.display_name, t.description, t.point_count,
               t.first_step, t.last_step, t.min_step, t.max_step, t.first_wall_time, t.last_wall_time, t.max_wall_time,
               {time("t.last_wall_time")} AS last_time, t.last_value, t.min_value, t.max_value,
               t.nan_count, t.pos_inf_count, t.neg_inf_count, t.max_length, t.job_id, t.id AS tag_id
        FROM tags t JOIN jobs j ON j.id = t.job_id""")
    op.execute(f"""CREATE VIEW v_scalars AS
        SELECT j.train_id AS job, t.name AS tag, p.step, p.wall_time, {time("p.wall_time")} AS time, p.value,
               t.job_id, p.tag_id, p.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN tensor_points p ON p.tag_id = t.id
        WHERE t.data_class = 'scalar' AND {CURRENT.format("p")}""")
    op.execute(f"""CREATE VIEW v_latest AS
        SELECT j.train_id AS job, t.name AS tag, p.step, p.wall_time, {time("p.wall_time")} AS time, p.value,
               t.job_id, p.tag_id, p.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN tensor_points p ON p.tag_id = t.id
        WHERE t.data_class = 'scalar' AND (p.step, p.seq) = (
            SELECT q.step, q.seq FROM tensor_points q WHERE q.tag_id = t.id AND {CURRENT.format("q")}
            ORDER BY q.step DESC, q.seq DESC LIMIT 1)""")


def downgrade() -> None:
    """Drop everything, points too."""
    for view in ("v_latest", "v_scalars", "v_tags", "v_jobs"):
        op.execute(f"DROP VIEW {view}")
    for table in (
        "index_state",
        "indexers",
        "tag_segments",
        "restarts",
        "tensor_points",
        "tags",
        "shard_errors",
        "shards",
        "jobs",
        "roots",
    ):
        op.drop_table(table)

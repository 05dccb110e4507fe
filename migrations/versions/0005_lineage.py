"""Lineage of jobs and hyperparameters: merged rows, and what they are merged from.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

# A timestamp where the number is one: both databases count seconds from 1970, years 1 to 9999.
TIME = {
    "sqlite": "CASE WHEN {0} BETWEEN -62135596800.0 AND 253402300799.0"
    " THEN strftime('%Y-%m-%d %H:%M:%f', {0}, 'unixepoch') END",
    "postgresql": "CASE WHEN {0} BETWEEN -62135596800.0 AND 253402300799.0 THEN to_timestamp({0}) END",
}
# Columns of v_lineage: section, key, what is shown.
LINEAGE = (
    ("hyper_parameters", "optimizer", "value"),
    ("hyper_parameters", "learning_rate", "number"),
    ("hyper_parameters", "loss_function", "value"),
    ("hyper_parameters", "epoch", "number"),
    ("hyper_parameters", "batch_size", "number"),
    ("hyper_parameters", "device_num", "number"),
    ("hyper_parameters", "parallel_mode", "value"),
    ("train_dataset", "train_dataset_path", "value"),
    ("train_dataset", "train_dataset_size", "number"),
    ("valid_dataset", "valid_dataset_path", "value"),
    ("valid_dataset", "valid_dataset_size", "number"),
    ("algorithm", "network", "value"),
    ("algorithm", "loss", "number"),
    ("model", "path", "value"),
    ("model", "size", "number"),
    ("metric", "", "json"),
    ("user_defined", "", "json"),
    ("dataset_graph", "", "json"),
)
NAMES = {("model", "path"): "model_path", ("model", "size"): "model_size"}


def _column(section: str, key: str, what: str) -> str:
    name = NAMES.get((section, key), key or section)
    which = f"l.key = '{key}'" if key else "l.name = ''"
    return f"max(CASE WHEN l.section = '{section}' AND {which} THEN l.{what} END) AS {name}"


def upgrade() -> None:
    """Create the tables and the views. Jobs that are loaded already get none before they are read again."""
    op.create_table(
        "lineage",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("section", "key", "name", "kind")),
        sa.Column("value", sa.Text()),
        sa.Column("number", sa.Double()),
        sa.Column("json", sa.Text(), nullable=False),
        sa.Column("shard_id", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("wall_time", sa.Double()),
        sa.PrimaryKeyConstraint("job_id", "ordinal", name="pk_lineage"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name="fk_lineage_job_id_jobs"),
    )
    op.create_table(
        "lineage_files",
        sa.Column("shard_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("shard_id", name="pk_lineage_files"),
        sa.ForeignKeyConstraint(
            ["shard_id"], ["shards.id"], ondelete="CASCADE", name="fk_lineage_files_shard_id_shards"
        ),
    )
    op.create_index("ix_lineage_files_job_id", "lineage_files", ["job_id"])
    op.create_table(
        "hparams",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("name", "kind")),
        sa.Column("value", sa.Text()),
        sa.Column("number", sa.Double()),
        sa.Column("json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "source", "ordinal", name="pk_hparams"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name="fk_hparams_job_id_jobs"),
    )
    op.create_table(
        "hparam_runs",
        sa.Column("job_id", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text()) for name in ("hparams", "group_name", "status")),
        *(sa.Column(name, sa.Double()) for name in ("start_time", "end_time")),
        *(sa.Column(name, sa.Text()) for name in ("model_uri", "monitor_url", "experiment")),
        sa.PrimaryKeyConstraint("job_id", name="pk_hparam_runs"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name="fk_hparam_runs_job_id_jobs"),
    )
    time = TIME[op.get_bind().dialect.name].format
    op.execute(f"""CREATE VIEW v_lineage AS
        SELECT j.train_id AS job, {", ".join(_column(*column) for column in LINEAGE)}, j.id AS job_id
        FROM jobs j JOIN lineage l ON l.job_id = j.id GROUP BY j.id, j.train_id""")
    op.execute(f"""CREATE VIEW v_hparams AS
        SELECT j.train_id AS job, r.hparams, r.group_name, r.status, r.start_time, {time("r.start_time")} AS started,
               r.end_time, {time("r.end_time")} AS ended, r.model_uri, r.monitor_url, r.job_id
        FROM hparam_runs r JOIN jobs j ON j.id = r.job_id WHERE r.hparams IS NOT NULL""")


def downgrade() -> None:
    """Drop them."""
    op.execute("DROP VIEW v_hparams")
    op.execute("DROP VIEW v_lineage")
    for table in ("hparam_runs", "hparams", "lineage_files", "lineage"):
        op.drop_table(table)

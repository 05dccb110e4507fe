"""Jobs that are gone, so that whoever follows changes hears of it: a trigger notes them, whoever deletes.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

KEPT = 10_000

# One line each: a script of new databases is cut at line ends.
_SQLITE = (
    "CREATE TRIGGER jobs_removed AFTER DELETE ON jobs BEGIN"
    " UPDATE index_state SET change_counter = change_counter + 1;"
    " INSERT INTO removed_jobs (job_id, root_id, train_id, revision)"
    " SELECT OLD.id, OLD.root_id, OLD.train_id, change_counter FROM index_state;"
    f" DELETE FROM removed_jobs WHERE id <= (SELECT max(id) - {KEPT} FROM removed_jobs);"
    " END"
)
# A statement that deletes many raises the counter once: thousands of versions of its one row would be slow.
_FUNCTION = (
    "CREATE FUNCTION note_removed_jobs() RETURNS trigger LANGUAGE plpgsql AS $$"
    " DECLARE counted bigint;"
    " BEGIN"
    " IF EXISTS (SELECT 1 FROM gone) THEN"
    " UPDATE index_state SET change_counter = change_counter + 1 RETURNING change_counter INTO counted;"
    " INSERT INTO removed_jobs (job_id, root_id, train_id, revision)"
    " SELECT g.id, g.root_id, g.train_id, counted FROM gone g ORDER BY g.id;"
    f" DELETE FROM removed_jobs WHERE id <= (SELECT max(id) - {KEPT} FROM removed_jobs);"
    " END IF;"
    " RETURN NULL;"
    " END $$"
)
_POSTGRESQL = (
    "CREATE TRIGGER jobs_removed AFTER DELETE ON jobs REFERENCING OLD TABLE AS gone"
    " FOR EACH STATEMENT EXECUTE FUNCTION note_removed_jobs()"
)


def upgrade() -> None:
    """Add the table, with a first row that says from when on it is complete, and the trigger."""
    op.create_table(
        "removed_jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("root_id", sa.Integer(), nullable=False),
        sa.Column("train_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_removed_jobs"),
    )
    op.create_index("ix_removed_jobs_revision", "removed_jobs", ["revision"])
    op.execute(
        "INSERT INTO removed_jobs (job_id, root_id, train_id, revision)"
        " SELECT 0, 0, '', change_counter FROM index_state"
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        op.execute(_POSTGRESQL)
    else:
        op.execute(_SQLITE)


def downgrade() -> None:
    """Forget which jobs are gone."""
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP TRIGGER jobs_removed ON jobs")
        op.execute("DROP FUNCTION note_removed_jobs()")
    else:
        op.execute("DROP TRIGGER jobs_removed")
    op.drop_table("removed_jobs")

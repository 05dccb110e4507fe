"""When tags or points of a job were pruned: what its files hold beyond its rows is then no difference.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the column; of jobs that were pruned before nobody knows it."""
    op.add_column("jobs", sa.Column("pruned_at", sa.Double()))


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE jobs DROP COLUMN pruned_at")  # batch mode would copy the table

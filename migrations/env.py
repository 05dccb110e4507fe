"""Alembic's entry: one transaction a revision, our own version table, batch mode for the ALTERs SQLite lacks."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from indexer.db.connection import translated
from indexer.db.engine import open_engine
from indexer.db.schema import METADATA
from indexer.version import VERSION_TABLE


def run(connection: Connection) -> None:
    """Run the revisions asked for on `connection`, inside the transaction it is in."""
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        version_table=VERSION_TABLE,
        render_as_batch=True,
        compare_type=True,
        compare_server_default=False,
    )
    context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.get_x_argument(as_dictionary=True).get("url", "sqlite:///summarydb.db")
    with translated(), open_engine(url).begin() as conn:
        run(conn)

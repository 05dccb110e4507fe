"""The version; pyproject.toml and everybody else read it here."""

__version__ = "0.1.0"

REVISION = "0012"
"""The newest migration. A test keeps it equal to alembic's head, so that programs that only run need not import it."""

VERSION_TABLE = "summarydb_version"

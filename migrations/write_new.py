"""Write new_sqlite.sql and new_postgresql.sql: what all revisions together make of an empty database.

A new database is made from them in a few milliseconds, without alembic (a quarter of a second of imports). They are
generated, never edited; a test compares them with the revisions. Run `python -m migrations.write_new` after adding one.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from indexer.db.migrate import MIGRATIONS, NEW
from indexer.version import VERSION_TABLE

DIALECTS = ("sqlite", "postgresql")


def script(dialect: str) -> str:
    """Return the SQL that brings an empty database of `dialect` to the newest revision."""
    out = io.StringIO()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    directory = ScriptDirectory.from_config(config)
    with EnvironmentContext(
        config,
        directory,
        fn=lambda revision, _: directory._upgrade_revs("head", revision),  # noqa: SLF001  # as alembic's own command
        as_sql=True,
        destination_rev="head",
    ) as environment:
        environment.configure(
            dialect_name=dialect,
            output_buffer=out,
            version_table=VERSION_TABLE,
            literal_binds=True,
            transactional_ddl=False,
        )
        environment.run_migrations()
    text = re.sub(r"^--.*\n", "", out.getvalue(), flags=re.MULTILINE)
    text = re.sub(r"'[0-9a-f]{32}'", "'new'", text)  # the database's name; whoever runs this gives it one
    return re.sub(r"[ \t]+$", "", re.sub(r"\n\n+", "\n\n", text.strip()), flags=re.MULTILINE) + "\n"


def main() -> None:
    """Write both files."""
    for dialect in DIALECTS:
        Path(NEW.format(dialect)).write_text(script(dialect), encoding="utf-8")


if __name__ == "__main__":
    main()

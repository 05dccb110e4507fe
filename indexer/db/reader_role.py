"""A PostgreSQL role that may read our tables and views, and nothing else. docs/maintenance.md has the same as SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indexer.db import migrate
from indexer.db.connection import Connection, Database, transaction
from indexer.db.dialect import POSTGRESQL
from indexer.db.schema import METADATA
from indexer.errors import Refuse, UsageError
from indexer.version import VERSION_TABLE

if TYPE_CHECKING:
    from psycopg.sql import Composable

_NAME_BYTES = 63  # PostgreSQL cuts longer ones
_TEMP_FILES = "1GB"  # of a session, where we may say so


@dataclass(frozen=True, slots=True)
class Reader:
    """What was made."""

    created: bool  # else it was there and is as it should be now
    relations: tuple[str, ...]  # tables and views it may read
    notes: tuple[str, ...]  # what else an operator should know, a line each


def create(url: str, name: str, *, password: str | None, connections: int, seconds: int) -> Reader:
    """Create the role `name`, or bring it up to date, in one transaction.

    connections: at once, at most.  seconds: of a statement, at most.  Refuse where it is a role that may do more.
    """
    if not name or len(name.encode()) > _NAME_BYTES or "\x00" in name:
        raise UsageError(f"role {name!r}: a name has 1 to {_NAME_BYTES} bytes")
    database = Database(url)
    if database.dialect != POSTGRESQL:
        raise Refuse("roles are for PostgreSQL: whoever may read a SQLite file and its directory may read all of it")
    try:
        with transaction(database) as conn:
            migrate.require_newest(migrate.current_of(conn))
            return _create(conn, name, password, connections, seconds)
    finally:
        database.dispose()


def _create(conn: Connection, name: str, password: str | None, connections: int, seconds: int) -> Reader:
    from psycopg import sql

    role = sql.Identifier(name)
    known = _exists(conn, name)

    def run(statement: str, **more: Composable) -> None:
        conn.raw.execute(sql.SQL(statement).format(role=role, **more))

    if not known:
        run("CREATE ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS")
    run("ALTER ROLE {role} LOGIN CONNECTION LIMIT {n}", n=sql.Literal(connections))
    if password is not None:
        run("ALTER ROLE {role} PASSWORD {secret}", secret=sql.Literal(_scrambled(conn, name, password)))
    for setting, value in (
        ("default_transaction_read_only", "on"),
        ("statement_timeout", f"{seconds}s"),
        ("idle_in_transaction_session_timeout", f"{seconds}s"),
    ):
        run("ALTER ROLE {role} SET {setting} = {value}", setting=sql.Identifier(setting), value=sql.Literal(value))
    superuser = bool(conn.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
    if superuser:
        run("ALTER ROLE {role} SET temp_file_limit = {value}", value=sql.Literal(_TEMP_FILES))
    schema = sql.Identifier(conn.value("SELECT current_schema()"))
    relations = _relations(conn)
    run("GRANT CONNECT ON DATABASE {db} TO {role}", db=sql.Identifier(conn.value("SELECT current_database()")))
    for kind in ("TABLES", "SEQUENCES"):
        run(f"REVOKE ALL ON ALL {kind} IN SCHEMA {{schema}} FROM {{role}}", schema=schema)
    run("REVOKE ALL ON SCHEMA {schema} FROM {role}", schema=schema)
    run("GRANT USAGE ON SCHEMA {schema} TO {role}", schema=schema)
    listed = sql.SQL(", ").join([sql.Identifier(relation) for relation in relations])
    run("GRANT SELECT ON {relations} TO {role}", relations=listed)
    for owner in _owners(conn):  # whoever migrates makes the tables of tomorrow
        run(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
            owner=sql.Identifier(owner),
            schema=schema,
        )
    return Reader(not known, tuple(relations), tuple(_notes(conn, name, superuser=superuser)))


def _exists(conn: Connection, name: str) -> bool:
    """Tell whether the role is there; Refuse where it is more than a reader."""
    query = (
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR rolname = current_user "
        "OR EXISTS (SELECT 1 FROM pg_class c WHERE c.relowner = r.oid) "
        "OR EXISTS (SELECT 1 FROM pg_database d WHERE d.datdba = r.oid) "
        "OR EXISTS (SELECT 1 FROM pg_auth_members m WHERE m.member = r.oid) "
        "FROM pg_roles r WHERE rolname = ?"
    )
    found = conn.execute(query, (name,)).fetchone()
    if found is not None and found[0]:
        raise Refuse(f"role {name} is there and may do more than read, or owns something: give another name")
    return found is not None


def _relations(conn: Connection) -> list[str]:
    """Return our tables and views."""
    tables = [str(table.name) for table in METADATA.sorted_tables]
    query = "SELECT viewname FROM pg_views WHERE schemaname = current_schema() AND viewname LIKE 'v\\_%' ORDER BY 1"
    return [VERSION_TABLE, *tables, *(row[0] for row in conn.execute(query))]


def _owners(conn: Connection) -> list[str]:
    query = (
        "SELECT tableowner FROM pg_tables WHERE schemaname = current_schema() AND tablename = ? "
        "UNION SELECT current_user ORDER BY 1"
    )
    return [row[0] for row in conn.execute(query, (VERSION_TABLE,))]


def _scrambled(conn: Connection, name: str, password: str) -> str:
    """Return a password as the server stores it, so that no log has it in clear text."""
    if not password:
        raise UsageError("--password-stdin: standard input holds no password")
    raw: Any = conn.raw
    scrambled: bytes = raw.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    return scrambled.decode()


def _notes(conn: Connection, name: str, *, superuser: bool) -> list[str]:
    notes = []
    if not superuser:
        notes.append(f"its temporary files are not limited: only a superuser may set temp_file_limit ({_TEMP_FILES})")
    if conn.value("SELECT has_schema_privilege(?, current_schema(), 'CREATE')", (name,)):
        notes.append(
            "everybody may create tables in this schema, so it may, too: REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        )
    return notes

"""A database from both sides: as SQLAlchemy's engine, to look at it, and as the indexer's own, to write to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from sqlalchemy import Connection, Engine, event

from indexer.db import connection
from indexer.db.connection import Database


def writer(engine: Engine) -> Database:
    """Return the indexer's view of the database behind `engine`; it is closed with that."""
    database = Database(engine.url.render_as_string(hide_password=False))
    event.listen(engine, "engine_disposed", lambda _engine: database.dispose())
    return database


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Change rows by hand."""
    with engine.begin() as conn:
        yield conn


@contextmanager
def sent_by_the_indexer() -> Iterator[list[str]]:
    """Collect the SQL that the indexer sends within the block."""
    sent: list[str] = []
    execute, many = connection.Connection.execute, connection.Connection.many

    def note_execute(self: connection.Connection, statement: str, *rest: object) -> object:
        sent.append(statement)
        return execute(self, statement, *rest)  # type: ignore[arg-type]

    def note_many(self: connection.Connection, statement: str, *rest: object) -> object:
        sent.append(statement)
        return many(self, statement, *rest)  # type: ignore[arg-type]

    with mock.patch.multiple(connection.Connection, execute=note_execute, many=note_many):
        yield sent

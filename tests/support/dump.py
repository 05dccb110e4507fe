"""All rows of a database by the names of things, so that two databases can be compared whatever their ids are."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, select

from indexer.db.engine import open_engine
from indexer.db.schema import METADATA

# When a row was written, by whom and as which change: no two loads agree on that.
_HISTORY = {"revision", "access_time", "lease_owner", "lease_generation", "lease_expires"}
_LEFT_OUT = {"indexers", "index_state"}
_REFERENCES = {"root_id": "roots", "job_id": "jobs", "shard_id": "shards", "tag_id": "tags"}
_NAMES = {
    "roots": ("name",),
    "jobs": ("root_id", "train_id"),
    "shards": ("job_id", "name", "generation"),
    "tags": ("job_id", "plugin", "name"),
}

Rows = dict[str, list[tuple[tuple[str, str], ...]]]


def dump(url: str) -> Rows:
    """Return, for each table, its rows in an order of their own: (column, value) pairs, ids replaced by names."""
    engine = open_engine(url)
    try:
        with engine.connect() as conn:
            names: dict[str, dict[int, str]] = {}
            for table in _NAMES:
                names[table] = _names(conn, METADATA.tables[table], names)
            return {
                name: sorted(_rows(conn, table, names))
                for name, table in METADATA.tables.items()
                if name not in _LEFT_OUT
            }
    finally:
        engine.dispose()


def _names(conn: Connection, table: Table, known: dict[str, dict[int, str]]) -> dict[int, str]:
    found = {}
    for row in conn.execute(select(table)).mappings():
        parts = [_value(column, row[column], known) for column in _NAMES[table.name]]
        found[int(row["id"])] = "|".join(parts)
    return found


def _rows(conn: Connection, table: Table, names: dict[str, dict[int, str]]) -> list[tuple[tuple[str, str], ...]]:
    columns = [c.name for c in table.columns if c.name not in _HISTORY and c.name != "id"]
    return [
        tuple((column, _value(column, row[column], names)) for column in columns)
        for row in conn.execute(select(table)).mappings()
    ]


def _value(column: str, value: Any, names: dict[str, dict[int, str]]) -> str:
    referred = _REFERENCES.get(column)
    if referred is not None and value is not None:
        return names[referred][int(value)]
    return repr(bytes(value) if isinstance(value, memoryview) else value)

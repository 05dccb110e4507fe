"""Copy all rows from one database into another, whichever of the two kinds they are, and prove it.

The source is read in one snapshot, table by table, a row at a time. Rows are counted and summed up as they are read,
and once more when they are read back from the target: not before that does anybody see the target. So it is either as
it was or a verified copy, whenever the copy is killed. Decision: docs/decisions/0026-copies-are-all-or-nothing.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from indexer.db import migrate
from indexer.db.connection import Connection, Database, Row, transaction, translated
from indexer.db.dialect import POSTGRESQL, SQLITE, SQLITE_PAGE_BYTES
from indexer.db.rows import SHAPES, Shape, Tally, stream
from indexer.errors import Refuse
from indexer.version import REVISION

Report = Callable[[str, int, int], None]
"""Is called now and then with a table, rows done and rows in all; may raise, then nothing is copied."""

_SEEDED = ("index_state", "removed_jobs")  # have a row in an empty database
_AT_ONCE = 1_000  # rows between two reports


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied of a table."""

    table: str
    rows: int
    checksum: str  # of all rows, in any order, hexadecimal


def into_postgresql(source: Connection, url: str, report: Report) -> list[Copied]:
    """Copy into an empty PostgreSQL database: the schema, the rows and their proof are one transaction."""
    database = Database(url)
    try:
        with transaction(database) as conn:
            _claim(conn)
            conn.execute("ALTER TABLE tensor_points DROP CONSTRAINT IF EXISTS pk_tensor_points")  # 0005: faster so
            conn.execute("DROP INDEX IF EXISTS pk_tensor_points")
            copied = _fill(source, conn, report)
            conn.execute("SET LOCAL maintenance_work_mem = '128MB'")
            conn.execute("ALTER TABLE tensor_points ADD CONSTRAINT pk_tensor_points PRIMARY KEY (tag_id, step, seq)")
            for shape in SHAPES:
                if shape.counts_itself:
                    conn.execute(
                        f"SELECT setval(pg_get_serial_sequence('{shape.name}', 'id'), "
                        f"coalesce(max(id), 1), max(id) IS NOT NULL) FROM {shape.name}"
                    )
            # Points under ids of tags that are gone are in the copy, too, and swept there: nobody else gets these ids.
            conn.execute(
                "SELECT setval(pg_get_serial_sequence('tags', 'id'), max(id)) FROM (SELECT id FROM tags "
                "UNION ALL SELECT abs(tag_id) FROM loose_tags) AS known HAVING max(id) IS NOT NULL"
            )
            return copied
    finally:
        database.dispose()


def into_sqlite(source: Connection, path: Path, report: Report) -> list[Copied]:
    """Copy into a new SQLite file at `path`, without a WAL; whoever calls gives the file its name when it is there."""
    with translated(), closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as raw:
        for pragma in (f"page_size = {SQLITE_PAGE_BYTES}", "journal_mode = OFF", "synchronous = OFF"):
            raw.execute(f"PRAGMA {pragma}")
        conn = Connection(SQLITE, raw)
        raw.execute("BEGIN")
        migrate.create(conn)
        copied = _fill(source, conn, report)
        raw.execute("COMMIT")
        for table, _, parent, _ in raw.execute("PRAGMA foreign_key_check"):
            raise Refuse(f"a row of {table} refers to none of {parent}: see `summarydb verify` of the source")
        seal(raw)
    return copied


def seal(raw: sqlite3.Connection) -> None:
    """Make a copy a file of its own, without a WAL beside it. Refuse where its pages are not sound."""
    raw.execute("PRAGMA journal_mode = DELETE")
    ((found,),) = raw.execute("PRAGMA integrity_check(1)")
    if found != "ok":
        first = str(found).strip().replace("\n", " ")
        raise Refuse(f"the copy is not sound ({first}): check the disk, and `PRAGMA integrity_check` of the source")


def require_empty(conn: Connection, name: str) -> None:
    """Refuse where a database of the newest schema holds rows already."""
    for shape in SHAPES:
        if shape.name not in _SEEDED and conn.value(f"SELECT EXISTS (SELECT 1 FROM {shape.name})"):
            raise Refuse(f"{name} holds rows already ({shape.name}): copy into an empty database")


def _claim(conn: Connection) -> None:
    """See that the target is empty and stays so; make the schema where there is none."""
    conn.execute("SET LOCAL lock_timeout = '10s'")
    if migrate.current_of(conn) is None:
        migrate.create(conn)
        return
    found = migrate.current_of(conn)
    if found != REVISION:
        raise Refuse(f"the target has schema {found}, this program needs {REVISION}: run `summarydb db upgrade` on it")
    conn.execute("LOCK TABLE roots, jobs, indexers IN EXCLUSIVE MODE")  # an indexer that starts now waits
    require_empty(conn, "the target")


def _fill(source: Connection, target: Connection, report: Report) -> list[Copied]:
    """Copy all tables and read them back. Refuse where they are not the same."""
    for name in _SEEDED:
        target.execute(f"DELETE FROM {name}")
    counts = {shape.name: int(source.value(f"SELECT count(*) FROM {shape.name}")) for shape in SHAPES}
    total = 2 * sum(counts.values())  # written, and read back
    done = 0
    copied: list[Copied] = []
    for shape in SHAPES:
        read = Tally()
        order = shape.order if target.dialect == SQLITE else ""
        report(shape.name, done, total)
        _write(target, shape, _counted(stream(source, shape, order), shape, read, _part(report, shape, done, total)))
        done += read.rows
        copied.append(Copied(shape.name, read.rows, read.checksum))
    for shape, wanted in zip(SHAPES, copied, strict=True):
        found = Tally()
        report(shape.name, done, total)
        for _ in _counted(stream(target, shape), shape, found, _part(report, shape, done, total)):
            pass
        done += found.rows
        if (wanted.rows, wanted.checksum) != (found.rows, found.checksum) or wanted.rows != counts[shape.name]:
            raise Refuse(
                f"{shape.name} was not copied as it is ({wanted.rows} rows, sum {wanted.checksum}; in the target "
                f"{found.rows}, {found.checksum}): nothing is kept of the copy; please report it"
            )
    report("", total, total)
    return copied


def _part(report: Report, shape: Shape, done: int, total: int) -> Callable[[int], None]:
    return lambda rows: report(shape.name, done + rows, total)


def _counted(rows: Iterator[Row], shape: Shape, tally: Tally, report: Callable[[int], None]) -> Iterator[Row]:
    """Yield rows as they come, for a payload may be long, and count them."""
    add, canonical = tally.add, shape.canonical
    for row in rows:
        add(canonical(row))
        if not tally.rows % _AT_ONCE:
            report(tally.rows)
        yield row


def _write(conn: Connection, shape: Shape, rows: Iterator[Row]) -> None:
    if conn.dialect == POSTGRESQL:
        into = f"COPY {shape.name} ({shape.columns}) FROM STDIN (FORMAT BINARY)"
        with conn.raw.cursor() as cursor, cursor.copy(into) as copy:
            copy.set_types(shape.types)
            for row in shape.typed(rows):
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(shape.types))
    conn.many(f"INSERT INTO {shape.name} ({shape.columns}) VALUES ({marks})", rows)

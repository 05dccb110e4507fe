"""One moment of a database as a SQLite file of its own, while the indexer goes on.

Of SQLite its pages are copied, with a reader's snapshot held meanwhile: the writer is not held up and does not make
the copy begin again. Of PostgreSQL its rows are, see copy.py.
Decision: docs/decisions/0026-copies-are-all-or-nothing.md.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from indexer.db import copy, migrate
from indexer.db.connection import Connection, translated
from indexer.db.copy import Report, seal
from indexer.db.dialect import SQLITE, sqlite_file
from indexer.db.reading import open_read_only, reading
from indexer.errors import Refuse

_PAGES = 1_000  # copied at once, 16 MB
_BESIDE = ("", "-wal", "-shm", "-journal")


def size_of(url: str) -> int:
    """Return about how many bytes a SQLite copy of the database takes."""
    file = sqlite_file(url)
    if file is None:
        with reading(url) as conn:
            return int(conn.value("SELECT pg_database_size(current_database())"))
    with translated(), closing(open_read_only(Path(file))) as raw:
        ((pages,),), ((size,),) = raw.execute("PRAGMA page_count"), raw.execute("PRAGMA page_size")
        return int(pages) * int(size)


def write(url: str, path: Path, report: Report) -> None:
    """Copy the database at `url` to `path`; a file there is replaced when the copy is whole.

    Refuse where the copy is not sound: then nothing is there.
    """
    with partial(path) as part:
        file = sqlite_file(url)
        if file is None:
            with reading(url) as conn:
                copy.into_sqlite(conn, part, report)
        else:
            _copy_pages(Path(file), part, report)


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; at the end of the block the file gets `path`, on an error it goes.

    A kill leaves it as it is: `NAME.PID.part`, which nobody reads.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        for suffix in _BESIDE[1:]:  # of a database that was there: SQLite would take them for the new one's
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        part.replace(path)
    except OSError as e:
        raise Refuse(f"{path} cannot be written ({e.strerror or e}): give another file, or free some space") from e
    finally:
        for suffix in _BESIDE:
            with suppress(OSError):
                part.with_name(part.name + suffix).unlink()


def _copy_pages(file: Path, part: Path, report: Report) -> None:
    with translated(), closing(open_read_only(file)) as source:
        source.execute("BEGIN")
        if migrate.current_of(Connection(SQLITE, source)) is None:  # from here on the source stands still for us
            raise Refuse(f"{file} is empty: run `summarydb up LOGDIR` first, or give another --db")
        with closing(sqlite3.connect(part, isolation_level=None, check_same_thread=False)) as target:
            target.execute("PRAGMA synchronous = OFF")  # the file is brought to disk before it gets its name

            def progress(_status: int, left: int, total: int) -> None:
                report("pages", total - left, total)

            source.backup(target, pages=_PAGES, progress=progress, sleep=0)
            seal(target)

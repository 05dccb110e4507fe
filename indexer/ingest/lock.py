"""One indexer on a SQLite database: a lock file beside it. Ends with the process, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.db.dialect import sqlite_file
from indexer.errors import Refuse, SummaryDBError

WAIT_SECONDS = 5.0
"""A start waits this long, so that a restart need not be told to wait for the process it replaces."""


class Held(Refuse):
    """Somebody else indexes this database."""


@contextmanager
def writer_lock(url: str, *, timeout: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the right to write to the database at `url`. Refuse names who holds it.

    PostgreSQL needs none: there every job is leased.
    """
    file = sqlite_file(url)
    if file is None:
        yield
        return
    path = Path(file).absolute()
    if not path.parent.is_dir():
        raise Refuse(f"{path.parent} is no directory, so the database {path.name} cannot be made: create it first")
    from filelock import FileLock, Timeout  # PostgreSQL does without

    lock = FileLock(f"{path}.lock", timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise Held(f"{path} is being indexed by {_holder(url)}: stop it first, or give another --db") from None
    except OSError as e:
        why = e.strerror or str(e)
        raise Refuse(f"{path.parent} cannot be written ({why}): give another --db, or its permissions") from e
    try:
        yield
    finally:
        lock.release()


def _holder(url: str) -> str:
    """Say which process writes, as it says of itself in the database."""
    from sqlalchemy import text

    from indexer.db.engine import open_reader, read_only

    try:
        reader = open_reader(url, pool_size=1)
        try:
            with read_only(reader, seconds=1.0) as conn:
                query = "SELECT pid, host FROM indexers WHERE state <> 'stopped' ORDER BY heartbeat DESC LIMIT 1"
                row = conn.execute(text(query)).one_or_none()
        finally:
            reader.dispose()
    except SummaryDBError:
        row = None
    return "another process" if row is None else f"process {row.pid} on {row.host}"

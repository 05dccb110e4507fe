"""One indexer on a SQLite database: a lock file beside it. Ends with the process, however it ends.

The system drops the lock when its holder dies, so that a file left behind by a killed one holds nobody up.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexer.db.dialect import sqlite_file
from indexer.errors import Refuse, SummaryDBError, Wait
from indexer.shortage import shortage

WAIT_SECONDS = 5.0
"""A start waits this long, so that a restart need not be told to wait for the process it replaces."""

_HOLDER = re.compile(r"process [0-9]+ on \S+")


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

    file_lock = Path(f"{path}.lock")
    lock = FileLock(file_lock, timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise Held(
            f"{path} is being indexed by {_holder(file_lock, url)}: stop it first, or give another --db"
        ) from None
    except OSError as e:
        if (lack := shortage(e)) is not None:
            raise Wait(f"{path.parent}: {lack}") from e
        why = e.strerror or str(e)
        raise Refuse(f"{path.parent} cannot be written ({why}): give another --db, or its permissions") from e
    try:
        _sign(file_lock)
        yield
    finally:
        lock.release()


def _sign(file_lock: Path) -> None:
    """Write into the lock file who holds it: from the first moment, also before anything is in the database."""
    with suppress(OSError):  # Windows locks its bytes, and a disk may be full: then the database tells
        file_lock.write_text(f"process {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")


def _holder(file_lock: Path, url: str) -> str:
    """Say which process writes, by the lock file, else as it says of itself in the database."""
    with suppress(OSError, ValueError):
        signed = file_lock.read_text(encoding="utf-8").strip()
        if _HOLDER.fullmatch(signed):
            return signed
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

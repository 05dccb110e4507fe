"""Snapshots to read, on the driver's own connections: SQL text in, tuples out, as the indexer writes.

For readers that start often and read much (TensorBoard's data provider): SQLAlchemy takes longer to import than such a
reader to answer, and its rows cost more than the database's work. Nobody can write through here: SQLite is opened
`mode=ro` with `query_only`, PostgreSQL reads in read-only transactions.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from indexer.db.connection import BUSY_MS, POSTGRESQL_ARGUMENTS, Connection, translated
from indexer.db.dialect import POSTGRESQL, SQLITE, driver_error, is_gone, postgresql_arguments, sqlite_file
from indexer.db.filesystem import in_wal_mode, network
from indexer.errors import Refuse, Wait

_CACHE_KIB = 8 * 1024
_PROGRESS_STEPS = 2_000  # virtual machine steps between two looks at the clock


class Reader:
    """Snapshots of one database, by many threads at once. Connections are kept, and made again where they are lost."""

    def __init__(self, url: str) -> None:
        file = sqlite_file(url)
        self.dialect = POSTGRESQL if file is None else SQLITE
        self._arguments = postgresql_arguments(url) if file is None else {}
        self._path = None if file is None else Path(file).absolute()
        self._idle: queue.LifoQueue[tuple[Any, object]] = queue.LifoQueue()  # connections, each with its `_identity`

    @contextmanager
    def snapshot(self, seconds: float) -> Iterator[Connection]:
        """Read one state of the database, whatever is written meanwhile; `seconds` is the deadline of all statements.

        Deadline when it passes, Wait where there is no database or it cannot be reached, Retry where it is locked.
        """
        with translated():
            raw, identity = self._begun(seconds)
            try:
                yield Connection(self.dialect, raw)
                self._end(raw)
            except BaseException:
                with suppress(Exception):
                    raw.close()  # in whatever state it is
                raise
            self._idle.put((raw, identity))

    def close(self) -> None:
        """Close what is idle."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait()[0].close()

    def _begun(self, seconds: float) -> tuple[Any, object]:
        """Return a connection within a transaction, and the identity of the file it reads."""
        identity = self._identity()
        while True:
            try:
                raw, known = self._idle.get_nowait()
            except queue.Empty:
                raw = self._open()
                self._begin(raw, seconds)
                return raw, identity
            if known != identity:  # another file has its name: what it reads exists no more
                raw.close()
                continue
            try:
                self._begin(raw, seconds)
            except Exception as e:
                raw.close()
                if (found := driver_error(e)) is None or not is_gone(found):
                    raise
                continue  # lost while nothing was under way: nobody need know
            return raw, identity

    def _identity(self) -> object:
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except OSError as e:
            raise Wait(f"there is no database at {self._path} ({e.strerror}): start an indexer, or give another") from e
        return stat.st_dev, stat.st_ino

    def _open(self) -> Any:
        if self._path is None:
            import psycopg

            arguments: dict[str, Any] = POSTGRESQL_ARGUMENTS | self._arguments
            return psycopg.connect(**arguments, autocommit=True)
        if (kind := network(self._path)) is not None and in_wal_mode(self._path):
            raise Refuse(
                f"the file is in WAL mode on {kind}, where that corrupts it: read it on the machine that indexes, or a"
                " copy made with `summarydb snapshot`"
            )
        raw = sqlite3.connect(
            f"file:{quote(os.fspath(self._path.as_posix()))}?mode=ro",
            uri=True,
            timeout=BUSY_MS / 1000,
            check_same_thread=False,
            isolation_level=None,
        )
        try:
            raw.execute("PRAGMA query_only = ON")
            raw.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        except BaseException:
            raw.close()
            raise
        return raw

    def _begin(self, raw: Any, seconds: float) -> None:
        if self.dialect == SQLITE:
            deadline = time.monotonic() + seconds
            raw.set_progress_handler(lambda: int(time.monotonic() > deadline), _PROGRESS_STEPS)
            raw.execute("BEGIN")
            return
        raw.execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
            f" SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}"
        )

    def _end(self, raw: Any) -> None:
        raw.execute("COMMIT")
        if self.dialect == SQLITE:
            raw.set_progress_handler(None, 0)

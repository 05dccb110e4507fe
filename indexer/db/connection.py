"""The indexer's way into a database: SQL text on the driver's own connection, one transaction at a time.

The indexer uses no SQLAlchemy: its import alone takes longer than loading a thousand short runs. Whoever reads for
people (the web, `status`, `sql`) does, see engine.py. Decision: docs/decisions/0008-the-indexer-speaks-sql.md.

SQLite: WAL with synchronous=NORMAL. A kill of the process loses nothing that was committed; a loss of power may lose
the last commits, never the database's consistency.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from indexer.db.dialect import (
    POSTGRESQL,
    SQLITE,
    SQLITE_PAGE_BYTES,
    driver_error,
    is_busy,
    is_gone,
    is_timeout,
    postgresql_arguments,
    sqlite_file,
)
from indexer.errors import Deadline, Refuse, Retry, SummaryDBError, Wait

if TYPE_CHECKING:
    import psycopg

BUSY_MS = 5_000
_WRITE_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 10_000  # 160 MB of WAL, at which the writer itself stops to copy what the other thread has not
_CHECKPOINT_ROWS = 100_000  # written, or
_CHECKPOINT_BYTES = 64 * 2**20  # of payloads, or
_CHECKPOINT_COMMITS = 200  # since the last checkpoint: then the other thread makes one
_CONNECT_SECONDS = 10
SQLITE_PRAGMAS = (
    f"page_size = {SQLITE_PAGE_BYTES}",  # takes effect on an empty file only
    "journal_mode = WAL",
    "synchronous = NORMAL",
    f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    "foreign_keys = ON",
    f"cache_size = -{_WRITE_CACHE_KIB}",
)
"""Of a connection that writes."""

Row = tuple[Any, ...]


class Cursor(Protocol):
    """What a statement returned."""

    rowcount: int

    def fetchone(self) -> Any:
        """Return the next row, None behind the last."""
        ...

    def fetchmany(self, size: int) -> list[Any]:
        """Return the next rows, at most `size`; none behind the last."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows that are left."""
        ...


class Connection:
    """A connection within a transaction. Statements mark parameters with `?`, whatever the database."""

    __slots__ = ("bytes_written", "dialect", "raw")

    def __init__(self, dialect: str, raw: Any) -> None:
        self.dialect = dialect
        self.raw = raw  # sqlite3.Connection or psycopg.Connection
        self.bytes_written = 0  # of payloads, in this transaction

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Execute one statement; rows are tuples."""
        if self.dialect == POSTGRESQL:
            return self.raw.execute(_psycopg(statement), values or None)  # type: ignore[no-any-return]
        return self.raw.execute(statement, values)  # type: ignore[no-any-return]

    def many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """Execute a statement once a row; return how many rows of the table it met."""
        if self.dialect == POSTGRESQL:
            with self.raw.cursor() as cursor:
                cursor.executemany(_psycopg(statement), rows)
                return int(cursor.rowcount)
        return int(self.raw.executemany(statement, rows).rowcount)

    def value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Return the only column of the only row."""
        ((found,),) = self.execute(statement, values).fetchall()
        return found


class Database:
    """A database to write to, by one thread at a time: one connection, made when it is first needed."""

    def __init__(self, url: str) -> None:
        self.url = url
        file = sqlite_file(url)
        self._file = None if file is None else str(Path(file).absolute())
        self.dialect = POSTGRESQL if file is None else SQLITE
        self._raw: Any = None
        self._checkpoints: _Checkpoints | None = None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end of the block and rolls back on an exception.

        Errors come out as the driver's; see `transaction`. On SQLite the write lock is asked for at once, so that
        there is no deadlock half-way.
        """
        raw = self._begun()
        try:
            conn = Connection(self.dialect, raw)
            yield conn
            raw.execute("COMMIT")
        except BaseException:
            self._roll_back(raw)
            raise
        if self._checkpoints is not None:
            self._checkpoints.count(raw.total_changes, conn.bytes_written)

    def connect(self) -> Connection:
        """Return the connection outside of a transaction, made if need be."""
        if self._raw is None:
            if self._file is None:
                self._raw = _open_postgresql(self.url)
            else:
                self._raw = _open_sqlite(self._file)
                self._checkpoints = _Checkpoints(self._file)
        return Connection(self.dialect, self._raw)

    def settle(self) -> None:
        """Bring all commits into the SQLite file itself, as far as nobody reads older ones: it may be copied alone."""
        if self.dialect == SQLITE:
            with translated():
                self.connect().raw.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def dispose(self) -> None:
        """Close the connection; the next use makes another."""
        checkpoints, self._checkpoints = self._checkpoints, None
        if checkpoints is not None:
            checkpoints.end()
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()

    def _begun(self) -> Any:
        if self.dialect == SQLITE:
            raw = self.connect().raw
            raw.execute("BEGIN IMMEDIATE")
            return raw
        fresh = self._raw is None
        raw = self.connect().raw
        try:
            raw.execute("BEGIN")
        except Exception as e:
            if fresh or not is_gone(e):
                raise
            self.dispose()  # lost while nothing was under way: nobody need know
            raw = self.connect().raw
            raw.execute("BEGIN")
        return raw

    def _roll_back(self, raw: Any) -> None:
        """Undo what is open; a connection that cannot even do that is given up."""
        try:
            if self.dialect == POSTGRESQL:
                raw.execute("ROLLBACK")
            else:
                raw.rollback()
        except Exception:  # the first error is the one to tell
            self.dispose()


class _Checkpoints:
    """Copies what was committed from the WAL into the database file, in a thread: the writer need not stop for it.

    It works beside the writer and readers (PASSIVE) and loses no commit whenever it is killed. Where it falls behind,
    or fails, the writer's own checkpoints do the work.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows = self._commits = self._bytes = 0
        self._due = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def count(self, rows: int, size: int) -> None:
        """Note a commit of `size` bytes of payloads, and how many rows the connection has changed so far."""
        self._commits += 1
        self._bytes += size
        if (
            rows - self._rows < _CHECKPOINT_ROWS
            and self._bytes < _CHECKPOINT_BYTES
            and self._commits < _CHECKPOINT_COMMITS
        ):
            return
        self._rows, self._commits, self._bytes = rows, 0, 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
            self._thread.start()
        self._due.set()

    def end(self) -> None:
        """End the thread, behind the checkpoint it makes."""
        self._ended = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as raw:
            while True:
                self._due.wait()
                self._due.clear()
                if self._ended:
                    return
                with suppress(sqlite3.Error):  # the writer will meet it, and tell
                    raw.execute("PRAGMA wal_checkpoint(PASSIVE)")


def among(numbers: Iterable[int]) -> str:
    """Return ids as the inside of IN (...), which may be empty: bound values are few on an old SQLite."""
    return ", ".join(str(int(number)) for number in sorted(set(numbers))) or "NULL"


@contextmanager
def transaction(database: Database) -> Iterator[Connection]:
    """Write in one transaction; errors come out as our families."""
    with translated(), database.begin() as conn:
        yield conn


@contextmanager
def translated() -> Iterator[None]:
    """Turn a driver's errors into ours."""
    try:
        yield
    except SummaryDBError:
        raise
    except Exception as e:
        found = driver_error(e)
        if found is None:
            raise
        raise family(found) from e


def family(error: Exception) -> SummaryDBError:
    """Return what an error of a driver means for the caller."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if is_timeout(error):
        return Deadline("the query passed its deadline; ask for less, or raise --query-seconds")
    if is_busy(error):
        return Retry(f"another writer holds the database ({text}); the call may be repeated")
    if is_gone(error):
        return Wait(f"the database cannot be reached ({text}); check that it runs and lets you in")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return Refuse(f"the file is no SQLite database ({text}); give another --db")
    if code == sqlite3.SQLITE_CANTOPEN:
        return Refuse(
            f"the database file cannot be opened ({text}); check that its directory exists and may be written"
        )
    if code == sqlite3.SQLITE_READONLY:
        return Refuse(f"the database may not be written ({text}); check the permissions of the file and its directory")
    if code == sqlite3.SQLITE_FULL:
        return Wait(f"the disk is full ({text}); free some space and loading goes on")
    return Refuse(f"the database refused: {text}")


def _open_sqlite(path: str) -> sqlite3.Connection:
    raw = sqlite3.connect(path, timeout=BUSY_MS / 1000, check_same_thread=False, isolation_level=None)
    try:
        for pragma in SQLITE_PRAGMAS:
            raw.execute(f"PRAGMA {pragma}")
    except BaseException:
        raw.close()
        raise
    return raw


def _open_postgresql(url: str) -> psycopg.Connection:
    arguments = {"connect_timeout": _CONNECT_SECONDS} | postgresql_arguments(url)
    import psycopg

    return psycopg.connect(**arguments, autocommit=True)


@lru_cache(maxsize=256)
def _psycopg(statement: str) -> str:
    return statement.replace("?", "%s")

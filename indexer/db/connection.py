"""The indexer's way into a database: SQL text on the driver's own connection, one transaction at a time.

The indexer uses no SQLAlchemy: its import alone takes longer than loading a thousand short runs. Whoever reads for
people (the web, `status`, `sql`) does, see engine.py. Decision: docs/decisions/0008-the-indexer-speaks-sql.md.

SQLite: WAL with synchronous=NORMAL. A kill of the process loses nothing that was committed; a loss of power may lose
the last commits, never the database's consistency. Where a file system allows no WAL it is a rollback journal with
synchronous=FULL, which loses nothing either way. See docs/durability.md.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from indexer import log
from indexer.db.dialect import (
    POSTGRESQL,
    SQLITE,
    SQLITE_PAGE_BYTES,
    driver_error,
    is_busy,
    is_failing,
    is_full,
    is_gone,
    is_timeout,
    postgresql_arguments,
    sqlite_file,
)
from indexer.db.filesystem import network
from indexer.errors import Deadline, Refuse, Retry, SummaryDBError, Unreachable, Wait
from indexer.shortage import out_of_files

if TYPE_CHECKING:
    import psycopg

BUSY_MS = 5_000
_WRITE_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 10_000  # 160 MB of WAL, at which the writer itself stops to copy what the other thread has not
_CHECKPOINT_ROWS = 100_000  # written, or
_CHECKPOINT_BYTES = 64 * 2**20  # of payloads, or
_CHECKPOINT_COMMITS = 200  # since the last checkpoint: then the other thread makes one
POSTGRESQL_ARGUMENTS: dict[str, int] = {
    "connect_timeout": 10,  # seconds, as the next two
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # milliseconds
}
"""Of every connection, unless the URL says otherwise: a server that vanished is missed within a minute, not hours."""
WAL_BYTES = _CHECKPOINT_PAGES * SQLITE_PAGE_BYTES
"""A WAL that is longer has a reader that holds it up; behind the reader it is cut to this length."""

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

    __slots__ = ("bytes_written", "dialect", "outside_writes", "raw")

    def __init__(self, dialect: str, raw: Any, outside_writes: int | None = None) -> None:
        self.dialect = dialect
        self.raw = raw  # sqlite3.Connection or psycopg.Connection
        self.outside_writes = outside_writes  # as the Database's
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
        self.unsure = False  # PostgreSQL: commits were made that a breakdown of the server may undo
        self.outside_writes: int | None = None  # those that an indexer's memory knows of; None: it remembers nothing
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
            conn = Connection(self.dialect, raw, self.outside_writes)
            yield conn
            self._commit(raw)
        except BaseException as e:
            self._roll_back(raw)
            if isinstance(e, Exception) and is_failing(driver_error(e) or e):
                self.dispose()  # what it holds of the files may be wrong
            raise
        if self._checkpoints is not None:
            self._checkpoints.count(raw.total_changes, conn.bytes_written)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Read in one transaction that sees one state of the database, and holds up no writer. Writes do not last."""
        with translated():
            raw = self.connect().raw
            raw.execute("BEGIN" if self.dialect == SQLITE else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield Connection(self.dialect, raw)
            finally:
                self._roll_back(raw)

    def connect(self) -> Connection:
        """Return the connection outside of a transaction, made if need be."""
        if self._raw is None:
            if self._file is None:
                self._raw = _open_postgresql(self.url)
            else:
                self._raw, wal = _open_sqlite(self._file)
                self._checkpoints = _Checkpoints(self._file) if wal else None
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
            self.dispose()
            if self.unsure:  # what was committed may be lost: whoever remembers it must look
                self.unsure = False
                raise
            # Lost while nothing was under way: nobody need know.
            raw = self.connect().raw
            raw.execute("BEGIN")
        return raw

    def _commit(self, raw: Any) -> None:
        """End a transaction: the moment in which all of it is there, or nothing."""
        raw.execute("COMMIT")

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
        raw: sqlite3.Connection | None = None
        while True:
            self._due.wait()
            self._due.clear()
            if self._ended:
                break
            with suppress(sqlite3.Error):  # the writer will meet it, and tell
                raw = raw or sqlite3.connect(self._path, isolation_level=None)
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if raw is not None:
            raw.close()


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


_NOTHING_BESIDE = {
    sqlite3.SQLITE_READONLY_RECOVERY,
    sqlite3.SQLITE_READONLY_CANTLOCK,
    sqlite3.SQLITE_READONLY_CANTINIT,
    sqlite3.SQLITE_READONLY_DIRECTORY,
}
"""A file that SQLite needs beside the database is missing and may not be made."""

_COPY = (
    ": SQLite keeps files beside it, for readers, too. To read where nothing may be written, read a copy made with"
    " `summarydb snapshot`"
)


def family(error: Exception) -> SummaryDBError:
    """Return what an error of a driver means for the caller."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if is_timeout(error):
        return Deadline("the query passed its deadline; ask for less, or raise --query-seconds")
    if is_busy(error):
        return Retry(f"another writer holds the database ({text}); the call may be repeated")
    if is_gone(error):
        return Unreachable(f"the database cannot be reached ({text}); check that it runs and lets you in")
    if is_full(error):
        return Wait(f"the disk of the database is full ({text}); free some space and it goes on")
    if is_failing(error):
        name = getattr(error, "sqlite_errorname", None)
        return Wait(
            f"the disk or memory of the database fails ({text}{f', {name}' if name else ''}); a full quota and a limit"
            " on file sizes look the same. It is tried again: see to the disk, and it goes on"
        )
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return Refuse(f"the file is no SQLite database ({text}); give another --db")
    if code == sqlite3.SQLITE_CORRUPT:
        return Refuse(
            f"the database file is damaged ({text}); put a copy in its place, or move it away and index anew: the"
            " summary files hold everything"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        if (lack := out_of_files()) is not None:
            return Wait(lack)
        return Refuse(
            f"the database file cannot be opened ({text}); check that its directory exists and may be written{_COPY}"
        )
    if code == sqlite3.SQLITE_READONLY:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED:
            return Refuse("the database file was moved or deleted while it was in use; put it back, or start again")
        if getattr(error, "sqlite_errorcode", 0) in _NOTHING_BESIDE:
            return Refuse(f"the directory of the database may not be written ({text}){_COPY}")
        return Refuse(f"the database may not be written ({text}); check the permissions of the file and its directory")
    return Refuse(f"the database refused: {text}")


def configure_writer(raw: sqlite3.Connection, path: str) -> str | None:
    """Set up a connection that writes; return why it has no WAL, None where it has.

    Refuse where the file is in WAL mode, its file system allows none, and others have it open.
    """
    raw.execute(f"PRAGMA page_size = {SQLITE_PAGE_BYTES}")  # takes effect on an empty file only
    kind = network(Path(path))
    wanted = "wal" if kind is None else "delete"
    (mode,) = raw.execute(f"PRAGMA journal_mode = {wanted}").fetchone()
    if mode == "wal" and kind is not None:
        raise Refuse(f"the file is in WAL mode on {kind}, where that corrupts it, and others use it: end them first")
    raw.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
    raw.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    raw.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute(f"PRAGMA cache_size = -{_WRITE_CACHE_KIB}")
    if mode == "wal":
        return None
    return f"the database lies on {kind}, a network file system" if kind else "its file system allows no WAL"


def _open_sqlite(path: str) -> tuple[sqlite3.Connection, bool]:
    """Return a connection, and whether it has a WAL."""
    raw = sqlite3.connect(path, timeout=BUSY_MS / 1000, check_same_thread=False, isolation_level=None)
    try:
        why = configure_writer(raw, path)
    except BaseException:
        raw.close()
        raise
    if why is not None:
        log.get().warning("opened_without_wal", why=why, then="readers and the indexer wait for each other at commits")
    return raw, why is None


def _open_postgresql(url: str) -> psycopg.Connection:
    arguments = POSTGRESQL_ARGUMENTS | postgresql_arguments(url)
    import psycopg

    return psycopg.connect(**arguments, autocommit=True)


@lru_cache(maxsize=256)
def _psycopg(statement: str) -> str:
    return statement.replace("?", "%s")

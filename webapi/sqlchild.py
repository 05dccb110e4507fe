"""The process in which one query of somebody's runs: it cannot write, and is ended from outside when its time is over.

A process, because neither database can be held from within: a single step of SQLite (`instr` of two long texts) asks
nobody whether it should stop, and the client of PostgreSQL takes a value of a gigabyte into memory before anybody sees
it. It imports little, so that it starts in 20 ms. Decision: docs/decisions/0028-sql-in-a-process-of-its-own.md.

The parent has looked at the query's text (webapi.statement): a role of PostgreSQL's may call more than it should.

Standard input: a request as one line of JSON, then nothing until the parent is gone or has enough, which ends this
process at once. Standard output: frames, each four bytes of length and a marshalled tuple: ("columns", names), then
("rows", rows), then ("end", whether rows were left out); or ("error", family, text) in place of what is left.
"""

from __future__ import annotations

import json
import marshal
import math
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from indexer.db.dialect import is_busy, is_gone, is_timeout, is_write, postgresql_arguments, sqlite_file
from indexer.errors import SummaryDBError
from webapi.statement import LONGEST, Refused

if TYPE_CHECKING:
    import psycopg

FRAME_BYTES = 64 * 1024
"""A frame ends behind the row that fills it."""
HEAD_BYTES = 4  # the length of a frame
OUT_OF_MEMORY = 9
"""Exit code."""
SERVER_SAMPLE_SECONDS = 0.02

_PROGRESS_STEPS = 1_000  # of SQLite's machine between two looks at the clock
_LOCK_SECONDS = 1.0
_CONNECT_SECONDS = 5
_NICE = 5  # whoever indexes goes first
_RUN_MEMORY = 32 * 2**20  # of the interpreter's own, beside what a query may take

Send = Callable[[tuple[Any, ...]], None]
Rows = Generator[Any, None, None]


class TooMuch(Exception):
    """More memory than a query may take, or a longer value."""


class Broken(Exception):
    """Something that is not the query's fault; family is one of `gone`, `busy`, `rights`."""

    def __init__(self, family: str, text: str) -> None:
        super().__init__(text)
        self.family = family


# SQLite ---------------------------------------------------------------------------------------------------------------
def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SQLITE_FUNCTIONS = _words(
    """
    -> ->> abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos cosh count
    cume_dist current_date current_time current_timestamp date datetime degrees dense_rank exp first_value floor format
    glob group_concat hex if ifnull iif instr json json_array json_array_length json_each json_error_position
    json_extract json_group_array json_group_object json_insert json_object json_patch json_pretty json_quote
    json_remove json_replace json_set json_tree json_type json_valid jsonb jsonb_array jsonb_extract jsonb_group_array
    jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set julianday lag
    last_value lead length like likelihood likely ln log log10 log2 lower ltrim max median min mod nth_value ntile
    nullif octet_length percent_rank percentile percentile_cont percentile_disc pi pow power printf quote radians
    random randomblob rank replace round row_number rtrim sign sin sinh sqlite_version sqrt strftime string_agg substr
    substring subtype sum tan tanh time timediff total trim trunc typeof unhex unicode unistr unixepoch unlikely upper
    zeroblob
    """
)
"""Functions of SQLite that only compute. Left out: those that load code, write to logs or look into indexes."""
SQLITE_PRAGMAS = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"})
"""Pragmas that may be read as tables (`pragma_table_info('jobs')`): they tell the schema."""
SQLITE_SCHEMA = frozenset({"sqlite_master", "sqlite_schema"})
"""Tables of SQLite's own that may be read."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * LONGEST,
    sqlite3.SQLITE_LIMIT_COLUMN: 2_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 100,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 1_000_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 100,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


def authorize(action: int, first: str | None, second: str | None, _database: str | None, _view: str | None) -> int:
    """Tell SQLite what a statement may do: read, and call what only computes."""
    match action:
        case sqlite3.SQLITE_SELECT | sqlite3.SQLITE_RECURSIVE:
            return sqlite3.SQLITE_OK
        case sqlite3.SQLITE_READ:
            own = first is not None and first.lower().startswith(("sqlite_", "dbstat"))
            return sqlite3.SQLITE_DENY if own and first not in SQLITE_SCHEMA else sqlite3.SQLITE_OK
        case sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_OK if (second or "").lower() in SQLITE_FUNCTIONS else sqlite3.SQLITE_DENY
        case sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK if (first or "").lower() in SQLITE_PRAGMAS else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY


def open_sqlite(path: str, *, memory: int, value_bytes: int, deadline: float) -> sqlite3.Connection:
    """Return a connection that only reads and keeps the bounds. deadline: on the monotonic clock."""
    uri = f"file:{quote(Path(path).absolute().as_posix())}?mode=ro"
    raw = sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False)
    raw.text_factory = lambda stored: stored.decode("utf-8", "replace")  # others may have stored anything
    for pragma in ("query_only = ON", "temp_store = MEMORY", "trusted_schema = OFF", "cache_size = -8192"):
        raw.execute(f"PRAGMA {pragma}")
    if memory:
        raw.execute(f"PRAGMA hard_heap_limit = {memory}")  # of this process, which runs nothing else
    for limit, most in _LIMITS.items():
        raw.setlimit(limit, most)
    if value_bytes:
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, value_bytes)
    for table in ("json_each", "json_tree", *(f"pragma_{name}" for name in sorted(SQLITE_PRAGMAS))):
        with suppress(sqlite3.Error):  # older ones have fewer
            raw.execute(f"SELECT 1 FROM {table}(NULL) LIMIT 0")  # noqa: S608  # makes the table, as nobody may below
    raw.execute("BEGIN")
    raw.set_authorizer(authorize)
    raw.set_progress_handler(lambda: int(time.monotonic() > deadline), _PROGRESS_STEPS)
    return raw


def rows_of_sqlite(raw: sqlite3.Connection, query: str, columns: Callable[[Sequence[str]], None]) -> Rows:
    """Yield the rows of a query, and tell its columns before the first. Refused, TooMuch, sqlite3.Error."""
    try:
        found = raw.execute(query)
        columns([description[0] for description in found.description or ()])
        yield from found
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_AUTH:
            raise Refused(f"does what may not be done here ({e})") from e
        if code == sqlite3.SQLITE_TOOBIG:
            raise TooMuch("a value is too long") from e
        if not code:  # the driver's own: several statements, parameters
            raise Refused(f"cannot be run ({e})") from e
        raise
    except sqlite3.Warning as e:  # Python 3.11 has several statements as one
        raise Refused(f"cannot be run ({e})") from e


# PostgreSQL -----------------------------------------------------------------------------------------------------------
def open_postgresql(url: str, *, superuser: bool, seconds: float, memory: int) -> psycopg.Connection:
    """Return a connection in a read-only transaction with the bounds that a role may set itself.

    superuser: whether such a role will do; else Broken.
    """
    import psycopg

    arguments = {"connect_timeout": _CONNECT_SECONDS} | postgresql_arguments(url)
    conn = psycopg.connect(**arguments, autocommit=True)
    version = conn.info.server_version
    if not superuser:
        rights = "SELECT bool_or(rolsuper) FROM pg_roles WHERE rolname IN (current_user, session_user)"
        if conn.execute(rights).fetchone() != (False,):
            raise Broken("rights", f"the database role {conn.info.user} is a superuser")
    milliseconds = max(1, math.ceil(seconds * 1000))
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    bounds = {
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        "lock_timeout": int(_LOCK_SECONDS * 1000),
        "standard_conforming_strings": "on",  # as webapi.statement reads them
        "TimeZone": "'UTC'",
        "DateStyle": "ISO",
        "work_mem": "'16MB'",
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
    }
    if version >= 140_000:
        bounds["client_connection_check_interval"] = 500  # a server whose client is gone stops
    if version >= 170_000:
        bounds["transaction_timeout"] = milliseconds + 500  # it ends the connection, so the other one goes first
    if version >= 150_000 and conn.execute("SELECT has_parameter_privilege('temp_file_limit', 'SET')").fetchone() == (
        True,
    ):
        bounds["temp_file_limit"] = f"'{max(1, memory // 1024)}kB'" if memory else -1
    for name, value in bounds.items():
        conn.execute(f"SET LOCAL {name} = {value}".encode())  # names and numbers of our own
    _lenient_times(conn)
    return conn


def rows_of_postgresql(
    conn: psycopg.Connection, query: str, columns: Callable[[Sequence[str]], None], *, memory: int
) -> Rows:
    """Yield the rows of a query, one in memory at a time, and tell its columns before the first.

    The extended protocol takes one statement, whatever the text holds. Refused, TooMuch, psycopg.Error.
    """
    watch = _ServerMemory(conn, memory)
    with conn.cursor() as cursor:
        try:
            told = False
            for row in cursor.stream(query.encode()):
                if not told:
                    columns([column.name for column in cursor.description or ()])
                    told = True
                yield row
            if not told:
                columns(_described(conn, query))
        except Exception as e:
            if watch.exceeded:
                raise TooMuch from e
            if is_write(e):
                raise Refused("would write: here one can only read") from e
            raise
        finally:
            watch.end()


def _described(conn: psycopg.Connection, query: str) -> list[str]:
    """Return the columns of a query that gave no row: a stream tells none then."""
    conn.pgconn.prepare(b"", query.encode())
    found = conn.pgconn.describe_prepared(b"")
    return [(found.fname(n) or b"").decode() for n in range(found.nfields)]


class _ServerMemory:
    """Watches how much memory the server's process takes, where that is one of this machine, and cancels the query.

    PostgreSQL bounds what it sorts and hashes, not what values take. On another machine its operator must bound it.
    """

    def __init__(self, conn: psycopg.Connection, memory: int) -> None:
        self.exceeded = False
        self._conn = conn
        self._memory = memory
        self._done = threading.Event()
        self._status: Path | None = None
        pid = conn.info.backend_pid
        if memory and _is_local(conn.info.host) and _name_of(pid).startswith("postgres"):
            self._status = Path(f"/proc/{pid}/status")
            self._before = self._taken()
            threading.Thread(target=self._run, daemon=True).start()

    def end(self) -> None:
        """End watching."""
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(SERVER_SAMPLE_SECONDS):
            if self._taken() - self._before > self._memory:
                self.exceeded = True
                with suppress(Exception):  # it is over already
                    self._conn.cancel_safe(timeout=_CONNECT_SECONDS)
                return

    def _taken(self) -> int:
        """Return bytes of the server's process that are its own; 0 where they cannot be told."""
        with suppress(OSError, ValueError):
            for line in (self._status or Path()).read_text().splitlines():
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
        return 0


def _is_local(host: str) -> bool:
    return host.startswith(("/", "@", "127.")) or host in {"", "localhost", "::1"}


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def _lenient_times(conn: psycopg.Connection) -> None:
    """Have times that Python has no value for (infinity, before year 1, behind 9999) come as PostgreSQL writes them."""
    from psycopg import DataError
    from psycopg.types import datetime as kinds

    def lenient(kind: type[Any]) -> type[Any]:
        class Lenient(kind):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except DataError:
                    return bytes(data).decode()

        return Lenient

    for name, kind in {
        "date": kinds.DateLoader,
        "timestamp": kinds.TimestampLoader,
        "timestamptz": kinds.TimestamptzLoader,
        "interval": kinds.IntervalLoader,
    }.items():
        conn.adapters.register_loader(name, lenient(kind))


# Cells ----------------------------------------------------------------------------------------------------------------
def plain(value: Any) -> Any:
    """Return a value as marshal and every format can have it: times as ISO 8601, what has no other form as text."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    match value:
        case Decimal():
            whole = value.is_finite() and abs(value) < 10**400 and value == value.to_integral_value()
            return int(value) if whole else float(value)
        case memoryview() | bytearray():
            return bytes(value)
        case datetime() | date() | time_of_day():
            return value.isoformat()
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
    return str(value)


# The process ----------------------------------------------------------------------------------------------------------
def main() -> None:
    """Answer one request."""
    send = _sender()
    line = sys.stdin.buffer.readline()
    if not line:
        return
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    request = json.loads(line)
    _bound_ourselves(request["memory"])
    try:
        _answer(request, send)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # there may be none to say so
    except TooMuch as e:
        send(("error", "memory", str(e)))
    except Refused as e:
        send(("error", "refused", str(e)))
    except Broken as e:
        send(("error", e.family, str(e)))
    except SummaryDBError as e:
        send(("error", "gone", str(e)))
    except Exception as e:
        send(("error", *_family(e)))


def _answer(request: dict[str, Any], send: Send) -> None:
    url, query, limit, memory = request["url"], request["query"], request["limit"], request["memory"]
    deadline = time.monotonic() + request["seconds"]

    def columns(names: Sequence[str]) -> None:
        send(("columns", list(names)))

    file = sqlite_file(url)
    if file is not None:
        raw = open_sqlite(file, memory=memory, value_bytes=request["value_bytes"], deadline=deadline)
        with closing(raw):
            _send_rows(rows_of_sqlite(raw, query, columns), limit, send)
        return
    conn = open_postgresql(url, superuser=request["superuser"], seconds=request["seconds"], memory=memory)
    with closing(conn):
        _send_rows(rows_of_postgresql(conn, query, columns, memory=memory), limit, send)


def _send_rows(rows: Rows, limit: int, send: Send) -> None:
    """Send rows in frames, at most `limit` (0: all), and the end."""
    some: list[list[Any]] = []
    size = 0
    with closing(rows):
        for row in islice(rows, limit or None):
            cells = [plain(value) for value in row]
            size += 16 * len(cells) + sum(len(cell) for cell in cells if isinstance(cell, (str, bytes)))
            some.append(cells)
            if size >= FRAME_BYTES:
                send(("rows", some))
                some, size = [], 0
        if some:
            send(("rows", some))
        send(("end", bool(limit) and next(rows, None) is not None))


def _family(error: Exception) -> tuple[str, str]:
    """Return what an error of a driver means, and its text."""
    words = str(error).strip().splitlines()
    text = words[0] if words else type(error).__name__
    state = getattr(error, "sqlstate", None) or ""
    if is_timeout(error) or state in {"25P03", "25P04"}:  # idle, or at work for too long
        return "deadline", text
    if is_busy(error):
        return "busy", text
    if is_gone(error):
        return "gone", text
    if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
    }:
        return "gone", text
    return ("memory" if state in {"53200", "53400", "54000"} else "failed"), text


def _sender() -> Send:
    """Return what writes frames. Nothing else can write to where they go."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(message: tuple[Any, ...]) -> None:
        body = marshal.dumps(message)
        frame = memoryview(len(body).to_bytes(HEAD_BYTES, "big") + body)
        while frame:
            frame = frame[out.write(frame) :]

    return send


def _end_with_the_parent() -> None:
    """End at once when standard input does: the parent has enough, or is gone."""
    sys.stdin.buffer.read()
    os._exit(0)


def _bound_ourselves(memory: int) -> None:
    """Let indexing go first, and let the system refuse us more memory than a query may take, where it can."""
    if sys.platform == "win32":
        return
    import resource

    with suppress(OSError):
        os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not memory or sys.platform != "linux":
        return
    with suppress(OSError, ValueError):
        status = Path("/proc/self/status").read_text()
        own = int(status.partition("VmData:")[2].split()[0]) * 1024
        most = own + memory + _RUN_MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()

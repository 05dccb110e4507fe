"""One query of somebody's, run in a process of its own (webapi.sqlchild) that is ended when its time is over.

Used by `/sql` and by `summarydb sql`: the guard is the same, the bounds are each one's own.
"""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from indexer.db.dialect import sqlite_file
from indexer.errors import Deadline, Refuse, Report, Retry, SummaryDBError, Wait
from webapi import formats
from webapi.sqlchild import HEAD_BYTES, OUT_OF_MEMORY
from webapi.statement import Refused, check_postgresql, check_sqlite

GRACE_SECONDS = 0.5
"""Behind its deadline a process may say by itself that it was cut; then it is killed."""

_CODE = "import sys; sys.path[:] = {path!r}; from webapi.sqlchild import main; main()"


class BadQuery(Report):
    """A query that is not run, or that the database does not take."""


class TooMuch(Report):
    """A query whose answer, values or memory pass a bound."""


class Forbidden(Refuse):
    """The database role has rights that no query of somebody's may run with."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a query may take. 0: no bound."""

    seconds: float  # from before the process is started until the last row is there
    rows: int
    memory: int  # bytes, of the process and, where it can be told, of PostgreSQL's
    value_bytes: int = 0  # of a row, and on SQLite of a value
    superuser: bool = False  # whether a role of PostgreSQL's with such rights will do
    flag: str = "--query-seconds"  # what raises the deadline


class Query:
    """A query that runs. `columns` are there from the start, `truncated` behind the last batch."""

    def __init__(self, frames: Iterator[tuple[Any, ...]]) -> None:
        self.truncated = False
        self._frames = frames
        head = next(frames)
        self.columns: list[str] = head[1]

    def batches(self) -> Iterator[list[list[Any]]]:
        """Yield rows of cells, some at once: None, bool, int, float, str, bytes, lists and dicts of these."""
        for kind, content in self._frames:
            if kind == "end":
                self.truncated = content
                return
            yield content


@contextmanager
def run(url: str, query: str, bounds: Bounds) -> Iterator[Query]:
    """Run a query; its process ends with the block.

    BadQuery, TooMuch, Deadline, Forbidden, Retry or Wait, at once or while rows are read.
    """
    try:
        (check_postgresql if sqlite_file(url) is None else check_sqlite)(query)
    except Refused as e:
        raise BadQuery(f"the query {e}") from e
    deadline = time.monotonic() + bounds.seconds
    # The process sees the same modules as we do, and no file that lies where we happen to be.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CODE.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},  # arenas of glibc would count as memory
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(bounds.seconds + GRACE_SECONDS, end)
    timer.start()
    try:
        request = {
            "url": url,
            "query": query,
            "seconds": max(0.001, deadline - time.monotonic()),
            "limit": bounds.rows,
            "memory": bounds.memory,
            "value_bytes": bounds.value_bytes,
            "superuser": bounds.superuser,
        }
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        with suppress(OSError):  # it ended: reading will tell
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        yield Query(_frames(process, process.stdout, bounds, late))
    finally:
        timer.cancel()
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.wait()


def _frames(
    process: subprocess.Popen[bytes], out: IO[bytes], bounds: Bounds, late: threading.Event
) -> Iterator[tuple[Any, ...]]:
    """Yield what the process says, until its end."""
    while True:
        head = out.read(HEAD_BYTES)
        size = int.from_bytes(head, "big")
        if bounds.value_bytes and size > 2 * bounds.value_bytes:
            raise TooMuch(f"a row of the answer has more than {bounds.value_bytes:,} bytes: ask for less of it")
        body = out.read(size) if len(head) == HEAD_BYTES else b""
        if len(head) < HEAD_BYTES or len(body) < size:
            code = process.wait()
            if not late.is_set() and 0 <= code != OUT_OF_MEMORY:
                raise RuntimeError(f"the process of a query ended with exit code {code}")
            raise _error("deadline" if late.is_set() else "memory", "", bounds)  # or the system ended it
        message = marshal.loads(body)  # noqa: S302  # of a process of our own
        if message[0] == "error":
            raise _error(message[1], message[2], bounds)
        yield message


def _error(family: str, text: str, bounds: Bounds) -> SummaryDBError:
    match family:
        case "refused":
            return BadQuery(f"the query {text}")
        case "failed":
            return BadQuery(f"the database does not take the query: {text}")
        case "memory":
            more = f" ({text})" if text else ""
            return TooMuch(f"the query needs more memory than it may take, {bounds.memory:,} bytes{more}: ask for less")
        case "deadline":
            return Deadline(
                f"the query passed its deadline of {bounds.seconds:.3g} s; ask for less, or raise {bounds.flag}"
            )
        case "busy":
            return Retry(f"another writer holds the database ({text}); the call may be repeated")
        case "rights":
            return Forbidden(f"{text}: no query of somebody's runs with such rights; serve with a role that only reads")
    return Wait(f"the database cannot be reached ({text}); check that it runs and lets you in")


# Answers --------------------------------------------------------------------------------------------------------------
SPOOL_BYTES = 2**20
"""Of rows that wait for their kinds in memory; more of them wait on disk."""


def encoded(found: Query, form: str, shape: str = "rows") -> Iterator[bytes]:
    """Yield the answer of a query in a format."""
    columns = [formats.Column(name) for name in found.columns]
    if form not in {"arrow", "parquet"}:
        encoder = formats.encoder(form, columns, shape)
        yield encoder.begin()
        for rows in found.batches():
            yield encoder.rows(rows)
        yield encoder.end({"truncated": found.truncated})
        return
    formats.require(form)
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:  # a schema comes first, and says what no row says alone
        seen = formats.KindsSeen(len(columns))
        for rows in found.batches():
            seen.add(rows)
            marshal.dump(rows, file)
        encoder = formats.encoder(form, seen.columns(columns))
        yield encoder.begin()
        end = file.tell()
        file.seek(0)
        while file.tell() < end:
            yield encoder.rows(marshal.load(file))  # noqa: S302  # our own file
        yield encoder.end({"truncated": found.truncated})

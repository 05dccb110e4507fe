"""REST v1 for queries of people's own: bounded read-only SQL, answered in every format.

The whole answer waits in a file until the query has ended, so that one that is cut is an error and no half answer.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import urlencode

from werkzeug.wrappers import Request, Response

from indexer.errors import Retry
from webapi import formats, query, respond
from webapi.errors import Malformed
from webapi.parameters import Kind, Parameter, Values, parse
from webapi.statement import LONGEST
from webapi.v1 import Route, Site

ROWS = 10_000
MAX_ROWS = 1_000_000
VALUE_BYTES = 16 * 2**20
"""Of a row, and of a value on the way to it."""
MEMORY_BYTES = 2**20
"""A longer answer waits on disk."""
TRUNCATED = "Summarydb-Truncated"
"""Header that tells, in every format, whether rows were left out."""
_CHUNK_BYTES = 2**18
_TEXTS = {"text/plain", "application/sql"}

ROUTE = Route(
    "/sql",
    "sql",
    "Read-only SQL",
    "The answer of one SELECT or WITH, on the tables and views of docs/schema.md. Comments and one trailing `;` are"
    " allowed. It is cut at its deadline (504), at the longest answer and at the memory it may take (400), and after"
    f" `limit` rows: then `truncated` is true, and so is the header `{TRUNCATED}` in every format. Only functions that"
    " compute may be called. Bytes are hexadecimal, times ISO 8601. A POST takes a longer query: as `text/plain`, or as"
    " JSON with `q` and the other parameters.",
    (
        Parameter("q", Kind.TEXT, "The query.", max_length=LONGEST, example="SELECT 1"),
        Parameter("limit", Kind.INTEGER, "How many rows at most.", default=ROWS, minimum=1, maximum=MAX_ROWS),
        Parameter(
            "shape",
            Kind.CHOICE,
            "Of JSON. `rows`: `columns` are names and `rows` are lists; `records`: `items` are objects; `columns`: an"
            " object with a list a column. Names that repeat are numbered in the last two.",
            default="rows",
            choices=("rows", "records", "columns"),
        ),
    ),
    "SqlAnswer",
    (403, 501),
)


class Slots:
    """How many queries run at once, and how many wait: threads are left for everybody else."""

    def __init__(self, threads: int) -> None:
        self._running = threading.BoundedSemaphore(max(1, threads // 4))
        self._asking = threading.BoundedSemaphore(max(1, threads // 2))

    @contextmanager
    def one(self, seconds: float) -> Iterator[None]:
        """Take a place to run in, waiting so long for it. Retry where there is none."""
        busy = Retry("too many queries run just now; the call may be repeated")
        if not self._asking.acquire(blocking=False):
            raise busy
        try:
            if not self._running.acquire(timeout=seconds):
                raise busy
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._asking.release()


def values_of(request: Request, query_string: str) -> Values:
    """Return the parameters of a request: of its address, and of its body where it is a POST."""
    if request.method != "POST":
        return parse(ROUTE.parameters, query_string)
    body = request.get_data()
    if request.mimetype == "application/json":
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(
            isinstance(value, (str, int)) and not isinstance(value, bool) for value in found.values()
        ):
            raise Malformed("q", 'is to be in a JSON object of texts and integers, as {"q": "SELECT 1"}')
    else:
        found = {"q": body.decode("utf-8", "surrogateescape")}
    given = urlencode({name: str(value) for name, value in found.items()}, errors="surrogateescape")
    return parse(ROUTE.parameters, "&".join(filter(None, (query_string, given))))


def answer(site: Site, slots: Slots, request: Request, query_string: str, form: str, *, local: bool) -> Response:
    """Answer a query. local: only this machine can ask."""
    if request.method == "POST" and request.mimetype not in {*_TEXTS, "application/json"}:
        return respond.problem(415, "the query comes as text/plain or application/json")
    values = values_of(request, query_string)
    if site.config.sql == "off" or (site.config.sql == "auto" and not local):
        why = "is turned off" if site.config.sql == "off" else "is off where other machines can ask"
        return respond.problem(403, f"/sql {why}: whoever runs this server may start it with --sql on")
    begun = time.monotonic()
    try:
        with slots.one(site.config.sql_seconds):
            left = max(0.1, site.config.sql_seconds - (time.monotonic() - begun))
            return _run(site, values, form, request, left)
    except (query.BadQuery, query.TooMuch) as e:
        return respond.problem(400, str(e), parameter="q")
    except query.Forbidden as e:
        return respond.problem(403, str(e))


def _run(site: Site, values: Values, form: str, request: Request, seconds: float) -> Response:
    bounds = query.Bounds(
        seconds, values.count("limit"), site.config.sql_memory, value_bytes=VALUE_BYTES, flag="--sql-seconds"
    )
    digest = hashlib.blake2b(digest_size=16)
    file = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  # it is sent behind this block
    try:
        with query.run(site.config.url, values.word("q"), bounds) as found:
            for chunk in query.encoded(found, form, values.word("shape")):
                digest.update(chunk)
                file.write(chunk)
                if file.tell() > site.config.sql_bytes:
                    raise query.TooMuch(f"the answer has more than {site.config.sql_bytes:,} bytes: ask for less")
        made = _sent(file, file.tell(), form)
    except BaseException:
        file.close()
        raise
    made.headers[TRUNCATED] = "true" if found.truncated else "false"
    tag = respond.entity_tag(request, site.version, form, digest.digest())
    if request.if_none_match.contains_weak(tag):
        made.close()
        made = Response(status=304)
    return respond.tagged(made, tag)


def _sent(file: tempfile.SpooledTemporaryFile[bytes] | BinaryIO, size: int, form: str) -> Response:
    """Return an answer of a file: whole where it is short."""
    file.seek(0)
    if size <= MEMORY_BYTES:
        with file:
            return Response(file.read(), content_type=formats.CONTENT_TYPES[form])

    def chunks() -> Iterator[bytes]:
        with file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    made = Response(chunks(), content_type=formats.CONTENT_TYPES[form])
    made.headers["Content-Length"] = str(size)
    made.call_on_close(file.close)
    return made

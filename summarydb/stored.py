"""The client's view of a database: REST v1 answered in this process, points read as rows.

Lists go through the web application, so that filters, pages and errors are those of a server; no port is opened.
Decision: docs/decisions/0040-the-client-speaks-rest.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import chain
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import numpy as np
import orjson

from indexer import text as names
from indexer.config import Config
from indexer.db import migrate
from indexer.db.engine import read_only
from indexer.errors import Report, UsageError
from indexer.types import DataClass
from summarydb.columns import floats
from summarydb.source import PAGE, Chosen, Params, Points, error_of, pairs
from summarydb.work import naming, open_existing, require_file, shown
from webapi import live, queries
from webapi.app import create_app
from webapi.errors import Malformed, Unknown
from webapi.query import Bounds
from webapi.query import run as run_query
from webapi.v1 import BASE

SERIES = 1_000
"""Read at once."""


class Stored:
    """A database at a SQLAlchemy URL; it is only read."""

    def __init__(self, url: str, *, seconds: float) -> None:
        self.name = shown(url)
        self._url = url
        self._seconds = seconds
        self._config = Config(url=url, query_seconds=seconds)
        with naming(url):
            self._engine = open_existing(url, pool_size=2)
            try:
                migrate.require(self._engine)
            except BaseException:
                self._engine.dispose()
                raise
        self._app = create_app(self._config, self._engine)

    def get(self, path: str, params: Params) -> Any:
        """Return the JSON that a route below /api/v1 answers."""
        return orjson.loads(self._answer(f"{BASE}{path}", urlencode(pairs(params), errors="surrogateescape")))

    def content(self, url: str) -> bytes:
        """Return the bytes behind the `url` of an item."""
        parts = urlsplit(url)
        return self._answer(parts.path, parts.query)

    def _answer(self, path: str, query: str) -> bytes:
        """Ask the application as a server would."""
        told: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),  # as WSGI has bytes
            "QUERY_STRING": query,
            "HTTP_HOST": "localhost",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(),
            "wsgi.errors": BytesIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }

        def start(status: str, *_: Any) -> Callable[[bytes], object]:
            told.append(status)
            return lambda _chunk: None

        chunks: Any = self._app.wsgi_app(environ, start)
        try:
            body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        status = int(told[-1][:3])
        if status >= 400:
            raise error_of(status, body, self.name)
        return body

    def points(self, chosen: Chosen) -> Iterator[Points]:
        """Yield points page by page, each read in a transaction of its own. Report where a job or tag is unknown."""
        if chosen.restarts not in {"current", "all"}:
            raise Report("restarts is current or all")
        steps = queries.Range(chosen.from_step, chosen.to_step, superseded=chosen.restarts == "all")
        wanted = queries.SeriesWanted(SERIES, chosen.jobs, chosen.tags, chosen.plugin)
        try:
            with read_only(self._engine, seconds=self._seconds) as conn:
                queries.state(conn)  # Refuse where the schema is another meanwhile
                among = queries.jobs_of(conn, wanted)
            more = True
            after = None
            while more:
                with read_only(self._engine, seconds=self._seconds) as conn:
                    page = queries.SeriesWanted(SERIES, chosen.jobs, chosen.tags, chosen.plugin, after)
                    series, more = queries.series(conn, page, among)
                after = series[-1].id if series else None
                yield from self._of([row for row in series if row.data_class == DataClass.SCALAR], steps)
        except (Unknown, Malformed) as e:
            raise Report(str(e)) from e

    def _of(self, series: list[queries.SeriesRow], steps: queries.Range) -> Iterator[Points]:
        by_id = {row.id: (row.job_id, row.train_id, names.show(row.name), names.show(row.plugin)) for row in series}
        after: tuple[int, int, int] | None = None
        while series:
            with read_only(self._engine, seconds=self._seconds) as conn:
                found, after = queries.points(conn, series, steps, limit=PAGE, after=after)
            if found:
                tags, step, seq, wall_time, value = zip(*found, strict=True)
                of = [by_id[tag] for tag in tags]
                yield Points(
                    np.array([row[0] for row in of], np.int64),
                    [row[1] for row in of],
                    [row[2] for row in of],
                    [row[3] for row in of],
                    np.array(step, np.int64),
                    np.array(seq, np.int64),
                    floats(wall_time),
                    floats(value),
                )
            if after is None:
                return

    def sql(self, query: str, limit: int) -> tuple[list[str], list[list[Any]], bool]:
        """Return columns, rows, and whether there were more. The guard is that of `summarydb sql`."""
        with naming(self._url):
            require_file(self._url)
        bounds = Bounds(self._seconds, limit, self._config.sql_memory, superuser=True, flag="seconds=")
        with run_query(self._url, query, bounds) as found:
            return found.columns, list(chain.from_iterable(found.batches())), found.truncated

    def close(self) -> None:
        """Close connections."""
        self._app.extensions[live.EXTENSION].close()
        self._engine.dispose()


def url_of(place: str) -> str:
    """Return the URL of what people write: a URL, or the path of a SQLite file."""
    if "://" in place:
        return place
    if not place:
        raise UsageError(
            "no database is named: give sqlite:///FILE, postgresql://USER@HOST/DATABASE or http://HOST:PORT"
        )
    return f"sqlite:///{place}"

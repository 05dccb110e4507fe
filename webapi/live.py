"""Live: `/events` tells changes as they are committed, `/changes` when it is asked. webapi.changes says what changed.

One thread looks at the change counter for all clients, while there are any. Nothing piles up for a client that reads
slowly: it has a position, and reads on from there, the newest batches from memory and older changes from the database.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from werkzeug.wrappers import Request, Response

from indexer import log
from indexer.db.engine import read_only
from indexer.errors import Retry, SummaryDBError
from webapi import changes, queries, respond, v1
from webapi.errors import Malformed
from webapi.parameters import Kind, Parameter, Values
from webapi.v1 import AFTER, LIMIT, Route, Site

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy import Connection

POLL_SECONDS = 0.05
"""Between two looks at the change counter: half of what may pass between a record and its being seen."""
HEARTBEAT_SECONDS = 15.0
"""Proxies cut connections on which nothing is said."""
LOOK_SECONDS = 1.0
"""Between two looks whether a client is still there."""
FAILED_SECONDS = 1.0
"""Pause after the database could not be read."""
RETRY_MS = 2_000
"""After so long browsers come back when they were cut."""
MAX_WAIT = 30
BATCHES = 32
BATCH_JOBS = 200
PAGE_JOBS = 1_000

SINCE = Parameter(
    "since",
    Kind.INTEGER,
    "Number of the change counter: what came behind it. Absent: nothing yet, only where the counter is; 0: all jobs.",
    minimum=0,
)
EVENTS = Route(
    "/events",
    "events",
    "Changes as they come",
    "Server-sent events: `job` (a Job with `tag_count`) for each job that was added or changed, `removed` for each that"
    " is gone, then `change` with the change counter, which is also the id: whoever comes back with it in"
    " `Last-Event-ID` (browsers do), or in `since`, misses nothing and may hear some twice. `reset` says that the"
    " client was away for too long or has seen another database: all jobs follow. A comment comes every 15 s."
    " Only so many clients at once (`--max-events-clients`); more get 503.",
    (SINCE,),
    "",
    (),
    conditional=False,
)
CHANGES = Route(
    "/changes",
    "changes",
    "Changes since",
    "What `/events` tells, for those who ask: jobs changed and jobs gone behind `since`. Ask again with the `since` of"
    " the answer once `next` is null. `reset` as there: forget what you know, the items are all jobs.",
    (
        SINCE,
        Parameter(
            "wait",
            Kind.INTEGER,
            "Seconds to wait for a change where there is none yet; counts as a client of `/events` meanwhile.",
            default=0,
            minimum=0,
            maximum=MAX_WAIT,
        ),
        LIMIT,
        AFTER,
    ),
    "ChangesPage",
    (),
)
ROUTES = (EVENTS, CHANGES)
EXTENSION = "summarydb.live"
"""The application's Hub, among Flask's extensions."""


def waits(path: str, query: str) -> bool:
    """Tell whether the answer to a request may wait for news, and so hold a thread.

    However it is written: with a prefix, more slashes, or quoted. Rather one too many than a thread of answers held.
    """
    if path.endswith(v1.BASE + EVENTS.path):
        return True
    names = (unquote_plus(part.partition("=")[0]) for part in query.split("&"))
    return path.endswith(v1.BASE + CHANGES.path) and "wait" in names


class Hub:
    """Where clients wait for the change counter to move."""

    def __init__(
        self,
        site: Site,
        *,
        poll_seconds: float = POLL_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site = site
        self._poll_seconds = poll_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        self._most = site.config.max_events_clients
        self._moved = threading.Condition()
        self._ended = threading.Event()
        self.clients = 0
        self.poller: threading.Thread | None = None
        self._state: queries.State | None = None  # None: nobody has looked yet
        self._epoch = 0  # of the database: another one has another
        self._batches: OrderedDict[int, tuple[int, bytes]] = OrderedDict()  # where they begin → where they end, events

    def close(self) -> None:
        """Send all clients away."""
        with self._moved:
            self._ended.set()
            self._moved.notify_all()

    def enter(self) -> None:
        """Count one more client. Retry where there are as many as may be."""
        with self._moved:
            if self._ended.is_set():
                raise Retry("the server ends: come again in a moment")
            if self.clients >= self._most:
                raise Retry(
                    f"{self._most} clients wait for events, and no more may (--max-events-clients): poll"
                    " /api/v1/changes"
                )
            self.clients += 1
            if self.poller is None:
                self.poller = threading.Thread(target=self._poll, name="changes", daemon=True)
                self.poller.start()

    def leave(self) -> None:
        """Count one client less."""
        with self._moved:
            self.clients -= 1

    @contextmanager
    def client(self) -> Iterator[None]:
        """Be a client within the block."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def wait(self, position: int, *, seconds: float) -> bool:
        """Wait until the counter is above `position`, at most so long; tell whether it is."""

        def moved() -> bool:
            return self._ended.is_set() or (self._state is not None and self._state.change_counter > position)

        with self._moved:
            return self._moved.wait_for(moved, seconds) and not self._ended.is_set()

    def pause(self, position: int, seconds: float, gone: Callable[[], bool]) -> None:
        """Wait until the counter is above `position`, at most so long; not for a client that is gone."""
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0 and not self._ended.is_set() and not gone():
            if self.wait(position, seconds=min(left, LOOK_SECONDS)):
                return

    def events(self, position: int | None, gone: Callable[[], bool]) -> Generator[bytes, None, None]:
        """Yield the events behind `position` (None: from now on) until the client is gone, or we are."""
        yield b"retry: %d\n\n" % RETRY_MS
        said = self._clock()
        epoch, entered = self._epoch, False
        while epoch == self._epoch and not self._ended.is_set() and not gone():
            try:
                if position is None:
                    with self._read() as conn:
                        position = queries.state(conn).change_counter
                    yield _end(position)
                elif not entered or self.wait(position, seconds=0):
                    for batch, end in self._behind(position):
                        yield batch
                        position, said = end, self._clock()
                entered = True
            except SummaryDBError:  # the poller logs it
                self._ended.wait(FAILED_SECONDS)
            left = self._heartbeat_seconds - (self._clock() - said)
            if left <= 0:
                yield b": still here\n\n"
                said, left = self._clock(), self._heartbeat_seconds
            if position is not None:
                self.wait(position, seconds=min(left, LOOK_SECONDS))

    def _behind(self, position: int) -> Iterator[tuple[bytes, int]]:
        """Yield events behind `position`, each with the position after it."""
        with self._moved:
            known = self._batches.get(position)
        if known is not None:
            end, batch = known
            yield batch, end
            return
        page: changes.Changes | None = None
        while page is None or page.following is not None:
            first = page is None
            with self._read() as conn:
                page = changes.since(conn, position, limit=PAGE_JOBS, after=None if page is None else page.following)
            batch = encode(page, first=first)
            if page.following is None:
                yield batch + _end(page.counter), page.counter
            else:
                yield batch, position  # whoever is cut here begins again

    def _read(self) -> AbstractContextManager[Connection]:
        return read_only(self._site.engine, seconds=self._site.config.query_seconds)

    def _poll(self) -> None:
        """Look at the counter while there are clients."""
        failed = False
        while True:
            with self._moved:
                if self._ended.is_set() or not self.clients:
                    self.poller = self._state = None
                    self._batches.clear()
                    return
            try:
                self._look()
                failed = False
            except Exception as e:  # whatever it is: clients wait, and it may be over soon
                if not failed:
                    known = isinstance(e, SummaryDBError)
                    log.get().warning("changes_unread", why=str(e), exc_info=None if known else e)
                failed = True
            self._ended.wait(FAILED_SECONDS if failed else self._poll_seconds)

    def _look(self) -> None:
        before = self._state
        batch = None
        with self._read() as conn:
            now = queries.state(conn)
            if now == before:
                return
            another = before is not None and (
                now.database_id != before.database_id or now.change_counter < before.change_counter
            )
            if before is not None and not another:
                page = changes.since(conn, before.change_counter, limit=BATCH_JOBS)
                if page.following is None and not page.reset:
                    batch = encode(page, first=True) + _end(page.counter)
        with self._moved:
            self._state = now
            if another:  # clients come again, and are told to begin anew
                self._epoch += 1
                self._batches.clear()
            elif batch is not None and before is not None:
                self._batches[before.change_counter] = (now.change_counter, batch)
                if len(self._batches) > BATCHES:
                    self._batches.popitem(last=False)
            self._moved.notify_all()


class Stream:
    """The body of `/events`: its client is counted until it is closed, whether anybody read from it or not."""

    def __init__(self, hub: Hub, position: int | None, gone: Callable[[], bool]) -> None:
        hub.enter()
        self._hub: Hub | None = hub
        self._events = hub.events(position, gone)

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Count the client no longer."""
        self._events.close()
        if self._hub is not None:
            hub, self._hub = self._hub, None
            hub.leave()


def encode(page: changes.Changes, *, first: bool) -> bytes:
    """Return a page of changes as events, without the one that ends them."""
    events = [_event(b"reset", {})] if page.reset and first else []
    events += [_event(b"removed", one) for one in page.removed]
    events += [_event(b"job", job) for job in page.jobs]
    return b"".join(events)


def _event(name: bytes, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name, respond.encode(data))  # JSON has no line ends


def _end(counter: int) -> bytes:
    return b"id: %d\n" % counter + _event(b"change", {"change_counter": counter})


# Routes ---------------------------------------------------------------------------------------------------------------
def mount(
    app: Flask,
    site: Site,
    values_of: Callable[[Route], Values],
    answer: v1.Conditional,
) -> None:
    """Add the routes to the application. `answer` makes conditional answers of JSON, `values_of` reads the query."""
    from flask import request

    hub = app.extensions[EXTENSION] = Hub(site)

    @app.get(v1.BASE + EVENTS.path)
    def events() -> Response:
        position = values_of(EVENTS).integer("since")
        if (last := request.headers.get("Last-Event-ID")) is not None:
            if not re.fullmatch("[0-9]{1,18}", last, re.ASCII):
                raise Malformed("Last-Event-ID", "is the id of an event, a number")
            position = int(last)
        made = Response(content_type="text/event-stream")
        made.response = iter(()) if request.method == "HEAD" else Stream(hub, position, _gone(request))
        made.direct_passthrough = True  # compression would hold events back
        made.headers["Cache-Control"] = "no-store"
        made.headers["X-Accel-Buffering"] = "no"  # as nginx is told so
        return made

    @app.get(v1.BASE + CHANGES.path)
    def changes_since() -> Response:
        values = values_of(CHANGES)
        position, seconds = values.integer("since"), values.count("wait")
        if seconds and position is not None and values.text("after") is None:
            with hub.client():
                with read_only(site.engine, seconds=site.config.query_seconds) as conn:
                    there = queries.state(conn).change_counter
                if there == position:
                    hub.pause(position, seconds, _gone(request))
        return answer(lambda conn: _changes(conn, values))


def _gone(request: Request) -> Callable[[], bool]:
    """Return what tells whether the client of a request has gone, where the server can tell."""
    found: Callable[[], bool] = request.environ.get("waitress.client_disconnected", lambda: False)
    return found


def _changes(conn: Connection, values: Values) -> Response:
    after = None
    if (text := values.text("after")) is not None:
        after = changes.Position(*respond.position(text, "changes", int, int, int, respond.Small))
    position = values.integer("since")
    if position is None and after is None:
        position = queries.state(conn).change_counter
    page = changes.since(conn, position or 0, limit=values.count("limit"), after=after)
    following = None if page.following is None else respond.cursor("changes", *page.following)
    body = {
        "since": page.counter,
        "reset": page.reset,
        "removed": page.removed,
        "items": page.jobs,
        "next": following,
    }
    return Response(respond.encode(body), content_type=respond.JSON)

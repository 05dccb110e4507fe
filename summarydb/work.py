"""The two long jobs of this program, indexing and serving, as its commands and the children of `up` run them."""

from __future__ import annotations

import errno
import gc
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.config import Config
from indexer.errors import Refuse, UsageError
from summarydb.settings import Settings

if TYPE_CHECKING:  # heavy: imported where used
    from sqlalchemy import Engine

    from indexer.db.connection import Database
    from indexer.ingest.watch import Indexer, Outcome, Progress

LOCK_SECONDS = 5.0
"""How long a start waits for another indexer on the same SQLite database to end."""


def index(
    settings: Settings,
    stop: threading.Event,
    *,
    once: bool = False,
    report: Callable[[Progress], None] | None = None,
    migrated: Callable[[], None] | None = None,
    ready: Callable[[Indexer], None] | None = None,
    waiting: Callable[[str | None], None] | None = None,
    turned: Callable[[], None] | None = None,
) -> Outcome:
    """Migrate the database, load what is on disk and keep watching until `stop`; with `once`, one pass.

    migrated: called when the schema is there, which the web waits for.  ready: called before the first load.
    waiting: told what is waited for while the database cannot be written, None when it can again.
    turned: called every few seconds while the loop turns.
    Refuse where the database cannot be used or another indexer holds it.
    """
    with importing():
        from indexer import log
        from indexer.db import migrate
        from indexer.db.connection import Database
        from indexer.ingest.lock import writer_lock

    config = settings.config
    log.configure(verbose=settings.verbose, json=settings.log_format == "json", file=settings.log_file)
    with writer_lock(config.url, timeout=LOCK_SECONDS), naming(config.url):
        database = Database(config.url)
        try:
            migrate.upgrade(database)
            if migrated is not None:
                migrated()
            with importing():
                from indexer.ingest.watch import Indexer  # takes a while

            indexer = Indexer(config, database, report=report, waiting=waiting, turned=turned)
            if ready is not None:
                ready(indexer)
            outcome = indexer.run(stop, once=once)
            database.settle()
            return outcome
        finally:
            database.dispose()


def serve(
    settings: Settings,
    sock: socket.socket,
    stop: threading.Event,
    *,
    ready: Callable[[str | None], None],
    ask: Callable[[dict[str, object]], None] | None = None,
    waiting: Callable[[], str | None] | None = None,
) -> None:
    """Serve the database on `sock`, which listens already, until `stop`.

    ready: called when requests are answered from now on, with the address of the data provider, None where it is not
    served.  ask: takes what the web would have the indexer do.  waiting: tells what the indexer beside us waits for.
    Refuse where the database is missing, foreign or of another schema.
    """
    with importing():
        from indexer import log
        from indexer.db import migrate
        from webapi import live
        from webapi.app import TALLY, create_app
        from webapi.limits import Limits
        from webapi.server import serve as answer

    config = settings.config
    log.configure(verbose=settings.verbose, json=settings.log_format == "json", file=settings.log_file)
    with naming(config.url):
        engine = open_existing(config.url, pool_size=config.threads)
        try:
            migrate.require(engine)
            app = create_app(config, engine, ask=ask, waiting=waiting)
            limits = Limits(
                threads=config.threads,
                queue=config.max_queue,
                events=config.max_events_clients,
                fair=not config.trusted_proxy,
                access_log=config.access_log,
            )
            ending = app.extensions[live.EXTENSION].close
            with data_provider(config) as address:
                ready(address)
                refused = app.extensions[TALLY].refused
                answer(app, sock, stop=stop, limits=limits, waits=live.waits, ending=ending, refused=refused)
        finally:
            engine.dispose()


@contextmanager
def data_provider(config: Config) -> Iterator[str | None]:
    """Serve TensorBoard's data provider within the block, where it is wanted; yields its address."""
    if config.grpc is None:
        yield None
        return
    from summarydb import provider

    host, port = provider.split_address(config.grpc)
    answers = provider.service(config.url, location=shown(config.url), seconds=config.query_seconds)
    with provider.serving(lambda: answers, host, port, threads=config.threads) as address:
        yield address


@contextmanager
def importing() -> Iterator[None]:
    """Collect no garbage within the block: imports make none, and looking for it takes a sixth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # modules stay: nobody need look at them again
        gc.enable()


def require_file(url: str) -> None:
    """Refuse where `url` names a file that is not there."""
    from indexer.db.dialect import sqlite_file

    file = sqlite_file(url)
    if file is not None and not Path(file).exists():
        raise Refuse("there is no such file: run `summarydb up LOGDIR` first, or give another --db")


def open_existing(url: str, *, pool_size: int = 1) -> Engine:
    """Return an engine that only reads. Refuse where there is no database yet."""
    from indexer.db.engine import open_reader

    require_file(url)
    return open_reader(url, pool_size=pool_size)


@contextmanager
def short_write(url: str) -> Iterator[Database]:
    """Lend an existing database to a command that writes little, beside an indexer: it takes no lock file.

    Refuse where the database is missing, foreign or of another schema.
    """
    from indexer.db import migrate
    from indexer.db.connection import Database

    with naming(url):
        engine = open_existing(url)
        try:
            migrate.require(engine)
        finally:
            engine.dispose()
        database = Database(url)
        try:
            yield database
        finally:
            database.dispose()


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Put the database's address, without a password, before what is refused about it."""
    try:
        yield
    except UsageError:
        raise
    except Refuse as e:
        raise Refuse(f"{shown(url)}: {e}") from e


def shown(url: str) -> str:
    """Return a database's address without a password."""
    from indexer.db.dialect import parse_url

    parsed = parse_url(url)
    return parsed.set(drivername=parsed.get_backend_name()).render_as_string()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Refuse where the address is taken, forbidden or unknown."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server((str(address[0]), port), family=family, backlog=128)
    except socket.gaierror:
        raise Refuse(f"--host {host}: no such address; leave it out to serve on this machine") from None
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            raise Refuse(f"port {port} on {host} is in use: give another --port (0: any free one)") from None
        if e.errno in {errno.EACCES, errno.EPERM}:
            raise Refuse(f"port {port} on {host} may not be opened: give a --port above 1023") from None
        raise Refuse(f"{host}:{port} cannot be served on ({e.strerror}): give another --host or --port") from None


def address_of(config: Config, sock: socket.socket) -> str:
    """Return `http://HOST:PORT` of a socket that listens, and the prefix behind it."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"http://{host}:{sock.getsockname()[1]}{config.url_prefix}"


def how_to_open(config: Config, url: str) -> str | None:
    """Return a line for who must send a token, None where nobody must. The token itself is never printed."""
    if config.token is None:
        return None
    return f"a token is asked for: open {url}/?token=TOKEN in a browser; programs send `Authorization: Bearer TOKEN`"

"""Serve the application with waitress, on a socket that was opened before anything heavy was imported."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from waitress import create_server, wasyncore

from webapi.limits import Channel, Lanes, Limits, sweep

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

GRACE_SECONDS = 1.0
"""Running requests may finish so long after `stop` is set."""
POLL_SECONDS = 0.1
IDLE_SECONDS = 60
MAX_HEADER_BYTES = 256 * 1024
MAX_BODY_BYTES = 2 * 2**20
"""MindInsight's routes take bodies: a search among thousands of jobs names them all; of `/sql` a query is one."""
CONNECTIONS = 1_000
_OTHER_FILES = 100
"""Descriptors kept for the database and what the program itself has open."""
SWEEP_SECONDS = 1.0
"""Between two looks for clients that are too slow."""


def serve(
    app: WSGIApplication,
    sock: socket.socket,
    *,
    stop: threading.Event,
    limits: Limits | None = None,
    waits: Callable[[str, str], bool] = lambda _path, _query: False,
    ending: Callable[[], None] = lambda: None,
    refused: Callable[[int], None] = lambda _status: None,
) -> None:
    """Answer on `sock` (bound and listening) until `stop` is set; then end within 2 s, whoever is connected.

    waits: tells of path and query string whether an answer waits for news.  ending: called when it is time to go.
    refused: told the status of each request that there is no room for.
    """
    limits = limits or Limits()
    sockets: dict[int, wasyncore.dispatcher] = {}
    server = create_server(
        app,
        map=sockets,
        sockets=[sock],
        _dispatcher=Lanes(limits, waits, refused),
        ident=None,
        channel_timeout=IDLE_SECONDS,
        connection_limit=connections(),
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=MAX_BODY_BYTES,
        clear_untrusted_proxy_headers=False,  # webapi.proxy believes whom it is told to
    )
    server.channel_class = partial(Channel, access_log=limits.access_log)
    sweep_at = 0.0
    try:
        while not stop.is_set():
            wasyncore.loop(timeout=POLL_SECONDS, use_poll=True, map=sockets, count=1)
            if (now := time.monotonic()) >= sweep_at:
                sweep(list(server.active_channels.values()), now)
                sweep_at = now + SWEEP_SECONDS
        ending()
        server.accepting = False
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and _busy(server):
            wasyncore.loop(timeout=POLL_SECONDS, use_poll=True, map=sockets, count=1)
    finally:
        wasyncore.close_all(sockets)
        server.task_dispatcher.shutdown(timeout=GRACE_SECONDS / 2)
        sock.close()


def connections() -> int:
    """Return how many connections are held at once: fewer where this process may not open so many files."""
    if sys.platform == "win32":
        return CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, soft - _OTHER_FILES))


def _busy(server: object) -> bool:
    """Tell whether a request is being answered or its answer being sent."""
    channels = getattr(server, "active_channels", {})
    return any(channel.requests or channel.total_outbufs_len for channel in list(channels.values()))

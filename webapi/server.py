"""Serve the application with waitress, on a socket that was opened before anything heavy was imported."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from waitress import create_server, wasyncore

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

GRACE_SECONDS = 1.0
"""Running requests may finish so long after `stop` is set."""
POLL_SECONDS = 0.1
IDLE_SECONDS = 60
MAX_HEADER_BYTES = 256 * 1024
MAX_BODY_BYTES = 8 * 2**20
"""Only MindInsight's routes take a body: a search among thousands of jobs names them all."""
CONNECTIONS = 1_000


def serve(app: WSGIApplication, sock: socket.socket, *, threads: int, stop: threading.Event) -> None:
    """Answer on `sock` (bound and listening) until `stop` is set; then end within 2 s, whoever is connected."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue is no news: requests wait their turn
    sockets: dict[int, wasyncore.dispatcher] = {}
    server = create_server(
        app,
        map=sockets,
        sockets=[sock],
        threads=threads,
        ident=None,
        channel_timeout=IDLE_SECONDS,
        connection_limit=CONNECTIONS,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=MAX_BODY_BYTES,
        clear_untrusted_proxy_headers=True,
    )
    try:
        while not stop.is_set():
            wasyncore.loop(timeout=POLL_SECONDS, use_poll=True, map=sockets, count=1)
        server.accepting = False
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and _busy(server):
            wasyncore.loop(timeout=POLL_SECONDS, use_poll=True, map=sockets, count=1)
    finally:
        wasyncore.close_all(sockets)
        logging.getLogger("waitress").setLevel(logging.ERROR)  # that a thread still runs is known: it ends with us
        server.task_dispatcher.shutdown(timeout=GRACE_SECONDS / 2)
        sock.close()


def _busy(server: object) -> bool:
    """Tell whether a request is being answered or its answer being sent."""
    channels = getattr(server, "active_channels", {})
    return any(channel.requests or channel.total_outbufs_len for channel in list(channels.values()))

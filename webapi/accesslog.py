"""A line a request: `request` with method, path, status, bytes, seconds, client. A token is never in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from indexer import log
from webapi.access import without_token

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SHOWN = "/:@!$&'()*+,;=-._~?%"


class AccessLog:
    """A WSGI application whose answers are logged when they are sent, or given up."""

    def __init__(self, app: WSGIApplication, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, and log it at the end."""
        began = self._clock()
        status: list[int] = []

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            status[:] = [int(line[:3])]
            return start_response(line, headers, exc_info)

        body = self._app(environ, start)
        return Counted(body, lambda size: self._note(environ, status, size, began))

    def _note(self, environ: WSGIEnvironment, status: list[int], size: int, began: float) -> None:
        note(
            method=environ.get("REQUEST_METHOD", ""),
            path=environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
            query=environ.get("QUERY_STRING", ""),
            status=status[0] if status else 500,
            size=size,
            seconds=self._clock() - began,
            client=environ.get("REMOTE_ADDR", ""),
        )


def note(*, method: str, path: str, query: str, status: int, size: int, seconds: float, client: str) -> None:
    """Log one request. What a client wrote comes quoted: no character of it can end a line or colour a terminal."""
    shown = quote(path.encode("latin-1", "replace"), safe="/:@!$&'()*+,;=-._~")
    query = quote(without_token(query).encode("latin-1", "replace"), safe=_SHOWN)
    log.get().info(
        "request",
        method=quote(method, safe=""),
        path=f"{shown}?{query}" if query else shown,
        status=status,
        bytes=size,
        seconds=round(seconds, 6),
        client=client,
    )


class Counted:
    """A body that tells how many bytes of it were taken, once, when it is closed."""

    def __init__(self, body: Iterable[bytes], told: Callable[[int], None]) -> None:
        self._body = body
        self._told: Callable[[int], None] | None = told
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            self._size += len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the body, and tell."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            if self._told is not None:
                told, self._told = self._told, None
                told(self._size)

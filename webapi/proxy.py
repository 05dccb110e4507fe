"""Behind a reverse proxy: paths below a prefix, and X-Forwarded-* headers, which count from a trusted address only."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "summarydb.host"
"""Key of the environment with the Host header as this server got it: what a proxy says of it proves nothing."""

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


class BehindProxy:
    """A WSGI application as its clients see it from before the proxy."""

    def __init__(self, app: WSGIApplication, *, prefix: str, trusted: Sequence[str]) -> None:
        self._app = app
        self._prefix = prefix
        self._trusted = [ipaddress.ip_network(network) for network in trusted]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Put prefix, client, scheme and host in order, and go on."""
        environ[HOST] = environ.get("HTTP_HOST")
        prefix = self._prefix
        if self._trusts(environ.get("REMOTE_ADDR", "")):
            prefix = _believe(environ, prefix)
        if prefix:
            path = environ.get("PATH_INFO", "")
            if path == prefix or path.startswith(prefix + "/"):  # else the proxy took it off
                environ["PATH_INFO"] = path[len(prefix) :] or "/"
            environ["SCRIPT_NAME"] = prefix
        return self._app(environ, start_response)

    def _trusts(self, address: str) -> bool:
        if not self._trusted:
            return False
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._trusted)


def _believe(environ: WSGIEnvironment, prefix: str) -> str:
    """Take what the proxy says of its client; return the prefix. What cannot be right is passed over."""
    with suppress(ValueError):
        environ["REMOTE_ADDR"] = str(ipaddress.ip_address(_last(environ, "FOR")))
    if (scheme := _last(environ, "PROTO").lower()) in {"http", "https"}:
        environ["wsgi.url_scheme"] = scheme
    if _HOST.fullmatch(host := _last(environ, "HOST")):
        environ["HTTP_HOST"] = host
    found = _last(environ, "PREFIX").rstrip("/")
    if _PREFIX.fullmatch(found) and not {".", ".."} & set(found.split("/")):
        return found
    return prefix


def _last(environ: WSGIEnvironment, name: str) -> str:
    """Return the last value of a header: the proxy's own, for it appends."""
    value: str = environ.get(f"HTTP_X_FORWARDED_{name}", "")
    return value.rpartition(",")[2].strip()

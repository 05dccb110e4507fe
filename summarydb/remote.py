"""The client's view of a server: REST v1 over HTTP, with the standard library."""

from __future__ import annotations

import gzip
import http.client
import ipaddress
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

import numpy as np
import orjson

from indexer.errors import Deadline, Refuse, UsageError
from summarydb.columns import floats
from summarydb.source import PAGE, Chosen, Params, Points, error_of, pairs, unreachable

API = "/api/v1"
MOST_ROWS = 1_000_000
"""Of a query, as the server bounds them."""


class _Stay(HTTPRedirectHandler):
    """Follows no redirection: the token is for one server."""

    def redirect_request(self, *_arguments: Any) -> None:
        """Follow none."""
        return


class Remote:
    """A server, as `summarydb up` and `serve` run it, at `http://HOST:PORT[/PREFIX]`."""

    def __init__(self, url: str, *, token: str | None, seconds: float) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as e:
            raise UsageError(f"{url!r} is no address ({e}): write http://HOST:PORT") from e
        if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise UsageError(f"{url!r} is no address of a server: write http://HOST:PORT, and token=... apart from it")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._origin = f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")
        self.name = self._origin + parts.path.rstrip("/")
        self._seconds = seconds
        self._headers = {"Accept-Encoding": "gzip", "Accept": "application/json"}
        if token is not None:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise UsageError("the token holds what no header can: letters, digits and . _ ~ + / - are allowed")
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener: OpenerDirector = build_opener(_Stay, *([ProxyHandler({})] if _local(parts.hostname) else []))

    def get(self, path: str, params: Params) -> Any:
        """Return the JSON that a route below /api/v1 answers."""
        query = urlencode(pairs(params), errors="surrogateescape")
        return self._json(f"{self.name}{API}{path}" + (f"?{query}" if query else ""))

    def content(self, url: str) -> bytes:
        """Return the bytes behind the `url` of an item."""
        if not url.startswith("/") or url.startswith("//"):
            raise Refuse(f"{self.name} names {url[:200]!r} as a payload, which is at another server: nothing is sent")
        return self._read(Request(self._origin + url, headers=self._headers))  # noqa: S310  # http(s), see connect

    def points(self, chosen: Chosen) -> Iterator[Points]:
        """Yield points page by page."""
        wanted: dict[str, Any] = {
            "job": chosen.jobs,
            "tag": chosen.tags,
            "plugin": chosen.plugin,
            "from_step": chosen.from_step,
            "to_step": chosen.to_step,
            "restarts": chosen.restarts,
            "limit": PAGE,
            "shape": "columns",
        }
        after = None
        while True:
            page = self.get("/points", {**wanted, "after": after})
            columns = page["columns"]
            if any(value is None for value in columns["value"]):  # no numbers: payloads have points, too
                kept = [place for place, value in enumerate(columns["value"]) if value is not None]
                columns = {name: [cells[place] for place in kept] for name, cells in columns.items()}
            yield Points(
                np.array(columns["job"], np.int64),
                columns["train_id"],
                columns["tag"],
                columns["plugin"],
                np.array(columns["step"], np.int64),
                np.array(columns["seq"], np.int64),
                floats(columns["wall_time"]),
                floats(columns["value"]),
            )
            after = page["next"]
            if after is None:
                return

    def sql(self, query: str, limit: int) -> tuple[list[str], list[list[Any]], bool]:
        """Return columns, rows, and whether there were more."""
        body = orjson.dumps({"q": query, "limit": min(limit or MOST_ROWS, MOST_ROWS)})
        found = self._json(f"{self.name}{API}/sql", body)
        return found["columns"], found["rows"], found["truncated"]

    def close(self) -> None:
        """Nothing is kept open."""

    def _json(self, url: str, body: bytes | None = None) -> Any:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        text = self._read(Request(url, body, headers))  # noqa: S310  # http(s), see connect
        try:
            return orjson.loads(text)
        except ValueError as e:
            raise Refuse(f"{self.name} is no summarydb: give the address that `summarydb up` prints") from e

    def _read(self, request: Request) -> bytes:
        try:
            with self._opener.open(request, timeout=self._seconds) as answer:
                return _decoded(answer.read(), answer.headers.get("Content-Encoding"))
        except HTTPError as e:
            with e:
                if 300 <= e.code < 400:
                    there = e.headers.get("Location", "elsewhere")
                    raise Refuse(f"{self.name} sends us to {there[:200]}: connect to the address it means") from e
                raise error_of(e.code, _decoded(e.read(), e.headers.get("Content-Encoding")), self.name) from e
        except TimeoutError as e:
            raise Deadline(
                f"{self.name} did not answer within {self._seconds:g} s: ask for less, or give seconds="
            ) from e
        except URLError as e:
            if isinstance(e.reason, TimeoutError):
                raise Deadline(f"{self.name} did not answer within {self._seconds:g} s: give seconds=") from e
            raise unreachable(self.name, getattr(e.reason, "strerror", None) or e.reason) from e
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as e:
            raise unreachable(self.name, f"its answer broke off: {e}") from e


def _decoded(body: bytes, encoding: str | None) -> bytes:
    return gzip.decompress(body) if encoding == "gzip" else body


def _local(host: str) -> bool:
    """Tell whether `host` is this machine, which no proxy of the environment's leads to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Who may ask: the Host header, pages of other sites, the token. One check before every request.

The token comes as `Authorization: Bearer TOKEN`, or in a browser once as `?token=TOKEN`, which sets a cookie and drops
the parameter. The cookie holds a digest that only the token makes, so whoever reads a cookie does not have the token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from html import escape
from urllib.parse import quote, unquote_plus

from werkzeug.wrappers import Request, Response

from indexer.config import Config
from webapi import respond
from webapi.proxy import HOST

TOKEN = "token"  # noqa: S105  # the parameter's name
REALM = 'Bearer realm="summarydb"'
OPEN = "/api/v1/health"
"""Answers without a token too, but then says no more than that it is well: for load balancers."""
ALLOWED = "summarydb.allowed"
"""Key of the environment: whether the request may see everything."""
PREFLIGHT_SECONDS = 600


def is_loopback(host: str) -> bool:
    """Tell whether `host` can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


class Access:
    """Tells for each request whether it is answered."""

    def __init__(self, config: Config) -> None:
        self._loopback = is_loopback(config.host)
        self._hosts = frozenset(config.allowed_hosts)
        self._origins = frozenset(config.cors_origins)
        self._token = None if config.token is None else config.token.encode()
        digest = b"" if self._token is None else hashlib.blake2b(b"cookie", key=_digest(self._token)).digest()
        self._cookie = digest[:32].hex()
        self._name = f"summarydb-{digest[32:36].hex()}"  # cookies are shared by all ports of a host

    def refuse(self, request: Request) -> Response | None:
        """Return the answer to a request that goes no further, None for one that does."""
        if not self._named(request.environ.get(HOST, request.environ.get("HTTP_HOST"))):
            # Another site's name that points here: DNS rebinding.
            return respond.problem(
                403,
                "this server does not have this name: call it localhost, 127.0.0.1 or [::1], or start it with"
                " --allowed-hosts"
                if self._loopback
                else "this server does not have this name: --allowed-hosts says which it has",
            )
        origin = request.headers.get("Origin")
        if self._foreign(request, origin):
            return respond.problem(403, "pages of other sites may not read here; --cors-origins says which may")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers and self._lets(origin):
            return Response(status=204)
        return None if self._token is None else self._without_token(request)

    def share(self, request: Request, response: Response) -> None:
        """Set the headers that let pages of chosen origins read; shared caches keep nothing that needs a token."""
        if self._token is not None and "no-cache" in response.headers.get("Cache-Control", ""):
            response.headers["Cache-Control"] = "private, no-cache"
        if not self._origins:
            return
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if not self._lets(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = "*" if "*" in self._origins else origin or ""
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST"
            response.headers["Access-Control-Allow-Headers"] = (
                "Authorization, Content-Type, Last-Event-ID, If-None-Match"
            )
            response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
        else:
            response.headers["Access-Control-Expose-Headers"] = "ETag, Retry-After, Content-Disposition"

    def _named(self, host: str | None) -> bool:
        if host is None or "*" in self._hosts or not (self._loopback or self._hosts):
            return True
        name = re.sub(r":[0-9]*\Z", "", host).lower()
        return name in self._hosts or (self._loopback and is_loopback(name))

    def _lets(self, origin: str | None) -> bool:
        return origin is not None and ("*" in self._origins or origin.lower() in self._origins)

    def _foreign(self, request: Request, origin: str | None) -> bool:
        """Tell whether a page of another site asks behind the user's back; a link that is followed is fine."""
        headers = request.headers
        return (
            headers.get("Sec-Fetch-Site") == "cross-site"
            and headers.get("Sec-Fetch-Mode") != "navigate"
            and not self._lets(origin)
        )

    def _without_token(self, request: Request) -> Response | None:
        given = _in_query(request)
        if given is not None:
            return self._enter(request, given)
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(sent.strip().encode("latin-1", "replace")):
            return None
        cookie = request.cookies.get(self._name, "")
        if hmac.compare_digest(cookie.encode("utf-8", "replace"), self._cookie.encode()):
            return None
        if not sent and request.path == OPEN:
            request.environ[ALLOWED] = False
            return None
        return _unauthorized("another token is needed" if sent else "a token is needed", wrong=bool(sent))

    def _enter(self, request: Request, given: bytes) -> Response:
        """Answer to `?token=`: a cookie, and the address without it."""
        if not self._is_token(given):
            return _unauthorized("another token is needed", wrong=True)
        rest = "&".join(part for part in _parts(request) if not _is_the_parameter(part))
        path = quote(request.root_path.rstrip("/") + "/" + request.path.lstrip("/"), safe="/:@!$&'()*+,;=-._~")
        address = f"{path}?{rest}" if rest else path
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # A strict cookie does not come along where another site's link leads, redirects included. So a page of ours
            # leads on.
            page = (
                '<!doctype html><meta charset="utf-8"><title>summarydb</title>'
                f'<meta http-equiv="refresh" content="0; url={escape(address)}"><a href="{escape(address)}">Go on</a>'
            )
            answer = Response(page, content_type="text/html; charset=utf-8")
        else:
            answer = Response(status=303, headers={"Location": address})
        answer.headers["Cache-Control"] = "no-store"
        answer.set_cookie(
            self._name,
            self._cookie,
            path=request.root_path or "/",
            secure=request.is_secure,
            httponly=True,
            samesite="Strict",
        )
        return answer

    def _is_token(self, given: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(_digest(given), _digest(self._token))


def knows(request: Request) -> bool:
    """Tell whether a request may see everything, as opposed to what OPEN says to everybody."""
    return bool(request.environ.get(ALLOWED, True))


def without_token(query: str) -> str:
    """Return a raw query string as it may be written down."""
    return "&".join(part for part in query.split("&") if not _is_the_parameter(part))


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()  # equally long, so that comparing tells nothing of the length


def _parts(request: Request) -> list[str]:
    return [quote(part, safe="/?:@!$&'()*+,;=-._~%") for part in request.query_string.decode("latin-1").split("&")]


def _is_the_parameter(part: str) -> bool:
    return unquote_plus(part.partition("=")[0]) == TOKEN


def _in_query(request: Request) -> bytes | None:
    for part in request.query_string.decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        if unquote_plus(name) == TOKEN:
            return unquote_plus(value, "latin-1").encode("latin-1", "replace")
    return None


def _unauthorized(fact: str, *, wrong: bool) -> Response:
    answer = respond.problem(
        401, f"{fact}: send `Authorization: Bearer TOKEN`, or open this address once with ?token=TOKEN in a browser"
    )
    answer.headers["WWW-Authenticate"] = REALM + (', error="invalid_token"' if wrong else "")
    return answer

"""What every answer may be, as the OpenAPI document says it: statuses, headers, who may ask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from indexer.payload import OCTETS
from webapi import respond, sql
from webapi.kinds import SAFE

Schema = dict[str, Any]

STATUSES = {
    303: "Only of an address with `token=`, where a token is asked for: sets the cookie and leads on without it. (A"
    " link on another site's page gets a page with status 200 instead, which leads on.)",
    304: "Nothing changed since the answer whose ETag came back in If-None-Match.",
    400: "A parameter is unknown, malformed or out of range; `parameter` names it. Or it is no HTTP.",
    401: "A token is needed, or another one: `Authorization: Bearer TOKEN`.",
    403: "The Host header names no address of this server, or a page of another site asks; for `/sql` also: it is off,"
    " or the database role has too many rights.",
    404: "No such job, tag, payload or format; `parameter` names what was looked for.",
    405: "Everything is read with GET or HEAD.",
    413: "The body is longer than a query may be.",
    415: "A query comes as text/plain or application/json.",
    429: "Too many requests of this client wait; Retry-After says when to try again.",
    431: "Address and headers are too long.",
    500: "A defect of this program; its log has more.",
    501: "The format needs a library that the server does not have; or the body comes in a transfer coding that it"
    " does not know.",
    503: "The database cannot be read now, or too many requests wait; Retry-After says when to try again, where that"
    " may help.",
    504: "The query passed its deadline; ask for less.",
}
ALWAYS = (303, 400, 401, 403, 405, 413, 429, 431, 500, 501, 503, 504)
"""Of every route. 413, 429, 431, 501 and some of 503 come from before the application: webapi.limits, webapi.server."""
WITHOUT_BODY = (303, 304)

_OF_STATUS = {
    303: ("Location",),
    304: ("ETag", "Cache-Control"),
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_SOMETIMES = frozenset({"Retry-After", "Link", "Content-Disposition"})


def _text(description: str, **more: object) -> Schema:
    return {"description": description, "schema": {"type": "string", **more}}


HEADERS: dict[str, Schema] = {
    "Allow": _text("What can be asked here: GET, HEAD, OPTIONS, and POST where it can."),
    "Cache-Control": _text("`no-cache`: ask again before every use, with If-None-Match; `no-store`: keep nothing."),
    "Content-Disposition": _text("`attachment` with a file name: of what a browser is to save, not to show."),
    "ETag": _text("Strong; of this answer in this encoding. Send it back in If-None-Match.", pattern='^"[^"]+"$'),
    "Link": _text('The next page, `rel="next"`: of a list with `limit` that is not JSON and has one.'),
    "Location": _text("The same address without the token."),
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
    sql.TRUNCATED: _text("Whether rows were left out behind `limit`.", enum=["true", "false"]),
    "WWW-Authenticate": _text("Bearer, as RFC 6750 has it."),
}
"""Headers that answers have beside those of every answer of the Web: what a client acts upon."""

SECURITY_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Asked for where the server was started with a token. A browser may open any address once with"
        " `token=TOKEN` instead: that sets a cookie.",
    }
}
SECURITY: list[Schema] = [{}, {"token": []}]
"""Nothing, where the server was started without a token; else the token."""

BYTES: Schema = {
    name: {"schema": {"type": "string", "format": "binary"}}
    for name in (OCTETS, *sorted(safe.partition(";")[0] for safe in SAFE))
} | {respond.JSON: {"schema": {"description": "A payload that is JSON itself, or is shown so: `form=json`."}}}
"""What payloads are sent as; the first is what a generated client takes all of them for."""

IF_NONE_MATCH: Schema = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "ETag of the answer that the client has: 304 where it is still right.",
    "schema": {"type": "string"},
}
LAST_EVENT_ID: Schema = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Id of the last event that the client heard; wins over `since`.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def headers(names: Iterable[str]) -> Schema:
    """Return the `headers` of an answer."""
    return {
        name: HEADERS[name] | ({} if name in _SOMETIMES else {"required": True}) for name in ("Cache-Control", *names)
    }


def responses(problem: Schema) -> Schema:
    """Return the answers that components hold, each by its status; `problem` is the schema of errors."""
    found: Schema = {}
    for status, description in STATUSES.items():
        names = [name for name in _OF_STATUS.get(status, ()) if name != "Cache-Control"]
        found[str(status)] = {"description": description, "headers": headers(names)}
        if status not in WITHOUT_BODY:
            found[str(status)]["content"] = {respond.PROBLEM: {"schema": problem}}
    return found


def bare(status: str) -> Schema:
    """Return the answer of a status to HEAD: without a body."""
    return {name: value for name, value in responses({})[status].items() if name != "content"}

"""How MindInsight's routes answer: JSON that is strict, its headers, its errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote

from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.wrappers import Response

from indexer import log
from indexer.errors import Deadline, Retry, SummaryDBError, Wait
from indexer.payload import finite
from webapi import respond
from webapi.mindinsight import errors
from webapi.mindinsight.errors import Failure

HEADERS = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-XSS-Protection": "1; mode=block",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Content-Security-Policy": "img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-src 'self';"
    " frame-ancestors 'self'; default-src 'self'; script-src 'self' 'unsafe-eval'",
    "X-Download-Options": "noopen",
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
}
METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
"""Others are refused, whatever the path."""


class Content(NamedTuple):
    """An answer that is no JSON."""

    data: bytes
    content_type: str


class Long(NamedTuple):
    """An answer of which not all is in memory at once: one field that is a list."""

    field: str
    items: Iterator[Mapping[str, Any]]  # all floats in them are finite
    at_once: int = 200  # made into JSON together


Answer = Mapping[str, Any] | Content | Long
"""What a view returns."""


def response(answer: Answer, status: int = 200) -> Response:
    """Return an answer as it is sent."""
    if isinstance(answer, Content):
        return Response(answer.data, status, content_type=answer.content_type)
    if isinstance(answer, Long):
        return Response(chunks(answer), status, content_type=respond.JSON)
    try:
        text = json.dumps(answer, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(answer), allow_nan=False)
    return Response(text + "\n", status, content_type=respond.JSON)


def chunks(answer: Long) -> Iterator[bytes]:
    """Yield the JSON of an answer."""
    yield f"{{{json.dumps(answer.field)}: [".encode()
    between = b""
    while several := list(islice(answer.items, answer.at_once)):
        yield between + json.dumps(several, allow_nan=False)[1:-1].encode()
        between = b", "
    yield b"]}\n"


def failed(error: Exception, path: str) -> Response:
    """Return what an error means to the one who asked."""
    match error:
        case Failure():
            failure = error
        case Deadline():
            failure = errors.system(504, str(error))
        case Retry() | Wait():
            failure = errors.system(503, str(error))
        case RequestRedirect():
            failure = errors.no_route()
        case HTTPException():
            known = {404: errors.no_route, 405: errors.no_method}.get(error.code or 500)
            failure = known() if known else errors.system(error.code or 500, "System error or http error.")
        case SummaryDBError():  # an operator must act first
            log.get().error("refused", path=quote(path, safe="/"), why=str(error))
            failure = errors.system(503, str(error))
        case _:
            log.get().error("failed", path=quote(path, safe="/"), exc_info=error)
            failure = errors.system()
    return response(failure.body, failure.status)


def refused(answer: Response) -> Response:
    """Return what those get who may not ask at all: a problem becomes an error, all else stays as it is."""
    if answer.mimetype != respond.PROBLEM:
        return answer
    failure = errors.forbidden(json.loads(answer.get_data())["detail"], answer.status_code)
    made = response(failure.body, failure.status)
    if asks := answer.headers.get("WWW-Authenticate"):
        made.headers["WWW-Authenticate"] = asks
    return made


def when(seconds: float | None) -> str:
    """Return a time as MindInsight writes it: local, without a zone."""
    try:
        return datetime.fromtimestamp(seconds or 0.0).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006  # as documented
    except (ValueError, OverflowError, OSError):
        return "9999-12-31 23:59:59"


def number(value: float | None) -> float | str | None:
    """Return a number of the file, NaN where the database has none, as strict JSON."""
    return finite(math.nan if value is None else value)  # type: ignore[no-any-return]
